"""Exits that could sell more than there is (26, 28): they would sell another's shares, or open a short position at a broker with margin.

A strategy's own stops and targets can: an exit was given up, they were placed again, and it has filled after all. And those of the whole
account, where somebody else has sold of it: whose shares are gone nobody can tell, and its count decides. As many brackets are called back,
the newest first, as it takes, and `protection` places again what is left for them. What cannot be called back for that is told to a
person: under a stop, where nobody's shares would be covered for it, or an order that was taken over.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
    """Of one symbol: of one strategy's exits, or of all where somebody else has sold of it."""

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
        stops = {row["oco"] for row in rows if row["order_type"] == _STOP and row["oco"] is not None}
        one_of_each_pair = [row for row in rows if row["order_type"] == _STOP or row["oco"] not in stops]
        if sum(row["quantity"] - row["filled_quantity"] for row in one_of_each_pair) <= held:
            continue
        coverage = Coverage(reader, rows)
        left = {row["client_id"]: coverage.left(row) for row in one_of_each_pair}
        orders, selling = _called_back(
            reader, symbol, held, sum(left.values()), rows, left, partial(_may_go, desk, bool(held)), in_part=True,
        )
        at_once = not held or desk.calendar.at(desk.now()) is not None
        excess = Excess(strategy, symbol, held, selling, tuple(orders if at_once else ()), position["last_seq"] if position else 0)
        if excess.orders or (selling > held and reader.event_by_key(excess.key) is None):
            found.append(excess)
    return found


def _may_go(desk: Desk, to_be_placed_again: bool, row: Row) -> bool:
    return not to_be_placed_again or _can_be_placed_again(desk, row)


def _of_the_account(desk: Desk) -> list[Excess]:
    reader = desk.ledger
    positions = reader.find("positions")
    external = {row["symbol"]: row["quantity"] for row in positions if row["strategy"] == EXTERNAL}
    adopted = reader.find("orders", strategy=EXTERNAL, state=AT_WORK)
    symbols = {symbol for symbol, many in external.items() if many < 0} | {row["symbol"] for row in adopted if row["side"] == _SELL}
    is_open = desk.calendar.at(desk.now()) is not None
    found = []
    for symbol in sorted(symbols):
        held = sum(max(0, row["quantity"]) for row in positions if row["symbol"] == symbol and row["strategy"] != EXTERNAL)
        own = [row for row in adopted if row["symbol"] == symbol]
        left = max(0, held + external.get(symbol, 0)) + _still_coming(own)
        orders, selling = _beyond(reader, symbol, left, lambda row: _can_be_placed_again(desk, row))
        excess = Excess(None, symbol, left, selling, tuple(orders if is_open else ()), _since(reader, symbol, own))
        if excess.orders or (selling > left and reader.event_by_key(excess.key) is None):
            found.append(excess)
    return found


def call_back(desk: Desk, mismatched: Mapping[str, str], tally: Tally) -> None:
    """Cancel them, in regular hours and once the broker's count is the book's, for they are placed again. Tell the rest, once."""
    if "*" in mismatched:
        return
    for excess in oversized(desk):
        if excess.symbol in mismatched:
            continue
        if excess.orders:
            whose = "somebody else has sold" if excess.strategy is None else "an exit that was given up has sold"
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
    """A taken-over order cannot: nobody knows what it was meant for."""
    return row["strategy"] != EXTERNAL and in_force(desk, desk.ledger, row["strategy"]) is None


def _still_coming(adopted: list[Row]) -> int:
    """Shares that a taken-over entry may still buy and for which a stop that was taken over with it waits."""
    buying: int = sum(row["quantity"] - row["filled_quantity"] for row in adopted if row["side"] != _SELL)
    stops = [row for row in adopted if row["side"] == _SELL and row["order_type"] == _STOP]
    waiting: int = sum(row["quantity"] - row["filled_quantity"] for row in stops)
    return min(buying, waiting)


def _since(reader: Reader, symbol: str, adopted: list[Row]) -> int:
    """Not by what our own or taken-over orders fill: that leaves an excess as large as it is."""
    traded = reader.find("fills", strategy=EXTERNAL, symbol=symbol)
    by_hand: list[int] = [row["seq"] for row in traded if not is_ours(row["client_id"])]
    taken_over: list[int] = [row["intent_seq"] for row in adopted]
    return max([0, *by_hand, *taken_over])


def _beyond(reader: Reader, symbol: str, held: int, is_free: Callable[[Row], bool]) -> tuple[list[Row], int]:
    exits = reader.find("orders", symbol=symbol, side=_SELL, state=AT_WORK, order_by="intent_seq", descending=True)
    protective = [row for row in exits if row["order_class"] == OrderClass.PROTECTIVE.value]
    coverage = Coverage(reader, protective)
    resting = {row["client_id"]: coverage.left(row) for row in protective if row["order_type"] == _STOP}
    pairs = {row["oco"] for row in protective if row["client_id"] in resting and row["oco"] is not None}
    # Of what was taken over, nobody knows what a sale was meant for: one that is no stop's target is an exit.
    taken = (row for row in protective if row["strategy"] == EXTERNAL and row["client_id"] not in resting)
    leaving = [row for row in exits if row not in protective] + [row for row in taken if row["oco"] not in pairs]
    selling = sum(resting.values()) + sum(row["quantity"] - row["filled_quantity"] for row in leaving)
    found, most = _called_back(reader, symbol, held, selling, protective, dict(resting), is_free, in_part=True)
    if most > held and found:
        # What is left of one could not be placed again beside the others.
        found, most = _called_back(reader, symbol, held, selling, protective, resting, is_free, in_part=False)
    return found, most


def _called_back(
    reader: Reader, symbol: str, held: int, selling: int, protective: Sequence[Row], resting: dict[str, int],
    is_free: Callable[[Row], bool], *, in_part: bool,
) -> tuple[list[Row], int]:
    """Stops to cancel with their targets, the newest first, and the shares that could be sold after that.

    Args:
        in_part: Also where some of its shares would be placed again.
    """
    found: list[Row] = []
    for stop in (row for row in protective if resting.get(row["client_id"]) and is_free(row)):
        many = resting[stop["client_id"]]
        own = sum(resting[row["client_id"]] for row in protective if row["client_id"] in resting and row["strategy"] == stop["strategy"])
        again = min(many, max(0, held_for(reader, stop["strategy"], symbol) - (own - many)))
        # Better too much than nothing: where another strategy's shares may be those that are gone, it could not be placed again.
        if selling > held and again < many and (in_part or not again) and selling - many + again >= held:
            selling += again - many
            found += [stop, *(row for row in protective if row["oco"] is not None and row["oco"] == stop["oco"] and row is not stop)]
            resting[stop["client_id"]] = again
    return found, selling
