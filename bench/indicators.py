"""CPU seconds for the ten standard columns of 500 symbols x 500 bars: `python bench/indicators.py`."""

import json
import time

import numpy as np

from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.indicators import compute, compute_many, indicator

SYMBOLS = 500
BARS = 500
STANDARD = tuple(indicator(text) for text in ("rsi_14", "macd", "atr_14", "sma_20", "sma_50", "sma_200", "ema_12", "ema_26"))
"""Ten columns: MACD has three."""


def random_walk(symbol: str, bars: int, seed: int) -> BarTable:
    """Made-up daily bars with ranges and volume."""
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.012, bars)))
    open_ = close * (1 + draw.normal(0, 0.004, bars))
    high = np.maximum(open_, close) * (1 + np.abs(draw.normal(0, 0.004, bars)))
    low = np.minimum(open_, close) * (1 - np.abs(draw.normal(0, 0.004, bars)))
    start = (1_325_601_000 + 86_400 * np.arange(bars, dtype=np.int64)) * 1_000_000_000
    volume = np.floor(draw.uniform(1e5, 2e6, bars))
    return BarTable(symbol, Interval.DAY1, start, start + 23_400_000_000_000, open_, high, low, close, volume)


def indicators500_cpu_s(repeats: int = 3) -> float:
    """The best of a few runs, libraries already loaded."""
    tables = {f"S{number}": random_walk(f"S{number}", BARS, number) for number in range(SYMBOLS)}
    compute(STANDARD, tables["S0"])
    took = []
    for _ in range(repeats):
        begin = time.process_time()
        columns = compute_many(STANDARD, tables)
        took.append(time.process_time() - begin)
        assert len(columns) == SYMBOLS
        assert len(columns["S0"]) == 10
    return min(took)


if __name__ == "__main__":
    print("RESULT", json.dumps({"indicators500_cpu_s": round(indicators500_cpu_s(), 4)}))
