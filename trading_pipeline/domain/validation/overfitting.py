"""What a search over settings does to the best of them: it looks better than it is, and the more were tried the more so.

Trials are columns of returns, one a setting, a row a session. Sharpe ratios are not annualised.
"""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.validation.resampling import sharpe
from trading_pipeline.domain.validation.significance import NORMAL, Moments, probabilistic_sharpe

BLOCKS: Final = 16
"""As in the paper: 12,870 ways to halve them."""
FEWEST_ROWS: Final = 5
"""Sessions in a block; with less, fewer blocks are made."""
_EULER: Final = 0.5772156649015329
_AT_ONCE: Final = 1_000_000


def expected_best(ratios: Floats) -> float:
    """The Sharpe ratio that the best of so many settings has to be expected to show where none is worth anything.

    Args:
        ratios: One a setting. With one setting, or without variety, nothing was searched: 0.

    Source: Bailey and Lopez de Prado, "The Deflated Sharpe Ratio", Journal of Portfolio Management 40 (2014), equation 1 with a mean
    of 0. Every setting counts as a trial of its own, although those of a grid resemble each other: that errs to the careful side.
    """
    many = len(ratios)
    if many < 2:
        return 0.0
    spread = float(np.std(ratios, ddof=1))
    return spread * ((1 - _EULER) * NORMAL.inv_cdf(1 - 1 / many) + _EULER * NORMAL.inv_cdf(1 - 1 / (many * math.e)))


def deflated_sharpe(found: Moments, ratios: Floats) -> float:
    """The probability that the true Sharpe ratio is above what the best of the settings would show by luck.

    Args:
        found: Of the strategy that is to be trusted.
        ratios: Of every setting that was tried.

    Source: as `expected_best`, equation 2.
    """
    return probabilistic_sharpe(found, expected_best(ratios))


@dataclass(frozen=True, slots=True)
class Overfitting:
    """What became, on one half of the sessions, of the setting that was best on the other; over all ways to halve them."""

    probability: float
    """PBO: how often it was no better than the median of the settings."""
    loses: float
    """How often its Sharpe ratio was not above 0 there."""
    in_sample: float
    """Mean of its ratio where it was chosen."""
    out_of_sample: float
    """And on the other half."""
    settings: int
    blocks: int
    splits: int


def overfitting(returns: Floats, blocks: int = BLOCKS) -> Overfitting | None:
    """The probability of backtest overfitting, by combinatorially symmetric cross-validation.

    Args:
        returns: (sessions, settings). Settings that never traded are left out.
        blocks: Even. Runs of sessions as equal as they can be, the unit that is dealt to either half.

    Returns:
        None with fewer than two settings, or with too few sessions for four blocks.

    Source: Bailey, Borwein, Lopez de Prado and Zhu, "The Probability of Backtest Overfitting", Journal of Computational Finance 20
    (2017), 39: relative rank w of the chosen setting on the other half, of 1 .. N over N + 1 with ties in the middle; the probability is
    the share of halvings with ln(w / (1 - w)) <= 0.
    """
    returns = returns[:, returns.std(axis=0) > 1e-12]
    rows, many = returns.shape
    blocks = min(blocks, rows // FEWEST_ROWS // 2 * 2)
    if many < 2 or blocks < 4:
        return None
    parts = np.array_split(returns, blocks)
    counts = np.array([len(part) for part in parts], np.float64)
    # Sums about the column's mean: the variance is then no small difference of large numbers.
    middle = returns.mean(axis=0)
    sums = np.array([(part - middle).sum(axis=0) for part in parts])
    squares = np.array([((part - middle) ** 2).sum(axis=0) for part in parts])
    halves = np.zeros((math.comb(blocks, blocks // 2), blocks))
    for place, chosen in enumerate(combinations(range(blocks), blocks // 2)):
        halves[place, chosen] = 1
    step = max(1, _AT_ONCE // many)
    found = [_halved(halves[begin : begin + step], counts, sums, squares, middle) for begin in range(0, len(halves), step)]
    rank, inside, outside = (np.concatenate(column) for column in zip(*found, strict=True))
    return Overfitting(
        float((rank <= (many + 1) / 2).mean()), float((outside <= 0).mean()), float(inside.mean()), float(outside.mean()), many, blocks,
        len(halves),
    )


def _halved(halves: Floats, counts: Floats, sums: Floats, squares: Floats, middle: Floats) -> tuple[Floats, Floats, Floats]:
    """Of each halving: the rank of the chosen setting on the other half, its ratio where it was chosen, and on the other."""

    def ratios(taken: Floats) -> Floats:
        n = (taken @ counts)[:, None]
        mean = taken @ sums / n
        variance = (taken @ squares - n * mean**2) / (n - 1)
        # A setting that did not trade in a half has neither earned nor risked anything there.
        return np.where(variance > 1e-24, (mean + middle) / np.sqrt(np.maximum(variance, 1e-24)), 0.0)

    inside, outside = ratios(halves), ratios(1 - halves)
    best = inside.argmax(axis=1)[:, None]
    theirs = np.take_along_axis(outside, best, axis=1)
    below, same = (outside < theirs).sum(axis=1), (outside == theirs).sum(axis=1)
    return below + (same + 1) / 2, np.take_along_axis(inside, best, axis=1)[:, 0], theirs[:, 0]


def walk_forward_efficiency(in_sample: Floats, out_of_sample: Floats) -> float | None:
    """Mean return a session after settings were chosen, over the mean return while they were; None where the latter is not above 0.

    1: what was promised was kept. Below 0.5 the choice is held to be fitted.

    Args:
        in_sample: Returns of the chosen settings in the sessions that they were chosen by, all windows in one.
        out_of_sample: The same of the sessions after.

    Source: Pardo, The Evaluation and Optimization of Trading Strategies (2008), chapter 11: annualised profits over each other.
    """
    if not len(in_sample) or not len(out_of_sample) or float(in_sample.mean()) <= 0:
        return None
    return float(out_of_sample.mean()) / float(in_sample.mean())


def ratios_of(returns: Floats) -> Floats:
    """The Sharpe ratio of each setting that traded."""
    with np.errstate(all="ignore"):
        found = sharpe(returns.T)
    return found[~np.isnan(found)]
