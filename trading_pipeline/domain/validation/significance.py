"""How likely luck alone would have done as well: of a mean, and of a Sharpe ratio.

Sharpe ratios are not annualised here. One-sided throughout: the question is whether a strategy makes money, not whether it is different.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.judgement import DRAWS
from trading_pipeline.domain.validation.resampling import block_length, drawn

NORMAL = NormalDist()


def p_above_zero(series: Floats, draws: int = DRAWS, block: float | None = None) -> float | None:
    """The p-value of a mean above 0: how often resamples of the series, shifted to a mean of 0, have as large a t.

    A bootstrap t-test. Not Student's t, because results of trades with a stop and a target are skewed and those of a session move
    together; not the flipping of signs, which is exact only where gains and losses have the same shape. Comparing t, and not the mean,
    corrects for skewness and makes the level right to second order (Hall). Series in order of time: runs are drawn, so values that
    move together are not counted as so much evidence. The observed series is one of the draws, so no p-value is 0. With fewer than 10
    values the t of resamples scatters widely, and the test errs to the side of luck; `report` asks for 30.

    Args:
        block: Mean length of a run; None: estimated.

    Returns:
        In 1 / (draws + 1) .. 1; None below two values. 1 where the mean is not above 0 and nothing varies.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), algorithm 16.2; Hall, The Bootstrap and Edgeworth Expansion
    (1992), 3.10; runs: `resampling`.
    """
    if len(series) < 2:
        return None
    observed = float(_t(series[None, :])[0])
    found = drawn(series - series.mean(), _t, block_length(series) if block is None else block, draws)
    # Of two that differ by rounding only, neither is larger.
    return (1 + int((found >= observed - 1e-12 * abs(observed)).sum())) / (1 + draws) if math.isfinite(observed) else _flat(observed, draws)


def _t(values: Floats) -> Floats:
    """Mean over standard error of each row; where nothing varies infinite with the mean's sign, or 0."""
    middle, off = values.mean(axis=-1), values.std(axis=-1, ddof=1)
    nothing = 1e-12 * np.abs(values).max(axis=-1)
    flat = np.where(np.abs(middle) <= nothing, 0.0, np.copysign(np.inf, middle))
    with np.errstate(all="ignore"):
        return np.where(off > nothing, middle / (off / math.sqrt(values.shape[-1])), flat)


def _flat(observed: float, draws: int) -> float:
    return 1 / (1 + draws) if observed > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Moments:
    """What the Sharpe ratio's error depends on: n returns, mean over standard deviation, skewness and kurtosis (3 for a normal)."""

    n: int
    sharpe: float
    skewness: float
    kurtosis: float


def moments(returns: Floats) -> Moments | None:
    """Of some returns; None where there are fewer than two, or they do not vary."""
    if len(returns) < 2:
        return None
    off = returns - returns.mean()
    deviation = float(returns.std(ddof=1))
    if deviation <= 1e-12:
        return None
    second = float(np.mean(off**2))
    return Moments(
        len(returns), float(returns.mean()) / deviation, float(np.mean(off**3)) / second**1.5, float(np.mean(off**4)) / second**2,
    )


def probabilistic_sharpe(found: Moments, benchmark: float = 0.0) -> float:
    """The probability that the true Sharpe ratio is above a benchmark; 1 less it is the p-value.

    Skewness to the left and fat tails make a measured ratio less certain. Returns are taken as independent of each other.

    Args:
        benchmark: Not annualised, like everything here.

    Source: Bailey and Lopez de Prado, "The Sharpe Ratio Efficient Frontier", Journal of Risk 15 (2012), equation 11.
    """
    return NORMAL.cdf((found.sharpe - benchmark) * math.sqrt(found.n - 1) / math.sqrt(_spread(found)))


def shortest_record(found: Moments, benchmark: float = 0.0, level: float = 0.05) -> float | None:
    """How many returns with these moments it takes until the ratio is above the benchmark at the level; None where it is not above.

    Source: minimum track record length, in the same paper, equation 13.
    """
    if found.sharpe <= benchmark:
        return None
    return 1 + _spread(found) * (NORMAL.inv_cdf(1 - level) / (found.sharpe - benchmark)) ** 2


def _spread(found: Moments) -> float:
    """n times the variance of the estimated ratio; above 0, as a kurtosis is at least 1 + the skewness squared."""
    return max(1e-12, 1 - found.skewness * found.sharpe + (found.kurtosis - 1) / 4 * found.sharpe**2)
