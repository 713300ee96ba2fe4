"""A small seeded market that is hard on stops: minutes on the real calendar with fat tails, gaps over night and within the day, and calms.

In a calm hour the price stands still at a cent, so that a position comes to the end of its sixty bars.
"""

from datetime import date

import numpy as np

from tests.service.backtests.plain_simulation import Row
from trading_pipeline.domain.bar_quality import grid
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns
from trading_pipeline.domain.sessions import TradingCalendar


def rough_minutes(symbol: str, seed: int, first: date, last: date, calendar: TradingCalendar) -> BarTable:
    """One-minute bars of every session from `first` to `last`, prices in cents."""
    start, end = grid(calendar, Interval.MIN1, first, last)
    draw, count = np.random.default_rng(seed), len(start)
    opens = np.concatenate(([True], start[1:] != end[:-1]))
    gap = np.where(opens, 0.02, np.where(draw.random(count) < 0.01, 0.003, 1e-6)) * draw.standard_normal(count)
    calm = np.repeat(draw.random(count // 65 + 1) < 0.2, 65)[:count]
    steps = draw.standard_t(3, (count, 6)) * np.where(calm, 1e-6, 3e-4)[:, None]
    before = np.log(90) + np.concatenate(([0.0], np.cumsum(gap + steps.sum(axis=1))[:-1]))
    path = np.exp((before + gap)[:, None] + np.concatenate((np.zeros((count, 1)), np.cumsum(steps, axis=1)), axis=1))
    cents = np.round(path, 2)
    columns = (cents[:, 0], cents.max(axis=1), cents.min(axis=1), cents[:, -1])
    return BarTable(symbol, Interval.MIN1, start, end, *map(np.ascontiguousarray, columns), np.round(draw.uniform(5e4, 5e5, count)))


def rows_of(bars: BarTable, calendar: TradingCalendar) -> list[Row]:
    """The same bars as the plain simulation reads them."""
    days = bars.session_days
    closes = {instant_ns(session.close) for session in calendar.between(days[0].item(), days[-1].item())}
    columns = (getattr(bars, name).tolist() for name in ("start", "open", "high", "low", "close", "end"))
    return [Row(start, opened, high, low, close, end in closes) for start, opened, high, low, close, end in zip(*columns, strict=True)]
