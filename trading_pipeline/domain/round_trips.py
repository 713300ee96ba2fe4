"""Round trips: what a strategy made between buying into a symbol and being out of it, and what a run of losses calls for (F5).

Folded from executions and splits with the same arithmetic as positions, so that a restart knows what was known before. Only
what a fill realised counts: an open loss is the business of the day's loss limit.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Fill, Position


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """From flat to flat in one symbol; `result` is USD after all commissions, signed."""

    symbol: str
    closed_at: datetime
    result: Decimal


@dataclass(frozen=True, slots=True)
class Exit:
    """What one order sold; `at` is its newest execution, `result` USD after commissions against average cost, signed."""

    symbol: str
    client_id: str
    at: datetime
    result: Decimal


@dataclass(frozen=True, slots=True)
class HeldSplit:
    """What a split made of one position, see `Position.after_split`."""

    at: datetime
    ratio: Decimal
    quantity: int
    in_lieu: Decimal


@dataclass(frozen=True, slots=True)
class Step:
    """One fill, or one split, and what it did to the position."""

    before: Position
    by: Fill | HeldSplit
    after: Position


def _turn(change: Fill | HeldSplit) -> tuple[datetime, int, str]:
    """In order of time; at one instant splits first, then executions by number: the tenth has the longer name than the ninth."""
    name = change.execution_id if isinstance(change, Fill) else ""
    return change.at, len(name), name


def steps(strategy: str, symbol: str, fills: Iterable[Fill], splits: Iterable[HeldSplit] = ()) -> Iterator[Step]:
    """A strategy's position in one symbol, step by step, in order of time.

    Args:
        fills: All of them since the strategy began.
        splits: Those booked for its position.
    """
    position = Position(strategy, symbol)
    changes: list[Fill | HeldSplit] = [*splits, *fills]
    changes.sort(key=_turn)
    for each in changes:
        after = position.after(each) if isinstance(each, Fill) else position.after_split(each.ratio, each.quantity, each.in_lieu)
        yield Step(position, each, after)
        position = after


def fold(strategy: str, symbol: str, fills: Iterable[Fill], splits: Iterable[HeldSplit] = ()) -> tuple[list[RoundTrip], list[Exit]]:
    """Every round trip and exit of one strategy in one symbol, in order of time; see `steps`."""
    began = ZERO
    trips: list[RoundTrip] = []
    exits: dict[str, Exit] = {}
    for step in steps(strategy, symbol, fills, splits):
        fill = step.by
        if not isinstance(fill, Fill):
            continue
        if step.before.quantity <= 0 and fill.side is Side.BUY:
            began = step.before.realised
        if fill.side is Side.SELL:
            made = step.after.realised - step.before.realised
            earlier = exits.pop(fill.client_id, None)
            exits[fill.client_id] = Exit(symbol, fill.client_id, fill.at, made + (earlier.result if earlier else ZERO))
            if step.after.quantity <= 0 < step.before.quantity:
                trips.append(RoundTrip(symbol, fill.at, step.after.realised - began))
    return trips, list(exits.values())


def losing_run(trips: Sequence[RoundTrip]) -> int:
    """How many of the newest round trips lost in a row."""
    run = 0
    for trip in reversed(trips):
        if trip.result >= 0:
            break
        run += 1
    return run


def streak_ended_at(trips: Sequence[RoundTrip], length: int) -> datetime | None:
    """When the newest loss closed that made a run of at least `length`; None when there was no such run."""
    for count in range(len(trips), 0, -1):
        if losing_run(trips[:count]) >= length:
            return trips[count - 1].closed_at
    return None


def recovering(trips: Sequence[RoundTrip], length: int) -> bool:
    """Whether a run of at least `length` losses has been followed by no winning round trip."""
    for count in range(len(trips), 0, -1):
        if trips[count - 1].result > 0:
            return False
        if losing_run(trips[:count]) >= length:
            return True
    return False
