"""`trading run`, `up`, `desk`, `demo`: what is due once, all of it until Ctrl-C, the broker's side of it alone, the demonstration."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from trading_pipeline.errors import InputError
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column, counted, gain, in_new_york, money, new_york

if TYPE_CHECKING:
    from trading_pipeline.service.desk import Desk
    from trading_pipeline.service.steps import StepResult


def register(app: typer.Typer, panel: str) -> None:
    """Add the commands."""
    command(app, "demo", panel=panel, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(demo)
    command(app, "up", panel=panel)(up)
    command(app, "run", panel=panel)(run)
    command(app, "desk", panel=panel)(desk)


def run(call: Invocation) -> None:
    """Do once what is due now: cycles of closed bars, releases, expiries, news of orders, the close of a session."""
    from trading_pipeline.service.closing import close_session, overdue_closes, sessions_to_close

    cycles: list[dict[str, Any]] = []
    with call.desk() as desk, call.output.working("Running what is due"):
        now = desk.now()
        late = [close_session(desk, session) for session in overdue_closes(desk)]
        for name, missed, results in _due(desk):
            cycles.append({"cycle": name, "missed_before": missed, "steps": [asdict(result) for result in results]})
        reports = late + [close_session(desk, session) for session in sessions_to_close(desk)]
        world = desk.world.value
    data = {"now": now.isoformat(), "market": world, "cycles": cycles, "sessions_closed": reports}
    call.output.answer(data, lambda: _show(call, data))


def _due(desk: "Desk") -> "Iterator[tuple[str, int, list[StepResult]]]":
    """Everything due at this instant, each with the closes missed before it and its steps."""
    from trading_pipeline.domain.cycles import follow_up
    from trading_pipeline.service import approvals
    from trading_pipeline.service.cycle import run_cycle, run_follow_up
    from trading_pipeline.service.settlement import news
    from trading_pipeline.service.timetable import due_cycles, record_missed

    due = approvals.due(desk)
    approvals.expire(desk, due.overdue)
    if due.released or news(desk):
        turn = follow_up(due.released, desk.today(), desk.now(), "release" if due.released else "orders")
        yield turn.cycle_id, 0, run_follow_up(desk, turn)
    for cycle in due_cycles(desk):
        missed = record_missed(desk, cycle)
        yield cycle.cycle_id, missed, run_cycle(desk, cycle)


def up(
    call: Invocation,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Of Dagster's page; else webserver_port.")] = None,
    bars: Annotated[Path | None, typer.Option("--bars", help="Replay a folder of your own bars, in a home of its own.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="Where a replay begins: 2024-08-28, or 2024-08-28T09:30 in New York.")] = None,
    speed: Annotated[float | None, typer.Option("--speed", min=0.001, help="Market seconds a real second, intraday bars.")] = None,
    session_seconds: Annotated[float | None, typer.Option("--session-seconds", min=1, help="Real seconds a session, daily bars.")] = None,
    strategy: Annotated[list[Path] | None, typer.Option("--strategy", help="With --bars: a strategy file, else the packaged two.")] = None,
) -> None:
    """Run the pipeline until Ctrl-C: Dagster's page, its schedules and sensors, on the paper broker."""
    from trading_pipeline.adapters.home_lock import held, require_unused
    from trading_pipeline.adapters.processes import require_free_port
    from trading_pipeline.bootstrap import open_desk
    from trading_pipeline.current_home import current_home
    from trading_pipeline.faces.cli.replay import REPLAY_HOME, Wish, plan, replaying
    from trading_pipeline.faces.cli.up import up as run_until_stopped
    from trading_pipeline.faces.cli.watching import watching
    from trading_pipeline.settings import MODEL_KEYS, Settings

    home = call.home if bars is None or call.home_given else REPLAY_HOME.absolute()
    wish = Wish(bars, at, speed, session_seconds, tuple(strategy or ()), current_home() if call.home_given else call.home)
    if bars is None and strategy:
        raise InputError(
            "--strategy goes with --bars.", value=str(strategy[0]), rule="a home that exists has its strategies in its ledger",
            remedy="create it with `trading strategy create FILE`",
        )
    require_unused(home)
    port = port or Settings.load(home).webserver_port
    require_free_port(port)
    planned = plan(home, wish, call.output.note)
    with held(home, f"trading up at http://127.0.0.1:{port}") as lock, replaying(planned, lock, call.output.note) as keep:
        settings = Settings.load(home)
        own = settings.dagster_database_url
        variables = {"TRADING_HOME": str(home), "TRADING_LAUNCHER": settings.launcher.value}
        if own:
            variables["TRADING_DAGSTER_DATABASE_URL"] = own.get_secret_value()
        run_until_stopped(
            home, port, lock, say=call.output.note, embedded=settings.database_url is None,
            run_variables=(*MODEL_KEYS, *settings.run_variables),
            environment=variables, keep=keep, desk=[sys.executable, "-P", "-m", "trading_pipeline.faces.cli", "--home", str(home), "desk"],
            watch=lambda page: watching(page, settings, lambda: open_desk(settings), call.output.note),
        )


def desk(call: Invocation) -> None:
    """Hold the account until Ctrl-C: orders, fills, stops and reconciliation. `trading up` runs one; a second one waits for it."""
    from trading_pipeline.service.desk_process import attend

    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: asked.set())
    with call.desk() as held:
        attend(held, asked.is_set, call.output.note)


def demo(
    call: Invocation,
    options: Annotated[list[str] | None, typer.Argument(help="--bars DIR, --from DATE, --sessions N.", metavar="[DEMO OPTION]")] = None,
) -> None:
    """Trade real history from end to end, in a home of its own."""
    given = [*(["--home", str(call.home)] if call.home_given else []), *(["--json"] if call.output.as_json else []), *(options or [])]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "trading_pipeline.demo", *given])


def _show(call: Invocation, data: dict[str, Any]) -> None:
    out = call.output
    replay = Text(" REPLAY ", "bold black on yellow") if data["market"] == "replay" else Text(data["market"])
    out.line(replay, f"  {new_york(data['now'])} New York")
    if not data["cycles"] and not data["sessions_closed"]:
        out.line("Nothing is due now.")
    for cycle in data["cycles"]:
        out.heading(f"Cycle {in_new_york(cycle['cycle'])}")
        if cycle["missed_before"]:
            out.line(Text(f"Missed before it, and recorded so: {counted(cycle['missed_before'], 'close')}.", "yellow"))
        rows = []
        for step in cycle["steps"]:
            counts = ", ".join(f"{many:,} {what.replace('_', ' ')}" for what, many in step["counts"].items() if many)
            did = "done before" if step["replayed"] else counts or "-"
            rows.append([step["step"].replace("_", " "), did, in_new_york("; ".join(step["notes"][:5]))])
        out.table([Column("STEP"), Column("DID", wrap=True), Column("NOTES", wrap=True)], rows)
    for report in data["sessions_closed"]:
        out.heading(f"Session {report['session']} closed{' early' if report['early_close'] else ''}")
        out.pairs({
            "equity": Text.assemble(money(report["equity"]), "  day ", gain(report["day_pnl"])), "cash": money(report["cash"]),
            "fills": report["fills"],
        })
