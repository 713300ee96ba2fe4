"""The bound on a day's loss (`max_day_risk`), reckoned from the broker's orders and executions alone: no ledger, no rule, no price.

Were everything sold at its stop, a day would lose what it has paid, less what it has received, less its shares at their stops. At each
entry that is held against the limit, the entry itself bought at its limit and sold at its stops. From there on every loss is explained:

    loss <= limit + what sales after the last entry got below the stop (slippage, and the gap that a price jumped)
                  + what is held below its stop, from the stop to the price + commissions after the last entry

Where prices do not jump, a sale gets below its stop at most what a taking order costs: half the spread and the slippage, rounded to
0.0001 USD. That, with its commission, is one order's slippage.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.ports import BrokerOrder, BrokerStatus, Ticket

Place = tuple[str, str]
"""A strategy and a symbol."""
STEP = Decimal("0.0001")


def lost_at_stops(
    flows: Mapping[str, Decimal], shares: Mapping[Place, int], orders: Iterable[BrokerOrder], owner: Mapping[str, str], entry: Ticket,
    strategy: str | None,
) -> Decimal:
    """USD that the day has lost once an entry and all that works have been bought at their limits and sold at their stops.

    Args:
        flows: USD received less paid since the open, by strategy.
        shares: Held.
        orders: Open at the broker, before the entry.
        owner: The strategy of each order, by client id.
        strategy: Only this one's; None: the account's.
    """
    orders = list(orders)
    standing = standing_stops(orders, owner)
    working = ((order.ticket, order.ticket.quantity - order.filled_quantity) for order in orders if order.ticket.side is Side.BUY)
    buys = [(entry, entry.quantity), *working]
    whose = {name for name in flows if strategy in (None, name)}
    lost = -sum((flows[name] for name in whose), ZERO)
    lost -= sum((_proceeds(many, standing[place]) for place, many in shares.items() if place[0] in whose), ZERO)
    for ticket, left in buys:
        if owner[ticket.client_id] in whose:
            assert ticket.limit_price is not None
            stops = [(child.stop_price, child.quantity) for child in ticket.children if child.stop_price is not None]
            lost += left * ticket.limit_price - _proceeds(left, stops)
    return lost


def standing_stops(orders: Iterable[BrokerOrder], owner: Mapping[str, str]) -> dict[Place, list[tuple[Decimal, int]]]:
    """(USD a share, shares) of the stops that work at the broker."""
    found: dict[Place, list[tuple[Decimal, int]]] = defaultdict(list)
    for order in orders:
        ticket = order.ticket
        if ticket.stop_price is not None and order.status is BrokerStatus.WORKING:
            found[owner[ticket.client_id], ticket.symbol].append((ticket.stop_price, ticket.quantity - order.filled_quantity))
    return found


def _proceeds(shares: int, stops: Iterable[tuple[Decimal, int]]) -> Decimal:
    """USD for so many shares at their stops, the highest first; nothing for those without one."""
    got = ZERO
    for stop, many in sorted(stops, reverse=True):
        sold = min(shares, many)
        got, shares = got + sold * stop, shares - sold
    return got


@dataclass
class Bound:
    """Of one scope: its limit, and what explains a loss beyond it since its last entry."""

    limit: Decimal
    strategy: str | None
    since: datetime | None = None
    entry: str = ""
    """Client id of the last entry."""
    stops: dict[Place, dict[str, Decimal]] = field(default_factory=lambda: defaultdict(dict))
    """Of each place, the stops that have worked since the last entry, by client id."""

    def entered(self, at: datetime, ticket: Ticket, by: str, orders: Iterable[BrokerOrder], owner: Mapping[str, str]) -> None:
        """Reckon from this entry on.

        Args:
            orders: Open at the broker, before the entry.
        """
        if self.strategy not in (None, by):
            return
        self.since, self.entry, self.stops = at, ticket.client_id, defaultdict(dict)
        placed = [(owner[order.ticket.client_id], order.ticket) for order in orders]
        for name, each in (*placed, *((by, child) for child in ticket.children)):
            if each.stop_price is not None:
                self.stops[name, each.symbol][each.client_id] = each.stop_price

    def explained(
        self, executions: Iterable[tuple[str, Fill]], owner: Mapping[str, str], placed: Mapping[str, Ticket], shares: Mapping[Place, int],
        prices: Mapping[str, Decimal], standing: Mapping[Place, list[tuple[Decimal, int]]],
    ) -> tuple[Decimal, "Slips"]:
        """The most that may have been lost by now, and what was lost below stops.

        Args:
            executions: Of the day, up to now.
            placed: Every ticket sent, children too, by client id.
            shares: Held now.
            prices: Now, by symbol.
            standing: The stops that work now.
        """
        slips = Slips()
        if self.since is None:
            return self.limit, slips
        commissions, left = ZERO, {place: dict(stops) for place, stops in self.stops.items()}
        for client_id, fill in executions:
            if self.strategy not in (None, owner[client_id]) or not (fill.at > self.since or client_id == self.entry):
                continue
            commissions += fill.commission
            if fill.side is Side.SELL:
                # What is sold otherwise gave up the highest of the stops that had not sold what they stood for.
                place = owner[client_id], fill.symbol
                left.get(place, {}).pop(client_id, None)
                slips.sold(place, placed[client_id].stop_price or max(left.get(place, {}).values(), default=ZERO), fill)
        for place, many in shares.items():
            if self.strategy in (None, place[0]):
                stops, bare = standing.get(place, []), many
                for stop, covered in stops:
                    slips.held += min(many, covered) * max(ZERO, stop - prices[place[1]])
                    bare -= covered
                slips.held += max(0, bare) * max(ZERO, max(left.get(place, {}).values(), default=ZERO) - prices[place[1]])
        return self.limit + slips.usd + commissions, slips


@dataclass
class Slips:
    """USD lost below stops."""

    sales: Decimal = ZERO
    jumped: Decimal = ZERO
    """Of that what no taking order costs: the price jumped."""
    held: Decimal = ZERO
    """Of what is held below its stop still."""
    costs: dict[Place, Decimal] = field(default_factory=lambda: defaultdict(lambda: ZERO))
    """What getting out of each position may cost below its stops, commissions included: one order's slippage."""

    def sold(self, place: Place, stop: Decimal, fill: Fill) -> None:
        """Count an execution."""
        below = fill.quantity * max(ZERO, stop - fill.price)
        most = fill.quantity * (stop * COST + STEP)
        self.sales += below
        self.jumped += max(ZERO, below - most)
        self.costs[place] += most + fill.commission

    @property
    def usd(self) -> Decimal:
        """All of it."""
        return self.sales + self.held


SETTINGS = PaperSettings(spread=Decimal("0.002"), slippage=Decimal("0.002"), volume_share=Decimal(1))
COST = SETTINGS.spread / 2 + SETTINGS.slippage
"""What a taking order pays on the price that it meets, as a fraction."""
