"""What is wrong with bars, and what they say of volume: pure checks used by imports, cycles and asset checks.

A bar that breaks a rule is dropped and named, never mended here: a made-up price is worse than a missing one. Zero
volume is no fault of a bar (vendors report it for quiet minutes); price steps of a split are none either, because they persist.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain.bars import BarTable, Floats, Instants, Interval, instant_of
from trading_pipeline.domain.sessions import TradingCalendar

SPIKE = 10.0
"""A bar whose price is this many times away from both its neighbours is a bad print."""
SPIKE_RULE = f"a single close {SPIKE:.0f} times away from both neighbours"
MOST_PRICE = 1e9
"""USD a share, far above the dearest; beyond it money's 28 digits do not hold an account any more."""
MOST_VOLUME = 1e12
"""Shares a bar: more than all exchanges trade in a day. One such row would lift the limit on an order's share of the volume."""
VOLUME_SESSIONS = 20
VOLUME_SESSIONS_LEAST = 5

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that bars break: how many do, and where the first of them starts."""

    rule: str
    count: int
    first: datetime

    @property
    def sentence(self) -> str:
        """As people read it."""
        return f"{self.rule}: {self.count}, first at {self.first:%Y-%m-%d %H:%M} UTC"


def price_faults(opened: Floats, high: Floats, low: Floats, close: Floats, volume: Floats) -> dict[str, Mask]:
    """Which rows break which rule of a single bar; a row counts under the first rule it breaks."""
    with np.errstate(invalid="ignore"):
        highest, lowest = np.maximum(opened, close), np.minimum(opened, close)
        beyond_high, beyond_low = high < highest, low > lowest
        # Of all four from here on; NaN where one of them is.
        for extreme, column in ((np.maximum, highest), (np.minimum, lowest)):
            extreme(column, high, out=column)
            extreme(column, low, out=column)
        broken = {
            "price missing or not finite": ~(np.isfinite(lowest) & np.isfinite(highest)),
            "price zero or negative": lowest <= 0,
            "price beyond any exchange": highest > MOST_PRICE,
            "high below low": high < low,
            "high below open or close": beyond_high,
            "low above open or close": beyond_low,
            "volume missing or negative": ~np.isfinite(volume) | (volume < 0),
            "volume beyond any exchange": volume > MOST_VOLUME,
        }
    seen = np.zeros(len(opened), np.bool_)
    faults = {}
    for rule, mask in broken.items():
        faults[rule] = mask & ~seen
        seen |= mask
    return faults


def spikes(close: Floats, before: float | None = None, after: float | None = None) -> Mask:
    """Closes SPIKE times or more above or below both the price before and the price after.

    One that has no neighbour on a side is never called a spike: a split may just have happened.

    Args:
        before: A price ahead of the first close; None when there is none.
        after: A price since the newest close, such as a quote's; None when there is none.
    """
    found = np.zeros(len(close), np.bool_)
    if len(close):
        with np.errstate(invalid="ignore", divide="ignore"):
            prices = np.log(np.concatenate(([before or np.nan], close, [after or np.nan])))
            rise, fall = prices[1:-1] - prices[:-2], prices[1:-1] - prices[2:]
            limit = float(np.log(SPIKE)) - 1e-9
            found = ((rise >= limit) & (fall >= limit)) | ((rise <= -limit) & (fall <= -limit))
    return found


def unproven(close: Floats) -> bool:
    """Whether the newest close is SPIKE times away from the one before it: a bad print or the truth, which the next price tells."""
    return len(close) > 1 and max(close[-1], close[-2]) >= SPIKE * min(close[-1], close[-2]) * (1 - 1e-9)


def lone_prints(close: Floats, most: Decimal) -> Mask:
    """Closes further than `most` from both neighbours, which agree with each other: bad prints, known as such one bar later.

    A move that stays is none; neither is the newest close, nor the first. Of two in a row the second is measured by nothing, and stays.

    Args:
        close: On one share scale (split-adjusted where a split lies inside).
        most: As a fraction of the lower price, as in `gap`.
    """
    found = np.zeros(len(close), np.bool_)
    if len(close) > 2:
        apart = np.abs(np.diff(np.log(close))) > float(np.log1p(float(most)))
        agree = np.abs(np.log(close[2:] / close[:-2])) <= float(np.log1p(float(most)))
        found[1:-1] = apart[:-1] & apart[1:] & agree
        for index in np.flatnonzero(found):
            found[index] = not found[index - 1]
    return found


def gap(one: Decimal, other: Decimal) -> Decimal:
    """How far two prices lie apart, as a fraction of the lower one."""
    return max(one, other) / min(one, other) - 1


def believed(price: Decimal, known: Iterable[Decimal], most: Decimal) -> bool:
    """Whether a price lies within `most` of one that came before it, as in `gap`; where none did, nothing speaks against it.

    Asked with the last close and the last believed one before it: a bad print is neither near, a move that stays is near the former.
    """
    known = tuple(known)
    return not known or any(gap(price, each) <= most for each in known)


def order_faults(start: Instants, end: Instants) -> dict[str, Mask]:
    """Rows that end before they start, repeat a start, or come before the row ahead of them."""
    step = np.diff(start)
    repeated, back = np.zeros(len(start), np.bool_), np.zeros(len(start), np.bool_)
    repeated[1:] = step == 0
    highest = np.maximum.accumulate(start) if len(start) else start
    back[1:] = start[1:] < highest[:-1]
    return {"ends before it starts": end <= start, "start repeated": repeated & ~back, "out of order": back}


def faults(table: BarTable) -> dict[str, Mask]:
    """Every rule with the rows that break it; a row may break one rule of price and one of order.

    Whether a bar is a spike depends on bars that come later: `spikes` is asked beside this where history is judged, and not by
    the archive, which could otherwise refuse tomorrow what it took today.
    """
    return {**price_faults(table.open, table.high, table.low, table.close, table.volume), **order_faults(table.start, table.end)}


def findings(table: BarTable, broken: dict[str, Mask]) -> tuple[Finding, ...]:
    """Masks by rule as findings, rules that no row breaks left out."""
    return tuple(
        Finding(rule, int(mask.sum()), instant_of(table.start[int(mask.argmax())])) for rule, mask in broken.items() if mask.any()
    )


def sane(
    table: BarTable, before: float | None = None, after: float | None = None,
) -> tuple[BarTable, list[tuple[datetime, str]]]:
    """The bars that break no rule, and (start, rule) of each bar left out, in order; `before` and `after` as in `spikes`."""
    reasons: dict[int, str] = {}
    for rule, mask in {**faults(table), SPIKE_RULE: spikes(table.close, before, after)}.items():
        for index in np.flatnonzero(mask):
            reasons.setdefault(int(index), rule)
    if not reasons:
        return table, []
    kept = np.ones(len(table), np.bool_)
    kept[list(reasons)] = False
    return table.where(kept), [(instant_of(table.start[index]), reasons[index]) for index in sorted(reasons)]


def missing(table: BarTable, calendar: TradingCalendar, first: date, last: date) -> tuple[datetime, ...]:
    """Starts of the calendar's bars from session `first` to `last` that the table lacks."""
    starts, _ = grid(calendar, table.interval, first, last)
    return tuple(instant_of(start) for start in starts[~np.isin(starts, table.start)])


def grid(calendar: TradingCalendar, interval: Interval, first: date, last: date) -> tuple[Instants, Instants]:
    """Starts and ends of every bar of the calendar from session `first` to `last`, cut to what the calendar knows."""
    first, last = max(first, calendar.first.day), min(last, calendar.horizon.day)
    if first > last:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    opens, closes = calendar.hours(first, last)
    if interval.daily or not len(opens):
        return opens.copy(), closes.copy()
    step = interval.minutes * 60_000_000_000
    counts = -((opens - closes) // step)
    starts = np.repeat(opens - step * (np.cumsum(counts) - counts), counts)
    within = np.arange(len(starts))
    within *= step
    starts += within
    ends = starts + step
    closing = np.cumsum(counts) - 1
    ends[closing] = np.minimum(ends[closing], closes)
    return starts, ends


def repeats_one_price(table: BarTable, bars: int) -> bool:
    """Whether the newest bars, so many of them, hold one price and no volume: a feed that repeats what it last heard makes such bars."""
    newest = slice(len(table) - bars, None)
    if len(table) < bars or bool(table.volume[newest].any()):
        return False
    return all(bool((column[newest] == table.close[-1]).all()) for column in (table.open, table.high, table.low, table.close))


def bars_behind(newest_end: datetime | None, interval: Interval, calendar: TradingCalendar, now: datetime, at_most: int = 1000) -> int:
    """How many bars have closed since the newest one held; 0 is fresh, `at_most` stands for more and for none held.

    Counted in bars of the calendar, not in hours: a Friday's close is fresh on Monday morning (invariant 73: stale above 2).
    """
    slot = calendar.last_closed_slot(now, interval)
    if newest_end is None:
        return at_most
    if slot is None or newest_end >= slot.end:
        return 0
    session, behind = slot.session, 0
    while behind < at_most:
        open_slots = [each for each in calendar.slots(session, interval) if newest_end < each.end <= slot.end]
        behind += len(open_slots)
        if newest_end >= session.open or session.day <= calendar.first.day:
            break
        session = calendar.previous(session.day)
    return min(behind, at_most)


def average_day_volume(table: BarTable, session_day: date) -> tuple[Decimal, bool] | None:
    """(shares a session, short_history) as of the session `session_day`; None without any bar.

    The mean over up to 20 sessions before `session_day`. With fewer than 5 of them it is the median volume of a bar, those
    of `session_day` included, times the bars of a full session, and flagged. Source: invariant 38.

    Args:
        table: Closed bars on one share scale (split-adjusted where a split lies inside).
    """
    days = table.session_days
    prior = int(np.searchsorted(days, np.datetime64(session_day), side="left"))
    _, first = np.unique(days[:prior], return_index=True)
    if len(first) >= VOLUME_SESSIONS_LEAST:
        sums = np.add.reduceat(table.volume[:prior], first)[-VOLUME_SESSIONS:]
        return _shares(float(sums.mean())), False
    known = int(np.searchsorted(days, np.datetime64(session_day), side="right"))
    if not known:
        return None
    bars_per_session = -(-Interval.DAY1.minutes // table.interval.minutes)
    return _shares(float(np.median(table.volume[:known])) * bars_per_session), True


def _shares(volume: float) -> Decimal:
    return Decimal(round(volume))
