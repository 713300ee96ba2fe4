"""The figures that can be given of a set of decisions, each with its count; a figure with too few cases is not given.

Definitions stand in `domain.judgement`, what is compared with what in `service.model_report`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.judgement import FEWEST, Brier, Estimate, brier, gain, mean_over_sessions, too_few, wilson
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.signals import Action
from trading_pipeline.service.reports.judged import Judged, by_session
from trading_pipeline.service.reports.outcomes import HORIZONS

HEADLINE: Final = "5_bars"
"""The horizon of the verdict."""


@dataclass(frozen=True, slots=True)
class TooFew:
    """In the place of a figure that has not cases enough."""

    n: int

    @property
    def text(self) -> str:
        """`too few (n = 7, at least 30)`."""
        return too_few(self.n)


Shown = Estimate | TooFew


@dataclass(frozen=True, slots=True)
class Figures:
    """What can be said of some decisions at the headline's horizon; `docs/model-report.md` defines each figure."""

    decisions: int
    signals: int
    """BUY or SELL whose outcome is known."""
    sessions: int
    """That those signals lie in."""
    abstained: Shown
    hit_rate: Shown
    brier: Brier | TooFew
    per_usd: Shown
    """Mean net result of a signal, as a fraction of what is put in."""
    per_trade: Shown
    """Mean net result of a signal that an order was sized for, USD."""
    adverse: Shown
    favourable: Shown
    cost_per_decision: Shown
    """USD."""
    cost: Decimal
    """Of all of them, USD."""


def figures_of(decisions: Sequence[Judged], cost: float) -> Figures:
    """All figures of one or more decisions.

    Args:
        cost: What a signal has to move by to be right, as a fraction; taken off every result.
    """
    n, signals = len(decisions), signals_of(decisions, HEADLINE)
    forecasts, hits = forecasts_of(decisions, HEADLINE, cost)
    spent = sum((each.cost for each in decisions), ZERO)
    enough = n >= FEWEST
    return Figures(
        n, len(signals), len({each.session for each in signals}),
        wilson(sum(each.action is None for each in decisions), n) if enough else TooFew(n), hit_rate_of(decisions, HEADLINE, cost),
        brier(forecasts, hits) if len(hits) >= FEWEST else TooFew(len(hits)), result_of(decisions, HEADLINE, cost),
        _mean(signals, lambda each: None if each.staked is None else float(each.staked) * net(each, HEADLINE, cost), HEADLINE),
        _mean(signals, lambda each: each.outcomes[HEADLINE].adverse, HEADLINE),
        _mean(signals, lambda each: each.outcomes[HEADLINE].favourable, HEADLINE),
        Estimate(float(spent / n), None, None, n) if enough else TooFew(n), spent,
    )


def signals_of(decisions: Iterable[Judged], horizon: str) -> list[Judged]:
    """Those that said BUY or SELL and whose outcome is known."""
    return [each for each in decisions if each.action in (Action.BUY, Action.SELL) and horizon in each.outcomes]


def net(signal: Judged, horizon: str, cost: float) -> float:
    """What a signal made after costs, as a fraction of what is put in."""
    assert signal.action is not None
    return gain(signal.action, signal.outcomes[horizon].moved) - cost


def forecasts_of(decisions: Iterable[Judged], horizon: str, cost: float) -> tuple[list[float], list[bool]]:
    """The confidence of each signal, and whether it was right."""
    signals = signals_of(decisions, horizon)
    return [each.confidence for each in signals], [net(each, horizon, cost) > 0 for each in signals]


def hit_rate_of(decisions: Iterable[Judged], horizon: str, cost: float) -> Shown:
    """The share of signals that were right."""
    _, hits = forecasts_of(decisions, horizon, cost)
    return wilson(sum(hits), len(hits)) if len(hits) >= FEWEST else TooFew(len(hits))


def result_of(decisions: Iterable[Judged], horizon: str, cost: float) -> Shown:
    """The mean net result of a signal."""
    return _mean(signals_of(decisions, horizon), lambda each: net(each, horizon, cost), horizon)


def span_of(decisions: Iterable[Judged], horizon: str) -> int:
    """How many sessions the horizon reaches over at most: of so many, the outcomes overlap."""
    minutes = max((each.interval.minutes for each in decisions), default=Interval.DAY1.minutes)
    return -(-HORIZONS[horizon] * minutes // Interval.DAY1.minutes) if HORIZONS[horizon] else 2


def _mean(decisions: Sequence[Judged], value: Callable[[Judged], float | None], horizon: str) -> Shown:
    cases = by_session(decisions, value)
    n = sum(map(len, cases))
    return mean_over_sessions(cases, span_of(decisions, horizon)) if n >= FEWEST else TooFew(n)
