"""What a boot does before anything else: the journal into the ledger, a restored ledger latched, stops made whole and gone on with.

Read LATCH_CHECK of INVARIANTS 3.4. All of it may be done again by the next process, and is cheap where nothing has happened: a
folder, two files and four small queries. Nothing here lifts a stop.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.strategies import TRANSITIONS, StrategyState
from trading_pipeline.errors import InputError, StopUnfiled, StorageError, UnknownName
from trading_pipeline.ports import Stop
from trading_pipeline.service.actors import RECOVERY
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.record import anchoring
from trading_pipeline.service.stopping.emergency import carry_out, last_report, mirror, unfiled, write_down
from trading_pipeline.service.stopping.presses import is_cleared, is_on_record, press_of, recorded
from trading_pipeline.service.stopping.stop_orders import OPEN_ORDERS, Report

_STOPS = (EventType.ACCOUNT_LATCHED, EventType.STRATEGY_EMERGENCY_STOPPED)
_REPORTED = {"account", "strategy", "clean", "ended", "open", "unknown", "kept", "external", "unprotected", "trouble"}
"""Of `Report.payload`: without one of them a line is no report."""


def resume_stop(desk: Desk, *, wait_seconds: float = 0.0, told: Callable[[Report], object] | None = None) -> list[Report]:
    """Take up whatever stop is in force and not done; the rounds it has gone.

    Args:
        wait_seconds: How long to ask again; 0 is one round.
        told: Hears of each round, whatever is raised after it.

    Raises:
        LedgerError: The ledger cannot be read or written.
        StorageError: Once all else is done: journal or anchors cannot be read, so nobody can tell whether there are other stops.
        StopUnfiled: Once all else is done: a stop is in force, and the disk does not take its file.
    """
    failed: list[StorageError] = []
    for prepare in (merge_journal, _hold_if_restored, mirror):
        try:
            prepare(desk)
        except StorageError as error:
            # What a stop has to cancel waits for no file.
            failed.append(error)
    reports: list[Report] = []
    lost = unfiled(desk)
    accounts = [stop for stop in lost if stop.strategy is None]
    for stop in [*accounts, *desk.latch.stops(), *(stop for stop in lost if stop.strategy is not None)]:
        # What the account's own stop has just asked for needs no second asking for each strategy.
        if _unfinished(desk, stop, covered=bool(reports) and reports[0].stop.strategy is None):
            try:
                reports.append(carry_out(desk, stop, wait_seconds=wait_seconds, resumed=True, told=told))
            except UnknownName:
                # A file for a name that the ledger does not have: there is nothing to stop, and the name stays barred.
                continue
    if failed:
        raise next((error for error in failed if not isinstance(error, StopUnfiled)), failed[0])
    return reports


def merge_journal(desk: Desk) -> int:
    """Write down what the journal kept while the ledger took nothing (invariant 7); how many facts it had.

    Stops and their reports alone: whatever else a line says was not written by us, and is passed over as one that was cut off.

    Raises:
        StopUnfiled: All are in the ledger, and the journal does not take that they are; the next process merges them once more.
    """
    waiting, lines = desk.journal.waiting()
    if not waiting:
        return 0
    for fact in waiting:
        if fact.type in _STOPS:
            _merge_stop(desk, fact)
        elif fact.type is EventType.STOP_REPORTED and fact.payload.keys() >= _REPORTED:
            with suppress(InputError), desk.ledger.transaction() as tx:
                payload = {**fact.payload, "journalled_at": fact.at}
                tx.append(NewEvent(fact.type, fact.stream, fact.key, payload, desk.now(), fact.actor))
    try:
        desk.journal.merged(lines)
    except StorageError as error:
        raise StopUnfiled(error.message, value=error.value, rule=error.rule, remedy=error.remedy) from error
    return len(waiting)


def _merge_stop(desk: Desk, fact: NewEvent) -> None:
    stop = press_of(fact)
    if stop.strategy is None and is_on_record(desk.ledger, stop):
        # A later round of it reached the ledger, and somebody may have cleared it since.
        return
    with suppress(UnknownName):
        _latch(desk, stop)
        write_down(desk, stop, resumed=True)


def _latch(desk: Desk, stop: Stop) -> None:
    """Have its file, if the disk takes it: the ledger has the stop next, and what has no file then is told by `mirror`."""
    with suppress(StorageError):
        desk.latch.stop(stop)


def _hold_if_restored(desk: Desk) -> None:
    """Latch the account when the ledger is not the one that its anchors have seen (C14); a person looks and clears it."""
    if recorded(desk, desk.ledger, None) is not None:
        return
    why = anchoring.restored(desk)
    if why:
        hold = Stop(None, why, RECOVERY, datetime.now(UTC))
        _latch(desk, hold)
        write_down(desk, hold, resumed=True)


def _unfinished(desk: Desk, stop: Stop, *, covered: bool) -> bool:
    """Whether the ledger lacks the stop, or an order in its scope is not over; a latch after a restore is only written down."""
    scope: dict[str, Any] = {} if stop.strategy is None else {"strategy": stop.strategy}
    if stop.actor == RECOVERY and stop.strategy is None:
        if recorded(desk, desk.ledger, None) is None:
            write_down(desk, stop, resumed=True)
        return False
    if stop.strategy is None:
        # Who pressed while another stop stood may have died before the ledger had theirs.
        if not is_on_record(desk.ledger, stop):
            return True
        if is_cleared(desk, desk.ledger, stop):
            # Whoever cleared it died before its file went. It holds the account until it is cleared again, and there is nothing to do.
            return False
        report = last_report(desk, None)
        if not covered and (report is None or not report["clean"]):
            return True
    else:
        row = desk.ledger.get("strategies", stop.strategy)
        if row is None:
            return False
        if TRANSITIONS[StrategyState(row["state"])]:
            return True
    return not covered and bool(desk.ledger.find("orders", state=OPEN_ORDERS, limit=1, **scope))
