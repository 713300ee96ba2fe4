"""`python -m trading_pipeline.demo`: what `trading demo` and `make demo` run."""

import argparse
import os
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from trading_pipeline.errors import InputError, TradingError
from trading_pipeline.faces.cli.output import Output, in_new_york

if TYPE_CHECKING:
    from trading_pipeline.demo.plan import Play


class _Parser(argparse.ArgumentParser):
    """Complains as every command does."""

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split())
        raise InputError(f"{message[:1].upper()}{message[1:]}.", rule=usage, remedy="see trading demo --help")


def main(arguments: list[str]) -> int:
    """Play the demo; the exit code tells."""
    output = Output(as_json="--json" in arguments)
    try:
        options = _parse(arguments)
        return _play(options, _console(options.json))
    except TradingError as error:
        output.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _console(as_json: bool) -> Console:
    """Standard output, or error when that is for the RESULT line, by a descriptor of its own: runs redirect theirs to their logs."""
    stream = sys.stderr if as_json else sys.stdout
    own = os.fdopen(os.dup(stream.fileno()), "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
    return Console(file=own, stderr=as_json, highlight=False)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="trading demo", description="Trade real history from end to end, in the environment demo.", allow_abbrev=False)
    parser.add_argument("--home", type=Path, default=Path(".trading/demo"), help="where it lives; an earlier demo there is moved aside")
    parser.add_argument("--bars", type=Path, metavar="DIR", help="a folder of your own CSV or Parquet bars instead of the samples")
    parser.add_argument("--from", dest="first", type=_date, metavar="DATE", help="first session (samples: 2012-10-15)")
    parser.add_argument("--sessions", type=_count, metavar="N", help="how many sessions (20 daily, 1 intraday)")
    parser.add_argument("--closes", type=_count, default=30, metavar="N", help="of intraday bars: closes traded a session (30)")
    parser.add_argument("--json", action="store_true", help="print nothing but the RESULT line to standard output")
    return parser.parse_args(arguments)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2012-10-15") from None


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _play(options: argparse.Namespace, console: Console) -> int:
    began = time.monotonic()
    home: Path = options.home.expanduser().absolute()
    os.environ["TRADING_HOME"] = str(home)

    from trading_pipeline import homes
    from trading_pipeline.adapters.calendar import load_calendar
    from trading_pipeline.adapters.dagster_home import render
    from trading_pipeline.adapters.home_lock import held, require_unused
    from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
    from trading_pipeline.demo.plan import plan
    from trading_pipeline.ports import Home
    from trading_pipeline.settings import Environment

    def say(sentence: str) -> None:
        console.print(Text(in_new_york(sentence, said=False)))

    require_unused(home)
    # Everything is read and checked before the earlier home is touched.
    calendar = load_calendar(home / "cache" if home.is_dir() else None)
    market = homes.read_folder(options.bars, calendar, say) if options.bars is not None else None
    stage = homes.stage_folder(market, say, options.first) if market is not None else homes.stage_samples(calendar)
    play = plan(stage, calendar, options.first, options.sessions)
    with held(home, "trading demo") as lock:
        homes.move_aside(home, say)
        lock.move_on()
        homes.furnish(home, stage, Environment.DEMO, market)
        say(_announced(play, options.closes))
        server = EmbeddedPostgres.start(Home(home).database)
        try:
            os.environ.update(render(home, os.environ).environment())
            return _trade(home, play, options.closes, console, began)
        finally:
            server.leave()


def _announced(play: "Play", most_closes: int) -> str:
    many = f"{len(play.sessions)} sessions, {play.sessions[0].day} to {play.sessions[-1].day}"
    what = many if len(play.sessions) > 1 else f"the session of {play.sessions[0].day}"
    closes = "" if play.stage.interval.daily else f", the first {most_closes} closes of each"
    return (
        f"Playing {what}, on {play.stage.interval} bars of {', '.join(play.stage.symbols[:12])}{closes}. "
        "The demo plays the person too: it approves, rejects and lets expire."
    )


def _trade(home: Path, play: "Play", most_closes: int, console: Console, began: float) -> int:
    from trading_pipeline import homes
    from trading_pipeline.adapters.clocks import SteppedClock
    from trading_pipeline.bootstrap import open_desk
    from trading_pipeline.demo import summary
    from trading_pipeline.demo.floor import Floor
    from trading_pipeline.service import approvals, controls
    from trading_pipeline.service.record.verification import verify
    from trading_pipeline.settings import Settings

    clock = SteppedClock(play.sessions[0].open - timedelta(minutes=1))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with open_desk(Settings.load(home), clock) as desk:
        for spec in homes.packaged_strategies(play.stage):
            controls.create(desk, spec, actor=approvals.DEMO_PERSON)
            controls.start(desk, spec.name, actor=approvals.DEMO_PERSON)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("closes", total=None)

            def progress(done: int, many: int, what: str) -> None:
                bar.update(task, completed=done, total=many, description=what)
                if not console.is_terminal and done % 5 == 0:
                    console.print(f"{done} of {many} closes: {what}")

            played = Floor(desk, clock).trade(play.sessions, most_closes, progress)
        homes.leave_replay(home, play.stage, desk.calendar, play.sessions[-1].day)
        report = verify(desk.ledger)
        figures = summary.figures_of(desk, played, play.sessions, report, time.monotonic() - began)
        if not console.stderr:
            summary.show(console, desk, figures, home)
    for failure in played.failed:
        console.print(Text(f"failed run: {failure}", style="red"))
    sys.stdout.write(summary.result_line(figures) + "\n")
    return 1 if played.failed or not report.ok else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
