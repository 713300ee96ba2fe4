"""Where things stand on a chart: panes, scales, ticks and their labels, in pixels from the lower left. Numbers only."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from trading_pipeline.domain.bars import BarTable, Floats, instant_of
from trading_pipeline.domain.sessions import NEW_YORK


@dataclass(frozen=True, slots=True)
class Pane:
    """A rectangle in pixels with a scale of its own: `low` at its bottom, `high` at its top."""

    left: float
    bottom: float
    width: float
    height: float
    low: float = 0.0
    high: float = 1.0

    @property
    def right(self) -> float:
        """Where it ends, in pixels."""
        return self.left + self.width

    @property
    def top(self) -> float:
        """Where it ends upwards, in pixels from the bottom."""
        return self.bottom + self.height

    def y(self, values: Floats) -> Floats:
        """Values as heights in pixels; NaN stays NaN, values out of the scale lie outside the pane."""
        span = self.high - self.low
        return np.asarray(self.bottom + (values - self.low) * (self.height / span), np.float64)


def stacked(left: float, right: float, bottom: float, top: float, weights: Sequence[float], gap: float) -> list[Pane]:
    """Panes from the top down that share the height by weight."""
    unit = (top - bottom - gap * (len(weights) - 1)) / sum(weights)
    panes, upper = [], top
    for weight in weights:
        height = round(unit * weight)
        panes.append(Pane(left, round(upper - height), right - left, height))
        upper -= height + gap
    return panes


def spread(low: float, high: float, margin: float) -> tuple[float, float]:
    """The range with a margin on both sides; a range of one value is opened around it."""
    span = high - low
    if span <= abs(high) * 1e-9:
        span = abs(high) * 0.02 or 1.0
        low, high = low - span / 2, high + span / 2
    return low - span * margin, high + span * margin


def round_ticks(low: float, high: float, most: int) -> tuple[list[float], int]:
    """At most `most` round values (1, 2, 2.5 or 5 times a power of ten) within a range, and the decimals to write them with."""
    rough = (high - low) / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10, 20) if (high - low) / (factor * power) <= most)
    first = math.ceil(low / step - 1e-9)
    ticks = [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step, decimals) != round(step, decimals + 1):
        decimals += 1
    return ticks, decimals


def price_text(value: float) -> str:
    """A price: cents from $1 up, four decimals below."""
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4f}"


def short_text(value: float) -> str:
    """A large number in a few characters: 15.4M, 820k."""
    for unit, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.3g}"


def value_text(value: float) -> str:
    """An indicator's newest value; a dash in warm-up."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 10_000:
        return short_text(value)
    return f"{value:,.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.4f}"


_HOUR, _DAY, _MONTH, _YEAR = "%H:%M", "day", "%b", "%Y"
_LEVELS: tuple[tuple[Callable[[datetime], object], str], ...] = (
    (lambda at: (at.date(), at.hour, at.minute // 5), _HOUR),
    (lambda at: (at.date(), at.hour, at.minute // 15), _HOUR),
    (lambda at: (at.date(), at.hour, at.minute // 30), _HOUR),
    (lambda at: (at.date(), at.hour), _HOUR),
    (lambda at: (at.date(), at.hour // 2), _HOUR),
    (lambda at: at.date(), _DAY),
    (lambda at: at.isocalendar()[:2], _DAY),
    (lambda at: (at.year, at.month), _MONTH),
    (lambda at: (at.year, (at.month - 1) // 3), _MONTH),
    (lambda at: at.year, _YEAR),
)
"""Periods from fine to coarse and how the bar that begins one is written."""


def date_ticks(bars: BarTable, most: int) -> list[tuple[int, str]]:
    """At most `most` bars that begin a period (month, week, day, hour ...) in New York, with labels.

    The finest period that fits is taken; a bar that begins a day among hours, or a year among months, says so instead.
    Bars of one and the same period get one label, at the first.
    """
    starts = [instant_of(start).astimezone(NEW_YORK) for start in bars.start]
    for key, form in _LEVELS:
        if bars.interval.daily and form is _HOUR:
            continue
        begins = [index for index in range(1, len(starts)) if key(starts[index]) != key(starts[index - 1])]
        if 0 < len(begins) <= most:
            return [(index, _label(starts[index], starts[index - 1], form)) for index in begins]
    return [(0, _label(starts[0], starts[0], _DAY))]


def count_ticks(count: int, most: int) -> list[tuple[int, str]]:
    """At most `most` round numbers of bars back from the newest, which is 0, oldest first."""
    step = next(step for power in range(6) for step in (10**power, 2 * 10**power, 5 * 10**power) if (count - 1) // step < most)
    return [(count - 1 - back, str(-back)) for back in range((count - 1) // step * step, -1, -step)]


def _label(at: datetime, before: datetime, form: str) -> str:
    if form is _DAY or (form is _HOUR and at.date() != before.date()):
        return f"{at:%b} {at.day}"
    if form is _MONTH and at.year != before.year:
        return f"{at:%b %Y}"
    return at.strftime(form)
