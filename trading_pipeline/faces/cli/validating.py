"""`trading validate`: whether a backtest is evidence, luck, or fitted. It runs what it needs and keeps nothing."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipeline.faces.cli.backtest_plans import (
    CashOption,
    DataOption,
    FromOption,
    SymbolsOption,
    ToOption,
    date_of,
    plan_of,
    require_writable,
    write_file,
)
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column

if TYPE_CHECKING:
    from trading_pipeline.domain.backtests import BacktestPlan
    from trading_pipeline.service.backtests.validating import Search
    from trading_pipeline.service.backtests.validation_sections import Validated

StrategyArgument = Annotated[str, typer.Argument(metavar="STRATEGY", help="One of the home by name, or a file as TOML.")]
GridOption = Annotated[
    list[str] | None,
    typer.Option("--grid", metavar="SETTINGS", help='Settings to try: "agent.max_bars=30,60,90", "rsi_14 < {20..40..5}"; may be repeated.'),
]
ChosenByOption = Annotated[
    int, typer.Option("--in-sample", metavar="N", help="Walking forward: sessions that settings are chosen by.", min=5),
]
UsedForOption = Annotated[int, typer.Option("--out-of-sample", metavar="N", help="Sessions that they are then used for.", min=5)]
ProcessesOption = Annotated[int, typer.Option("--processes", metavar="N", help="How many run the grid.", min=1, max=64)]
HeatOption = Annotated[
    Path | None, typer.Option("--heat-map", metavar="FILE", help="Write the grid as a PNG into this file.", dir_okay=False),
]
LookAheadOption = Annotated[
    bool,
    typer.Option("--check-lookahead", help="Run it on other futures too: what was done before has to be the same. Eight runs more."),
]


def register(root: typer.Typer, panel: str) -> None:
    """Add the command."""
    command(root, "validate", panel=panel)(validate)


def validate(
    call: Invocation, strategy: StrategyArgument, first: FromOption, last: ToOption, grid: GridOption = None, symbols: SymbolsOption = None,
    cash: CashOption = None, data: DataOption = None, in_sample: ChosenByOption = 126, out_of_sample: UsedForOption = 42,
    processes: ProcessesOption = 2, heat_map: HeatOption = None, check_lookahead: LookAheadOption = False,
) -> None:
    """Is a backtest evidence, luck, or fitted? With a grid it tries other settings, and walks forward over them."""
    require_writable(heat_map, "--heat-map")
    plan = plan_of(call, [strategy], date_of(first, "--from"), date_of(last, "--to"), symbols, "cassette", cash)
    search = _search(plan, grid or [], in_sample, out_of_sample, processes)
    from trading_pipeline.adapters.backtest_heat_png import heat_map_png
    from trading_pipeline.bootstrap_backtests import open_bench, prices_of
    from trading_pipeline.service.backtests.engines import Engine, choose, run
    from trading_pipeline.service.backtests.results import result_of_backtest
    from trading_pipeline.service.backtests.validating import validate_backtest

    settings = call.settings()
    with ExitStack() as stack, open_bench(settings, plan, data=[folder.expanduser() for folder in data or ()]) as bench:
        engine, why = choose(bench, plan)
        if engine is Engine.STEPPED and (search is not None or check_lookahead):
            call.output.note(f"The stepped engine runs each setting and each future, which takes its time: {why}.", style="dim")
        # With its ledger, which knows where a strategy was paused; a grid does without.
        result = result_of_backtest(bench, run(bench, plan))
        count = 0 if search is None else search.runs(len(result.sessions))
        shown: list[Callable[[], None]] = []

        def advance() -> None:
            # A bar brings a thread along, and beside threads nothing is forked: it appears with the first setting that is done.
            if not shown:
                shown.append(stack.enter_context(call.output.progress("settings and windows", count)))
            shown[0]()

        draw = heat_map_png if heat_map is not None else None
        found = validate_backtest(
            bench, plan, result, search=search, prices=prices_of(settings, plan), check_look_ahead=check_lookahead, draw=draw,
            progress=advance,
        )
    if heat_map is not None:
        _write(call, heat_map, found)
    call.output.answer(_as_json(found, result.assumptions), lambda: _show(call, found, result.assumptions))


def _search(plan: "BacktestPlan", texts: list[str], in_sample: int, out_of_sample: int, processes: int) -> "Search | None":
    if not texts:
        return None
    from trading_pipeline.service.backtests.grids import grid_of
    from trading_pipeline.service.backtests.validating import Search

    return Search(grid_of(plan.strategies[0], texts), in_sample, out_of_sample, processes)


def _show(call: Invocation, found: "Validated", assumptions: Sequence[str]) -> None:
    out = call.output
    out.line(found.headline, style="bold green" if found.passed else "bold yellow")
    for table in found.tables:
        out.heading(table.title)
        columns = [Column(title, wrap=title in ("FOUND", "NEEDED", "SETTINGS")) for title in table.columns]
        out.table(columns, [[cell.text for cell in row] for row in table.rows])
        if table.note:
            out.line(table.note, style="dim")
    out.heading("Assumptions")
    for sentence in assumptions:
        out.line(f"- {sentence}", style="dim")


def _as_json(found: "Validated", assumptions: Sequence[str]) -> dict[str, Any]:
    from trading_pipeline.service.reports.report_tables import as_json

    report: dict[str, Any] = as_json(found.report)
    tables = {
        table.name: [dict(zip(table.columns, (cell.text for cell in row), strict=True)) for row in table.rows] for table in found.tables
    }
    return {"passed": found.passed, "headline": found.headline, "reasons": list(found.report.reasons)} | report | {
        "tables": tables, "assumptions": list(assumptions),
    }


def _write(call: Invocation, path: Path, found: "Validated") -> None:
    drawn = next((png for _, _, png in found.sections if png is not None), None)
    if drawn is None:
        call.output.note("There is no grid to draw: add --grid.", style="yellow")
        return
    write_file(path, drawn, "--heat-map")
    call.output.note(f"The heat map is in {path}")
