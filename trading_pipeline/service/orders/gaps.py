"""Gaps: positions, or parts of them, that had a stop and have none (C12). Reads only; `protection` closes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from trading_pipeline.domain.orders import WORKING, OrderClass, OrderState, OrderType, Side
from trading_pipeline.domain.portfolio import EXTERNAL
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.rules.standing import PROTECTIVE_STATES
from trading_pipeline.ports import Reader
from trading_pipeline.service.judging.book import held_for
from trading_pipeline.service.judging.coverage import BookedSplit, Coverage, booked_splits, bracket_of

_WORKS = tuple(state.value for state in WORKING)
_CONFIRMED = (OrderState.ACCEPTED.value, OrderState.PARTIAL.value)
_IN_DOUBT = tuple(state for state in _WORKS if state not in _CONFIRMED)
_PROTECTED_BY = tuple(state.value for state in PROTECTIVE_STATES)
_FOUND_LATE = timedelta(days=5)
"""An order given up as not placed is watched until the end of the next session, over a long weekend at most."""
TOLD_AFTER = timedelta(seconds=10)
"""A position is not without a confirmed stop for longer than this and nobody is told (C12)."""
PATIENCE = timedelta(seconds=30)
"""A broker that has just refused a stop is not asked again at once."""
_NEVER_STOOD = (OrderState.REJECTED.value, OrderState.NOT_PLACED.value)


@dataclass(frozen=True, slots=True)
class Gap:
    """Shares of a position without a stop: `stop` and `target` are the newest orders that stood for them."""

    strategy: str
    symbol: str
    quantity: int
    stop: Row
    target: Row | None
    generation: int
    """How many times they have been placed."""
    since_seq: int
    """The last fact about the position or these orders."""
    position_seq: int
    """The last fact about the position."""
    lost: str
    """Part of the newest stop that the broker has taken: a position that loses another one is naked anew."""
    alone: tuple[Row, ...] = ()
    """Targets at work whose stops are not."""

    @property
    def place(self) -> tuple[str, str, str]:
        """Whose, of what, and which bracket of which entry."""
        return self.strategy, self.symbol, f"{self.stop['action_id']}-{self.part}"

    @property
    def part(self) -> str:
        """Of the bracket: `1`, `2` ..."""
        return bracket_of(self.stop)


@dataclass(frozen=True, slots=True)
class Shortage:
    """Shares that are left of what others have sold of: without a stop, and whose they are nobody can tell."""

    symbol: str
    quantity: int
    since_seq: int
    """The last fact about a position in the symbol."""


def is_refused(stop: Row, generation: int) -> bool:
    """Whether the broker did not take a stop: it rejected it, or took one that was placed again and ended it in a moment, unasked."""
    if stop["state"] == OrderState.REJECTED.value:
        return True
    ended = stop["state"] in (OrderState.CANCELED.value, OrderState.EXPIRED.value) and stop["before_cancel"] is None
    return bool(ended and generation > 1 and not stop["filled_quantity"] and stop["updated_at"] < stop["submitted_at"] + PATIENCE)


def _has_stood(stop: Row, generation: int) -> bool:
    return stop["submitted_at"] is not None and stop["state"] not in _NEVER_STOOD and not is_refused(stop, generation)


def gaps(reader: Reader, works: Sequence[str] = _WORKS) -> list[Gap]:
    """Every position, or part of one, that had a stop and has none, while no exit for it works.

    Args:
        works: States of orders that count as covering shares: those that may be at work, so that nothing is ever sold twice.
    """
    families = _families(reader, works)
    splits = booked_splits(reader) if families else []
    return [gap for family in families for gap in _gaps_of(reader, splits, *family, works=works)]


def doubts(reader: Reader, until: datetime) -> list[Gap]:
    """Every part of a position that is covered only by what the broker has not confirmed, or is to cancel, since `until` or longer.

    No stop can be placed for it, which might sell what the other sells as well.
    """
    unconfirmed = reader.find("orders", side=Side.SELL.value, state=_IN_DOUBT)
    places = {(row["strategy"], row["symbol"]) for row in unconfirmed if _waits_since(row) <= until}
    if not places:
        return []
    sure = {gap.place for gap in gaps(reader)}
    return [gap for gap in gaps(reader, _CONFIRMED) if gap.place not in sure and gap.place[:2] in places]


def _waits_since(row: Row) -> datetime:
    """Since when the broker has not said what it was asked; each look at what is in doubt is a fact of it too."""
    sent = row["state"] in (OrderState.SUBMITTED.value, OrderState.UNKNOWN.value)
    since: datetime = row["submitted_at" if sent else "updated_at"]
    return since


def shortages(reader: Reader) -> list[Shortage]:
    """What the account has left of shares that stood under stops, where others have sold of them, less what is covered and the gaps.

    Others are somebody else, or a strategy whose order has sold more than it held.
    """
    positions = reader.find("positions")
    short = sorted({row["symbol"] for row in positions if row["quantity"] < 0})
    if not short:
        return []
    found, splits = [], booked_splits(reader)
    families = [family for family in _families(reader, _WORKS) if family[0]["symbol"] in short]
    for symbol in short:
        of_it = [row for row in positions if row["symbol"] == symbol]
        own = [family for family in families if family[0]["symbol"] == symbol]
        stood = [row for *_, rows in own for row in rows if row["order_type"] == OrderType.STOP.value and row["submitted_at"] is not None]
        protected = {row["strategy"] for row in stood}
        wanted = sum(position["quantity"] for position, *_ in own if position["strategy"] in protected)
        covered = sum(_covering(Coverage(reader, [*exits, *rows], splits), exits) for _, _, exits, rows in own)
        told = sum(gap.quantity for family in own for gap in _gaps_of(reader, splits, *family, works=_WORKS))
        naked = min(wanted, sum(row["quantity"] for row in of_it)) - covered - told
        if naked > 0:
            concerned = [row for row in of_it if row["quantity"] < 0] + [position for position, *_ in own]
            found.append(Shortage(symbol, naked, max(row["last_seq"] for row in concerned)))
    return found


_Family = tuple[Row, list[Row], list[Row], list[Row]]
"""A position, the entries that bought it, what sells of it now, and the stops and targets that it had, in order."""


def _families(reader: Reader, works: Sequence[str]) -> list[_Family]:
    held = [row for row in reader.find("positions") if row["quantity"] > 0 and row["strategy"] != EXTERNAL]
    if not held:
        return []
    protected = {row["name"] for row in reader.find("strategies", state=_PROTECTED_BY)}
    selling = reader.find("orders", side=Side.SELL.value, state=works)
    families = []
    for position in held:
        place = {"strategy": position["strategy"], "symbol": position["symbol"]}
        entries = reader.find("orders", client_id=_bought_by(reader, position)) if position["strategy"] in protected else []
        if entries:
            actions = {entry["action_id"] for entry in entries}
            exits = [row for row in selling if place.items() <= row.items()]
            stood = reader.find("orders", action_id=actions, order_class=OrderClass.PROTECTIVE.value, order_by="intent_seq", **place)
            families.append((position, entries, exits, stood))
    return families


def _bought_by(reader: Reader, position: Row) -> set[str]:
    """The orders that bought what is held; one that was found late filled before the position opened, and was booked after."""
    place = {"strategy": position["strategy"], "symbol": position["symbol"], "side": Side.BUY.value}
    fills = reader.find("fills", since=("at", position["opened_at"] - _FOUND_LATE), **place)
    opened = min((fill["seq"] for fill in fills if fill["at"] >= position["opened_at"]), default=0)
    return {fill["client_id"] for fill in fills if fill["seq"] >= opened}


def _gaps_of(
    reader: Reader, splits: Sequence[BookedSplit], position: Row, entries: Sequence[Row], exits: Sequence[Row], stood: Sequence[Row], *,
    works: Sequence[str],
) -> list[Gap]:
    """Shares that neither a stop nor an exit at work covers, shared out over the brackets that lack some.

    Args:
        splits: All that are booked.
        entries: The orders that bought what is held.
        exits: All orders at work that sell of it.
        stood: The stops and targets that the entries had, and those placed for them later, in order.
        works: As in `gaps`.
    """
    coverage = Coverage(reader, [*exits, *stood], splits)
    naked = held_for(reader, position["strategy"], position["symbol"]) - _covering(coverage, exits)
    # Shares and prices from before a split are not those of now: then the newest bracket stands for all that is naked.
    split = any(each.symbol == position["symbol"] and each.effective_at > position["opened_at"] for each in splits)
    # Of any bracket: a target whose stop is gone sells shares that another bracket's stop is to stand for.
    stopped = {row["oco"] for row in stood if row["order_type"] == OrderType.STOP.value and row["state"] in works}
    lone = (row for row in stood if row["order_type"] == OrderType.LIMIT.value and row["state"] in works)
    alone = tuple(row for row in lone if row["oco"] not in stopped)
    found = []
    for rows in _brackets(entries, stood):
        stops = [row for row in rows if row["order_type"] == OrderType.STOP.value]
        sent = [row for row in stops if row["submitted_at"] is not None]
        if naked <= 0 or not sent:
            continue
        covered = sum(coverage.left(row) for row in stops if row["state"] in works)
        lacking = naked if split else coverage.share(rows[0]) - sum(row["filled_quantity"] for row in rows) - covered
        quantity = min(lacking, naked)
        if quantity > 0:
            naked -= quantity
            targets = [row for row in rows if row["order_type"] == OrderType.LIMIT.value]
            last = max(position["last_seq"], *(row["last_seq"] for row in rows))
            target = targets[-1] if targets else None
            stood_for = [row["part"] for number, row in enumerate(stops, start=1) if _has_stood(row, number)]
            newest = stood_for[-1] if stood_for else ""
            place = position["strategy"], position["symbol"], quantity
            found.append(Gap(*place, sent[-1], target, len(stops), last, position["last_seq"], newest, alone))
    return found


def _covering(coverage: Coverage, exits: Sequence[Row]) -> int:
    """Shares that exits at work can still sell at a stop, or are selling."""
    left = 0
    for row in exits:
        if row["order_class"] != OrderClass.PROTECTIVE.value:
            left += row["quantity"] - row["filled_quantity"]
        elif row["order_type"] == OrderType.STOP.value:
            left += coverage.left(row)
    return left


def _brackets(entries: Sequence[Row], stood: Sequence[Row]) -> list[list[Row]]:
    """Stops and targets by entry and bracket, the newest entry first: what is left of a position is what was bought last."""
    newest_first = sorted(entries, key=lambda row: row["intent_seq"], reverse=True)
    found: list[list[Row]] = []
    for entry in newest_first:
        own = [row for row in stood if row["action_id"] == entry["action_id"]]
        found += [[row for row in own if bracket_of(row) == number] for number in sorted({bracket_of(row) for row in own})]
    return found
