"""`trading run`: what is due, once, or round after round for a while; without Dagster, in this process.

A replay stands unless somebody keeps it: for the length of `--duration` that is this command, under the home's lock, as `trading up`
does it. The length is real time, also of a replay. Ctrl-C ends it after the round that runs; a second one at once.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from trading_pipeline.errors import InputError, LedgerError, SettingsError, StorageError, TradingError
from trading_pipeline.faces.cli.invocation import Invocation
from trading_pipeline.faces.cli.output import Column, counted, duration, gain, in_new_york, money, new_york
from trading_pipeline.faces.cli.signals import on_ending
from trading_pipeline.faces.cli.status import told_workflow

if TYPE_CHECKING:
    from trading_pipeline.domain.sessions import Session
    from trading_pipeline.service.desk import Desk
    from trading_pipeline.service.steps import StepResult

_Show = Callable[[Invocation, dict[str, Any]], None]
_Tell = Callable[[_Show, dict[str, Any]], None]
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST = 366 * _UNITS["d"]
_ROUND_SECONDS, _TICK_SECONDS = 1.0, 0.2
_AGAIN_SECONDS = 5.0
"""After a round that was refused: a source or a broker that does not answer is not asked every second."""


class RunMode(StrEnum):
    """Against whom it trades."""

    PAPER = "paper"
    LIVE = "live"
    BACKTEST = "backtest"


DurationOption = Annotated[
    str | None, typer.Option("--duration", metavar="LENGTH", help="Go on for so long, real time: 90s, 30m, 6h, 2d. Else once."),
]
ModeOption = Annotated[RunMode, typer.Option("--mode", help="paper is what there is; others are refused, and say what to do.")]


def run(call: Invocation, length: DurationOption = None, mode: ModeOption = RunMode.PAPER) -> None:
    """Do what is due now, once or for a while: cycles of closed bars, releases, expiries, news of orders, the close of a session."""
    _require_paper(mode)
    if length is not None:
        _go_on(call, seconds_of(length))
        return
    done = _Done()
    with call.desk() as desk, call.output.working("Running what is due"):
        now = desk.now()
        _round(desk, done, lambda *_: None)
        world = desk.world.value
    data = {"now": now.isoformat(), "market": world} | done.as_json()
    call.output.answer(data, lambda: _show(call, data))


def seconds_of(text: str) -> int:
    """`90s`, `30m`, `6h` or `2d` in seconds; InputError for anything else."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text.strip())
    seconds = int(found[1]) * _UNITS[found[2]] if found is not None else 0
    if not 0 < seconds <= _LONGEST:
        raise InputError(
            f"{text!r} is no length of time.", value=text, rule="a number and s, m, h or d, above zero and at most 366d",
            remedy="correct --duration, such as 90s, 30m or 6h",
        )
    return seconds


def _require_paper(mode: RunMode) -> None:
    if mode is RunMode.LIVE:
        raise SettingsError(
            "There is no live broker yet.", value=mode.value, rule="only the paper broker exists in this version",
            remedy="leave --mode out: the same strategies trade on paper",
        )
    if mode is RunMode.BACKTEST:
        raise InputError(
            "History is not run by what is due.", value=mode.value, rule="a backtest has an account and a ledger of its own",
            remedy="run `trading backtest STRATEGY --from DATE --to DATE`",
        )


# Rounds


@dataclass(slots=True)
class _Done:
    """What rounds have come to, as the answer has it."""

    cycles: list[dict[str, Any]] = field(default_factory=list)
    sessions_closed: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {"cycles": self.cycles, "sessions_closed": self.sessions_closed}


def _round(desk: "Desk", done: _Done, tell: _Tell) -> None:
    """Everything that is due at this instant; each is told when it is done."""
    from trading_pipeline.service.submitter.closing import close_session, overdue_closes, sessions_to_close

    def close(sessions: "list[Session]") -> None:
        for session in sessions:
            done.sessions_closed.append(close_session(desk, session))
            tell(_show_close, done.sessions_closed[-1])

    close(overdue_closes(desk))
    for name, missed, results in _due(desk):
        done.cycles.append({"cycle": name, "missed_before": missed, "steps": [asdict(result) for result in results]})
        tell(_show_cycle, done.cycles[-1])
    close(sessions_to_close(desk))


def _due(desk: "Desk") -> "Iterator[tuple[str, int, list[StepResult]]]":
    """Everything due at this instant, each with the closes missed before it and its steps."""
    from trading_pipeline.domain.cycles import follow_up
    from trading_pipeline.service import approvals
    from trading_pipeline.service.cycle import run_cycle, run_follow_up
    from trading_pipeline.service.orders.settlement import news
    from trading_pipeline.service.timetable import due_cycles, record_missed

    due = approvals.due(desk)
    approvals.expire(desk, due.overdue)
    if due.released or news(desk):
        turn = follow_up(due.released, desk.today(), desk.now(), "release" if due.released else "orders")
        yield turn.cycle_id, 0, run_follow_up(desk, turn)
    for cycle in due_cycles(desk):
        missed = record_missed(desk, cycle)
        yield cycle.cycle_id, missed, run_cycle(desk, cycle)


def _go_on(call: Invocation, seconds: int) -> None:
    """Round after round until the time is over or somebody asks for the end; the last round's refusal is the command's.

    Raises:
        ServiceError: `trading up`, or another of these, has the home.
        LedgerError, StorageError: The record cannot be written: nothing goes on without it.
    """
    from trading_pipeline.adapters.home_lock import held, require_unused

    def tell(show: _Show, what: dict[str, Any]) -> None:
        # In JSON everything comes at the end, as one document.
        if not call.output.as_json:
            show(call, what)

    require_unused(call.home)
    done, out = _Done(), call.output
    began = time.monotonic()
    end, next_round, said = began + seconds, began, ""
    refused: TradingError | None = None
    with call.desk() as desk, held(call.home, "trading run --duration"), _kept(call, desk) as keep, _asked_to_end() as asked:
        out.note(f"Running for {duration(seconds)}. Ctrl-C ends it after what runs.")
        while not asked.is_set() and time.monotonic() < end:
            keep()
            if time.monotonic() >= next_round:
                next_round = time.monotonic() + _ROUND_SECONDS
                try:
                    _round(desk, done, tell)
                    said, refused = _tell_state(call, desk, said), None
                except (LedgerError, StorageError):
                    raise
                except TradingError as error:
                    if refused is None or refused.message != error.message:
                        out.note(f"Refused, and tried again: {error}", style="yellow")
                    refused, next_round = error, time.monotonic() + _AGAIN_SECONDS
            asked.wait(min(_TICK_SECONDS, max(0.0, end - time.monotonic())))
        now, world = desk.now(), desk.world.value
    took = round(time.monotonic() - began, 1)
    data = {"now": now.isoformat(), "market": world, "seconds": took, "asked_to_end": asked.is_set()}
    what = f"{counted(len(done.cycles), 'cycle')}, {counted(len(done.sessions_closed), 'session')} closed"
    out.answer(data | done.as_json(), lambda: out.line(f"Ended after {duration(took)}: {what}."))
    if refused is not None:
        raise refused


@contextmanager
def _kept(call: Invocation, desk: "Desk") -> Iterator[Callable[[], None]]:
    """What keeps a replay going for as long; it stands still afterwards. Nothing has to be done for a live market."""
    from trading_pipeline.adapters.clocks import ReplayClock
    from trading_pipeline.faces.cli.keeping import keeping
    from trading_pipeline.settings import Market

    settings = call.settings()
    if settings.market.clock is Market.LIVE:
        yield lambda: None
        return
    clock = ReplayClock.attach(settings.home / "clock.json", desk.calendar)
    with keeping(clock, lambda: nullcontext(desk), call.output.note, settings.market.decision_seconds) as keep:
        yield keep


@contextmanager
def _asked_to_end() -> Iterator[threading.Event]:
    """Set by the first signal to end; the second one interrupts what runs."""
    asked = threading.Event()

    def ask() -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    with on_ending(ask):
        yield asked


# What is said


def _tell_state(call: Invocation, desk: "Desk", said: str) -> str:
    """What the pipeline does, where that is not what was said last."""
    from trading_pipeline.service.workflow import doing

    told = told_workflow(doing(desk))
    if told != said:
        call.output.note(f"{new_york(desk.now())} New York: {told}", style="dim")
    return told


def _show(call: Invocation, data: dict[str, Any]) -> None:
    out = call.output
    replay = Text(" REPLAY ", "bold black on yellow") if data["market"] == "replay" else Text(data["market"])
    out.line(replay, f"  {new_york(data['now'])} New York")
    if not data["cycles"] and not data["sessions_closed"]:
        out.line("Nothing is due now.")
    for cycle in data["cycles"]:
        _show_cycle(call, cycle)
    for report in data["sessions_closed"]:
        _show_close(call, report)


def _show_cycle(call: Invocation, cycle: dict[str, Any]) -> None:
    out = call.output
    out.heading(f"Cycle {in_new_york(cycle['cycle'])}")
    if cycle["missed_before"]:
        out.line(Text(f"Missed before it, and recorded so: {counted(cycle['missed_before'], 'close')}.", "yellow"))
    rows = []
    for step in cycle["steps"]:
        counts = ", ".join(f"{many:,} {what.replace('_', ' ')}" for what, many in step["counts"].items() if many)
        did = "done before" if step["replayed"] else counts or "-"
        rows.append([step["step"].replace("_", " "), did, in_new_york("; ".join(step["notes"][:5]))])
    out.table([Column("STEP"), Column("DID", wrap=True), Column("NOTES", wrap=True)], rows)


def _show_close(call: Invocation, report: dict[str, Any]) -> None:
    out = call.output
    out.heading(f"Session {report['session']} closed{' early' if report['early_close'] else ''}")
    out.pairs({
        "equity": Text.assemble(money(report["equity"]), "  day ", gain(report["day_pnl"])), "cash": money(report["cash"]),
        "fills": report["fills"],
    })
