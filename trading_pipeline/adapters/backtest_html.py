"""The report on a backtest, and a comparison, as one HTML file that needs nothing else: no script, no address to fetch from, pictures in
the text.

Every word in it is escaped: names come from files, providers and models. Light or dark follows the reader's setting; on a phone, wide
tables and plots scroll by themselves.
"""

import base64
import re
from collections.abc import Callable, Sequence
from functools import partial
from html import escape

from trading_pipeline.adapters.backtest_png import DARK, LIGHT, Ink, drawdown_png, equity_png, trades_png
from trading_pipeline.domain.performance.report import (
    DASH,
    BacktestReport,
    Cell,
    Line,
    ReportTable,
    Section,
    Target,
    YearOfMonths,
    fraction,
)

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STRONGEST = 0.08
"""A month of 8 % or more has the full colour."""
_NUMBER = re.compile(r"[+-]?\$?\d|–$")
_STYLE = """
:root { color-scheme: light dark; --text: #16202a; --muted: #55616d; --line: #e1e6eb; --ground: #fff; --card: #f5f7f9; --link: #0072b2;
  --gain: #00775a; --loss: #b93d0b; --warn: #8a5a00; --gain-rgb: 0 147 107; --loss-rgb: 209 72 15; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --muted: #9aa7b4; --line: #2a323b; --ground: #12171d; --card: #1a2129;
  --link: #4db3f0; --gain: #2fc49a; --loss: #ff8a5f; --warn: #e6a521; --gain-rgb: 47 196 154; --loss-rgb: 255 125 77; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: var(--text); background: var(--ground);
  margin: 0 auto; max-width: 1120px; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; text-wrap: balance; }
h2 { font-size: 1.15rem; margin: 2.75rem 0 .5rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { margin: .4rem 0; max-width: 80ch; } .muted, .note { color: var(--muted); } .note { font-size: .9rem; }
.beside { display: flex; flex-wrap: wrap; gap: 0 3.5rem; } .beside section { max-width: 100%; } .beside .note { max-width: 46ch; }
.verdict { max-width: none; border-left: 6px solid var(--warn); background: var(--card);
  padding: .7rem 1rem; margin: 1.1rem 0; font-weight: 600; }
.verdict.passed { border-color: var(--gain); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: .75rem; margin: 1.1rem 0; }
.tile { background: var(--card); border-radius: 8px; padding: .7rem .9rem; }
.tile b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; line-height: 1.3; }
.tile span { color: var(--muted); font-size: .85rem; display: block; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem 1.1rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--muted); font-weight: 600; font-size: .74rem; letter-spacing: .04em; text-transform: uppercase; white-space: nowrap; }
.n { text-align: right; white-space: nowrap; } td small { color: var(--muted); } td.n small { display: block;
  white-space: normal; max-width: 15em; margin-left: auto; }
.gain { color: var(--gain); } .loss { color: var(--loss); }
.mark { font-weight: 600; white-space: nowrap; } .mark.none { color: var(--muted); }
table.heat { min-width: 860px; width: 100%; border-spacing: 2px; border-collapse: separate; }
table.heat td, table.heat th { border: 0; text-align: center; padding: .4rem .2rem; border-radius: 4px; white-space: nowrap; }
table.heat td { font-size: .84rem; }
img { display: block; width: 100%; min-width: 640px; height: auto; margin: .75rem 0; border: 1px solid var(--line); border-radius: 8px; }
details { margin: .75rem 0; } summary { cursor: pointer; color: var(--link); }
pre { background: var(--card); padding: .8rem 1rem; border-radius: 8px; overflow-x: auto; font-size: .88rem; }
ul { padding-left: 1.2rem; max-width: 85ch; } li { margin: .3rem 0; }
@media (max-width: 600px) { body { padding: 1.2rem .9rem 3rem; font-size: 16px; } .tiles { grid-template-columns: 1fr 1fr; }
  th, td { padding-right: .9rem; } td small { white-space: normal; } }
@media print { body { max-width: none; } details > * { display: block; } }
"""


def page(report: BacktestReport) -> str:
    """The whole report as one HTML document."""
    body = "".join((
        f"<h1>{escape(report.title)}</h1><p class=\"muted\">{escape(report.about)}</p>",
        f'<p class="verdict{" passed" if report.passed else ""}">{escape(report.headline)}</p>',
        _tiles(report),
        "<h2>What was aimed at</h2>", _targets(report.targets),
        "<h2>Equity</h2>", _picture("equity", partial(equity_png, report.lines)),
        _picture("drawdown", partial(drawdown_png, report.lines)),
        _beside(report.figures), _folded("How each figure is reckoned", _bare(report.definitions)),
        "<h2>Months</h2>", _heat(report.months),
        "".join(_section(each) for each in report.validation),
        _charts(report),
        "".join(_table(each) for each in report.groups),
        _table(report.trades) if len(report.trades.rows) <= 40 else _title(report.trades) + _folded(
            f"Show {len(report.trades.rows):,} trades", _bare(report.trades)),
        _beside(report.record),
        _assumptions(report.assumptions),
        f"<h2>How to make it again</h2><pre>{escape(report.command)}</pre>", _pairs(report.provenance),
    ))
    return _document(f"{report.title}: backtest", body)


def comparison_page(
    title: str, sentences: Sequence[str], lines: Sequence[Line], tables: Sequence[ReportTable], assumptions: Sequence[str],
) -> str:
    """A comparison as one HTML document.

    Args:
        sentences: Of each two, whether they can be told apart.
        lines: What each was worth, over the same sessions; empty: without plots.
    """
    drawn = (_picture("equity", partial(equity_png, lines)), _picture("drawdown", partial(drawdown_png, lines))) if lines else ()
    body = "".join((
        f"<h1>{escape(title)}</h1>", *(f'<p class="verdict">{escape(each)}</p>' for each in sentences), *drawn, *map(_table, tables),
        _assumptions(assumptions),
    ))
    return _document(f"{title}: compared", body)


def _assumptions(sentences: Sequence[str]) -> str:
    return f"<h2>Assumptions</h2><ul>{''.join(f'<li>{escape(each)}</li>' for each in sentences)}</ul>"


def _document(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _tiles(report: BacktestReport) -> str:
    shown = "".join(
        f'<div class="tile"><span>{_text(title)}</span><b class="{_gain(own)}">{_text(own.text)}</b>'
        f"<span>{_text(own.note if own.text == DASH else others)}</span></div>"
        for title, own, others in report.tiles
    )
    return f'<div class="tiles">{shown}</div>'


def _targets(targets: Sequence[Target]) -> str:
    marks = {True: ("gain", "✓ met"), False: ("loss", "✗ missed"), None: ("none", "– unknown")}
    rows = []
    for each in targets:
        kind, words = marks[each.met]
        rows.append(
            f'<tr><td>{escape(each.title)}</td><td class="n">{escape(each.aim)}</td>{_cell(each.reached, number=True)}'
            f'<td class="mark {kind}">{words}</td></tr>'
        )
    head = '<tr><th>Figure</th><th class="n">Aim</th><th class="n">Reached</th><th></th></tr>'
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _heat(years: Sequence[YearOfMonths]) -> str:
    rows = "".join(
        f"<tr><th>{each.year}</th>{''.join(_month(month) for month in each.months)}{_month(each.total, bold=True)}</tr>" for each in years
    )
    head = "".join(f"<th>{name}</th>" for name in ("", *_MONTHS, "all"))
    return f'<div class="scroll"><table class="heat"><tr>{head}</tr>{rows}</table></div>'


def _month(value: float | None, *, bold: bool = False) -> str:
    if value is None:
        return "<td></td>"
    if bold:
        return f"<td><b>{fraction(value, signed=True)}</b></td>"
    depth = min(1.0, abs(value) / _STRONGEST) * 0.55
    colour = "gain" if value > 0 else "loss"
    return f'<td style="background: rgb(var(--{colour}-rgb) / {depth:.2f})">{fraction(value, signed=True)}</td>'


def _charts(report: BacktestReport) -> str:
    charts = [each for each in report.charts if len(each.bars) > 1]
    if not charts:
        return ""
    pictures = [_picture(f"trades in {each.bars.symbol}", partial(trades_png, each)) for each in charts]
    note = "The line is the close of each bar; of each session where there are very many bars."
    return f'<h2>Trades on the prices</h2><p class="note">{note}</p>{"".join(pictures)}'


def _picture(words: str, draw: Callable[[Ink], bytes]) -> str:
    """A plot in both inks; the reader's setting chooses."""
    return (
        f'<div class="scroll"><picture><source media="(prefers-color-scheme: dark)" srcset="{data_uri(draw(DARK))}">'
        f'<img alt="{escape(words)}" src="{data_uri(draw(LIGHT))}"></picture></div>'
    )


def data_uri(png: bytes) -> str:
    """A picture that stands in the text itself."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _title(table: ReportTable) -> str:
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f"<h2>{escape(table.title)}</h2>{note}"


def _table(table: ReportTable) -> str:
    return _title(table) + _bare(table)


def _beside(tables: Sequence[ReportTable]) -> str:
    """Narrow tables, side by side where there is room."""
    return f'<div class="beside">{"".join(f"<section>{_table(each)}</section>" for each in tables)}</div>'


def _bare(table: ReportTable) -> str:
    numbers = [all(_NUMBER.match(row[place].text) for row in table.rows) for place in range(len(table.columns))]
    return _rows(table.columns, table.rows, numbers)


def _rows(columns: Sequence[str], rows: Sequence[Sequence[Cell]], numbers: Sequence[bool]) -> str:
    head = "".join(f"<th{_right(right)}>{escape(column)}</th>" for column, right in zip(columns, numbers, strict=True))
    body = "".join(
        f"<tr>{''.join(_cell(cell, number=right) for cell, right in zip(row, numbers, strict=True))}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _cell(cell: Cell, *, number: bool) -> str:
    classes = " ".join(name for name in ("n" if number else "", _gain(cell)) if name)
    note = f" <small>{_text(cell.note)}</small>" if cell.note else ""
    return f"<td{f' class={chr(34)}{classes}{chr(34)}' if classes else ''}>{_text(cell.text)}{note}</td>"


def _right(number: bool) -> str:
    return ' class="n"' if number else ""


def _text(text: str) -> str:
    """Escaped, a number and its unit kept together."""
    return escape(text).replace(" %", "&nbsp;%")


def _gain(cell: Cell) -> str:
    return "gain" if cell.gain > 0 else "loss" if cell.gain < 0 else ""


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return _rows(("", ""), [(Cell(name), Cell(value)) for name, value in pairs], (False, False))


def _folded(words: str, content: str) -> str:
    return f"<details><summary>{escape(words)}</summary>{content}</details>"


def _section(section: Section) -> str:
    """Part of the validation: paragraphs and tables of its Markdown, and its picture on a light ground."""
    picture = f'<div class="scroll"><img alt="{escape(section.title)}" src="{data_uri(section.png)}"></div>' if section.png else ""
    return f"<h2>{escape(section.title)}</h2>{_from_markdown(section.markdown)}{picture}"


def _from_markdown(text: str) -> str:
    """What our own reports write: paragraphs, lists and tables; anything else is a paragraph as it stands."""
    parts = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        if not lines:
            continue
        if all(line.startswith("|") for line in lines) and len(lines) > 1:
            head, *rows = [_cells(line) for line in lines if not re.fullmatch(r"\|[\s:|-]+\|?", line)]
            width = len(head)
            body = [tuple(Cell(text) for text in (*row, *[""] * width)[:width]) for row in rows]
            parts.append(_bare(ReportTable("", "", tuple(head), tuple(body))))
        elif all(re.match(r"[-*] ", line) for line in lines):
            parts.append(f"<ul>{''.join(f'<li>{_words(line[2:])}</li>' for line in lines)}</ul>")
        else:
            parts.append(f"<p>{_words(' '.join(lines))}</p>")
    return "".join(parts)


def _cells(line: str) -> list[str]:
    return [_unescaped(cell.strip()) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _words(text: str) -> str:
    return escape(_unescaped(text))


def _unescaped(text: str) -> str:
    return re.sub(r"\\([\\`*_\[\]<>|])", r"\1", text.replace("**", ""))
