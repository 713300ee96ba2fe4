"""The verdict on a backtest: what has to hold, what was found, and NOT VALIDATED first wherever one thing does not.

Thresholds of the founding documents: 30 trades, p below 0.05, win rate above 40 %, Sharpe above 0.5, a grade better than UNACCEPTABLE. Ours
beside them: what is left after the market's own rise has to be more than luck, and so has the best of a search. The tests have to hold
together, so luck passes less often than one time in twenty. Nothing here promises that a strategy goes on as it did.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from trading_pipeline.domain.backtests import BacktestResult, ExitReason
from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.judgement import Estimate, Period
from trading_pipeline.domain.performance import returns_of
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.domain.validation import checks
from trading_pipeline.domain.validation.checks import FEWEST_SETTINGS, LEVEL, Check
from trading_pipeline.domain.validation.evidence import Evidence, evidence_of
from trading_pipeline.domain.validation.overfitting import Overfitting, deflated_sharpe, overfitting, ratios_of, walk_forward_efficiency
from trading_pipeline.domain.validation.risk_score import RiskScore, risk_score
from trading_pipeline.domain.validation.significance import moments
from trading_pipeline.errors import InputError


@dataclass(frozen=True, slots=True)
class Trials:
    """What a grid came to: returns of (sessions, settings), on the sessions of the backtest that is judged."""

    sessions: tuple[date, ...]
    returns: Floats


@dataclass(frozen=True, slots=True)
class Walk:
    """What choosing settings again and again came to: returns of the sessions chosen by, and of those after."""

    in_sample: Floats
    out_of_sample: Floats
    sessions: tuple[date, ...] = ()
    """Of `out_of_sample`."""


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """The verdict, why, and every figure behind it. `evidence` is of the sessions that count; see `basis`."""

    checks: tuple[Check, ...]
    basis: Period
    cutoff: date | None
    evidence: Evidence
    periods: Mapping[Period, Evidence]
    """Before and after the end of a model's training, where there is a model; else all sessions."""
    risk: RiskScore
    trials: int
    """Settings that were tried, as far as is known here; 1: no grid."""
    deflated_sharpe: float | None
    overfitting: Overfitting | None
    efficiency: float | None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything holds."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What does not hold, the first things first."""
        return tuple(check.reason for check in self.checks if not check.passed)

    @property
    def headline(self) -> str:
        """`NOT VALIDATED: 12 trades, at least 30 are needed; ...`, or what being validated means and does not."""
        if not self.passed:
            return f"NOT VALIDATED: {'; '.join(self.reasons)}."
        searched = (
            f"{self.trials} settings were tried and are allowed for" if self.trials > 1
            else "no grid of settings was run, so how much depends on them, and how many were tried before, is not known"
        )
        return (
            f"Validated: on these bars the {self.evidence.closed} trades made more than luck and the market's own moves explain, after "
            f"costs (each test at {LEVEL:.0%}); {searched}. That is no promise: bars nobody has seen yet decide, on paper first."
        )


def validate(
    result: BacktestResult, *, market: Floats | None = None, trials: Trials | None = None, walk: Walk | None = None,
    cutoffs: Mapping[str, date | None] | None = None,
) -> ValidationReport:
    """Judge a backtest.

    Args:
        market: Returns of buying and holding the same symbols, one a session of the result; None: not compared, and so not validated.
        trials: The grid that its settings are a point of; None: none was run.
        walk: What walking forward over that grid came to.
        cutoffs: By model that decided, when its training data end; None where that is not known. Only sessions after the last count.

    Raises:
        InputError: Columns that do not fit the result's sessions, or an account that was lost.
    """
    count = len(result.sessions)
    if market is not None and len(market) != count:
        raise _misfit("the market's returns", len(market), count)
    if trials is not None and (trials.sessions != result.sessions or trials.returns.shape[:1] != (count,)):
        raise _misfit("the grid's returns", len(trials.sessions), count)
    basis, cutoff = _basis(result, cutoffs or {})
    parts = _periods(result, basis, cutoff)
    periods = {period: evidence_of(*_part(result, market, inside)) for period, inside in parts.items()}
    evidence, inside = periods[basis], parts[basis]
    returns = returns_of(result.equity, result.cash)[inside]
    searched = None if trials is None else trials.returns[inside]
    found = moments(returns)
    ratios = np.empty(0) if searched is None else ratios_of(searched)
    deflated = deflated_sharpe(found, ratios) if found is not None and len(ratios) >= FEWEST_SETTINGS else None
    fitted = None if searched is None else overfitting(searched)
    walk = walk if walk is None or cutoff is None else _after(walk, cutoff)
    efficiency = None if walk is None else walk_forward_efficiency(walk.in_sample, walk.out_of_sample)
    risk = risk_score(
        drawdown=_value(evidence.drawdown), sharpe=_value(evidence.sharpe), profit_factor=_value(evidence.profit_factor),
        p_value=evidence.trade_p, overfitted=None if fitted is None else fitted.probability,
    )
    looked_at = (
        *checks.of_answers(result.decisions), *checks.training(basis, cutoff, cutoffs or {}),
        *checks.of_trades(evidence), *checks.of_returns(evidence),
        *checks.of_market(evidence, given=market is not None),
        *checks.of_search(deflated, len(ratios), fitted, searched=trials is not None),
        *checks.of_walk(efficiency, walked=walk is not None), checks.of_risk(risk),
    )
    return ValidationReport(
        looked_at, basis, cutoff, evidence, periods, risk, max(1, len(ratios)), deflated, fitted, efficiency, tuple(_notes(result)),
    )


def _value(found: Estimate | None) -> float | None:
    return None if found is None else found.value


# Which sessions count


def _basis(result: BacktestResult, cutoffs: Mapping[str, date | None]) -> tuple[Period, date | None]:
    if not cutoffs:
        return Period.ALL, None
    known = [day for day in cutoffs.values() if day is not None]
    if len(known) < len(cutoffs):
        return Period.UNKNOWN, None
    return (Period.AFTER if result.sessions[-1:] > (max(known),) else Period.BEFORE), max(known)


def _periods(result: BacktestResult, basis: Period, cutoff: date | None) -> dict[Period, slice]:
    """The sessions of each period that has any, the one that counts first."""
    count = len(result.sessions)
    if cutoff is None:
        return {basis: slice(0, count)}
    first = sum(day <= cutoff for day in result.sessions)
    parts = {Period.AFTER: slice(first, count), Period.BEFORE: slice(0, first)}
    return {period: inside for period, inside in parts.items() if inside.start < inside.stop or period is basis}


def _part(result: BacktestResult, market: Floats | None, inside: slice) -> tuple[BacktestResult, Floats | None]:
    """Some of the sessions as a result of their own: what was entered in them, and the equity that they began with."""
    days = set(result.sessions[inside])
    cut = replace(
        result, sessions=result.sessions[inside], equity=result.equity[inside], invested=result.invested[inside],
        traded=result.traded[inside], commissions=result.commissions[inside],
        trades=tuple(trade for trade in result.trades if trade.entry_at.astimezone(NEW_YORK).date() in days),
        cash=result.cash if inside.start == 0 else float(result.equity[inside.start - 1]),
    )
    return cut if inside != slice(0, len(result.sessions)) else result, None if market is None else market[inside]


def _after(walk: Walk, cutoff: date) -> Walk:
    later = np.array([day > cutoff for day in walk.sessions], np.bool_)
    return replace(walk, out_of_sample=walk.out_of_sample[later], sessions=tuple(day for day in walk.sessions if day > cutoff))


def _misfit(what: str, given: int, count: int) -> InputError:
    return InputError(
        f"{given} rows of {what} do not fit {count} sessions.", value=given, rule="what is compared covers the sessions of the backtest",
        remedy="run both over the same sessions",
    )


def _notes(result: BacktestResult) -> list[str]:
    held = [trade for trade in result.trades if trade.exit_reason is ExitReason.OPEN]
    if not held:
        return []
    return [f"{checks.counted(len(held), 'trade')} still open at the end: in the equity at the last close, in no figure of trades."]
