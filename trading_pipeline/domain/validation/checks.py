"""What has to hold before a backtest is validated, one check a function, with who set each threshold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from trading_pipeline.domain.judgement import FEWEST, Period
from trading_pipeline.domain.models import Trouble
from trading_pipeline.domain.validation.evidence import Evidence
from trading_pipeline.domain.validation.overfitting import Overfitting
from trading_pipeline.domain.validation.risk_score import Grade, RiskScore

LEVEL: Final = 0.05
"""Of every test; source: the founding documents."""
LEAST_WIN_RATE: Final = 0.40
LEAST_SHARPE: Final = 0.5
MOST_OVERFITTED: Final = 0.5
"""From here on the setting that was best on one half is no better than the median on the other; source: as `overfitting`."""
LEAST_EFFICIENCY: Final = 0.5
"""Source: Pardo, as in `walk_forward_efficiency`."""
FEWEST_SETTINGS: Final = 2


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to hold; `found` and `needed` in words, `reason` as it stands in the headline when it does not."""

    name: str
    found: str
    needed: str
    passed: bool
    reason: str


def of_answers(decisions: Mapping[str, int]) -> list[Check]:
    """A model that was not asked has not been judged; no check where every question had its recording."""
    missing, many = decisions.get(f"abstain: {Trouble.NOT_RECORDED.value}", 0), sum(decisions.values())
    if not missing:
        return []
    reason = f"{missing:,} of {counted(many, 'decision')} had no recording of what the model says, so it was not the model that traded"
    return [Check("answers recorded", f"all but {missing:,} of {many:,}", "all", False, reason)]


def training(basis: Period, cutoff: date | None, cutoffs: Mapping[str, date | None]) -> list[Check]:
    """A model may remember the bars it was trained on; no check where no model decides."""
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


def of_trades(found: Evidence) -> list[Check]:
    """Enough of them, and what they made is neither luck nor won too seldom."""
    checks = [_check(
        "trades", f"{found.closed:,}", f"at least {FEWEST}", found.closed >= FEWEST,
        lambda: f"{counted(found.closed, 'closed trade')}, at least {FEWEST} are needed",
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


def of_returns(found: Evidence) -> list[Check]:
    """The Sharpe ratio is high enough, and not luck."""
    ratio, p = found.sharpe, found.sharpe_p
    if ratio is None or p is None:
        why = "one session has no Sharpe ratio" if found.sessions < 2 else "the equity never moved, so there is no Sharpe ratio"
        return [Check("Sharpe ratio", "none", f"above {LEAST_SHARPE}", False, why)]
    return [
        _check(
            "Sharpe ratio", f"{ratio.value:.2f}", f"above {LEAST_SHARPE}", ratio.value > LEAST_SHARPE,
            lambda: f"the Sharpe ratio is {ratio.value:.2f}, above {LEAST_SHARPE} is needed",
        ),
        _check("Sharpe ratio above 0", _p(p), f"p below {LEVEL}", p < LEVEL, lambda: f"the Sharpe ratio may be luck ({_p(p)})"),
    ]


def of_market(found: Evidence, *, given: bool) -> list[Check]:
    """What is left when the market's own moves are taken out is not luck."""
    name, needed = "more than the market's rise", f"p below {LEVEL}"
    if not given:
        return [Check(name, "not compared", needed, False, "it was not compared with buying and holding, so it may be the market's rise")]
    p, more = found.beyond_market_p, found.beyond_market
    told = "" if more is None else f", {round(more.value, 3) + 0.0:+.1%} a year beyond it"
    return [_check(
        name, f"{_p(p)}{told}", needed, p is not None and p < LEVEL,
        lambda: f"it may be the market's own moves and not its judgement ({_p(p)}{told})",
    )]


def of_search(deflated: float | None, settings: int, fitted: Overfitting | None, *, searched: bool) -> list[Check]:
    """The best of a grid is better than the luckiest of so many would be, and not only on the sessions that it was best on."""
    if not searched:
        return []
    needed = f"at least {1 - LEVEL:.2f}"
    if deflated is None:
        reason = f"{counted(settings, 'setting')} of the grid traded, at least {FEWEST_SETTINGS} are needed to allow for the search"
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


def of_walk(efficiency: float | None, *, walked: bool) -> list[Check]:
    """Settings chosen by what lay behind kept enough of it."""
    if not walked:
        return []
    needed = f"at least {LEAST_EFFICIENCY}"
    if efficiency is None:
        reason = "walking forward, the settings chosen made nothing in the sessions that they were chosen by, or no session came after"
        return [Check("walk-forward efficiency", "none", needed, False, reason)]
    return [_check(
        "walk-forward efficiency", f"{efficiency:.2f}", needed, efficiency >= LEAST_EFFICIENCY,
        lambda: f"walking forward, the settings chosen kept {efficiency:.0%} of what they had made, {LEAST_EFFICIENCY:.0%} is needed",
    )]


def of_risk(risk: RiskScore) -> Check:
    """The risk score is not of the worst grade."""
    return _check(
        "risk score", f"{risk.points} {risk.grade}", f"not {Grade.UNACCEPTABLE}", risk.grade is not Grade.UNACCEPTABLE,
        lambda: f"the risk score is {risk.points} of 100, {risk.grade}",
    )


def _check(name: str, found: str, needed: str, passed: bool, reason: Callable[[], str]) -> Check:
    return Check(name, found, needed, passed, "" if passed else reason())


def _p(value: float | None) -> str:
    return "no p-value" if value is None else f"p < {0.001}" if value < 0.001 else f"p = {value:.3f}"


def counted(count: int, what: str) -> str:
    """`1 trade`, `2 trades`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
