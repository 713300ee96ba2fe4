"""CPU seconds for the ten standard columns of 500 symbols x 500 bars: `python -m bench.indicators`."""

import json
import time

from bench.walk import random_walk
from trading_pipeline.domain.indicators import compute, compute_many, indicator

SYMBOLS = 500
BARS = 500
STANDARD = tuple(indicator(text) for text in ("rsi_14", "macd", "atr_14", "sma_20", "sma_50", "sma_200", "ema_12", "ema_26"))
"""Ten columns: MACD has three."""


def indicators500_cpu_s(repeats: int = 3) -> float:
    """The best of a few runs, libraries already loaded."""
    tables = {f"S{number}": random_walk(number, BARS) for number in range(SYMBOLS)}
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
