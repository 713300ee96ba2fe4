"""The stationary bootstrap: what else a series could have looked like, its dependence from one value to the next kept.

Runs of random length are drawn from the series, end joined to beginning, until it is as long as it was. A run's mean length is estimated
from the series' own autocorrelation. Draws come from a fixed seed: the same series always has the same intervals.

Source: Politis and Romano, Journal of the American Statistical Association 89 (1994), 1303.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.judgement import DRAWS, FEWEST, Estimate

SEED = 1_994
"""The year of Politis and Romano's paper."""
_AT_ONCE = 50_000
"""Values drawn at a time: they stay in the cache."""

Indices = npt.NDArray[np.intp]
Statistic = Callable[[Floats], Floats]
"""From (draws, n) to one value a draw."""


def block_length(series: Floats) -> float:
    """The mean length of a run, at least 1, at most min(3 sqrt(n), n / 3): 1 where no value tells anything about the next.

    It minimises the mean squared error of the variance that the bootstrap gives the mean.

    Source: Politis and White, Econometric Reviews 23 (2004), 53, with the correction by Patton, Politis and White, Econometric Reviews
    28 (2009), 372; how many lags count: the paper's empirical rule with c = 2 and K = max(5, sqrt(log10 n)).
    """
    n = len(series)
    off = series - series.mean() if n else series
    variance = float(off @ off) / n if n else 0.0
    if n < 9 or variance <= (1e-12 * float(np.abs(series).max())) ** 2:
        return 1.0
    silent = max(5, math.ceil(math.sqrt(math.log10(n))))
    longest = min(n - 1, math.ceil(math.sqrt(n)) + silent)
    covariances = np.array([float(off[lag:] @ off[: n - lag]) / n for lag in range(longest + 1)])
    heard = np.abs(covariances / variance) >= 2 * math.sqrt(math.log10(n) / n)
    last = next((lag for lag in range(longest - silent + 1) if not heard[lag + 1 : lag + 1 + silent].any()), None)
    lags = longest if last is None else min(longest, 2 * max(1, last))
    lag = np.arange(1, lags + 1)
    weight = np.clip(2 * (1 - lag / lags), 0, 1)
    slope = 2 * float(np.sum(weight * lag * covariances[1 : lags + 1]))
    density = float(covariances[0] + 2 * np.sum(weight * covariances[1 : lags + 1]))
    if density == 0:
        return 1.0
    found = (slope * slope / (density * density)) ** (1 / 3) * n ** (1 / 3)
    return float(min(max(1.0, found), max(1.0, min(3 * math.sqrt(n), n / 3))))


def indices(n: int, block: float, draws: int = DRAWS, seed: int = SEED) -> Iterator[Indices]:
    """Places to draw from, as arrays of (some draws, n) that are `draws` rows in all.

    Args:
        block: Mean length of a run; 1 draws each value by itself.
    """
    random = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // max(1, n))
    for done in range(0, draws, rows):
        shape = (min(rows, draws - done), n)
        if block <= 1:
            yield random.integers(0, n, shape)
            continue
        begins = random.random(shape, np.float32) < 1 / block
        begins[:, 0] = True
        at = np.flatnonzero(begins)
        firsts = random.integers(0, n, len(at)) - at % n
        places = np.repeat(firsts, np.diff(at, append=begins.size)).reshape(shape) + np.arange(n)
        places[places >= n] -= n
        yield places


def drawn(series: Floats, statistic: Statistic, block: float, draws: int = DRAWS, seed: int = SEED) -> Floats:
    """The statistic of each resample; NaN where a resample has none."""
    with np.errstate(all="ignore"):
        return np.concatenate([statistic(series[places]) for places in indices(len(series), block, draws, seed)])


def interval(values: Floats) -> tuple[float, float] | None:
    """The middle 95 % of what was drawn; None where a resample out of twenty has no value.

    Source: percentile interval, Efron and Tibshirani, An Introduction to the Bootstrap (1993), 170.
    """
    known = values[~np.isnan(values)]
    if len(known) < 0.95 * len(values) or not len(known):
        return None
    low, high = np.quantile(known, (0.025, 0.975), method="closest_observation")
    return float(low), float(high)


def estimate(series: Floats, statistic: Statistic, block: float | None = None) -> Estimate | None:
    """A figure of a series with its 95 % interval, which it has from 30 values on; None where there is no figure."""
    if not len(series):
        return None
    with np.errstate(all="ignore"):
        value = float(statistic(series[None, :])[0])
    if math.isnan(value):
        return None
    if len(series) < FEWEST:
        return Estimate(value, None, None, len(series))
    low, high = interval(drawn(series, statistic, block_length(series) if block is None else block)) or (None, None)
    return Estimate(value, low, high, len(series))


def mean(values: Floats) -> Floats:
    """The mean of each row."""
    return np.asarray(values.mean(axis=-1), np.float64)


def sharpe(values: Floats) -> Floats:
    """Mean over sample standard deviation of each row, not annualised; NaN where nothing varies beyond rounding."""
    off = values.std(axis=-1, ddof=1)
    return np.asarray(np.where(off > 1e-12, values.mean(axis=-1) / off, np.nan), np.float64)


def share_won(values: Floats) -> Floats:
    """The share above 0 of each row."""
    return np.asarray((values > 0).mean(axis=-1), np.float64)


def profit_factor(values: Floats) -> Floats:
    """Sum of what was won over sum of what was lost, of each row; infinite where nothing was lost, NaN where nothing happened."""
    won, lost = np.maximum(values, 0).sum(axis=-1), -np.minimum(values, 0).sum(axis=-1)
    return np.asarray(np.divide(won, lost), np.float64)


def drawdown(values: Floats) -> Floats:
    """The deepest fall below an earlier high of what the returns of each row compound to, as a positive fraction; the start is a high."""
    worth = np.cumprod(1 + values, axis=-1)
    return np.asarray(1 - (worth / np.maximum(1, np.maximum.accumulate(worth, axis=-1))).min(axis=-1, initial=1), np.float64)
