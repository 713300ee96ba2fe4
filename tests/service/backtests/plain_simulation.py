"""The benchmark's strategy in plain Python, from its text alone: what backtests are held against, trade for trade.

    RSI(14) and ATR(14) by Wilder. At the close of bar t, if flat: RSI[t-1] >= 30 and RSI[t] < 30: buy at the open of t+1, with a stop at
    round(close[t] - 2 * ATR[t], 2), which stands from the entry's bar on and fills at min(open, stop). At the close of bar t, if held:
    RSI[t] > 55, or 60 bars held: sell at the open of t+1. No decision at the close of a session's last bar; the stop stays.

Nothing of the pipeline is used here, no library and no column: one pass over rows, indicators updated bar by bar.
Source of the smoothing: Wilder, New Concepts in Technical Trading Systems (1978), pp. 21 and 65; the first average is the plain mean.
"""

from collections.abc import Sequence
from typing import NamedTuple

LENGTH, LOW, HIGH, STOP_ATRS, MOST_BARS = 14, 30.0, 55.0, 2.0, 60


class Row(NamedTuple):
    """One bar; `start` in ns, prices in USD, `last`: it closes with its session."""

    start: int
    open: float
    high: float
    low: float
    close: float
    last: bool


class Traded(NamedTuple):
    """A closed trade by the bars it was entered and left in."""

    entry_start: int
    entry_price: float
    exit_start: int
    exit_price: float


class _Wilder:
    """An average that begins as the mean of the first 14 values."""

    def __init__(self) -> None:
        self.seen, self.value = 0, 0.0

    def add(self, value: float) -> None:
        self.seen += 1
        if self.seen <= LENGTH:
            self.value += value
            if self.seen == LENGTH:
                self.value /= LENGTH
        else:
            self.value = (self.value * (LENGTH - 1) + value) / LENGTH


def simulate(rows: Sequence[Row]) -> list[Traded]:
    """Every trade that was closed, in order; one that is open at the end is left out."""
    gains, losses, ranges = _Wilder(), _Wilder(), _Wilder()
    trades: list[Traded] = []
    buy_stop: float | None = None
    sell = False
    entry: tuple[int, Row] | None = None
    stop = rsi_before = rsi = float("nan")
    for index, row in enumerate(rows):
        if index:
            before = rows[index - 1].close
            gains.add(max(row.close - before, 0.0))
            losses.add(max(before - row.close, 0.0))
            ranges.add(max(row.high - row.low, abs(row.high - before), abs(row.low - before)))
        rsi_before, rsi = rsi, float("nan")
        if gains.seen >= LENGTH and gains.value + losses.value > 0:
            rsi = 100 * gains.value / (gains.value + losses.value)

        if buy_stop is not None:
            entry, stop, buy_stop = (index, row), buy_stop, None
        if entry is not None:
            price = row.open if sell else min(row.open, stop) if row.low <= stop else None
            sell = False
            if price is not None:
                trades.append(Traded(entry[1].start, entry[1].open, row.start, price))
                entry = None

        if row.last:
            continue
        if entry is None:
            if rsi_before >= LOW and rsi < LOW:
                buy_stop = round(row.close - STOP_ATRS * ranges.value, 2)
        else:
            sell = rsi > HIGH or index - entry[0] + 1 >= MOST_BARS
    return trades
