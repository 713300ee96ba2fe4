"""The model report: is a version of a decision maker any good, and how sure can one be (D7, J4).

One horizon is the headline's, named beforehand, so that nobody picks the best of four. Bars before the end of a model's training are
counted apart: it may remember what came next, so they prove nothing, and where no bar lies after it there is no verdict. A figure
with too few cases is not shown. Every comparison is over the same bars. Nothing here changes a confidence or a limit.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from math import fsum

from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.judgement import FEWEST, Bin, Calibrated, Estimate, Period, calibration, mean_over_sessions, reliability_curve
from trading_pipeline.domain.models import Provider
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.signals import Action
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.reports.figures import (
    HEADLINE,
    Figures,
    Shown,
    TooFew,
    figures_of,
    forecasts_of,
    hit_rate_of,
    net,
    result_of,
    signals_of,
    span_of,
)
from trading_pipeline.service.reports.judged import Judged, Selection, Version, by, judged
from trading_pipeline.service.reports.outcomes import HORIZONS


class Verdict(StrEnum):
    """What the headline says."""

    NOT_VALIDATED = "NOT VALIDATED"
    SKILL = "SKILL SHOWN"
    NO_SKILL = "NO SKILL SHOWN"
    LOSES = "LOSES"


@dataclass(frozen=True, slots=True)
class Assessment:
    """One version: its verdict, its figures by period, and what the plots show."""

    version: Version
    cutoff: date | None
    verdict: Verdict
    reason: str
    basis: Period
    """The period that curve, horizons, symbols and timeline are of."""
    periods: Mapping[Period, Figures]
    symbols: Mapping[str, Figures]
    horizons: Mapping[str, tuple[Shown, Shown]]
    """Hit rate and net result by horizon."""
    curve: tuple[Bin, ...]
    map: tuple[Calibrated, ...]
    """From confidence to what it has been worth; empty below the fewest cases."""
    timeline: tuple[tuple[date, float], ...]
    """Sum of the net results up to each session, as fractions of an equal stake on each signal."""

    @property
    def title(self) -> str:
        """The version, and which of its bars are meant."""
        return self.version.label if self.basis is Period.ALL else f"{self.version.label} ({self.basis})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two ways of deciding over the same bars, per decision; holding and abstaining make nothing."""

    what: str
    first: str
    second: str
    period: Period
    difference: Shown
    first_mean: float
    second_mean: float
    agree: float
    """The share of bars on which both did the same."""


@dataclass(frozen=True, slots=True)
class Unsent:
    """Proposals that ended without an order, and what they would have made."""

    state: str
    rule: str
    """Which rule denied them; empty for any other end."""
    n: int
    filled: int
    result: Decimal
    """USD, signed: what the proposals would have made, so their ending is worth the opposite."""


@dataclass(frozen=True, slots=True)
class ModelReport:
    """All of it, as of an instant; `cost` is what a signal has to move by to be right, a fraction."""

    at: datetime
    horizon: str
    cost: Decimal
    fewest: int
    assessments: tuple[Assessment, ...]
    comparisons: tuple[Comparison, ...]
    unsent: tuple[Unsent, ...]

    @property
    def headline(self) -> str:
        """One sentence on each model's version, or on the rules where there is no model."""
        models = [each for each in self.assessments if not each.version.rules] or list(self.assessments)
        return " ".join(f"{each.version.label}: {each.verdict}, {each.reason}." for each in models) or "No decision has been taken yet."

    @property
    def approvals_worth(self) -> Decimal:
        """USD that people's and clocks' No made or cost: the opposite of what the rejected and expired would have made."""
        return -sum((each.result for each in self.unsent if each.state in (ActionState.REJECTED, ActionState.EXPIRED)), ZERO) + ZERO


def model_report(desk: Desk, selection: Selection | None = None) -> ModelReport:
    """Assess every version that the selection takes, from the outcomes that are written down."""
    selection = selection or Selection()
    decisions, cost = judged(desk.ledger, selection), float(desk.costs.round_trip)
    versions = by(decisions, lambda each: each.version)
    named = any((selection.provider, selection.model, selection.prompt))
    shown = [name for name in versions if not (named and name.rules)]
    cutoffs = {name: _cutoff(desk, name) for name in versions}
    assessed = tuple(_assess(name, versions[name], cutoffs[name], cost) for name in shown)
    actions = {each.action_id for name in shown for each in versions[name]}
    compared, unsent = tuple(_comparisons(versions, cutoffs, cost)), tuple(_unsent(desk, actions))
    return ModelReport(desk.now(), HEADLINE, desk.costs.round_trip, FEWEST, assessed, compared, unsent)


def _cutoff(desk: Desk, version: Version) -> date | None:
    if version.rules or desk.models is None:
        return None
    return desk.models.prices.cutoff(Provider(version.provider), version.model)


def _by_period(version: Version, decisions: Iterable[Judged], cutoff: date | None) -> dict[Period, list[Judged]]:
    """The decisions by where their bars lie, the period that counts first."""

    def period(decision: Judged) -> Period:
        if version.rules:
            return Period.ALL
        if cutoff is None:
            return Period.UNKNOWN
        return Period.AFTER if decision.bar_end.date() > cutoff else Period.BEFORE

    parts = by(decisions, period)
    return {each: parts[each] for each in Period if each in parts}


def _assess(version: Version, decisions: Sequence[Judged], cutoff: date | None, cost: float) -> Assessment:
    parts = _by_period(version, decisions, cutoff)
    basis, counted = next(iter(parts.items()))
    periods = {name: figures_of(part, cost) for name, part in parts.items()}
    verdict, reason = _verdict(version, cutoff, basis, periods[basis], _over_buying(version, counted, basis, cost))
    forecasts, hits = forecasts_of(counted, HEADLINE, cost)
    symbols = {name: figures_of(part, cost) for name, part in by(counted, lambda each: each.symbol).items()}
    horizons = {horizon: (hit_rate_of(counted, horizon, cost), result_of(counted, horizon, cost)) for horizon in HORIZONS}
    return Assessment(
        version, cutoff, verdict, reason, basis, periods, symbols, horizons, reliability_curve(forecasts, hits) if hits else (),
        calibration(forecasts, hits) if len(hits) >= FEWEST else (), tuple(_timeline(counted, cost)),
    )


def _verdict(
    version: Version, cutoff: date | None, basis: Period, figures: Figures, over_buying: Comparison | None,
) -> tuple[Verdict, str]:
    """Skill has to earn its costs and to beat buying at every bar: in a market that rises, anybody who buys is right."""
    if basis is Period.UNKNOWN:
        return Verdict.NOT_VALIDATED, "the end of its training is not known, so it may remember every one of these bars"
    if basis is Period.BEFORE:
        return Verdict.NOT_VALIDATED, f"no bar lies after the end of its training ({cutoff}), so it may remember what came next"
    made = figures.per_usd
    if isinstance(made, TooFew):
        where = "" if version.rules else " after the end of its training"
        return Verdict.NOT_VALIDATED, f"{made.text} of its signals have an outcome{where}"
    if made.low is None or made.high is None:
        return Verdict.NOT_VALIDATED, f"its {made.n} signals lie in one session"
    told = f"{made.value:+.2%} a signal after costs ({_reach(made)}, n = {made.n})"
    if made.low <= 0:
        return (Verdict.LOSES, told) if made.high < 0 else (Verdict.NO_SKILL, f"{told}: it may as well be luck")
    more = None if over_buying is None else over_buying.difference
    if not isinstance(more, Estimate) or more.low is None:
        return Verdict.NO_SKILL, f"{told}, with too few bars to tell it from buying at every bar"
    told = f"{told}; over buying at every bar {more.value:+.2%} a decision ({_reach(more)})"
    return (Verdict.SKILL, told) if more.low > 0 else (Verdict.NO_SKILL, f"{told}: it may be the market's rise and not its judgement")


def _reach(found: Estimate) -> str:
    return f"95 %: {found.low:+.2%} to {found.high:+.2%}"


def _timeline(decisions: Sequence[Judged], cost: float) -> Iterable[tuple[date, float]]:
    total = 0.0
    for session, group in by(signals_of(decisions, HEADLINE), lambda each: each.session).items():
        total += fsum(net(each, HEADLINE, cost) for each in group)
        yield session, total


# Comparisons


def _comparisons(
    versions: Mapping[Version, list[Judged]], cutoffs: Mapping[Version, date | None], cost: float,
) -> Iterable[Comparison]:
    """Each version against the rules, against always buying, and against itself with more or less to see.

    Over the period that counts; masking over all bars, because it is there to show what a model remembers.
    """
    for one, everything in versions.items():
        period, counted = next(iter(_by_period(one, everything, cutoffs[one]).items()))
        for other, theirs in versions.items():
            what = _kind(one, other)
            if what == "masking":
                yield from _pair(what, one, other, everything, theirs, Period.ALL, cost)
            elif what:
                yield from _pair(what, one, other, counted, theirs, period, cost)
        buying = _over_buying(one, counted, period, cost)
        if buying is not None:
            yield buying


def _over_buying(version: Version, counted: Iterable[Judged], period: Period, cost: float) -> Comparison | None:
    paired = [
        (each, worth, outcome.moved - cost, each.action is Action.BUY)
        for each in counted if (outcome := each.outcomes.get(HEADLINE)) and (worth := _worth(each, cost)) is not None
    ]
    return _compared("always buying", version.label, "BUY at every bar", period, paired) if paired else None


def _kind(one: Version, other: Version) -> str:
    """What two versions differ in, where it is one thing; empty otherwise, and for one half of all pairs."""
    if one.rules or other.rules:
        return "baseline" if other.rules and not one.rules else ""
    if one >= other or (one.provider, one.model) != (other.provider, other.model):
        return ""
    differ = [name for name in ("prompt", "sight", "masks") if getattr(one, name) != getattr(other, name)]
    if differ == ["masks"] and one.masks and other.masks:
        return ""
    return {"prompt": "prompt", "sight": "sight", "masks": "masking"}[differ[0]] if len(differ) == 1 else ""


def _pair(
    what: str, one: Version, other: Version, ours: Iterable[Judged], theirs: Iterable[Judged], period: Period, cost: float,
) -> Iterable[Comparison]:
    matches = {_bar_of(each): each for each in theirs}
    paired = []
    for each in ours:
        match = matches.get(_bar_of(each))
        if match is not None and (first := _worth(each, cost)) is not None and (second := _worth(match, cost)) is not None:
            paired.append((each, first, second, each.action is match.action))
    if paired:
        yield _compared(what, one.label, other.label, period, paired)


def _bar_of(decision: Judged) -> tuple[str, Interval, datetime]:
    return decision.symbol, decision.interval, decision.bar_end


def _compared(
    what: str, first: str, second: str, period: Period, paired: Sequence[tuple[Judged, float, float, bool]],
) -> Comparison:
    apart: dict[date, list[float]] = {}
    for each, mine, theirs, _ in sorted(paired, key=lambda pair: pair[0].session):
        apart.setdefault(each.session, []).append(mine - theirs)
    n, span = len(paired), span_of([each for each, *_ in paired], HEADLINE)
    return Comparison(
        what, first, second, period, mean_over_sessions(list(apart.values()), span) if n >= FEWEST else TooFew(n),
        fsum(mine for _, mine, _, _ in paired) / n, fsum(theirs for _, _, theirs, _ in paired) / n, sum(same for *_, same in paired) / n,
    )


def _worth(decision: Judged, cost: float) -> float | None:
    """What a decision made at the headline's horizon; None while that is not known."""
    if decision.action is None:
        return 0.0
    if HEADLINE not in decision.outcomes:
        return None
    return 0.0 if decision.action is Action.HOLD else net(decision, HEADLINE, cost)


def _unsent(desk: Desk, actions: Collection[str]) -> Iterable[Unsent]:
    found: dict[tuple[str, str], list[tuple[bool, Decimal]]] = {}
    for event in desk.ledger.events(types=(EventType.SHADOW_CLOSED,)):
        if event.payload["action_id"] in actions:
            data = event.payload
            end = (data["state"], data["reason"] if data["state"] == ActionState.DENIED else "")
            found.setdefault(end, []).append((bool(data["fills"]), Decimal(data["result"])))
    for (state, rule), trades in sorted(found.items()):
        yield Unsent(state, rule, len(trades), sum(filled for filled, _ in trades), sum((result for _, result in trades), ZERO))
