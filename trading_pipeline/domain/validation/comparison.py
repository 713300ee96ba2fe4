"""Whether one series of returns is better than another over the same sessions, or may as well not be.

Sessions are drawn for both together, in runs: what moved both moves both in every resample, and only the difference scatters.
"""

import math
from dataclasses import dataclass

import numpy as np

from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.judgement import FEWEST, Estimate
from trading_pipeline.domain.performance import SESSIONS_A_YEAR
from trading_pipeline.domain.validation.resampling import block_length, indices, interval, sharpe


@dataclass(frozen=True, slots=True)
class Difference:
    """The first less the second, over the sessions that both have."""

    mean_return: Estimate
    """A session."""
    sharpe: Estimate | None
    """Annualised; None where either does not vary."""

    @property
    def told_apart(self) -> bool:
        """Whether 0 lies outside the interval of the mean."""
        low, high = self.mean_return.low, self.mean_return.high
        return low is not None and high is not None and (low > 0 or high < 0)


def paired(first: Floats, second: Floats) -> Difference:
    """Compare two aligned columns of returns; intervals (95 %) from 30 sessions on.

    Source: the stationary bootstrap of `resampling` on pairs; for Sharpe ratios as in Ledoit and Wolf, Journal of Empirical Finance 15
    (2008), 850, with percentile intervals.
    """
    n, apart = len(first), first - second
    year = math.sqrt(SESSIONS_A_YEAR)
    with np.errstate(all="ignore"):
        ratio = float(sharpe(first[None, :])[0] - sharpe(second[None, :])[0]) * year if n > 1 else math.nan
    mean = float(apart.mean()) if n else math.nan
    if n < FEWEST:
        return Difference(Estimate(mean, None, None, n), None if math.isnan(ratio) else Estimate(ratio, None, None, n))
    means, ratios = [], []
    with np.errstate(all="ignore"):
        for places in indices(n, max(block_length(first), block_length(second), block_length(apart))):
            means.append(apart[places].mean(axis=1))
            ratios.append((sharpe(first[places]) - sharpe(second[places])) * year)
    return Difference(
        _estimate(mean, np.concatenate(means), n), None if math.isnan(ratio) else _estimate(ratio, np.concatenate(ratios), n),
    )


def _estimate(value: float, draws: Floats, n: int) -> Estimate:
    low, high = interval(draws) or (None, None)
    return Estimate(value, low, high, n)
