"""Exits that could sell more than there is (26, 28): they would sell another's shares, or open a short position at a broker with margin.

A strategy's own stops and targets can: an exit was given up, they were placed again, and it has filled after all. And those of the whole
account, where somebody else has sold of it, or another strategy's order more than that one held: whose shares are gone nobody can tell, and
its count decides. As many brackets are called back, the newest first, as it takes, and `protection` places again what is left for them.
What cannot be called back for that is told to a person: where nobody's shares would be covered for it, as under a stop or beside an order
that is set aside, or an order that was taken over.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.orders import OrderClass, OrderState, OrderType, Side
from trading_pipeline.domain.portfolio import EXTERNAL
from trading_pipeline.domain.projections import Row
from trading_pipeline.ports import Reader
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.book import held_for
from trading_pipeline.service.judging.coverage import AT_WORK, Coverage
from trading_pipeline.service.orders.adoption import is_ours
from trading_pipeline.service.orders.settlement import cancel
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.stopping.emergency import in_force

_SELL, _STOP = Side.SELL.value, OrderType.STOP.value
_LEFT_AT_WORK = tuple(state for state in AT_WORK if state != OrderState.CANCEL_PENDING.value)


@dataclass(frozen=True, slots=True)
class Excess:
    """Of one symbol: of one strategy's exits, or of all where more was sold of it than its seller had."""

    strategy: str | None
    """None: the account's."""
    symbol: str
    held: int
    """Shares that the strategy holds, or that the account has left."""
    selling: int
    """Shares that exits at work could sell once all has been called back that can be."""
    orders: tuple[Row, ...]
    """Stops to cancel now, each followed by its target."""
    since_seq: int
    """What the strategy, or others, have traded of it last, or what was taken over last."""

    @property
    def key(self) -> str:
        """Of the fact that tells of what is left of it."""
        whose = f"{self.strategy}:{self.symbol}" if self.strategy else self.symbol
        return f"{EventType.PROTECTION_OVERSIZED.value}:{whose}:{self.since_seq}:{self.selling - self.held}"


def oversized(desk: Desk) -> list[Excess]:
    """What there is to call back now, or to tell a person; of the account's what is no strategy's own."""
    own = _of_strategies(desk)
    symbols = {excess.symbol for excess in own}
    return own + [excess for excess in _of_the_account(desk) if excess.symbol not in symbols]


def _of_strategies(desk: Desk) -> list[Excess]:
    """Of stops and targets that nobody is cancelling yet."""
    reader, resting = desk.ledger, dict[tuple[str, str], list[Row]]()
    exits: dict[str, Any] = {"side": _SELL, "order_class": OrderClass.PROTECTIVE.value, "state": _LEFT_AT_WORK}
    for row in reader.find("orders", order_by="intent_seq", descending=True, **exits):
        if row["strategy"] != EXTERNAL:
            resting.setdefault((row["strategy"], row["symbol"]), []).append(row)
    found = []
    for (strategy, symbol), rows in sorted(resting.items()):
        position = reader.get("positions", strategy, symbol)
        held = max(0, position["quantity"]) if position is not None else 0
        one_of_each_pair = _one_of_each_pair(rows)
        if sum(row["quantity"] - row["filled_quantity"] for row in one_of_each_pair) <= held:
            continue
        coverage = Coverage(reader, rows)
        left = {row["client_id"]: coverage.left(row) for row in one_of_each_pair}
        orders, selling = _called_back(desk, symbol, held, sum(left.values()), rows, left, in_part=True)
        at_once = not held or desk.calendar.at(desk.now()) is not None
        excess = Excess(strategy, symbol, held, selling, tuple(orders if at_once else ()), position["last_seq"] if position else 0)
        if excess.orders or (selling > held and reader.event_by_key(excess.key) is None):
            found.append(excess)
    return found


def _of_the_account(desk: Desk) -> list[Excess]:
    reader = desk.ledger
    positions = reader.find("positions")
    adopted = reader.find("orders", strategy=EXTERNAL, state=AT_WORK)
    symbols = {row["symbol"] for row in positions if row["quantity"] < 0} | {row["symbol"] for row in adopted if row["side"] == _SELL}
    is_open = desk.calendar.at(desk.now()) is not None
    found = []
    for symbol in sorted(symbols):
        of_it = [row for row in positions if row["symbol"] == symbol]
        own = [row for row in adopted if row["symbol"] == symbol]
        left = max(0, sum(row["quantity"] for row in of_it)) + _still_coming(own)
        orders, selling = _beyond(desk, symbol, left)
        oversold = {row["strategy"] for row in of_it if row["quantity"] < 0 and row["strategy"] != EXTERNAL}
        excess = Excess(None, symbol, left, selling, tuple(orders if is_open or not left else ()), _since(reader, symbol, own, oversold))
        if excess.orders or (selling > left and reader.event_by_key(excess.key) is None):
            found.append(excess)
    return found


def call_back(desk: Desk, mismatched: Mapping[str, str], tally: Tally) -> None:
    """Cancel them once the broker's count is the book's, and in regular hours where some are placed again. Tell the rest, once."""
    if "*" in mismatched:
        return
    for excess in oversized(desk):
        if excess.symbol in mismatched:
            continue
        if excess.orders:
            whose = "others have sold" if excess.strategy is None else "an exit that was given up has sold"
            cancel(desk, excess.orders, f"{whose} of its shares: it is placed again for what is left", "desk", tally)
        if excess.selling > excess.held:
            _tell(desk, excess, tally)


def _tell(desk: Desk, excess: Excess, tally: Tally) -> None:
    if desk.ledger.event_by_key(excess.key) is not None:
        return
    payload = {"strategy": excess.strategy, "symbol": excess.symbol, "selling": excess.selling, "held": excess.held}
    cause = excess.since_seq or None
    alarm = NewEvent(EventType.PROTECTION_OVERSIZED, "account", excess.key, payload, desk.now(), "desk", cause)
    with desk.ledger.transaction() as tx:
        tally.saw(tx.append(alarm))
    tally.count("oversized")
    whose = "the account" if excess.strategy is None else excess.strategy
    tally.notes.append(
        f"exits at work could sell {excess.selling} shares of {excess.symbol}, and {whose} has {excess.held} left: a person decides"
    )


def _can_be_placed_again(desk: Desk, row: Row) -> bool:
    """Not under a stop, nor in a symbol that is a person's, which an overfill makes it."""
    set_aside = desk.ledger.find("orders", symbol=row["symbol"], state=OrderState.QUARANTINED.value, limit=1)
    return not set_aside and in_force(desk, desk.ledger, row["strategy"]) is None


def _one_of_each_pair(protective: Sequence[Row]) -> list[Row]:
    """Stops, and targets without one: a pair sells its shares once."""
    stops = {row["oco"] for row in protective if row["order_type"] == _STOP and row["oco"] is not None}
    return [row for row in protective if row["order_type"] == _STOP or row["oco"] not in stops]


def _still_coming(adopted: list[Row]) -> int:
    """Shares that a taken-over entry may still buy and for which a stop that was taken over with it waits."""
    buying: int = sum(row["quantity"] - row["filled_quantity"] for row in adopted if row["side"] != _SELL)
    stops = [row for row in adopted if row["side"] == _SELL and row["order_type"] == _STOP]
    waiting: int = sum(row["quantity"] - row["filled_quantity"] for row in stops)
    return min(buying, waiting)


def _since(reader: Reader, symbol: str, adopted: list[Row], oversold: Collection[str]) -> int:
    """Not by what our own or taken-over orders fill, unless it took their strategy below zero: that leaves an excess as large as it is."""
    traded = reader.find("fills", strategy=[EXTERNAL, *oversold], symbol=symbol)
    sold: list[int] = [row["seq"] for row in traded if row["strategy"] != EXTERNAL or not is_ours(row["client_id"])]
    taken_over: list[int] = [row["intent_seq"] for row in adopted]
    return max([0, *sold, *taken_over])


def _beyond(desk: Desk, symbol: str, held: int) -> tuple[list[Row], int]:
    exits = desk.ledger.find("orders", symbol=symbol, side=_SELL, state=AT_WORK, order_by="intent_seq", descending=True)
    protective = [row for row in exits if row["order_class"] == OrderClass.PROTECTIVE.value]
    coverage = Coverage(desk.ledger, protective)
    resting = {row["client_id"]: coverage.left(row) for row in _one_of_each_pair(protective)}
    leaving = [row for row in exits if row not in protective]
    selling = sum(resting.values()) + sum(row["quantity"] - row["filled_quantity"] for row in leaving)
    found, most = _called_back(desk, symbol, held, selling, protective, dict(resting), in_part=True)
    if most > held and found:
        # What is left of one could not be placed again beside the others.
        found, most = _called_back(desk, symbol, held, selling, protective, resting, in_part=False)
    return found, most


def _called_back(
    desk: Desk, symbol: str, held: int, selling: int, protective: Sequence[Row], resting: dict[str, int], *, in_part: bool,
) -> tuple[list[Row], int]:
    """Stops to cancel with their targets, the newest first, and the shares that could be sold after that.

    Args:
        in_part: Also where some of its shares would be placed again.
    """
    found: list[Row] = []
    # Of what was taken over nobody knows what it was meant for.
    ours = [row for row in protective if resting.get(row["client_id"]) and row["strategy"] != EXTERNAL]
    # A target whose stop is gone goes first: a stop protects more.
    for stop in sorted(ours, key=lambda row: bool(row["order_type"] == _STOP)):
        many = resting[stop["client_id"]]
        own = sum(resting[row["client_id"]] for row in protective if row["client_id"] in resting and row["strategy"] == stop["strategy"])
        again = min(many, max(0, held_for(desk.ledger, stop["strategy"], symbol) - (own - many)))
        again = again if _can_be_placed_again(desk, stop) else 0
        # Better too much than nothing: where another strategy's shares may be those that are gone, it could not be placed again.
        if again < many and (in_part or not again) and selling - many + again >= held:
            selling += again - many
            found += [stop, *(row for row in protective if row["oco"] is not None and row["oco"] == stop["oco"] and row is not stop)]
            resting[stop["client_id"]] = again
    return found, selling
