"""Charts a second on one core at 1000 x 700: `python -m bench.charts`."""

import json
import time

from bench.walk import random_walk
from trading_pipeline.adapters.chart_png import PngCharts
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.indicators import compute

SPEC = ChartSpec(overlays=("sma_20", "sma_50", "sma_200", "bbands_20", "volume_sma_20"), panels=("rsi_14", "macd"))
"""120 candles, every kind of mark, both panels."""
BARS = 320


def charts_per_s(count: int = 40) -> float:
    """Charts per CPU second, every one of another symbol, libraries already loaded."""
    charts = PngCharts()
    wanted = (*SPEC.overlay_indicators, *SPEC.panel_indicators)
    work = [(bars, compute(wanted, bars)) for bars in (random_walk(number, BARS) for number in range(count))]
    charts.render(SPEC, *work[0])
    begin = time.process_time()
    for bars, columns in work:
        charts.render(SPEC, bars, columns)
    return count / (time.process_time() - begin)


if __name__ == "__main__":
    print("RESULT", json.dumps({"charts_per_s": round(charts_per_s(), 1)}))
