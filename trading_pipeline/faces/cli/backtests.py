"""`trading backtest`: a strategy over sessions that are history; `trading backtests`: those that are stored.

What is run is stored beside the home's ledger, under a name that follows from the plan, and read by every command that takes
`--backtest NAME`. The rules stand in `service.backtests`; imported here is what a run needs, because the whole process is timed.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipeline.errors import InputError, PermissionRequired, UnknownName
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column, counted, gain, money, new_york

if TYPE_CHECKING:
    from trading_pipeline.adapters.ledger.backtests import Stored
    from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult
    from trading_pipeline.domain.strategies import StrategySpec
    from trading_pipeline.service.backtests.bench import Bench
    from trading_pipeline.service.backtests.engines import Backtest

app = typer.Typer(help="Backtests that are stored.", no_args_is_help=True)

PROVIDERS = {
    "rules": "the rules agent decides, also for strategies that ask a model",
    "cassette": "models answer from recordings alone",
    "record": "models are asked where there is no recording, which costs money",
}
ENGINES = ("auto", "stepped", "columnar")

StrategyArgument = Annotated[list[str], typer.Argument(metavar="STRATEGY...", help="Strategies of the home by name, or files as TOML.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The backtest's name, or a beginning of it.")]
FromOption = Annotated[str, typer.Option("--from", metavar="DATE", help="The first session, such as 2024-01-02.")]
ToOption = Annotated[str, typer.Option("--to", metavar="DATE", help="The last session.")]
SymbolsOption = Annotated[str | None, typer.Option("--symbols", metavar="A,B", help="These instead of the strategy's own.")]
ProviderOption = Annotated[str, typer.Option("--provider", help="; ".join(f"{name}: {told}" for name, told in PROVIDERS.items()) + ".")]
CashOption = Annotated[str | None, typer.Option("--cash", metavar="USD", help="What the account begins with; else as the paper account.")]
DataOption = Annotated[
    list[Path] | None,
    typer.Option("--data", metavar="DIR", help="A folder of bars files instead of the home's market; may be repeated, the first has it."),
]
EngineOption = Annotated[str, typer.Option("--engine", help="auto: columnar where it can, which is fast; stepped; columnar.")]
NamedOption = Annotated[str | None, typer.Option("--name", help="Store it under this name.")]
NoStoreOption = Annotated[bool, typer.Option("--no-store", help="Print the figures and keep nothing.")]
AgainOption = Annotated[bool, typer.Option("--again", help="Compute it again, also where it is stored already.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(root: typer.Typer, panel: str) -> None:
    """Add the commands."""
    command(root, "backtest", panel=panel)(backtest)
    root.add_typer(app, name="backtests", rich_help_panel=panel)


def backtest(
    call: Invocation, strategies: StrategyArgument, first: FromOption, last: ToOption, symbols: SymbolsOption = None,
    provider: ProviderOption = "cassette", cash: CashOption = None, data: DataOption = None, engine: EngineOption = "auto",
    name: NamedOption = None, no_store: NoStoreOption = False, again: AgainOption = False, yes: YesOption = False,
) -> None:
    """Trade history by the rules that trade live, on a paper account of its own, and keep every fact."""
    _known("provider", provider, PROVIDERS)
    _known("engine", engine, ENGINES)
    plan = plan_of(call, strategies, date_of(first, "--from"), date_of(last, "--to"), symbols, provider, cash)
    if provider == "record" and not call.confirm("Models are asked where there is no recording, and that costs money. Go on?", yes=yes):
        call.output.note("Nothing was run.")
        raise typer.Exit(1)
    folders = [folder.expanduser() for folder in data or ()]
    from trading_pipeline.bootstrap_backtests import open_bench
    from trading_pipeline.service.backtests.results import result_of_backtest

    settings = call.settings()
    with ExitStack() as stack, open_bench(settings, plan, data=folders) as bench:
        if no_store:
            done, stored_as = _run(call, bench, plan, engine), None
        else:
            done, stored_as = _run_stored(call, stack, bench, plan, engine, plan.name if name is None else name, folders, again=again)
        result = result_of_backtest(bench, done)
        facts = done.ledger.head()[0]
    figures = _figures(result)
    told = {
        "name": stored_as, "strategies": [spec.name for spec in plan.strategies], "first": plan.first, "last": plan.last,
        "engine": done.engine.value, "engine_why": done.why, "facts": facts, "figures": figures, "assumptions": list(result.assumptions),
    }
    call.output.answer(told, lambda: _show(call, plan, result, figures))
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

    call.output.answer(stored.as_json() | {"figures": figures}, text)


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


# What is to be run


def plan_of(
    call: Invocation, strategies: Sequence[str], first: date, last: date, symbols: str | None, provider: str, cash: str | None,
) -> "BacktestPlan":
    """What the options of a command ask for, with the costs and limits of the home's settings."""
    from trading_pipeline.bootstrap_backtests import home_plan
    from trading_pipeline.domain.backtests import Replies

    settings = call.settings()
    specs = [_shaped(spec, symbols, provider) for spec in _specs(call, strategies)]
    replies = Replies.RECORD if provider == "record" else Replies.CASSETTE
    return home_plan(settings, specs, first, last, cash=None if cash is None else _usd(cash), replies=replies)


def _specs(call: Invocation, strategies: Sequence[str]) -> "list[StrategySpec]":
    """Files are read, names looked up in the home."""
    from trading_pipeline.adapters.strategy_files import read_strategy

    files = {each: Path(each).expanduser() for each in strategies}
    of_home = [each for each, file in files.items() if file.suffix != ".toml" and not file.is_file()]
    known = _of_home(call, of_home) if of_home else {}
    specs = [known[each] if each in known else read_strategy(files[each]) for each in strategies]
    twice = sorted({spec.name for spec in specs if [other.name for other in specs].count(spec.name) > 1})
    if twice:
        raise InputError(
            f"Two strategies are called {twice[0]}.", value=twice[0], rule="strategies of one account have names of their own",
            remedy="leave one out, or rename it",
        )
    return specs


def _of_home(call: Invocation, names: Sequence[str]) -> "dict[str, StrategySpec]":
    """Of the home, else of the package."""
    from trading_pipeline.bootstrap import open_record
    from trading_pipeline.current_home import made_at
    from trading_pipeline.homes import packaged_strategies
    from trading_pipeline.service.steps import spec_of

    settings, known = call.settings(), {spec.name: spec for spec in packaged_strategies()}
    if settings.database_url is not None or made_at(call.home) is not None:
        call.say_home()
        with open_record(settings) as record:
            known |= {row["name"]: spec_of(row) for row in record.ledger.find("strategies")}
    for name in names:
        if name not in known:
            raise UnknownName(
                f"There is no strategy {name!r}, and no such file.", value=name,
                rule=f"a strategy is one of the home or of the package, or a file as TOML; the home {call.home} has"
                f" {', '.join(sorted(known))}",
                remedy="name one of those, or give the path of a file",
            )
    return {name: known[name] for name in names}


def _shaped(spec: "StrategySpec", symbols: str | None, provider: str) -> "StrategySpec":
    """With the symbols and the agent that were asked for."""
    from trading_pipeline.domain.bars import SYMBOL
    from trading_pipeline.domain.strategies import AnalyzerAgent, ModelAgent

    if symbols is not None:
        chosen = tuple(dict.fromkeys(each.strip().upper() for each in symbols.split(",") if each.strip()))
        wrong = [each for each in chosen if not SYMBOL.fullmatch(each)]
        if wrong or not chosen:
            raise InputError(
                f"{(wrong or [symbols])[0]!r} is no symbol.", value=symbols, rule="symbols are separated by commas, as AAPL,BRK.B",
                remedy="correct --symbols",
            )
        spec = replace(spec, symbols=chosen)
    if provider == "rules" and isinstance(spec.agent, ModelAgent):
        spec = replace(spec, agent=AnalyzerAgent())
    return spec


def _known(what: str, given: str, choices: Sequence[str] | dict[str, str]) -> None:
    if given not in choices:
        raise InputError(
            f"There is no {what} {given!r}.", value=given, rule=f"one of {', '.join(choices)}", remedy=f"correct --{what}",
        )


def date_of(text: str, option: str) -> date:
    """A date as it is written in ISO 8601; InputError names the option."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is no date.", value=text, rule="a date is written 2024-01-02", remedy=f"correct {option}") from None


def _usd(text: str) -> Decimal:
    try:
        amount = Decimal(text.replace("$", "").replace(",", "").replace("_", ""))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0:
        raise InputError(f"{text!r} is no account.", value=text, rule="an account begins with USD above zero", remedy="correct --cash")
    return amount


# Running


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
        call.output.note("It is stored already, of the same bars and version; compute it again with --again.")
        ledger = stack.enter_context(databases.reading(stored))
        return Backtest(stored.plan, ledger, Engine(stored.engine), stored.why, stored.assumptions), name
    with databases.writing(name) as writer, call.output.progress("sessions", len(sessions_of(bench.calendar, plan))) as advance:
        done = run_stored(bench, plan, writer, engine=engine, progress=lambda _done, _of, _session: advance(), data=folders)
    if writer.replaced:
        why = "had come of other bars, recordings or another version"
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


# What is shown


def _figures(result: "BacktestResult") -> dict[str, Any]:
    """The performance as JSON values."""
    from trading_pipeline.domain.performance import performance_of

    return asdict(performance_of(result))


def _show(call: Invocation, plan: "BacktestPlan", result: "BacktestResult", figures: dict[str, Any]) -> None:
    from trading_pipeline.domain.performance import DEFINITIONS
    from trading_pipeline.domain.performance.report import written

    out = call.output
    names = ", ".join(spec.name for spec in plan.strategies)
    symbols = ", ".join(plan.symbols[:8]) + (f" and {len(plan.symbols) - 8} more" if len(plan.symbols) > 8 else "")
    sessions = f"{result.sessions[0]} to {result.sessions[-1]}, {counted(len(result.sessions), 'session')}"
    out.line(f"{names} on {plan.interval} bars of {symbols}, {sessions}.")
    out.pairs({"equity": money(Decimal(str(round(figures["equity"], 2)))), "made": gain(Decimal(str(round(figures["profit"], 2))))})
    flat = {**figures, **figures["trades"]} if isinstance(figures["trades"], dict) else figures
    shown = [each for each in DEFINITIONS if each.name in flat and not isinstance(flat[each.name], dict)]
    out.table(
        [Column("FIGURE"), Column("VALUE", right=True), Column("", wrap=True)],
        [[each.title, (cell := written(each, flat[each.name])).text, cell.note] for each in shown],
    )
    for sentence in result.assumptions:
        out.line(f"- {sentence}", style="dim")
