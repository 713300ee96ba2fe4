"""`trading backtest`: a strategy over sessions that are history; `trading backtests`: those that are stored.

What is run is stored beside the home's ledger, under a name that follows from the plan, and read by every command that takes
`--backtest NAME`. The rules stand in `service.backtests`; imported here is what a run needs, because the whole process is timed.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipeline.errors import InputError, PermissionRequired
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
from trading_pipeline.faces.cli.output import Column, counted, gain, money, new_york

if TYPE_CHECKING:
    from trading_pipeline.adapters.ledger.backtests import Stored
    from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult
    from trading_pipeline.service.backtests.bench import Bench
    from trading_pipeline.service.backtests.engines import Backtest

app = typer.Typer(help="Backtests that are stored.", no_args_is_help=True)

PROVIDERS = {
    "rules": "the rules agent decides, also for strategies that ask a model",
    "cassette": "models answer from recordings alone",
    "record": "models are asked where there is no recording, which costs money",
}
NOT_JUDGED = "NOT VALIDATED: nothing here tells skill from luck; `trading validate` does, and so does --html."
"""A backtest's figures alone are no evidence, and judging them takes longer than running it."""
ENGINES = ("auto", "stepped", "columnar")

StrategyArgument = Annotated[list[str], typer.Argument(metavar="STRATEGY...", help="Strategies of the home by name, or files as TOML.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The backtest's name, or a beginning of it.")]
ProviderOption = Annotated[str, typer.Option("--provider", help="; ".join(f"{name}: {told}" for name, told in PROVIDERS.items()) + ".")]
EngineOption = Annotated[str, typer.Option("--engine", help="auto: columnar where it can, which is fast; stepped; columnar.")]
NamedOption = Annotated[str | None, typer.Option("--name", help="Store it under this name.")]
NoStoreOption = Annotated[bool, typer.Option("--no-store", help="Print the figures and keep nothing.")]
AgainOption = Annotated[bool, typer.Option("--again", help="Compute it again, also where it is stored already.")]
HtmlOption = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the whole report, validated and with plots, into this file.", dir_okay=False),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(root: typer.Typer, panel: str) -> None:
    """Add the commands."""
    command(root, "backtest", panel=panel)(backtest)
    root.add_typer(app, name="backtests", rich_help_panel=panel)


def backtest(
    call: Invocation, strategies: StrategyArgument, first: FromOption, last: ToOption, symbols: SymbolsOption = None,
    provider: ProviderOption = "cassette", cash: CashOption = None, data: DataOption = None, engine: EngineOption = "auto",
    name: NamedOption = None, no_store: NoStoreOption = False, again: AgainOption = False, html: HtmlOption = None, yes: YesOption = False,
) -> None:
    """Trade history by the rules that trade live, on a paper account of its own, and keep every fact."""
    _known("provider", provider, PROVIDERS)
    _known("engine", engine, ENGINES)
    require_writable(html, "--html")
    plan = plan_of(call, strategies, date_of(first, "--from"), date_of(last, "--to"), symbols, provider, cash)
    if provider == "record" and not call.confirm("Models are asked where there is no recording, and that costs money. Go on?", yes=yes):
        call.output.note("Nothing was run.")
        raise typer.Exit(1)
    folders = [folder.expanduser() for folder in data or ()]
    from trading_pipeline.bootstrap_backtests import open_bench
    from trading_pipeline.service.backtests.results import result_of_backtest

    settings, judged = call.settings(), ""
    with ExitStack() as stack, open_bench(settings, plan, data=folders) as bench:
        if no_store:
            done, stored_as = _run(call, bench, plan, engine), None
        else:
            done, stored_as = _run_stored(call, stack, bench, plan, engine, plan.name if name is None else name, folders, again=again)
        result = result_of_backtest(bench, done)
        facts = done.ledger.count()
        if html is not None:
            from trading_pipeline.service.backtests.report import command_of

            command = command_of(
                strategies, first, last, symbols=symbols, provider=provider, cash=None if cash is None else plan.cash, folders=folders,
                engine=engine,
            )
            judged = _write_report(call, html, bench, plan, result, command, stored_as or "")
    figures = _figures(result)
    told = {
        "name": stored_as, "strategies": [spec.name for spec in plan.strategies], "first": plan.first, "last": plan.last,
        "engine": done.engine.value, "engine_why": done.why, "facts": facts, "headline": judged or NOT_JUDGED,
        "figures": figures, "decisions": dict(result.decisions), "denials": dict(result.denials), "assumptions": list(result.assumptions),
    }
    call.output.answer(told, lambda: _show(call, plan, result, figures, judged or NOT_JUDGED))
    call.output.note(f"{facts:,} facts by the {done.engine.value} engine ({done.why}).", style="dim")
    if stored_as is not None:
        call.output.note(f"Stored as {stored_as}. Look at it with: trading status --backtest {stored_as}, or orders, events, why, verify")


@command(app, "list")
def list_(call: Invocation) -> None:
    """All that are stored, the newest first."""
    from trading_pipeline.bootstrap import open_backtests

    with open_backtests(call.made()) as databases:
        found = databases.all()
    columns = [
        Column("NAME"), Column("STRATEGIES", wrap=True), Column("FROM"), Column("TO"), Column("SESSIONS", right=True),
        Column("BARS", spare=2), Column("ENGINE", spare=3), Column("STORED (NEW YORK)", spare=1),
    ]
    rows = [
        [
            each.name, ", ".join(spec.name for spec in each.plan.strategies), str(each.plan.first), str(each.plan.last),
            f"{each.sessions:,}" + ("" if each.complete else ", unfinished"), str(each.plan.interval), each.engine,
            new_york(each.stored_at)[:16],
        ]
        for each in found
    ]
    empty = "None is stored. Run one with: trading backtest STRATEGY --from DATE --to DATE"
    call.output.answer([each.as_json() for each in found], lambda: call.output.table(columns, rows, empty=empty))


@command(app, "show")
def show(call: Invocation, name: NameArgument) -> None:
    """The figures of one, and what they rest on."""
    from trading_pipeline.bootstrap import open_backtests
    from trading_pipeline.service.backtests.results import result_of

    with open_backtests(call.made()) as databases:
        stored = databases.get(name)
        with databases.reading(stored) as ledger:
            result = result_of(ledger, marks=stored.marks, assumptions=stored.assumptions)
    figures = _figures(result)

    def text() -> None:
        _show(call, stored.plan, result, figures)
        if not stored.complete:
            call.output.line("Its run did not come to the end: run it again, and it goes on.", style="yellow")

    call.output.answer(stored.as_json() | {"headline": NOT_JUDGED, "figures": figures}, text)


@command(app, "rm")
def rm(call: Invocation, name: NameArgument, yes: YesOption = False) -> None:
    """Delete one."""
    from trading_pipeline.bootstrap import open_backtests

    with open_backtests(call.made()) as databases:
        stored = databases.get(name)
        if not call.confirm(f"Delete the backtest {stored.name}?", yes=yes):
            call.output.note("Nothing was deleted.")
            raise typer.Exit(1)
        databases.remove(stored.name)
    call.output.answer({"deleted": stored.name}, lambda: call.output.line(f"{stored.name} is deleted."))


# Running


def _known(what: str, given: str, choices: Sequence[str] | dict[str, str]) -> None:
    if given not in choices:
        raise InputError(
            f"There is no {what} {given!r}.", value=given, rule=f"one of {', '.join(choices)}", remedy=f"correct --{what}",
        )


def _run(call: Invocation, bench: "Bench", plan: "BacktestPlan", engine: str) -> "Backtest":
    from trading_pipeline.service.backtests.bench import sessions_of
    from trading_pipeline.service.backtests.engines import run

    with call.output.progress("sessions", len(sessions_of(bench.calendar, plan))) as advance:
        return run(bench, plan, engine=engine, progress=lambda _done, _of, _session: advance())


def _run_stored(
    call: Invocation, stack: ExitStack, bench: "Bench", plan: "BacktestPlan", engine: str, name: str, folders: Sequence[Path], *,
    again: bool,
) -> "tuple[Backtest, str]":
    """Run it into the store, or open what is stored already; the store stays open with the stack."""
    from trading_pipeline.bootstrap import open_backtests
    from trading_pipeline.service.backtests.bench import sessions_of
    from trading_pipeline.service.backtests.engines import Backtest, Engine
    from trading_pipeline.stored_backtests import is_done, run_stored

    databases = stack.enter_context(open_backtests(call.settings()))
    stored = databases.find(name)
    _check_name(name, plan, stored, again=again)
    if not again and is_done(stored, bench, plan, engine):
        assert stored is not None
        call.output.note("It is stored already, of the same bars and code; compute it again with --again.")
        ledger = stack.enter_context(databases.reading(stored))
        return Backtest(stored.plan, ledger, Engine(stored.engine), stored.why, stored.assumptions), name
    try:
        with databases.writing(name) as writer, call.output.progress("sessions", len(sessions_of(bench.calendar, plan))) as advance:
            done = run_stored(bench, plan, writer, engine=engine, progress=lambda _done, _of, _session: advance(), data=folders)
    except KeyboardInterrupt:
        call.output.note("Stopped. What is stored of it stays: run it again, and it goes on.")
        raise
    if writer.replaced:
        why = "had come of other bars, recordings or other code"
        call.output.note(f"What was stored as {name} {why}, and is replaced.", style="yellow")
    return done, name


def _check_name(name: str, plan: "BacktestPlan", stored: "Stored | None", *, again: bool) -> None:
    """A name of one's own is not taken away from another plan."""
    if stored is not None and stored.plan != plan and not again:
        raise PermissionRequired(
            f"{name} is another backtest: {', '.join(spec.name for spec in stored.plan.strategies)} from {stored.plan.first} to"
            f" {stored.plan.last}.", value=name, rule="a stored backtest is replaced on purpose only",
            remedy="choose another --name, or add --again to replace it",
        )


def _write_report(
    call: Invocation, path: Path, bench: "Bench", plan: "BacktestPlan", result: "BacktestResult", command: str, name: str,
) -> str:
    """Write the page; returns its verdict."""
    from trading_pipeline.adapters.backtest_html import page
    from trading_pipeline.bootstrap_backtests import prices_of
    from trading_pipeline.service.backtests.validating import judged_report

    report = judged_report(
        bench, plan, result, command=command, made_at=datetime.now(UTC), prices=prices_of(call.settings(), plan), name=name,
    )
    write_file(path, page(report), "--html")
    call.output.note(f"The report is in {path}")
    return report.headline


# What is shown


def _figures(result: "BacktestResult") -> dict[str, Any]:
    """The performance as JSON values."""
    from trading_pipeline.domain.performance import performance_of

    return asdict(performance_of(result))


def _show(
    call: Invocation, plan: "BacktestPlan", result: "BacktestResult", figures: dict[str, Any], headline: str = NOT_JUDGED,
) -> None:
    from trading_pipeline.domain.performance import DEFINITIONS
    from trading_pipeline.domain.performance.report import written

    out = call.output
    names = ", ".join(spec.name for spec in plan.strategies)
    symbols = ", ".join(plan.symbols[:8]) + (f" and {len(plan.symbols) - 8} more" if len(plan.symbols) > 8 else "")
    sessions = f"{result.sessions[0]} to {result.sessions[-1]}, {counted(len(result.sessions), 'session')}"
    out.line(headline, style="bold yellow" if headline.startswith("NOT") else "bold green")
    out.line(f"{names} on {plan.interval} bars of {symbols}, {sessions}.")
    out.pairs({"equity": money(Decimal(str(round(figures["equity"], 2)))), "made": gain(Decimal(str(round(figures["profit"], 2))))})
    flat = {**figures, **figures["trades"]} if isinstance(figures["trades"], dict) else figures
    shown = [each for each in DEFINITIONS if each.name in flat and not isinstance(flat[each.name], dict)]
    out.table(
        [Column("FIGURE"), Column("VALUE", right=True), Column("", wrap=True)],
        [[each.title, (cell := written(each, flat[each.name])).text, cell.note] for each in shown],
    )
    counts = {"decided": result.decisions, "stopped by": result.denials}
    out.pairs({
        title: ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in found.items()) for title, found in counts.items() if found
    })
    for sentence in result.assumptions:
        out.line(f"- {sentence}", style="dim")
