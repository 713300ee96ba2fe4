"""Reading time stamps of unknown make: formats, time zone, interval, and whether they mark a bar's start or its end.

Whatever the rows themselves prove is inferred and said in the report; whatever they leave open is refused with the option
of `trading bars import` that decides it, whichever command has read the file. Guessing wrong by an hour or by one bar would be
look-ahead, which no later check could find.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from zoneinfo import ZoneInfo

import numpy as np

from trading_pipeline.domain.bar_quality import Mask, grid
from trading_pipeline.domain.bars import Floats, Instants, Interval, instant_ns
from trading_pipeline.domain.sessions import NEW_YORK, TradingCalendar
from trading_pipeline.errors import BarsError

ZONES = ("America/New_York", "UTC", "America/Chicago", "America/Los_Angeles")
"""Where stamps without an offset are looked for; any other zone must be given."""

_SECOND = 1_000_000_000
_DAY = 86_400 * _SECOND
_YEARS = (instant_ns(datetime(1900, 1, 1, tzinfo=UTC)), instant_ns(datetime(2200, 1, 1, tzinfo=UTC)))
"""Instants outside are no stamps of bars; those far outside would not even fit into 64 bits."""
_SLASHED = re.compile(r"(\d{1,2})[/.\-](\d{1,2})[/.\-](\d{4})(?:[ T]+(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([AaPp][Mm])?)?")


class Stamp(StrEnum):
    """What a row's time marks."""

    START = "start"
    END = "end"


class DateOrder(StrEnum):
    """How `3/4/2024` is meant."""

    MONTH_FIRST = "mdy"
    DAY_FIRST = "dmy"


@dataclass(frozen=True, slots=True)
class Stamps:
    """Parsed stamps: nanoseconds since 1970-01-01, UTC when `aware`, otherwise of the clock on the wall; -1 where not `valid`."""

    ns: Instants
    aware: bool
    valid: Mask
    formats: tuple[str, ...]


def parse(values: Sequence[str], order: DateOrder | None, file: str) -> Stamps:
    """Read stamps: ISO 8601 with or without offset, slashed dates, epochs in s, ms, us or ns, YYYYMMDD.

    Raises:
        BarsError: Stamps with and without offset in one file, or slashed dates that could be either order.
    """
    import pyarrow as pa

    for kind, aware in ((pa.timestamp("ns", tz="UTC"), True), (pa.timestamp("ns"), False)):
        try:
            ns = pa.array(values, pa.string()).cast(kind).cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            continue
        return Stamps(ns, aware, (ns >= _YEARS[0]) & (ns < _YEARS[1]), ("ISO",))
    order = order or _order_of(values, file)
    found = [_possible(_one(value, order)) for value in values]
    kinds = {(each[1], each[2]) for each in found if each is not None}
    if len({aware for aware, _ in kinds}) > 1:
        raise BarsError(
            f"Some stamps of {file} carry an offset from UTC and some do not.", rule="all stamps of a file are of one kind",
            remedy="write every stamp with its offset, such as 2024-08-28T09:30:00-04:00",
        )
    return Stamps(
        np.array([-1 if each is None else each[0] for each in found], np.int64), any(aware for aware, _ in kinds),
        np.array([each is not None for each in found], np.bool_), tuple(sorted({name for _, name in kinds})),
    )


def infer_interval(ns: Instants, file: str) -> Interval:
    """The interval whose step is the most frequent distance of neighbouring stamps.

    Raises:
        BarsError: No supported interval has that step.
    """
    distinct = np.unique(ns)
    steps = np.diff(distinct)
    if not len(steps):
        raise BarsError(
            f"{file} has fewer than two instants.", rule="an interval shows in the distance of rows",
            remedy="import it with `trading bars import --interval INTERVAL`",
        )
    sizes, counts = np.unique(steps, return_counts=True)
    step = int(sizes[counts.argmax()])
    if np.median(steps) >= _DAY * 0.9:
        return Interval.DAY1
    for interval in Interval:
        if not interval.daily and interval.minutes * 60 * _SECOND == step:
            return interval
    raise BarsError(
        f"Rows of {file} are mostly {step / _SECOND / 60:g} minutes apart.", value=f"{step / _SECOND / 60:g} min",
        rule=f"intervals are {', '.join(each.value for each in Interval)}",
        remedy="import it with `trading bars import --interval INTERVAL` if the symbol trades too thinly to tell, otherwise"
        " aggregate the file first",
    )


def check_interval(ns: Instants, interval: Interval, file: str) -> None:
    """Refuse an interval that all rows are too far apart for, or that daily rows cannot be.

    Raises:
        BarsError: Every stamp lies on the grid of a coarser interval.
    """
    steps = np.diff(np.unique(ns))
    if not len(steps):
        return
    common = math.gcd(*(int(step) for step in np.unique(steps)))
    daily = bool(np.median(steps) >= _DAY * 0.9)
    if daily != interval.daily or (not daily and common > interval.minutes * 60 * _SECOND):
        apart = "a day or more" if daily else f"{common / _SECOND / 60:g} minutes or a multiple of it"
        raise BarsError(
            f"{file} was said to hold {interval} bars, but its rows are {apart} apart.", value=interval.value,
            rule="a file's rows are as far apart as its interval says", remedy="leave the interval out, or give the right one",
        )


def to_utc(ns: Instants, zone: ZoneInfo) -> Instants:
    """Wall-clock nanoseconds of a zone as UTC, by the offset at noon of each day: zones change it at night, on days without trading."""
    days, inverse = np.unique(ns // _DAY, return_inverse=True)
    offsets = []
    for day in days:
        noon = datetime.combine(date.fromordinal(int(day) + 719_163), time(12), zone).utcoffset()
        assert noon is not None
        offsets.append(int(noon.total_seconds()) * _SECOND)
    return np.asarray(ns - np.array(offsets, np.int64)[inverse], np.int64)


def find_zone(ns: Instants, volume: Floats, interval: Interval, calendar: TradingCalendar, file: str) -> str:
    """The zone in which wall-clock stamps fill regular hours and hold the volume.

    A zone's score is the share of the sessions' bars that exist times the share of volume (of rows, when there is none) that lies
    in regular hours: near 1 for the right zone, and clearly less an hour beside it.

    Raises:
        BarsError: No zone fits, or two fit about equally.
    """
    scores = sorted(((_fit(to_utc(ns, ZoneInfo(name)), volume, interval, calendar), name) for name in ZONES), reverse=True)
    (best, name), (second, other) = scores[:2]
    if best >= 0.5 and best - second >= 0.15:
        return name
    raise BarsError(
        f"The time zone of {file} cannot be told: its stamps have no offset, {name} fits {best:.0%} and {other} {second:.0%}.", value=name,
        rule="stamps without an offset are read only where the rows prove their zone",
        remedy="import it with `trading bars import --timezone ZONE`, such as America/New_York",
    )


def end_stamped(start: Instants, volume: Floats, interval: Interval, calendar: TradingCalendar) -> str | None:
    """Why stamps, taken as starts, look like ends of bars; None when they look like starts.

    In a file of regular hours, ends run from one step after the open to the close. In a file with extended hours the first
    minutes after the open carry far more volume than those before it, and the step between them tells.
    """
    opens, closes = grid(calendar, Interval.DAY1, _day(start.min()), _day(start.max()))
    if not len(opens):
        return None
    step = interval.minutes * 60 * _SECOND
    at = np.clip(np.searchsorted(opens, start, side="right") - 1, 0, len(opens) - 1)
    within = (start >= opens[at]) & (start <= closes[at])
    sessions = len(np.unique(at[within]))
    if not sessions:
        return None
    at_open = len(np.unique(at[start == opens[at]]))
    at_close = len(np.unique(at[(start == closes[at]) & (volume > 0)]))
    if (~within).sum() < 0.05 * len(start):
        if at_close >= sessions / 2:
            both = "as well as at the open" if at_open >= sessions / 2 else "and none at the open"
            return f"in {at_close} of {sessions} sessions a row with volume is stamped at the close, {both}"
        return None
    first = dict(zip(at[start == opens[at]].tolist(), volume[start == opens[at]].tolist(), strict=True)) if at_open else {}
    second = dict(zip(at[start == opens[at] + step].tolist(), volume[start == opens[at] + step].tolist(), strict=True))
    shared = [(first[each], second[each]) for each in first.keys() & second.keys()]
    if shared and np.median([one for one, _ in shared]) < 0.3 * np.median([two for _, two in shared]):
        return "the row stamped at the open has a fraction of the volume of the next one, as the last one before the open would"
    return None


def starts_of(ends: Instants, interval: Interval, calendar: TradingCalendar) -> Instants:
    """Starts of bars from their ends; the short last bar of a session included."""
    if not len(ends):
        return ends
    slot_starts, slot_ends = grid(calendar, interval, _day(ends.min()), _day(ends.max()))
    shifted = ends - interval.minutes * 60 * _SECOND
    if not len(slot_ends):
        return shifted
    at = np.minimum(np.searchsorted(slot_ends, ends), len(slot_ends) - 1)
    return np.where(slot_ends[at] == ends, slot_starts[at], shifted)


def session_midnights(stamps: Stamps) -> Instants:
    """Daily stamps as UTC midnights of their sessions.

    Dates and wall-clock stamps count by their date. Instants count by the date in New York, but by the date in UTC when they are
    all UTC midnights, which is how a plain date is often written.
    """
    if not stamps.aware or not (stamps.ns % _DAY).any():
        return stamps.ns // _DAY * _DAY
    days, inverse = np.unique(stamps.ns, return_inverse=True)
    dates = [datetime.fromtimestamp(int(ns) // _SECOND, NEW_YORK).date() for ns in days]
    return np.array([instant_ns(datetime.combine(day, time(), UTC)) for day in dates], np.int64)[inverse]


def _fit(start: Instants, volume: Floats, interval: Interval, calendar: TradingCalendar) -> float:
    slots, _ = grid(calendar, interval, _day(start.min()), _day(start.max()))
    traded = np.unique(start // _DAY)
    expected = slots[np.isin(slots // _DAY, traded)]
    if not len(expected):
        return 0.0
    filled = float(np.isin(expected, start).mean())
    inside = np.isin(start, expected)
    total = float(np.nansum(volume))
    return filled * (float(np.nansum(volume[inside])) / total if total > 0 else float(inside.mean()))


def _order_of(values: Sequence[str], file: str) -> DateOrder:
    first, second, example = 0, 0, ""
    for value in values:
        slashed = _SLASHED.fullmatch(value.strip())
        if slashed is not None:
            first, second, example = max(first, int(slashed[1])), max(second, int(slashed[2])), value
    if first > 12 and second > 12:
        raise BarsError(
            f"{file} has dates with the month first and dates with the day first.", rule="all dates of a file have one order",
            remedy="write dates as YYYY-MM-DD",
        )
    if 0 < first <= 12 and 0 < second <= 12:
        raise BarsError(
            f"Dates such as {example} in {file} could have the day or the month first.", value=example,
            rule="a date has one meaning",
            remedy="import it with `trading bars import --date-order ORDER` (mdy or dmy), or write dates as YYYY-MM-DD",
        )
    return DateOrder.DAY_FIRST if first > 12 else DateOrder.MONTH_FIRST


def _possible(found: tuple[int, bool, str] | None) -> tuple[int, bool, str] | None:
    return found if found is not None and _YEARS[0] <= found[0] < _YEARS[1] else None


def _one(value: str, order: DateOrder) -> tuple[int, bool, str] | None:
    """(nanoseconds, aware, format) of one stamp, or None."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        if len(text) == 8:
            return _naive(f"{text[:4]}-{text[4:6]}-{text[6:]}", "YYYYMMDD")
        for digits, unit in ((10, _SECOND), (13, 1_000_000), (16, 1_000), (19, 1)):
            if len(text) == digits:
                return int(text) * unit, True, "epoch"
        return None
    slashed = _SLASHED.fullmatch(text)
    if slashed is not None:
        one, two, year, hour, minute, second, half = slashed.groups(default="")
        month, day = (one, two) if order is DateOrder.MONTH_FIRST else (two, one)
        hours = int(hour or 0) % 12 + (12 if half.lower() == "pm" else 0) if half else int(hour or 0)
        return _naive(f"{year}-{int(month):02}-{int(day):02}T{hours:02}:{minute or '00'}:{second or '00'}", "slashed")
    return _naive(text.replace("/", "-"), "ISO")


def _naive(text: str, name: str) -> tuple[int, bool, str] | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    if at.tzinfo is not None:
        return instant_ns(at), True, name
    return instant_ns(at.replace(tzinfo=UTC)), False, name


def _day(ns: np.int64) -> date:
    return datetime.fromtimestamp(int(ns) // _SECOND, UTC).date()
