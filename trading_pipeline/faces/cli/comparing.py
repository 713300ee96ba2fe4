"""`trading compare`: backtests side by side, stored ones by name, or strategies that are run for it and not kept."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipeline.errors import InputError
from trading_pipeline.faces.cli.backtest_plans import CashOption, DataOption, SymbolsOption, date_of, plan_of, require_writable, write_file
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column

if TYPE_CHECKING:
    from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult
    from trading_pipeline.domain.performance.report import ReportTable
    from trading_pipeline.service.backtests.comparing import Comparison

WhatArgument = Annotated[
    list[str],
    typer.Argument(metavar="A B...", help="Stored backtests by name; with --from and --to strategies, each in an account of its own."),
]
FromOption = Annotated[str | None, typer.Option("--from", metavar="DATE", help="The first session, of strategies.")]
ToOption = Annotated[str | None, typer.Option("--to", metavar="DATE", help="The last session.")]
MarkdownOption = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="Write the comparison into this file.", dir_okay=False),
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write it into this file as one page, with plots.", dir_okay=False),
]


def register(root: typer.Typer, panel: str) -> None:
    """Add the command."""
    command(root, "compare", panel=panel)(compare)


def compare(
    call: Invocation, what: WhatArgument, first: FromOption = None, last: ToOption = None, symbols: SymbolsOption = None,
    cash: CashOption = None, data: DataOption = None, markdown: MarkdownOption = None, html: HtmlOption = None,
) -> None:
    """Figures of several backtests side by side, and of each two whether what they made can be told apart."""
    from trading_pipeline.service.backtests import comparing

    require_writable(html, "--html")
    require_writable(markdown, "--markdown")
    twice = sorted({each for each in what if what.count(each) > 1})
    if twice:
        raise InputError(f"{twice[0]} is named twice.", value=twice[0], rule="a backtest is compared with another", remedy="name two")
    if first is None and last is None:
        if symbols or cash or data:
            raise InputError(
                "Stored backtests have run already.", value=", ".join(what), rule="--symbols, --cash and --data are for strategies",
                remedy="leave them out, or add --from and --to",
            )
        results = _stored(call, what)
    elif first is None or last is None:
        raise InputError("One date is lacking.", value=first or last, rule="strategies are run from a session to a session",
                         remedy="give both --from and --to")
    else:
        results = _run(call, what, first, last, symbols, cash, data or ())
    found = comparing.compare(results)
    tables = comparing.comparison_tables(found)
    if markdown is not None:
        write_file(markdown, _as_markdown(found, tables), "--markdown")
        call.output.note(f"The comparison is in {markdown}")
    if html is not None:
        from trading_pipeline.adapters.backtest_html import comparison_page

        sentences = [pair.sentence for pair in found.pairs]
        lines, said = comparing.comparison_lines(found), comparing.comparison_assumptions(found)
        write_file(html, comparison_page(" and ".join(found.results), sentences, lines, tables, said), "--html")
        call.output.note(f"The comparison is in {html}")
    call.output.answer(_as_json(found), lambda: _show(call, found, tables))


def _stored(call: Invocation, names: Sequence[str]) -> "dict[str, BacktestResult]":
    from trading_pipeline.bootstrap import open_backtests
    from trading_pipeline.service.backtests.results import result_of

    found = {}
    with open_backtests(call.made()) as databases:
        for name in names:
            stored = databases.get(name)
            with databases.reading(stored) as ledger:
                found[stored.name] = result_of(ledger, marks=stored.marks, assumptions=stored.assumptions)
    return found


def _run(
    call: Invocation, strategies: Sequence[str], first: str, last: str, symbols: str | None, cash: str | None, data: Sequence[Path],
) -> "dict[str, BacktestResult]":
    from trading_pipeline.bootstrap_backtests import open_bench
    from trading_pipeline.service.backtests.engines import run
    from trading_pipeline.service.backtests.results import result_of_backtest

    together = plan_of(call, strategies, date_of(first, "--from"), date_of(last, "--to"), symbols, "cassette", cash)
    plans = {spec.name: replace(together, strategies=(spec,)) for spec in together.strategies}
    alike: dict[Hashable, list[str]] = {}
    for name, plan in plans.items():
        alike.setdefault(_needs(plan), []).append(name)
    found, folders = {}, [folder.expanduser() for folder in data]
    with call.output.progress("strategies", len(plans)) as advance:
        for names in alike.values():
            with open_bench(call.settings(), plans[names[0]], data=folders) as bench:
                for name in names:
                    found[name] = result_of_backtest(bench, run(bench, plans[name]))
                    advance()
    return {name: found[name] for name in plans}


def _needs(plan: "BacktestPlan") -> Hashable:
    """Equal for plans, over the same sessions, whose benches are the same to the last sentence: reading bars takes longer than running."""
    from trading_pipeline.backtest_bars import places_of
    from trading_pipeline.service.backtests.engines import asks_models

    return tuple(places_of(plan)), asks_models(plan)


def _show(call: Invocation, found: "Comparison", tables: "Sequence[ReportTable]") -> None:
    out = call.output
    for pair in found.pairs:
        out.line(pair.sentence)
    figures, pairs = tables
    out.heading(figures.title)
    columns = [Column(title, right=bool(place)) for place, title in enumerate(figures.columns)]
    out.table(columns, [[cell.text for cell in row] for row in figures.rows])
    if len(found.pairs) > 1:
        out.heading(pairs.title)
        columns = [Column(title, wrap=title in ("FIRST", "SECOND")) for title in pairs.columns]
        out.table(columns, [[cell.text for cell in row] for row in pairs.rows])
    out.line(pairs.note, style="dim")


def _as_json(found: "Comparison") -> dict[str, Any]:
    from trading_pipeline.service.reports.report_tables import as_json

    return {
        "figures": as_json(found.figures), "note": found.note,
        "pairs": [as_json(pair) | {"told_apart": pair.difference.told_apart, "sentence": pair.sentence} for pair in found.pairs],
    }


def _as_markdown(found: "Comparison", tables: "Sequence[ReportTable]") -> str:
    from trading_pipeline.service.backtests.comparing import comparison_assumptions
    from trading_pipeline.service.backtests.report_markdown import plain, table_of

    parts = [plain(pair.sentence) for pair in found.pairs]
    for table in tables:
        parts += [f"## {table.title}", table_of(table), plain(table.note)]
    parts += ["## Assumptions", "\n".join(f"- {plain(each)}" for each in comparison_assumptions(found))]
    return "\n\n".join(filter(None, parts)) + "\n"
