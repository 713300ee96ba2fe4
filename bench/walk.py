"""Made-up daily bars for the figures of charts and indicators."""

import numpy as np

from trading_pipeline.domain.bars import BarTable, Interval


def random_walk(number: int, bars: int) -> BarTable:
    """Daily bars with ranges and volume, different for each number and the same every time."""
    draw = np.random.default_rng(number)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.015, bars)))
    open_ = close * (1 + draw.normal(0, 0.006, bars))
    high = np.maximum(open_, close) * (1 + np.abs(draw.normal(0, 0.005, bars)))
    low = np.minimum(open_, close) * (1 - np.abs(draw.normal(0, 0.005, bars)))
    start = (1_325_601_000 + 86_400 * np.arange(bars, dtype=np.int64)) * 1_000_000_000
    volume = np.floor(draw.uniform(1e5, 2e7, bars))
    return BarTable(f"S{number}", Interval.DAY1, start, start + 23_400_000_000_000, open_, high, low, close, volume)
