"""The report as Markdown, for the metadata of Dagster and for pages under docs: short, the verdict first, no picture."""

import re
from collections.abc import Sequence

from trading_pipeline.domain.performance.report import DASH, BacktestReport, Cell, ReportTable, fraction

MOST_ROWS = 20
"""Of the list of trades."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def markdown_of(report: BacktestReport, *, level: int = 2) -> str:
    """The whole report.

    Args:
        level: Of the sections' headings.
    """
    mark = "#" * level
    parts = [f"**{plain(report.headline)}**", f"{plain(report.title)}: {plain(report.about)}.", targets_of(report)]
    for table in report.figures:
        parts += _section(mark, table.title, table_of(table), table.note)
    parts += _section(mark, "Months", months_of(report))
    for each in report.validation:
        parts += _section(mark, each.title, each.markdown)
    for table in (*report.groups, *report.record):
        parts += _section(mark, table.title, table_of(table), table.note)
    shown = table_of(report.trades, MOST_ROWS)
    many = len(report.trades.rows) - MOST_ROWS
    parts += _section(mark, "Trades", shown, report.trades.note if many <= 0 else f"The first {MOST_ROWS} shown here. {report.trades.note}")
    parts += _section(mark, "Assumptions", "\n".join(f"- {plain(each)}" for each in report.assumptions))
    told = "; ".join(f"{name} {plain(value)}" for name, value in report.provenance)
    parts += _section(mark, "How to make it again", _fenced(report.command), told)
    return "\n\n".join(part for part in parts if part) + "\n"


def targets_of(report: BacktestReport) -> str:
    """The seeds' targets beside what was reached."""
    words = {True: "met", False: "missed", None: "unknown"}
    rows = [(Cell(each.title), Cell(each.aim), each.reached, Cell(words[each.met])) for each in report.targets]
    return _table(("TARGET", "AIM", "REACHED", ""), rows)


def months_of(report: BacktestReport) -> str:
    """Monthly returns, a row a year."""
    rows = [
        (Cell(str(each.year)), *(Cell(DASH if month is None else fraction(month, signed=True)) for month in each.months),
         Cell(fraction(each.total, signed=True)))
        for each in report.months
    ]
    return _table(("YEAR", *_MONTHS, "ALL"), rows)


def table_of(table: ReportTable, most: int | None = None) -> str:
    """A table of the report."""
    return _table(table.columns, table.rows[:most])


def plain(text: str) -> str:
    """Text that no Markdown is read in: names come from files and providers."""
    for letter in "\\`*_[]<>|":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())


def _fenced(text: str) -> str:
    """Text as it is, in a fence that it cannot end: folders have names of any kind."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _section(mark: str, title: str, *parts: str) -> list[str]:
    return [f"{mark} {plain(title)}", *parts]


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join('---' for _ in columns)}|"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    return f"{plain(cell.text)} ({plain(cell.note)})" if cell.note else plain(cell.text)
