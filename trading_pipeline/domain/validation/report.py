"""The verdict on a backtest: what has to hold, what was found, and NOT VALIDATED first wherever one thing does not.

Thresholds of the founding documents: 30 trades, p below 0.05, win rate above 40 %, Sharpe above 0.5, a grade better than UNACCEPTABLE. Ours
beside them: what is left after the market's own rise has to be more than luck, and so has the best of a search. The tests have to hold
together, so luck passes less often than one time in twenty. Nothing here promises that a strategy goes on as it did.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

import numpy as np

from trading_pipeline.domain.backtests import BacktestResult, ExitReason
from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.judgement import FEWEST, Estimate, Period
from trading_pipeline.domain.performance import SESSIONS_A_YEAR, returns_of
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.domain.validation import resampling
from trading_pipeline.domain.validation.overfitting import Overfitting, deflated_sharpe, overfitting, ratios_of, walk_forward_efficiency
from trading_pipeline.domain.validation.risk_score import Grade, RiskScore, risk_score
from trading_pipeline.domain.validation.significance import moments, p_above_zero, probabilistic_sharpe, shortest_record
from trading_pipeline.errors import InputError

LEVEL: Final = 0.05
"""Of every test; source: the founding documents."""
LEAST_WIN_RATE: Final = 0.40
LEAST_SHARPE: Final = 0.5
MOST_OVERFITTED: Final = 0.5
"""From here on the setting that was best on one half is no better than the median on the other; source: as `overfitting`."""
LEAST_EFFICIENCY: Final = 0.5
"""Source: Pardo, as in `walk_forward_efficiency`."""
FEWEST_SETTINGS: Final = 2
_YEAR: Final = math.sqrt(SESSIONS_A_YEAR)


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
class Check:
    """One thing that has to hold; `found` and `needed` in words, `reason` as it stands in the headline when it does not."""

    name: str
    found: str
    needed: str
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """The figures of some sessions, with 95 % intervals from 30 cases on; None where there is nothing to reckon from.

    Trades are the closed ones, as in every figure of trades; what is still held is in the equity and so in the Sharpe ratios, so that
    nobody looks good by never selling what lost.
    """

    sessions: int
    closed: int
    total_return: float
    sharpe: Estimate | None
    """Annualised."""
    sharpe_p: float | None
    """1 less the probabilistic Sharpe ratio."""
    record: float | None
    """Sessions that it takes to tell this Sharpe ratio from 0; None where it is not above 0."""
    drawdown: Estimate | None
    """The interval: how deep the same returns fall in other orders."""
    mean_trade: Estimate | None
    """USD."""
    trade_p: float | None
    win_rate: Estimate | None
    profit_factor: Estimate | None
    """Infinite without a loss."""
    beta: float | None
    """How much of each move of the market it takes part in; None: no market to compare with."""
    beyond_market: Estimate | None
    """Mean return beyond `beta` times the market's, a year."""
    beyond_market_p: float | None


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
    periods = {
        period: evidence_of(*_part(result, market, inside))
        for period, inside in _periods(result, basis, cutoff).items()
    }
    evidence = periods[basis]
    inside = _periods(result, basis, cutoff)[basis]
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
    checks = [
        *_training(basis, cutoff, cutoffs or {}), *_of_trades(evidence), *_of_returns(evidence), *_of_market(evidence, market is not None),
        *_of_search(deflated, len(ratios), fitted, trials is not None), *_of_walk(walk, efficiency), _of_risk(risk),
    ]
    return ValidationReport(
        tuple(checks), basis, cutoff, evidence, periods, risk, max(1, len(ratios)), deflated, fitted, efficiency, tuple(_notes(result)),
    )


def evidence_of(result: BacktestResult, market: Floats | None = None) -> Evidence:
    """The figures of a whole result.

    Args:
        market: Aligned returns of buying and holding.
    """
    returns = returns_of(result.equity, result.cash)
    closed = np.array([float(trade.result) for trade in result.trades if trade.exit_reason is not ExitReason.OPEN], np.float64)
    found, block = moments(returns), resampling.block_length(returns)
    runs = resampling.block_length(closed)
    beta = left = None
    if market is not None and len(returns) > 1:
        varies = float(np.var(market))
        beta = float(np.cov(returns, market, ddof=0)[0, 1]) / varies if varies > 1e-24 else 0.0
        left = returns - beta * market
    return Evidence(
        sessions=len(returns), closed=len(closed), total_return=float(np.prod(1 + returns) - 1),
        sharpe=_yearly(resampling.estimate(returns, resampling.sharpe, block), _YEAR) if len(returns) > 1 else None,
        sharpe_p=None if found is None else 1 - probabilistic_sharpe(found), record=None if found is None else shortest_record(found),
        drawdown=resampling.estimate(returns, resampling.drawdown, block), mean_trade=resampling.estimate(closed, resampling.mean, runs),
        trade_p=p_above_zero(closed, block=runs), win_rate=resampling.estimate(closed, resampling.share_won, runs),
        profit_factor=resampling.estimate(closed, resampling.profit_factor, runs), beta=beta,
        beyond_market=None if left is None else _yearly(resampling.estimate(left, resampling.mean), SESSIONS_A_YEAR),
        beyond_market_p=None if left is None else _p_of_rest(left, returns),
    )


def _p_of_rest(left: Floats, returns: Floats) -> float | None:
    """Of what buying and holding leaves only rounding remains, which proves nothing."""
    return 1.0 if float(left.std()) <= 1e-9 * float(returns.std()) else p_above_zero(left)


def _yearly(found: Estimate | None, times: float) -> Estimate | None:
    if found is None:
        return None
    low, high = (None if bound is None else bound * times for bound in (found.low, found.high))
    return Estimate(found.value * times, low, high, found.n)


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


# What has to hold


def _training(basis: Period, cutoff: date | None, cutoffs: Mapping[str, date | None]) -> list[Check]:
    if not cutoffs:
        return []
    needed = "sessions after the end of the model's training"
    name = "not remembered"
    if basis is Period.UNKNOWN:
        models = ", ".join(sorted(model for model, day in cutoffs.items() if day is None))
        reason = f"the end of the training of {models} is not known, so it may remember every one of these bars"
        return [Check(name, "unknown", needed, False, reason)]
    if basis is Period.BEFORE:
        reason = f"no session lies after the end of the model's training ({cutoff}), so it may remember what came next"
        return [Check(name, f"trained up to {cutoff}", needed, False, reason)]
    return [Check(name, f"only sessions after {cutoff} are judged", needed, True, "")]


def _of_trades(found: Evidence) -> list[Check]:
    checks = [_check(
        "trades", f"{found.closed:,}", f"at least {FEWEST}", found.closed >= FEWEST,
        lambda: f"{_many(found.closed, 'closed trade')}, at least {FEWEST} are needed",
    )]
    if not found.closed:
        return checks
    p, won = found.trade_p, found.win_rate
    return [
        *checks,
        _check(
            "mean trade above 0", _p(p), f"p below {LEVEL}", p is not None and p < LEVEL, lambda: f"the mean trade may be luck ({_p(p)})",
        ),
        _check(
            "win rate", "none" if won is None else f"{won.value:.1%}", f"above {LEAST_WIN_RATE:.0%}",
            won is not None and won.value > LEAST_WIN_RATE, lambda: f"{0 if won is None else won.value:.1%} of the trades won, above "
            f"{LEAST_WIN_RATE:.0%} is needed",
        ),
    ]


def _of_returns(found: Evidence) -> list[Check]:
    ratio, p = found.sharpe, found.sharpe_p
    if ratio is None or p is None:
        return [Check("Sharpe ratio", "none", f"above {LEAST_SHARPE}", False, "the equity never moved, so there is no Sharpe ratio")]
    return [
        _check(
            "Sharpe ratio", f"{ratio.value:.2f}", f"above {LEAST_SHARPE}", ratio.value > LEAST_SHARPE,
            lambda: f"the Sharpe ratio is {ratio.value:.2f}, above {LEAST_SHARPE} is needed",
        ),
        _check("Sharpe ratio above 0", _p(p), f"p below {LEVEL}", p < LEVEL, lambda: f"the Sharpe ratio may be luck ({_p(p)})"),
    ]


def _of_market(found: Evidence, given: bool) -> list[Check]:
    name, needed = "more than the market's rise", f"p below {LEVEL}"
    if not given:
        return [Check(name, "not compared", needed, False, "it was not compared with buying and holding, so it may be the market's rise")]
    p, more = found.beyond_market_p, found.beyond_market
    told = "" if more is None else f", {more.value:+.1%} a year beyond it"
    return [_check(
        name, f"{_p(p)}{told}", needed, p is not None and p < LEVEL,
        lambda: f"it may be the market's own moves and not its judgement ({_p(p)}{told})",
    )]


def _of_search(deflated: float | None, settings: int, fitted: Overfitting | None, searched: bool) -> list[Check]:
    if not searched:
        return []
    needed = f"at least {1 - LEVEL:.2f}"
    if deflated is None:
        reason = f"{_many(settings, 'setting')} of the grid traded, at least {FEWEST_SETTINGS} are needed to allow for the search"
        return [Check("deflated Sharpe ratio", "none", needed, False, reason)]
    checks = [_check(
        "deflated Sharpe ratio", f"{deflated:.3f} over {settings} settings", needed, deflated >= 1 - LEVEL,
        lambda: f"the best of {settings} settings would look as good by luck (deflated Sharpe ratio {deflated:.2f}, {needed})",
    )]
    if fitted is not None:
        # Where nearly every setting earns, which of them is best is chance and no fault.
        fine = fitted.probability < MOST_OVERFITTED or fitted.loses <= LEVEL
        checks.append(_check(
            "probability of overfitting", f"{fitted.probability:.0%}; the best of one half lost on the other in {fitted.loses:.0%}",
            f"below {MOST_OVERFITTED:.0%}, or a loss in at most {LEVEL:.0%}", fine,
            lambda: f"the settings are fitted: the best on one half of the sessions was no better than the median on the other in "
            f"{fitted.probability:.0%} of all halvings",
        ))
    return checks


def _of_walk(walk: Walk | None, efficiency: float | None) -> list[Check]:
    if walk is None:
        return []
    needed = f"at least {LEAST_EFFICIENCY}"
    if efficiency is None:
        reason = "walking forward, the settings chosen made nothing in the sessions that they were chosen by, or no session came after"
        return [Check("walk-forward efficiency", "none", needed, False, reason)]
    return [_check(
        "walk-forward efficiency", f"{efficiency:.2f}", needed, efficiency >= LEAST_EFFICIENCY,
        lambda: f"walking forward, the settings chosen kept {efficiency:.0%} of what they had made, {LEAST_EFFICIENCY:.0%} is needed",
    )]


def _of_risk(risk: RiskScore) -> Check:
    return _check(
        "risk score", f"{risk.points} {risk.grade}", f"not {Grade.UNACCEPTABLE}", risk.grade is not Grade.UNACCEPTABLE,
        lambda: f"the risk score is {risk.points} of 100, {risk.grade}",
    )


def _check(name: str, found: str, needed: str, passed: bool, reason: Callable[[], str]) -> Check:
    return Check(name, found, needed, passed, "" if passed else reason())


def _notes(result: BacktestResult) -> list[str]:
    held = [trade for trade in result.trades if trade.exit_reason is ExitReason.OPEN]
    if not held:
        return []
    return [f"{_many(len(held), 'trade')} still open at the end: in the equity at the last close, in no figure of trades."]


def _p(value: float | None) -> str:
    return "no p-value" if value is None else f"p < {0.001}" if value < 0.001 else f"p = {value:.3f}"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _misfit(what: str, given: int, count: int) -> InputError:
    return InputError(
        f"{given} rows of {what} do not fit {count} sessions.", value=given, rule="what is compared covers the sessions of the backtest",
        remedy="run both over the same sessions",
    )
