"""Exits that could sell more than the account has left, because somebody else has sold of it (26, 28).

A broker with margin would open a short position with them. Whose shares are gone nobody can tell; the account's count decides: as many
brackets are called back, the newest first, as it takes, and `protection` places again what is left for them. What cannot be called back
for that is told to a person: under a stop, where nobody's shares would be covered for it, or an order that was taken over.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.orders import OrderClass, OrderType, Side
from trading_pipeline.domain.portfolio import EXTERNAL
from trading_pipeline.domain.projections import Row
from trading_pipeline.ports import Reader
from trading_pipeline.service.book import held_for
from trading_pipeline.service.coverage import AT_WORK, Coverage
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.emergency import in_force
from trading_pipeline.service.settlement import cancel
from trading_pipeline.service.steps import Tally


@dataclass(frozen=True, slots=True)
class Excess:
    """Of one symbol that somebody else has sold of."""

    symbol: str
    held: int
    """Shares that the account has left."""
    selling: int
    """Shares that exits at work could sell once those of `orders` are called back."""
    orders: tuple[Row, ...]
    """Stops to cancel, each followed by its target."""
    since_seq: int
    """The last fact about what others hold of it."""

    @property
    def key(self) -> str:
        """Of the fact that tells of what is left of it."""
        return f"{EventType.PROTECTION_OVERSIZED.value}:{self.symbol}:{self.since_seq}:{self.selling}:{self.held}"


def oversized(desk: Desk) -> list[Excess]:
    """What there is to call back, or to tell a person."""
    held: dict[str, int] = {}
    short: dict[str, Row] = {}
    for row in desk.ledger.find("positions"):
        if row["strategy"] != EXTERNAL:
            held[row["symbol"]] = held.get(row["symbol"], 0) + max(0, row["quantity"])
        elif row["quantity"] < 0:
            short[row["symbol"]] = row
    found = []
    for symbol, external in sorted(short.items()):
        left = max(0, held.get(symbol, 0) + external["quantity"])
        orders, selling = _beyond(desk.ledger, symbol, left, lambda row: in_force(desk, desk.ledger, row["strategy"]) is None)
        excess = Excess(symbol, left, selling, tuple(orders), external["last_seq"])
        if orders or (selling > left and desk.ledger.event_by_key(excess.key) is None):
            found.append(excess)
    return found


def call_back(desk: Desk, mismatched: Mapping[str, str], tally: Tally) -> None:
    """Cancel them, where they can be placed again: in regular hours, and once the broker's count is the book's. Tell the rest, once."""
    if "*" in mismatched:
        return
    for excess in oversized(desk):
        if excess.symbol in mismatched:
            continue
        if excess.orders and desk.calendar.at(desk.now()) is not None:
            cancel(desk, excess.orders, "somebody else has sold of its shares: it is placed again for what is left", "desk", tally)
        if excess.selling > excess.held:
            _tell(desk, excess, tally)


def _tell(desk: Desk, excess: Excess, tally: Tally) -> None:
    payload = {"symbol": excess.symbol, "selling": excess.selling, "held": excess.held}
    with desk.ledger.transaction() as tx:
        told = tx.append(
            NewEvent(EventType.PROTECTION_OVERSIZED, "account", excess.key, payload, desk.now(), "desk", excess.since_seq)
        )
    tally.saw(told)
    tally.count("oversized")
    tally.notes.append(
        f"exits at work could sell {excess.selling} shares of {excess.symbol}, and the account has {excess.held} left: a person decides"
    )


def _beyond(reader: Reader, symbol: str, held: int, free: Callable[[Row], bool]) -> tuple[list[Row], int]:
    exits = reader.find("orders", symbol=symbol, side=Side.SELL.value, state=AT_WORK, order_by="intent_seq", descending=True)
    protective = [row for row in exits if row["order_class"] == OrderClass.PROTECTIVE.value]
    coverage = Coverage(reader, protective)
    resting = {row["client_id"]: coverage.left(row) for row in protective if row["order_type"] == OrderType.STOP.value}
    pairs = {row["oco"] for row in protective if row["client_id"] in resting and row["oco"] is not None}
    # Of what was taken over, nobody knows what a sale was meant for: one that is no stop's target is an exit.
    taken = (row for row in protective if row["strategy"] == EXTERNAL and row["client_id"] not in resting)
    leaving = [row for row in exits if row not in protective] + [row for row in taken if row["oco"] not in pairs]
    selling = sum(resting.values()) + sum(row["quantity"] - row["filled_quantity"] for row in leaving)
    found: list[Row] = []
    for stop in (row for row in protective if resting.get(row["client_id"]) and selling > held and free(row)):
        many = resting[stop["client_id"]]
        own = sum(resting[row["client_id"]] for row in protective if row["client_id"] in resting and row["strategy"] == stop["strategy"])
        again = min(many, max(0, held_for(reader, stop["strategy"], symbol) - (own - many)))
        # Better too much than nothing: where another strategy's shares may be those that are gone, it could not be placed again.
        if selling > held and selling - many + again >= held:
            selling += again - many
            found += [stop, *(row for row in protective if row["oco"] is not None and row["oco"] == stop["oco"] and row is not stop)]
            resting[stop["client_id"]] = again
    return found, selling
