"""The model report in words: the same tables for the terminal, the HTML page and the Dagster UI, and the same values as JSON.

A figure with too few cases is said to be so in its place; every other stands with its 95 % interval and its count.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.judgement import FEWEST_IN_BIN, Brier, too_few
from trading_pipeline.domain.money import usd
from trading_pipeline.service.reports.figures import Figures, Shown, TooFew
from trading_pipeline.service.reports.model_report import ModelReport

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportTable:
    """One table: `name` for scripts and metadata, `title` and `note` for people."""

    name: str
    title: str
    columns: Row
    rows: tuple[Row, ...]
    note: str = ""


def report_tables(report: ModelReport) -> list[ReportTable]:
    """Every table that has a row, the verdict first."""
    made = (_verdicts(report), _figures(report), _briers(report), _horizons(report), _symbols(report), _comparisons(report),
            _curves(report), _maps(report), unsent_table(report))
    return [each for each in made if each.rows]


def unsent_table(report: ModelReport) -> ReportTable:
    """What proposals that were never sent would have made (E7)."""
    rows = [
        (
            f"{_ENDED[each.state]}: {each.rule}" if each.rule else _ENDED[each.state], f"{each.n:,}", f"{each.filled:,}",
            signed(each.result), signed(-each.result),
        )
        for each in report.unsent
    ]
    return ReportTable(
        "unsent", "Proposals that were never sent",
        ("HOW IT ENDED", "PROPOSALS", "WOULD HAVE FILLED", "WOULD HAVE MADE", "SO THIS ADDED"), tuple(rows), approvals_sentence(report),
    )


def approvals_sentence(report: ModelReport) -> str:
    """`Saying no, or nothing, added $120.00 (3 proposals).`"""
    n = sum(each.n for each in report.unsent if each.state in (ActionState.REJECTED, ActionState.EXPIRED))
    if not n:
        return "No proposal that was rejected or left to expire has an outcome yet."
    worth = report.approvals_worth
    did = f"added {usd(worth)}" if worth >= 0 else f"cost {usd(-worth)}"
    return f"Saying no, or nothing, {did} ({n:,} {'proposal' if n == 1 else 'proposals'})."


def signed(amount: Decimal) -> str:
    """`+$12.00`, `-$3.00`."""
    return f"+{usd(amount)}" if amount > 0 else usd(amount)


def as_json(value: Any) -> Any:
    """A report as JSON values: money as text, fractions as numbers, what is no number null."""
    if isinstance(value, TooFew):
        return {"n": value.n, "too_few": value.text}
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: as_json(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): as_json(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [as_json(each) for each in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


_ENDED: Mapping[str, str] = {
    ActionState.REJECTED: "rejected by a person", ActionState.EXPIRED: "expired, nobody answered in time",
    ActionState.DENIED: "denied by the rulebook", ActionState.VOIDED: "voided by a change or an opposite signal",
}


def _verdicts(report: ModelReport) -> ReportTable:
    rows = [(each.version.label, each.verdict.value, each.reason, _cutoff(each.version.rules, each.cutoff)) for each in report.assessments]
    return ReportTable("verdict", "Verdict", ("VERSION", "VERDICT", "WHY", "TRAINED UP TO"), tuple(rows))


def _cutoff(rules: bool, cutoff: date | None) -> str:
    if rules:
        return "not trained"
    return "unknown" if cutoff is None else cutoff.isoformat()


_FIGURES = (
    "DECISIONS", "SIGNALS", "SESSIONS", "RIGHT", "RESULT A SIGNAL", "RESULT A TRADE", "WORST ON THE WAY", "BEST ON THE WAY", "ABSTAINED",
    "COST A DECISION", "COST",
)


def _figures(report: ModelReport) -> ReportTable:
    rows = [
        (each.version.label, period.value, *_row(figures)) for each in report.assessments for period, figures in each.periods.items()
    ]
    return ReportTable(
        "figures", f"Figures, {_words(report.horizon)} after the signal", ("VERSION", "BARS", *_FIGURES), tuple(rows),
        f"Right: moved its way by more than {report.cost:.2%}, which is what getting in and out costs. In brackets: 95 % interval, cases.",
    )


def _symbols(report: ModelReport) -> ReportTable:
    rows = [(each.title, symbol, *_row(figures)) for each in report.assessments for symbol, figures in each.symbols.items()]
    return ReportTable("symbols", "By symbol", ("VERSION", "SYMBOL", *_FIGURES), tuple(rows))


def _row(figures: Figures) -> Row:
    return (
        f"{figures.decisions:,}", f"{figures.signals:,}", f"{figures.sessions:,}", share(figures.hit_rate), _result(figures.per_usd),
        _money(figures.per_trade), _result(figures.adverse), _result(figures.favourable), share(figures.abstained),
        _price(figures.cost_per_decision), usd(figures.cost),
    )


def _briers(report: ModelReport) -> ReportTable:
    rows = [
        (each.version.label, period.value, *_brier(figures.brier))
        for each in report.assessments for period, figures in each.periods.items()
    ]
    return ReportTable(
        "brier", "Is its confidence worth anything?",
        ("VERSION", "BARS", "BRIER SCORE", "BASE RATE ALONE", "SKILL", "RELIABILITY", "RESOLUTION", "CASES"), tuple(rows),
        "Score and reliability: lower is better. Skill and resolution: higher is better; a skill below 0 is worse than the base rate.",
    )


def _brier(found: Brier | TooFew) -> Row:
    if isinstance(found, TooFew):
        return (found.text, "", "", "", "", f"{found.n:,}")
    skill = "none to have" if found.skill is None else f"{found.skill:+.3f}"
    return (f"{found.score:.4f}", f"{found.uncertainty:.4f}", skill, f"{found.reliability:.4f}", f"{found.resolution:.4f}", f"{found.n:,}")


def _horizons(report: ModelReport) -> ReportTable:
    rows = [
        (each.title, _words(horizon), share(right), _result(made))
        for each in report.assessments for horizon, (right, made) in each.horizons.items()
    ]
    return ReportTable("horizons", "By horizon", ("VERSION", "LATER", "RIGHT", "RESULT A SIGNAL"), tuple(rows))


def _comparisons(report: ModelReport) -> ReportTable:
    rows = []
    for each in report.comparisons:
        few = isinstance(each.difference, TooFew)
        means = ("", "") if few else (f"{each.first_mean:+.3%}", f"{each.second_mean:+.3%}")
        same = "" if few else f"{each.agree:.0%}"
        rows.append((each.what, each.first, each.second, each.period.value, *means, _result(each.difference, 3), same))
    return ReportTable(
        "comparisons", "Over the same bars", ("WHAT", "FIRST", "SECOND", "BARS", "FIRST MADE", "SECOND MADE", "DIFFERENCE", "SAME ACTION"),
        tuple(rows), "Per decision; to hold or to abstain makes nothing. An interval that includes 0 shows no difference.",
    )


def _curves(report: ModelReport) -> ReportTable:
    rows = [
        (
            each.title, f"{bin_.low:.0%} to {bin_.high:.0%}", f"{bin_.n:,}", f"{bin_.forecast:.0%}",
            too_few(bin_.n, FEWEST_IN_BIN) if bin_.right is None else share(bin_.right),
        )
        for each in report.assessments for bin_ in each.curve if bin_.n
    ]
    return ReportTable("reliability", "Reliability", ("VERSION", "CONFIDENCE", "SIGNALS", "SAID", "RIGHT"), tuple(rows))


def _maps(report: ModelReport) -> ReportTable:
    rows = [
        (each.title, f"{step.low:.0%}" + (f" to {step.high:.0%}" if step.high > step.low else ""), f"{step.right:.0%}", f"{step.n:,}")
        for each in report.assessments for step in each.map
    ]
    note = "What a confidence has been worth so far. It is shown and applied to nothing."
    return ReportTable("calibration", "Calibration map", ("VERSION", "SAID", "WAS RIGHT", "SIGNALS"), tuple(rows), note)


def share(found: Shown) -> str:
    """`54 % (45 % to 63 %, n = 120)`."""
    return _with_interval(found, lambda value: f"{value:.0%}")


def _result(found: Shown, digits: int = 2) -> str:
    return _with_interval(found, lambda value: f"{value:+.{digits}%}")


def _money(found: Shown) -> str:
    return _with_interval(found, lambda value: signed(Decimal(str(round(value, 2)))))


def _price(found: Shown) -> str:
    return found.text if isinstance(found, TooFew) else f"${found.value:.4f}"


def _with_interval(found: Shown, told: Callable[[float], str]) -> str:
    if isinstance(found, TooFew):
        return found.text
    reach = "" if found.low is None or found.high is None else f"{told(found.low)} to {told(found.high)}, "
    return f"{told(found.value)} ({reach}n = {found.n:,})"


def _words(horizon: str) -> str:
    return horizon.replace("_", " ")
