"""How good a forecaster is: hit rate, Brier score, reliability, expectancy, each with its count and its definition.

A forecast is a direction (BUY, SELL) and a confidence, read as the probability that the direction turns out right. Right means that
the price moved that way by more than the cost of getting in and out; a smaller move is wrong, because nobody earns it. HOLD has no
direction. Nothing here corrects a confidence or decides on a trade; `service.model_report` says what is compared with what.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.signals import Action

FEWEST: Final = 30
"""Below so many cases a figure is not shown: the half-width of a 95 % interval of a hit rate is then 17 points or more."""
FEWEST_IN_BIN: Final = 10
"""Below so many forecasts a bin of the reliability curve is counted, and has no point."""
BINS: Final = 10
Z95: Final = 1.959963984540054
"""The 97.5th percentile of the standard normal distribution."""
DRAWS: Final = 2_000
SEED: Final = 1_950
"""Of the bootstrap: the same cases always have the same interval. The year of Brier's paper."""


class Period(StrEnum):
    """Where bars lie, seen from a model's training."""

    ALL = "all bars"
    """No model, so nothing was trained."""
    AFTER = "after the cutoff"
    BEFORE = "before the cutoff"
    UNKNOWN = "cutoff unknown"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval and the number of cases behind it; no interval where there is none to give."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Forecasts whose confidence lies in `low <= c < high` (the last bin includes its end)."""

    low: float
    high: float
    n: int
    forecast: float
    """Mean confidence; NaN in an empty bin."""
    right: Estimate | None
    """The share that was right; None below `FEWEST_IN_BIN`."""


@dataclass(frozen=True, slots=True)
class Brier:
    """The Brier score, what a forecaster who only knows the base rate would have, and the parts it is made of.

    `score == reliability - resolution + uncertainty + within`: lower reliability and higher resolution are better. `skill` is
    1 - score / uncertainty, above 0 when better than the base rate; None where everything was right, or nothing.
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float
    """What the bins hide: the spread of forecasts inside a bin, less twice its covariance with what happened."""
    skill: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Calibrated:
    """One level of the calibration map: confidences from `low` to `high`, both included, were right at the rate `right`."""

    low: float
    high: float
    right: float
    n: int


def gain(action: Action, moved: float) -> float:
    """What a direction made of a move, as a fraction of the entry price: the move after a BUY, its opposite after a SELL, 0 after HOLD."""
    match action:
        case Action.BUY:
            return moved
        case Action.SELL:
            return -moved
        case Action.HOLD:
            return 0.0


def right(action: Action, moved: float, cost: float) -> bool | None:
    """Whether a direction was right; None for HOLD, which has none.

    Args:
        moved: Close at the horizon over the entry price, less one.
        cost: Of getting in and out, as a fraction of the price. Exactly as much is wrong.
    """
    return None if action is Action.HOLD else gain(action, moved) > cost


def wilson(hits: int, n: int) -> Estimate:
    """A share with its 95 % score interval, which holds for few cases and for shares near 0 and 1.

    Source: Wilson, Journal of the American Statistical Association 22 (1927), 209; method 3 in Newcombe, Statistics in Medicine 17
    (1998), 857.
    """
    share, z2 = hits / n, Z95 * Z95
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Estimate(share, 0.0 if hits == 0 else max(0.0, middle - half), 1.0 if hits == n else min(1.0, middle + half), n)


def brier(confidences: Sequence[float], hits: Sequence[bool], bins: int = BINS) -> Brier:
    """Mean squared difference between confidence and outcome (1 right, 0 wrong), 0 at best and 1 at worst, with its parts.

    Args:
        confidences: In 0..1, one or more, aligned with `hits`.
        bins: Equal bins over which reliability and resolution are reckoned.

    Source: Brier, Monthly Weather Review 78 (1950), 1; the parts: Murphy, Journal of Applied Meteorology 12 (1973), 595; what is
    within the bins: Stephenson, Coelho and Jolliffe, Weather and Forecasting 23 (2008), 752.
    """
    forecast, outcome = _columns(confidences, hits)
    n, base = len(forecast), math.fsum(outcome) / len(outcome)
    reliability = resolution = within = 0.0
    for members in _binned(forecast, bins):
        if len(members):
            f, o = forecast[members], outcome[members]
            mean_f, mean_o = math.fsum(f) / len(f), math.fsum(o) / len(o)
            reliability += len(f) * (mean_f - mean_o) ** 2
            resolution += len(f) * (mean_o - base) ** 2
            within += math.fsum((f - mean_f) ** 2 - 2 * (f - mean_f) * (o - mean_o))
    score, uncertainty = math.fsum((forecast - outcome) ** 2) / n, base * (1 - base)
    skill = 1 - score / uncertainty if uncertainty else None
    return Brier(score, reliability / n, resolution / n, uncertainty, within / n, skill, n)


def reliability_curve(confidences: Sequence[float], hits: Sequence[bool], bins: int = BINS, fewest: int = FEWEST_IN_BIN) -> tuple[Bin, ...]:
    """How often forecasts of about the same confidence were right, over equal bins, empty ones included.

    Source: as in DeGroot and Fienberg, The Statistician 32 (1983), 12.
    """
    forecast, outcome = _columns(confidences, hits)
    curve = []
    for index, members in enumerate(_binned(forecast, bins)):
        n = len(members)
        mean = math.fsum(forecast[members]) / n if n else math.nan
        share = wilson(int(outcome[members].sum()), n) if n >= max(1, fewest) else None
        curve.append(Bin(index / bins, (index + 1) / bins, n, mean, share))
    return tuple(curve)


def calibration(confidences: Sequence[float], hits: Sequence[bool]) -> tuple[Calibrated, ...]:
    """The rising steps that fit what happened best, in squares: what a confidence has been worth. Shown, and applied to nothing.

    Source: isotonic regression by pooling adjacent violators, Ayer et al., Annals of Mathematical Statistics 26 (1955), 641; for
    forecasts Zadrozny and Elkan, KDD 2002, 694.
    """
    forecast, outcome = _columns(confidences, hits)
    levels: list[list[float]] = []
    for value in np.unique(forecast):
        here = outcome[forecast == value]
        levels.append([float(value), float(value), math.fsum(here), float(len(here))])
        while len(levels) > 1 and levels[-2][2] / levels[-2][3] >= levels[-1][2] / levels[-1][3]:
            _, high, hit, many = levels.pop()
            levels[-1][1:] = [high, levels[-1][2] + hit, levels[-1][3] + many]
    return tuple(Calibrated(low, high, hit / many, int(many)) for low, high, hit, many in levels)


def mean_over_sessions(cases: Sequence[Sequence[float]], block: int, draws: int = DRAWS, seed: int = SEED) -> Estimate:
    """The mean of all cases with a 95 % interval from resampling whole runs of sessions.

    Cases of one session move together, and so do those whose horizons overlap: drawn one by one, they would look like more evidence
    than they are. No interval below two sessions.

    Args:
        cases: By session in order of time; sessions without a case do no harm.
        block: Sessions in a run: at least as many as a horizon spans.

    Source: circular block bootstrap, Politis and Romano, in LePage and Billard, Exploring the Limits of Bootstrap (1992), 263;
    percentile interval: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 170.
    """
    filled = [values for values in cases if len(values)]
    sums = np.array([math.fsum(values) for values in filled])
    counts = np.array([len(values) for values in filled], np.float64)
    n, many = int(counts.sum()), len(filled)
    mean = math.fsum(sums) / n
    if many < 2:
        return Estimate(mean, None, None, n)
    block = max(1, min(block, many))
    random = np.random.default_rng(seed)
    begins = random.integers(0, many, (draws, -(-many // block)))
    drawn = ((begins[:, :, None] + np.arange(block)) % many).reshape(draws, -1)[:, :many]
    low, high = np.percentile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (2.5, 97.5))
    return Estimate(mean, float(low), float(high), n)


def too_few(n: int, fewest: int = FEWEST) -> str:
    """What stands in the place of a figure that has not cases enough; empty when it has."""
    return f"too few (n = {n}, at least {fewest})" if n < fewest else ""


def _columns(confidences: Sequence[float], hits: Sequence[bool]) -> tuple[Floats, Floats]:
    """Sorted, so that no figure depends on the order of its cases."""
    forecast, outcome = np.array(confidences, np.float64), np.array(hits, np.float64)
    order = np.lexsort((outcome, forecast))
    return forecast[order], outcome[order]


def _binned(forecast: Floats, bins: int) -> list[np.typing.NDArray[np.int64]]:
    # Rounded first: 0.3 * 10 is below 3 in binary.
    place = np.minimum(np.floor(np.round(forecast * bins, 9)), bins - 1)
    return [np.flatnonzero(place == index) for index in range(bins)]
