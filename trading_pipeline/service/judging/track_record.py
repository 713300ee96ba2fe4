"""What a strategy has done lately, read from the ledger alone: its round trips of the session, its rejections in a row (F5, 43)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from trading_pipeline.domain.events import EventType, instant_from
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import EXTERNAL, Fill, Position
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.round_trips import HeldSplit, RoundTrip, fold
from trading_pipeline.ports import Reader
from trading_pipeline.service.desk import Desk, is_person

_NEWEST_FILLS = (64, 1_024)
"""Fills of a position that are read first: a year of them is seldom needed to know what was closed today."""
_NEXT_ORDERS = 64
"""Of the orders after a rejected one so many are read: several brackets' worth, of which at least one leads its own."""


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """By strategy."""

    round_trips: Mapping[str, tuple[RoundTrip, ...]] = field(default_factory=dict)
    """Those that closed in this session, in order of time."""
    losing_exits: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    """(strategy, symbol) to when it was last sold at a loss, this session."""
    rejects: Mapping[str, int] = field(default_factory=dict)
    """Rejected orders in a row, up to the newest."""


def track_record(desk: Desk, reader: Reader, rejected: Sequence[Row], positions: Iterable[Position]) -> TrackRecord:
    """Read it.

    Args:
        rejected: Orders that were, ever.
        positions: All of the account, as this reader has them.
    """
    day = desk.today()
    session = desk.calendar.find(day)
    since = session.open if session is not None else desk.now()
    sold = {
        (row["strategy"], row["symbol"])
        for row in reader.find("fills", session=day.isoformat(), side=Side.SELL.value)
        if row["strategy"] != EXTERNAL
    }
    splits = held_splits(reader) if sold else {}
    held = {(position.strategy, position.symbol): position.quantity for position in positions} if sold else {}
    trips: dict[str, list[RoundTrip]] = {}
    exits: dict[tuple[str, str], datetime] = {}
    for strategy, symbol in sorted(sold):
        place = strategy, symbol
        rows = reader.find("fills", strategy=strategy, symbol=symbol) if place in splits else _since_flat(reader, place, held[place], since)
        closed, orders = fold(strategy, symbol, map(fill_of_row, rows), splits.get(place, ()))
        trips.setdefault(strategy, []).extend(trip for trip in closed if trip.closed_at >= since)
        losses = [order.at for order in orders if order.result < 0 and order.at >= since]
        if losses:
            exits[strategy, symbol] = max(losses)
    ordered = {name: tuple(sorted(each, key=lambda trip: (trip.closed_at, trip.symbol))) for name, each in trips.items()}
    return TrackRecord(ordered, exits, _rejects(reader, rejected))


def _since_flat(reader: Reader, place: tuple[str, str], held: int, since: datetime) -> list[Row]:
    """The fills of a position without splits, from an instant before `since` on at which it was flat: what is older changes nothing later.

    All of them where there is no such instant among the newest, or where an order that sold after it had sold before it too.
    """
    strategy, symbol = place
    for many in _NEWEST_FILLS:
        newest = reader.find("fills", strategy=strategy, symbol=symbol, order_by="at", descending=True, limit=many)
        if len(newest) < many:
            return newest
        left = held
        for number, row in enumerate(newest):
            if left == 0 and number and newest[number - 1]["at"] > row["at"] < since:
                found = newest[:number]
                sellers = {each["client_id"] for each in found if each["side"] == Side.SELL.value}
                theirs = reader.find("fills", client_id=sellers, strategy=strategy, symbol=symbol)
                if all(each["at"] > row["at"] for each in theirs):
                    return found
            left -= row["quantity"] if row["side"] == Side.BUY.value else -row["quantity"]
    return reader.find("fills", strategy=strategy, symbol=symbol)


def _rejects(reader: Reader, rejected: Sequence[Row]) -> dict[str, int]:
    """However long ago: a daily strategy sends one a day. Counted anew once a person has let the strategy go on: they have looked."""
    found: dict[str, dict[str, Row]] = {}
    for row in sorted((row for row in rejected if row["parent"] is None), key=lambda row: row["intent_seq"], reverse=True):
        # A stop and the target it pairs with are one order.
        found.setdefault(row["strategy"], {}).setdefault(_group(row), row)
    counts = {strategy: _in_a_row(reader, strategy, groups) for strategy, groups in found.items()}
    return {strategy: count for strategy, count in counts.items() if count}


def _in_a_row(reader: Reader, strategy: str, groups: Mapping[str, Row]) -> int:
    """Of a strategy's rejected orders, newest first, those after which it has sent none that was taken."""
    looked, count = _looked_at(reader, strategy), 0
    for row in groups.values():
        since = ("submitted_at", row["submitted_at"])
        next_ones = reader.find("orders", strategy=strategy, since=since, order_by="submitted_at", limit=_NEXT_ORDERS)
        heads = (each for each in next_ones if each["parent"] is None and _group(each) not in groups)
        if row["intent_seq"] < looked or any(each["intent_seq"] > row["intent_seq"] for each in heads):
            break
        count += 1
    return count


def _group(row: Row) -> str:
    return str(row["oco"] or row["client_id"])


def _looked_at(reader: Reader, strategy: str) -> int:
    """The seq at which a person last let it run."""
    moves = reader.events(types=(EventType.STRATEGY_STARTED, EventType.STRATEGY_RESUMED), stream=f"strategy:{strategy}")
    return max((event.seq for event in moves if is_person(event.actor)), default=0)


def held_splits(reader: Reader) -> dict[tuple[str, str], list[HeldSplit]]:
    """What splits made of positions, by strategy and symbol."""
    found: dict[tuple[str, str], list[HeldSplit]] = {}
    for event in reader.events(types=(EventType.CORPORATE_ACTION_SPLIT,)):
        data = event.payload
        at, ratio = instant_from(data["effective_at"]), Decimal(data["ratio"])
        for part in data["positions"]:
            split = HeldSplit(at, ratio, part["quantity"], Decimal(part["in_lieu"]))
            found.setdefault((part["strategy"], data["symbol"]), []).append(split)
    return found


def fill_of_row(row: Row) -> Fill:
    """A row of `fills` as a value."""
    return Fill(
        row["execution_id"], row["client_id"], row["symbol"], Side(row["side"]), row["quantity"], row["price"], row["commission"],
        row["at"],
    )
