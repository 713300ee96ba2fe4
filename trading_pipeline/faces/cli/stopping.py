"""`trading stop`: the emergency stop, its state, the review after it, and clearing the account's latch.

The latch is on the disk before anything heavy is imported or opened: no settings, no database, no market. What follows may fail and
is tried again for as long as the person waits; whoever opens the home next goes on with it.
"""

import os
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from trading_pipeline.adapters.stop_files import latch
from trading_pipeline.current_home import made_at
from trading_pipeline.errors import LedgerUnavailable, PermissionRequired, SettingsError, StorageError, TradingError, UnknownName
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column, Journal, counted, in_new_york, new_york, word
from trading_pipeline.service.actors import user_actor

if TYPE_CHECKING:
    from trading_pipeline.ports import Stop
    from trading_pipeline.service.stopping.stop_orders import Line, Report

NOT_CONFIRMED = 1
"""Exit code while an order is open or unknown, and where an account that was cleared is stopped still."""
AGAIN_SECONDS = 0.5
_ASKED_SECONDS = 5.0


class Act(StrEnum):
    """What to do."""

    NOW = "now"
    REVIEW = "review"
    CLEAR = "clear"


ActArgument = Annotated[
    Act, typer.Argument(help="`now` stops; `review`: what a stop has come to and what to do next; `clear`: take the account's latch away.")
]


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    command(app, "stop", panel=panel)(stop)


def stop(
    call: Invocation,
    act: ActArgument = Act.NOW,
    strategy: Annotated[str | None, typer.Option("--strategy", help="Only this strategy, for ever; everything without it.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only show the stops in force and their last round.")] = False,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to ask again until every cancel is confirmed.")] = 10.0,
    reason: Annotated[str, typer.Option("--reason", help="For the record.")] = "stopped by hand",
) -> None:
    """EMERGENCY: stop now, cancel every working order until confirmed. Positions stay. Works with the database or Dagster down."""
    if status:
        _status(call)
    elif act is Act.REVIEW:
        _review(call)
    elif act is Act.CLEAR:
        _clear(call)
    else:
        _stop(call, strategy, yes=yes, wait=wait, reason=reason)


def _stop(call: Invocation, strategy: str | None, *, yes: bool, wait: float, reason: str) -> None:
    _require_home(call)
    what = f"the strategy {strategy}" if strategy else "everything: all strategies and the account"
    if not call.confirm(f"Stop {what}, for good, and cancel the working orders?", yes=yes):
        call.output.note("Nothing was stopped.")
        raise typer.Exit(1)
    at, actor, failed = datetime.now(UTC), user_actor(), None
    try:
        new = latch(call.home / "stops", strategy, reason, actor, at)
        told = "is latched" if new else "was latched already"
        call.output.note(f"{strategy or 'The account'} {told}: nothing more is sent. Cancelling.", style="bold")
    except StorageError as error:
        failed = error
        call.output.error(error)
        call.output.note("NOT LATCHED on this disk. Going on with the ledger and the broker.", style="bold red")
    call.say_home()
    report, trouble, doubts = _carry_out(call, strategy, reason, actor, at, wait)
    data = _as_json(call, strategy, report, trouble, latched=failed is None) | {"left_out": doubts}

    def text() -> None:
        _say_doubts(call, doubts)
        _show(call, report, trouble)

    call.output.answer(data, text)
    if failed is not None:
        raise typer.Exit(failed.exit_code)
    if report is None or not report.clean:
        raise typer.Exit(NOT_CONFIRMED)


def _require_home(call: Invocation) -> None:
    """A latch in a folder that is nobody's home stops nothing, and must not look as if it did."""
    if made_at(call.home) is None and "TRADING_DATABASE_URL" not in os.environ:
        raise SettingsError(
            f"NOTHING WAS STOPPED: there is no home at {call.home}.", value=str(call.home), rule="a stop stops the home it is given",
            remedy="name the home that trades with --home, and press again",
        )


def _carry_out(
    call: Invocation, strategy: str | None, reason: str, actor: str, at: datetime, wait: float,
) -> "tuple[Report | None, TradingError | None, list[str]]":
    """Everything after the latch, tried again until it is done or the time is over; what there is of it, and what could not be read."""
    from trading_pipeline.bootstrap import open_desk
    from trading_pipeline.emergency_settings import settings_at_hand
    from trading_pipeline.ports import Stop
    from trading_pipeline.service.stopping.emergency import carry_out

    settings, doubts = settings_at_hand(call.home)
    rounds: list[Report] = []
    deadline = time.monotonic() + wait
    pressed = Stop(strategy, reason, actor, at)
    while True:
        try:
            with open_desk(settings, emergency=True, doubts=(found := list(doubts))) as desk:
                left = max(0.0, deadline - time.monotonic())
                return carry_out(desk, pressed, wait_seconds=left, told=rounds.append), None, found
        except UnknownName:
            raise
        except TradingError as error:
            # The last round counts, even where leaving the home failed after it.
            if rounds or time.monotonic() + AGAIN_SECONDS > deadline:
                return (rounds[-1] if rounds else None), error, found
            time.sleep(AGAIN_SECONDS)


def _say_doubts(call: Invocation, doubts: list[str]) -> None:
    for doubt in doubts:
        call.output.line(Text(f"Not read, and gone on without: {doubt}", "yellow"))


def _as_json(call: Invocation, strategy: str | None, report: "Report | None", trouble: TradingError | None, *, latched: bool) -> Any:
    from dataclasses import asdict

    data: dict[str, Any] = {"scope": strategy or "account", "home": str(call.home), "latched": latched, "clean": False}
    if report is not None:
        found = asdict(report)
        names = ("ended", "open", "unknown", "kept", "external", "unprotected", "trouble")
        data |= {"clean": report.clean, "record": report.record} | {name: found[name] for name in names}
    if trouble is not None:
        data["error"] = trouble.as_json()
    return data


def _show(call: Invocation, report: "Report | None", trouble: TradingError | None) -> None:
    out = call.output
    if report is None:
        out.line(Text("The broker could not be reached: NO CANCEL WAS SENT.", "bold red"))
        if trouble is not None:
            out.line(f"{trouble.message} {trouble.remedy.capitalize()}.")
        out.line("The latch stands. Run `trading stop` again, or cancel with the broker by hand; the home's next process goes on too.")
        return
    groups = (
        ("confirmed", report.ended), ("STILL OPEN", report.open), ("UNKNOWN", report.unknown), ("kept", report.kept),
        ("not ours", report.external),
    )
    rows = [_row(label, line) for label, lines in groups for line in lines]
    shares = Column("SHARES", right=True)
    columns = [*(Column(title) for title in ("ORDER", "STRATEGY", "SYMBOL", "SIDE")), shares, Column("NOW"), Column("")]
    out.table(columns, rows, empty="No order was working.")
    for naked in report.unprotected:
        held = f"{naked.quantity:,} shares of {naked.symbol}{f' of {naked.strategy}' if naked.strategy else ''}"
        out.line(Text(f"NO STOP RESTS for {held}: the position stays, close it if you mean to.", "yellow"))
    for told in report.trouble:
        out.line(Text(in_new_york(told), "yellow"))
    if report.record != "ledger":
        kept = report.record == "journal"
        where = "kept in journal.jsonl until the ledger is back" if kept else f"in the latch file alone: {report.record.rstrip('.')}"
        out.line(f"The ledger could not be written: the stop is {where}.")
    if report.clean:
        out.line(Text(f"Stopped: every order of ours is confirmed ({counted(len(report.ended), 'order')}).", "bold"))
    else:
        left = [
            f"{counted(len(report.open), 'order')} open" if report.open else "", f"{len(report.unknown)} unknown" if report.unknown else "",
            "" if report.complete else "not all could be asked for",
        ]
        out.line(Text(f"NOT DONE: {', '.join(filter(None, left))}. Run `trading stop` again; the home's next process goes on.", "bold red"))
    out.line("What to do next: trading stop review")


def _row(label: str, line: "Line") -> list[object]:
    return [line.client_id, line.strategy, line.symbol, line.side, f"{line.quantity:,}" if line.quantity else "", word(line.state), label]


def _status(call: Invocation) -> None:
    """The files always; what the ledger adds to them if it answers."""
    from trading_pipeline.adapters.latch_files import LatchFiles
    from trading_pipeline.bootstrap import open_desk
    from trading_pipeline.emergency_settings import settings_at_hand
    from trading_pipeline.service.models.patience import within
    from trading_pipeline.service.stopping.emergency import last_report
    from trading_pipeline.service.stopping.stop_review import stops

    found, reports, trouble, doubts = LatchFiles(call.home / "stops").stops(), {}, "", list[str]()
    try:
        settings, doubts = settings_at_hand(call.home)
        with open_desk(settings, emergency=True, doubts=doubts) as desk:
            found = within(_ASKED_SECONDS, lambda: stops(desk), _silent)
            reports = {stop.strategy: within(_ASKED_SECONDS, lambda stop=stop: last_report(desk, stop.strategy), _silent) for stop in found}  # type: ignore[misc]
    except TradingError as error:
        trouble = error.message
    data = {
        "stops": [_stop_json(stop) | {"report": reports.get(stop.strategy)} for stop in found], "ledger": trouble or "read",
        "left_out": doubts,
    }

    def text() -> None:
        _say_doubts(call, doubts)
        call.output.table(
            [Column("STOPPED"), Column("SINCE"), Column("BY"), Column("REASON", wrap=True), Column("ORDERS")],
            [
                [stop.strategy or "THE ACCOUNT", new_york(stop.at), stop.actor, stop.reason, _orders_word(reports.get(stop.strategy))]
                for stop in found
            ],
            empty="No stop is in force.",
        )
        if trouble:
            call.output.line(Text(f"The ledger could not be read: {trouble} These are the stops of the files.", "yellow"))

    call.output.answer(data, text)


def _silent() -> TradingError:
    return LedgerUnavailable(f"The ledger has not answered within {_ASKED_SECONDS:g} s.")


def _stop_json(stop: "Stop") -> dict[str, Any]:
    return {"strategy": stop.strategy, "by": stop.actor, "reason": stop.reason, "at": stop.at.isoformat()}


def _orders_word(report: dict[str, Any] | None) -> str:
    if report is None:
        return ""
    left = len(report["open"]) + len(report["unknown"])
    return "all confirmed" if report["clean"] else f"{left} not confirmed" if left else "not all asked for"


def _review(call: Invocation) -> None:
    from trading_pipeline.service.stopping.stop_review import review

    with call.desk() as desk, call.output.working("Looking at ledger and broker"):
        data = review(desk)
    call.output.answer(data, lambda: _show_review(call, data))


def _show_review(call: Invocation, data: dict[str, Any]) -> None:
    out = call.output
    if not data["stops"]:
        out.line("No stop is in force.")
        return
    out.heading("Stopped")
    out.table(
        [Column("WHAT"), Column("SINCE"), Column("BY"), Column("REASON", wrap=True)],
        [[s["strategy"] or f"THE ACCOUNT {data['account']}", new_york(s["at"]), s["by"], in_new_york(s["reason"])] for s in data["stops"]],
    )
    for name, report in data["reports"].items():
        out.heading(f"Orders, {name}")
        states = {**report["ended"], **dict.fromkeys(report["open"], "OPEN"), **dict.fromkeys(report["unknown"], "UNKNOWN")}
        states |= dict.fromkeys(report["kept"], "kept") | dict.fromkeys(report["external"], "not ours")
        rows = [[order, word(state)] for order, state in sorted(states.items())]
        out.table([Column("ORDER"), Column("NOW")], rows, empty="None was working.")
        for naked in report["unprotected"]:
            out.line(Text(f"No stop rests for {naked['quantity']:,} shares of {naked['symbol']} ({naked['strategy']})", "yellow"))
    out.heading("Book and broker")
    for told in [data["broker"]] if data["broker"] else data["differences"] or ["They agree."]:
        out.line(told)
    out.heading("The last facts")
    journal = Journal(out)
    for fact in data["facts"]:
        journal.write(fact["seq"], fact["at"], fact["type"], fact["says"], fact["actor"])
    out.heading("Next")
    for number, step in enumerate(data["next"], start=1):
        out.hanging(f"{number}. ", Text(f"{step}."))


def _clear(call: Invocation) -> None:
    from trading_pipeline.service.stopping.emergency import clear, held

    if not call.output.interactive:
        raise PermissionRequired(
            "Nobody at a terminal clears the latch.", value="no terminal",
            rule="a person clears the latch by typing the account's name (D9)", remedy="run it at a terminal",
        )
    with call.desk() as desk:
        shown, account = held(desk, desk.ledger), desk.broker.account_id
        about = [f"Stopped by {stop.actor}, {new_york(stop.at)}: {in_new_york(stop.reason)}" for stop in shown.stops]
        about.append("Nothing resumes by this: stopped strategies stay stopped, and cancelled orders cancelled.")
        if shown.restored:
            about.append(f"Beware: {shown.restored}. Orders may be out that it does not know: look at the account with the broker.")
            about.append("Clearing the latch accepts this ledger as it is.")
        typed = call.output.ask(f"Type {account} to take the latch of the account away:", about)
        still = clear(desk, actor=user_actor(), typed=typed, shown=shown)

    def text() -> None:
        call.output.line(f"What was shown is cleared, and {account} is stopped still:" if still else f"The latch of {account} is cleared.")
        for stop in still:
            call.output.line(f"Stopped by {stop.actor}, {new_york(stop.at)}: {in_new_york(stop.reason)}")

    call.output.answer({"cleared": account, "still": [_stop_json(stop) for stop in still]}, text)
    if still:
        raise typer.Exit(NOT_CONFIRMED)
