"""From rows as a vendor wrote them to bars on the calendar's grid, with an account of every row on the way.

Nothing is dropped or changed silently and no price is made up: a row is kept, dropped for a named reason, or repaired by a
named rule that cannot change its meaning. A file is refused as a whole when its rows admit more than one reading (whose
hours, starts or ends) or when too many of them are broken to trust the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain.bar_quality import SPIKE_RULE, Mask, grid, missing, price_faults, spikes
from trading_pipeline.domain.bars import COLUMNS, BarTable, Floats, Instants, Interval, instant_of
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.errors import BarsError

BAD_SHARE = 0.02
"""Above this share of broken rows the whole file is refused: what looks like data would be chance."""
ROUNDING = 1e-5
"""A high or low that misses its open or close by at most this fraction of the price is widened to it."""
OUTSIDE_HOURS = "outside regular hours"
STEP_NOTED = 0.35
"""A close that moves by more than this between sessions is pointed out: a split, or data of mixed adjustment."""


@dataclass(frozen=True, slots=True)
class RawBars:
    """Rows as read: `start` in nanoseconds UTC, prices and volume float64 with NaN for what was no number, `line` in the file."""

    start: Instants
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    line: Instants

    def where(self, wanted: Mask | Instants) -> "RawBars":
        """The rows marked True, or at the given positions."""
        return RawBars(*(getattr(self, name)[wanted] for name in self.__slots__))

    def __len__(self) -> int:
        return len(self.start)


@dataclass(frozen=True, slots=True)
class Note:
    """What happened to rows under one rule: how many, and the lines and instants of the first few."""

    rule: str
    rows: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.rule}: {self.rows}" + (f" ({', '.join(self.examples)})" if self.examples else "")


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of one file. `read = kept + dropped`, unless refused: then nothing was kept."""

    file: str
    symbol: str
    interval: Interval | None
    read: int
    kept: int
    dropped: tuple[Note, ...] = ()
    repaired: tuple[Note, ...] = ()
    notes: tuple[str, ...] = ()
    first: datetime | None = None
    last: datetime | None = None
    missing: int = 0
    """Bars of the calendar between the first and the last session that the file lacks."""
    error: BarsError | None = None

    @property
    def refused(self) -> bool:
        """Whether the file was not used at all."""
        return self.error is not None

    @property
    def span(self) -> str:
        """From when to when there are bars: sessions of daily ones, else UTC; empty without bars."""
        if self.first is None or self.last is None or self.interval is None:
            return ""
        return f"{_named(self.first, daily=self.interval.daily)} to {_named(self.last, daily=self.interval.daily)}"

    def lines(self) -> list[str]:
        """The report as people read it, one thing a line; instants are UTC, daily bars are named by their dates."""
        head = f"{self.file}: {self.symbol} {self.interval or '?'}, {self.read} rows read, {self.kept} kept"
        if self.error is not None:
            return [f"{head}, REFUSED", f"  {self.error}"]
        out = [head]
        if self.span:
            out.append(f"  {self.span}, {self.missing} bars of the calendar missing")
        out.extend(f"  dropped, {note}" for note in self.dropped)
        out.extend(f"  repaired, {note}" for note in self.repaired)
        out.extend(f"  note: {note}" for note in self.notes)
        return out


@dataclass
class Account:
    """Collects the report of one file while it is read."""

    file: str
    symbol: str
    interval: Interval | None = None
    read: int = 0
    broken: int = 0
    dropped: list[Note] = field(default_factory=list)
    repaired: list[Note] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def drop(self, rule: str, rows: RawBars, *, broken: bool, said: Sequence[str] = ()) -> None:
        """Record rows left out; `broken` ones cast doubt on the file, others (outside regular hours, copies) do not.

        Args:
            said: What the first rows have for a time, where that is no instant.
        """
        if len(rows):
            shown = tuple(f"line {line}, {text!r}" for line, text in zip(rows.line, said, strict=False)) or self._examples(rows)
            self.dropped.append(Note(rule, len(rows), shown))
            self.broken += len(rows) if broken else 0

    def told(self) -> str:
        """The dropped rows so far as a sentence; empty when there are none."""
        return f" Dropped: {'; '.join(str(note) for note in self.dropped)}." if self.dropped else ""

    def repair(self, rule: str, rows: RawBars) -> None:
        """Record rows changed."""
        if len(rows):
            self.repaired.append(Note(rule, len(rows), self._examples(rows)))

    def _examples(self, rows: RawBars) -> tuple[str, ...]:
        return _examples(rows, daily=self.interval is not None and self.interval.daily)

    def refuse(self, error: BarsError) -> ImportReport:
        """The report of a file that is not used."""
        return ImportReport(
            self.file, self.symbol, self.interval, self.read, 0, tuple(self.dropped), tuple(self.repaired), tuple(self.notes), error=error
        )

    def close(self, table: BarTable, calendar: TradingCalendar) -> ImportReport:
        """The report of a file whose bars are used."""
        first, last, absent = None, None, 0
        if len(table):
            first, last = instant_of(table.start[0]), table.last_end
            days = table.session_days
            absent = len(missing(table, calendar, days[0].astype(object), days[-1].astype(object)))
        return ImportReport(
            self.file, self.symbol, table.interval, self.read, len(table), tuple(self.dropped), tuple(self.repaired), tuple(self.notes),
            first, last, absent,
        )


def clean(rows: RawBars, interval: Interval, calendar: TradingCalendar, account: Account) -> BarTable:
    """Bars on the calendar's grid from rows whose starts are known; everything else goes into the account.

    Args:
        rows: In any order. For daily bars `start` is any instant within the UTC day of the session.

    Raises:
        BarsError: More than BAD_SHARE of the rows are broken, or none is left.
    """
    account.interval = interval
    rows = _on_grid(_in_order(rows, account), interval, calendar, account)
    inside = len(rows)
    rows = _widened(rows, account)
    for rule, mask in price_faults(rows.open, rows.high, rows.low, rows.close, rows.volume).items():
        account.drop(rule, rows.where(mask), broken=True)
    faulty = np.logical_or.reduce(list(price_faults(rows.open, rows.high, rows.low, rows.close, rows.volume).values()))
    rows = _without_duplicates(rows.where(~faulty), account)
    spiky = spikes(rows.close)
    account.drop(SPIKE_RULE, rows.where(spiky), broken=True)
    rows = rows.where(~spiky)
    if not len(rows):
        raise BarsError(
            f"{account.file} has no usable bar in regular hours.{account.told()}", value=account.read,
            rule="a bars file holds bars of XNYS sessions from 1990 on",
            remedy="check the columns, that the symbol trades in New York, and the zone (`trading bars import --timezone ZONE`)",
        )
    if account.broken > max(1, BAD_SHARE * inside):
        raise BarsError(
            f"{account.broken} rows of {account.file} are broken, {inside} in regular hours.{account.told()}", value=account.broken,
            rule=f"at most {BAD_SHARE:.0%} of the rows of a file are broken", remedy="mend the file or get it anew from its source",
        )
    days = _days(rows.start)
    account.notes.extend(price_steps(days, rows.close, np.flatnonzero(days[1:] != days[:-1])))
    quiet = int((rows.volume == 0).sum())
    if quiet:
        account.notes.append(f"{quiet} bars have no volume")
    starts, ends = grid(calendar, interval, _day(rows.start[0]), _day(rows.start[-1]))
    end = ends[np.searchsorted(starts, rows.start)]
    return BarTable(account.symbol, interval, rows.start, end, rows.open, rows.high, rows.low, rows.close, rows.volume)


def _in_order(rows: RawBars, account: Account) -> RawBars:
    back = np.zeros(len(rows), np.bool_)
    back[1:] = rows.start[1:] < rows.start[:-1]
    if back.any():
        descending = int(back.sum()) == len(rows) - 1
        rule = "rows were newest first, sorted" if descending else "rows sorted, each of these came after a later one"
        account.repair(rule, rows.where(back))
    return rows.where(np.argsort(rows.start, kind="stable"))


def _on_grid(rows: RawBars, interval: Interval, calendar: TradingCalendar, account: Account) -> RawBars:
    """The rows that start where the calendar has a bar; daily rows are moved to their session's open."""
    if not len(rows):
        return rows
    starts, _ = grid(calendar, interval, _day(rows.start[0]), _day(rows.start[-1]))
    if interval.daily:
        days, sessions = _days(rows.start), _days(starts)
        known = np.isin(days, sessions)
        early = days < np.datetime64(calendar.first.day)
        account.drop(f"before {calendar.first.day}, where the calendar begins", rows.where(early), broken=False)
        account.drop("on a day the exchange was closed", rows.where(~known & ~early), broken=True)
        rows = rows.where(known)
        return replace(rows, start=starts[np.searchsorted(sessions, _days(rows.start))])
    on_grid = np.isin(rows.start, starts)
    inside = _in_hours(rows.start, calendar)
    account.drop(OUTSIDE_HOURS, rows.where(~inside), broken=False)
    stray = rows.where(inside & ~on_grid)
    if len(stray) > BAD_SHARE * inside.sum():
        raise BarsError(
            f"{len(stray)} of {int(inside.sum())} rows of {account.file} do not start where a {interval} bar of their session does;"
            f" the first is {_examples(stray)[0]}.",
            value=len(stray), rule="intraday bars are anchored at the open, 09:30 New York, so none reaches over it",
            remedy="use bars anchored at 09:30, or finer bars; a vendor's hourly bars on the full hour cannot be cut",
        )
    account.drop("off the grid of its session", stray, broken=True)
    return rows.where(on_grid)


def _widened(rows: RawBars, account: Account) -> RawBars:
    top, bottom = np.fmax(rows.open, rows.close), np.fmin(rows.open, rows.close)
    with np.errstate(invalid="ignore"):
        short = ((rows.high < top) & (top - rows.high <= ROUNDING * top)) | ((rows.low > bottom) & (rows.low - bottom <= ROUNDING * bottom))
    if not short.any():
        return rows
    account.repair("high or low widened to an open or close that it missed by rounding", rows.where(short))
    return replace(rows, high=np.where(short, np.fmax(rows.high, top), rows.high), low=np.where(short, np.fmin(rows.low, bottom), rows.low))


def _without_duplicates(rows: RawBars, account: Account) -> RawBars:
    """One row a start: of identical copies the first, of the same prices the one with the most volume, of conflicting prices none."""
    again = np.zeros(len(rows), np.bool_)
    again[1:] = rows.start[1:] == rows.start[:-1]
    if not again.any():
        return rows
    prices = np.stack((rows.open, rows.high, rows.low, rows.close))
    copies: list[int] = []
    lesser: list[int] = []
    conflicting: list[int] = []
    for start in np.unique(rows.start[again]):
        first, last = np.searchsorted(rows.start, start, side="left"), np.searchsorted(rows.start, start, side="right")
        group = list(range(int(first), int(last)))
        if (prices[:, first:last] != prices[:, [first]]).any():
            conflicting.extend(group)
        else:
            best = max(group, key=lambda index: rows.volume[index])
            for index in group:
                if index != best:
                    (copies if rows.volume[index] == rows.volume[best] else lesser).append(index)
    account.drop("identical copy of another row", rows.where(np.array(copies, np.int64)), broken=False)
    account.drop("copy of another row with less volume", rows.where(np.array(lesser, np.int64)), broken=False)
    account.drop("same time, different prices: all of these rows", rows.where(np.array(conflicting, np.int64)), broken=True)
    kept = np.ones(len(rows), np.bool_)
    kept[copies + lesser + conflicting] = False
    return rows.where(kept)


def price_steps(days: npt.NDArray[np.datetime64], close: Floats, last: npt.NDArray[np.int64]) -> list[str]:
    """Moves of more than STEP_NOTED from the bars at `last` to the ones after them; the first five."""
    moves = close[last + 1] / close[last]
    large = np.flatnonzero((moves > 1 + STEP_NOTED) | (moves < 1 / (1 + STEP_NOTED)))[:5]
    return [
        f"the price on {days[last[index] + 1]} is {moves[index]:.3g} times that of {days[last[index]]}: a split, news, or mixed adjustment"
        for index in large
    ]


def _in_hours(start: Instants, calendar: TradingCalendar) -> Mask:
    """Rows that start within regular hours."""
    opens, closes = grid(calendar, Interval.DAY1, _day(start.min()), _day(start.max()))
    if not len(opens):
        return np.zeros(len(start), np.bool_)
    at = np.searchsorted(opens, start, side="right") - 1
    return (at >= 0) & (start < closes[at])


def _days(start: Instants) -> npt.NDArray[np.datetime64]:
    return start.astype("datetime64[ns]").astype("datetime64[D]")


def _day(start: np.int64) -> date:
    return instant_of(int(start)).date()


def _examples(rows: RawBars, *, daily: bool = False) -> tuple[str, ...]:
    """The first rows by line and time."""
    return tuple(f"line {rows.line[index]}, {_named(instant_of(rows.start[index]), daily=daily)}" for index in range(min(3, len(rows))))


def _named(at: datetime, *, daily: bool) -> str:
    """A daily bar by its session's date, which is the date in UTC of every instant it is given; another by its instant."""
    return f"{at:%Y-%m-%d}" if daily else f"{at:%Y-%m-%d %H:%M} UTC"


def merge(tables: Sequence[tuple[str, BarTable]]) -> tuple[BarTable, tuple[str, ...]]:
    """One table of several files of a symbol and interval, and what was decided.

    A session is taken whole from one file, the one with the most bars in it (then the one with the most bars at all, then the
    first by name): bars of two vendors within a session would make moves that nobody traded.
    """
    if len(tables) == 1:
        return tables[0][1], ()
    ranked = sorted(tables, key=lambda item: (-len(item[1]), item[0]))
    days = [table.session_days.astype(np.int64) for _, table in ranked]
    best: dict[int, tuple[int, int]] = {}
    for index, held in enumerate(days):
        for day, count in zip(*np.unique(held, return_counts=True), strict=True):
            if count > best.get(int(day), (0, 0))[0]:
                best[int(day)] = (int(count), index)
    notes, parts = [], []
    for index, (name, table) in enumerate(ranked):
        mine = np.array([day for day, (_, owner) in best.items() if owner == index], np.int64)
        kept = np.isin(days[index], mine)
        parts.append(table.where(kept))
        if not kept.all():
            notes.append(f"{len(np.unique(days[index][~kept]))} sessions of {name} are taken from another file that has more bars")
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    union = BarTable(parts[0].symbol, parts[0].interval, **columns)
    order = np.argsort(union.start, kind="stable")
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])[order]
    whole = union.where(order)
    notes.extend(price_steps(whole.session_days, whole.close, np.flatnonzero(owner[1:] != owner[:-1])))
    return whole, tuple(notes)
