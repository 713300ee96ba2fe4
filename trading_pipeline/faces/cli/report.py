"""`trading report model`: whether those who decide are any good; `trading report approvals`: what saying no was worth.

Both measure first what has closed meanwhile, as the daily run does, so that neither needs Dagster.
"""

from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from trading_pipeline.errors import InputError, StorageError, UnknownName
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column, counted

if TYPE_CHECKING:
    from trading_pipeline.service.desk import Desk
    from trading_pipeline.service.reports.judged import Selection
    from trading_pipeline.service.reports.model_report import ModelReport
    from trading_pipeline.service.reports.report_tables import ReportTable

app = typer.Typer(name="report", help="What decisions have been worth.", no_args_is_help=True)

ProviderOption = Annotated[str | None, typer.Option("--provider", help="Only models of this provider, such as anthropic.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Only this model.")]
PromptOption = Annotated[str | None, typer.Option("--prompt", help="Only this prompt, such as analyst/v1.")]
SymbolOption = Annotated[str | None, typer.Option("--symbol", help="Only decisions about this symbol.")]
SinceOption = Annotated[str | None, typer.Option("--since", help="Only sessions from this date on, such as 2026-01-02.")]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Write the whole report with its plots into this file.", dir_okay=False)]

_VERDICTS = {"SKILL SHOWN": "bold green", "LOSES": "bold red", "NO SKILL SHOWN": "bold yellow", "NOT VALIDATED": "bold yellow"}
_SPARE = {
    "WORST ON THE WAY": 9, "BEST ON THE WAY": 8, "SESSIONS": 7, "COST": 6, "RESULT A TRADE": 5, "ABSTAINED": 4, "COST A DECISION": 3,
    "DECISIONS": 2, "RESOLUTION": 3, "RELIABILITY": 2, "SAME ACTION": 3, "FIRST MADE": 2, "SECOND MADE": 2,
}
"""What a narrow terminal does without, the highest first."""
_WRAPPED = (
    "VERSION", "FIRST", "SECOND", "BARS", "RIGHT", "RESULT A SIGNAL", "RESULT A TRADE", "ABSTAINED", "DIFFERENCE", "HOW IT ENDED",
)


@command(app, "model", reads=True)
def model(
    call: Invocation, provider: ProviderOption = None, model: ModelOption = None, prompt: PromptOption = None, symbol: SymbolOption = None,
    since: SinceOption = None, html: HtmlOption = None,
) -> None:
    """Hit rate, confidence, result and cost of each model, prompt and symbol, with a verdict where there is evidence for one."""
    from trading_pipeline.service.reports.judged import Selection
    from trading_pipeline.service.reports.report_tables import as_json, report_tables

    selection = Selection(provider, model, prompt, symbol.upper() if symbol else None, _date(since))
    if html is not None and not html.absolute().parent.is_dir():
        raise InputError(
            f"There is no folder {html.parent}.", value=str(html.parent), rule="the report is written into a folder that is there",
            remedy="make the folder, or name another file with --html",
        )
    with call.desk() as desk:
        report = _report(call, desk, selection)
    if html is not None:
        _write(html, report)
        call.output.note(f"The report is in {html}")
    call.output.answer(as_json(report) | {"headline": report.headline}, lambda: _show(call, report, report_tables(report)))


@command(app, "approvals", reads=True)
def approvals(call: Invocation, symbol: SymbolOption = None, since: SinceOption = None) -> None:
    """What proposals that were rejected, expired, denied or voided would have made, by the paper broker's rules."""
    from trading_pipeline.service.reports.judged import Selection
    from trading_pipeline.service.reports.report_tables import approvals_sentence, as_json, unsent_table

    with call.desk() as desk:
        report = _report(call, desk, Selection(symbol=symbol.upper() if symbol else None, since=_date(since)))
    data = {"approvals_worth": format(report.approvals_worth, "f"), "unsent": as_json(report.unsent)}
    call.output.answer(data, lambda: _table(call, unsent_table(report), approvals_sentence(report)))


def _report(call: Invocation, desk: "Desk", selection: "Selection") -> "ModelReport":
    from trading_pipeline.service.reports.model_report import model_report
    from trading_pipeline.service.reports.outcomes import measure

    # A backtest has measured what it could, and is read.
    found = None
    with call.output.working("measuring what has closed"):
        if call.backtest is None:
            found = measure(desk)
        report = model_report(desk, selection)
    if found is not None and found.seqs:
        call.output.note(f"Measured {counted(found.outcomes, 'new outcome')}.")
    for note in found.notes[:3] if found is not None else ():
        call.output.note(note, style="yellow")
    if not report.assessments and (asked := model_report(desk).assessments):
        known = sorted({each.version.label for each in asked})
        wanted = ", ".join(f"--{each.name} {value}" for each in fields(selection) if (value := getattr(selection, each.name)) is not None)
        raise UnknownName(
            f"No decision fits {wanted}.", value=wanted, rule="a report is about decisions that were taken",
            remedy=f"choose among {'; '.join(known[:8])}, or leave options out",
        )
    return report


def _date(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is no date.", value=text, rule="a date is written 2026-01-02", remedy="correct --since") from None


def _write(path: Path, report: "ModelReport") -> None:
    from trading_pipeline.faces.evidence import page

    content = page(report)
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"The report {path} cannot be written: {error.strerror}.", value=str(path), rule="the folder exists and may be written",
            remedy="name another file with --html",
        ) from error


def _show(call: Invocation, report: "ModelReport", tables: "list[ReportTable]") -> None:
    if not report.assessments:
        call.output.line(report.headline)
    for each in report.assessments:
        call.output.line(Text(each.verdict.value, _VERDICTS[each.verdict]), f"  {each.version.label}: {each.reason}.")
    for table in tables:
        if table.name != "verdict":
            call.output.heading(table.title)
            _table(call, table, table.note)


def _table(call: Invocation, table: "ReportTable", note: str) -> None:
    columns = [
        Column(title, wrap=title in _WRAPPED, spare=_SPARE.get(title, 0), name=title in ("VERSION", "FIRST", "SECOND"))
        for title in table.columns
    ]
    if table.rows:
        call.output.table(columns, table.rows)
    if note:
        call.output.line(note, style="dim")
