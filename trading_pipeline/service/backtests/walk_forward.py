"""Walking forward: settings are chosen by what lies behind, used on what comes next, and chosen again.

The choice is made from the columns of a grid that has run already, over the sessions of one window; what was chosen is then run on the
sessions after it, from cash, as a person who changes settings does. Only those runs are stitched together, so no session of the stitched
equity had a say in its own settings.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise

import numpy as np

from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.performance import returns_of, sharpe
from trading_pipeline.domain.validation import Walk, walk_forward_efficiency
from trading_pipeline.errors import InputError
from trading_pipeline.service.backtests.sensitivity import Evaluate, Sensitivity, planned

LEAST_WINDOW = 5
"""Sessions; a Sharpe ratio of fewer says nothing at all."""


@dataclass(frozen=True, slots=True)
class Window:
    """One choice and what became of it; Sharpe ratios annualised, None where nothing varied."""

    chosen_from: date
    chosen_to: date
    used_from: date
    used_to: date
    label: str
    """The settings that were chosen."""
    in_sample: Floats
    """Their returns over the sessions they were chosen by."""
    out_of_sample: Floats
    trades: int
    """That were made with them afterwards."""

    @property
    def sharpe_before(self) -> float | None:
        """Over the sessions chosen by."""
        return sharpe(self.in_sample)

    @property
    def sharpe_after(self) -> float | None:
        """Over the sessions after."""
        return sharpe(self.out_of_sample)


@dataclass(frozen=True, slots=True)
class WalkForward:
    """All windows, and the account of somebody who did this."""

    windows: tuple[Window, ...]
    sessions: tuple[date, ...]
    """Of all out-of-sample sessions, in order."""
    equity: Floats
    """At their closes, USD."""
    cash: float

    @property
    def walk(self) -> Walk:
        """As a validation takes it."""
        return Walk(
            np.concatenate([each.in_sample for each in self.windows]), np.concatenate([each.out_of_sample for each in self.windows]),
            self.sessions,
        )

    @property
    def efficiency(self) -> float | None:
        """What was kept of what had been promised; None where nothing had."""
        walk = self.walk
        return walk_forward_efficiency(walk.in_sample, walk.out_of_sample)

    @property
    def changes(self) -> int:
        """How often other settings were chosen than before."""
        return sum(one.label != other.label for one, other in pairwise(self.windows))


def walk_forward(
    plan: BacktestPlan, grid: Sensitivity, evaluate: Evaluate, *, in_sample: int = 126, out_of_sample: int = 42,
    progress: Callable[[], None] | None = None,
) -> WalkForward:
    """Walk forward over a grid that was run over the whole of the plan.

    Args:
        in_sample: Sessions that settings are chosen by, by their Sharpe ratio; the first of equals. Half a year.
        out_of_sample: Sessions that they are then used for; the last window may be shorter.
        progress: Told after each window.

    Raises:
        InputError: A window of fewer than 5 sessions, or no session is left after the first.
    """
    sessions = grid.points[0].sessions
    windows = windows_of(len(sessions), in_sample, out_of_sample)
    returns = grid.trials.returns
    found: list[Window] = []
    for first, cut, last in windows:
        place = _best(returns[first:cut])
        point = grid.points[place]
        result = evaluate(replace(planned(plan, point.point.spec), first=sessions[cut], last=sessions[last - 1]))
        found.append(Window(
            sessions[first], sessions[cut - 1], sessions[cut], sessions[last - 1], point.label, returns[first:cut, place],
            returns_of(result.equity, result.cash), len(result.trades),
        ))
        if progress is not None:
            progress()
    after = np.concatenate([each.out_of_sample for each in found])
    return WalkForward(tuple(found), sessions[windows[0][1] :], float(plan.cash) * np.cumprod(1 + after), float(plan.cash))


def windows_of(sessions: int, in_sample: int, out_of_sample: int) -> list[tuple[int, int, int]]:
    """(first session chosen by, first used, the one after the last used), in order; after the first choice every session is used once."""
    if in_sample < LEAST_WINDOW or out_of_sample < LEAST_WINDOW:
        raise InputError(
            f"Windows of {in_sample} and {out_of_sample} sessions are too short.", value=(in_sample, out_of_sample),
            rule=f"a window has at least {LEAST_WINDOW} sessions", remedy="choose longer ones",
        )
    if sessions <= in_sample:
        raise InputError(
            f"{sessions} sessions leave none to walk into after {in_sample}.", value=sessions,
            rule="settings are used on sessions after those that they were chosen by", remedy="backtest more sessions, or choose by fewer",
        )
    return [
        (cut - in_sample, cut, min(cut + out_of_sample, sessions)) for cut in range(in_sample, sessions, out_of_sample)
    ]


def _best(returns: Floats) -> int:
    """The column with the highest Sharpe ratio; one that never moved counts as 0: it neither made nor lost anything."""
    return int(np.argmax([sharpe(column) or 0.0 for column in returns.T]))
