"""`trading up`, `desk`, `demo`: all of it until Ctrl-C, the broker's side of it alone, the demonstration. `run` stands in `rounds`."""

import gc
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from trading_pipeline.errors import InputError
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.rounds import run


def register(app: typer.Typer, panel: str) -> None:
    """Add the commands."""
    command(app, "demo", panel=panel, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(demo)
    command(app, "up", panel=panel)(up)
    command(app, "run", panel=panel)(run)
    command(app, "desk", panel=panel)(desk)


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
    from trading_pipeline.service.submitter.desk_process import attend

    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: asked.set())
    with call.desk() as held:
        # It runs for weeks: what it holds now it keeps, and what it leaves from here on is not left lying.
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        attend(held, asked.is_set, call.output.note)


def demo(
    call: Invocation,
    options: Annotated[list[str] | None, typer.Argument(help="--bars DIR, --from DATE, --sessions N.", metavar="[DEMO OPTION]")] = None,
) -> None:
    """Trade real history from end to end, in a home of its own."""
    given = [*(["--home", str(call.home)] if call.home_given else []), *(["--json"] if call.output.as_json else []), *(options or [])]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "trading_pipeline.demo", *given])
