"""Charts a second on one core at 1000 x 700: `python bench/charts.py`."""

import json
import time

import numpy as np

from trading_pipeline.adapters.chart_png import PngCharts
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.indicators import compute

SPEC = ChartSpec(overlays=("sma_20", "sma_50", "sma_200", "bbands_20", "volume_sma_20"), panels=("rsi_14", "macd"))
"""120 candles, every kind of mark, both panels."""


def random_walk(number: int, bars: int = 320) -> BarTable:
    """Made-up daily bars, different for each number."""
    draw = np.random.default_rng(number)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.015, bars)))
    open_ = close * (1 + draw.normal(0, 0.006, bars))
    high = np.maximum(open_, close) * (1 + np.abs(draw.normal(0, 0.005, bars)))
    low = np.minimum(open_, close) * (1 - np.abs(draw.normal(0, 0.005, bars)))
    start = (1_325_601_000 + 86_400 * np.arange(bars, dtype=np.int64)) * 1_000_000_000
    volume = np.floor(draw.uniform(1e5, 2e7, bars))
    return BarTable(f"S{number}", Interval.DAY1, start, start + 23_400_000_000_000, open_, high, low, close, volume)


def charts_per_s(count: int = 40) -> float:
    """Charts per CPU second, every one of another symbol, libraries already loaded."""
    charts = PngCharts()
    wanted = (*SPEC.overlay_indicators, *SPEC.panel_indicators)
    work = [(bars, compute(wanted, bars)) for bars in map(random_walk, range(count))]
    charts.render(SPEC, *work[0])
    begin = time.process_time()
    for bars, columns in work:
        charts.render(SPEC, bars, columns)
    return count / (time.process_time() - begin)


if __name__ == "__main__":
    print("RESULT", json.dumps({"charts_per_s": round(charts_per_s(), 1)}))
