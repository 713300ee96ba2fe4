"""The emergency stop: what is in force, and its order of work (INVARIANTS 3.3).

The latch is a file and comes first; everything after it may fail and is taken up again, by the next round or the next process.
A stop is in force when either the file or the ledger says so: a restored ledger does not lift it, and neither does a lost file.
Orders are cancelled until each is confirmed; positions are never touched (invariant 56).
"""

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from trading_pipeline.domain.events import EventType, NewEvent, instant_text
from trading_pipeline.domain.orders import OrderState
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.strategies import TRANSITIONS, StrategyState
from trading_pipeline.errors import (
    Conflict,
    LedgerUnavailable,
    PermissionRequired,
    StopUnfiled,
    StorageError,
    TradingError,
    UnknownName,
)
from trading_pipeline.ports import Reader, Stop, Transaction
from trading_pipeline.service.actors import RECOVERY
from trading_pipeline.service.desk import Desk, is_person
from trading_pipeline.service.models.patience import within
from trading_pipeline.service.orders.adoption import is_ours
from trading_pipeline.service.orders.order_facts import denied, doubt, order_event
from trading_pipeline.service.orders.voiding import void_open
from trading_pipeline.service.record import anchoring
from trading_pipeline.service.stopping import stop_orders
from trading_pipeline.service.stopping.presses import is_cleared, is_on_record, is_same, press_of, recorded, standing, stands
from trading_pipeline.service.stopping.stop_orders import IN_JOURNAL, IN_LEDGER, OPEN_ORDERS, Report, withheld


@dataclass(frozen=True, slots=True)
class Held:
    """What holds the account at one look: what a person sees before clearing it, and all that clearing takes away."""

    seq: int
    """The newest fact at the look."""
    stops: tuple[Stop, ...]
    """Each press: of files and ledger, persons' first."""
    restored: str
    """How the ledger contradicts its anchors, in words; empty where it does not."""


def in_force(desk: Desk, reader: Reader, strategy: str) -> Stop | None:
    """The stop that keeps a strategy from sending, asking and proposing anything, if there is one.

    Args:
        reader: The transaction of the submission, where it matters that nothing comes between (invariant 52).
    """
    return desk.latch.standing(strategy) or recorded(desk, reader, strategy)


def held(desk: Desk, reader: Reader) -> Held:
    """What holds the account now, by the files or by the ledger."""
    return Held(reader.head()[0], _holding(desk, reader), anchoring.restored(desk))


def refuse_under_stop(desk: Desk, reader: Reader, strategy: str, what: str) -> None:
    """Refuse to begin what a stop forbids; Conflict says which stop, and how it ends."""
    stop = in_force(desk, reader, strategy)
    if stop is None:
        return
    ends = "create a new strategy" if stop.strategy else "look at it with `trading stop review`, then clear it with `trading stop clear`"
    raise Conflict(
        f"{what} is not possible: {stop.strategy or 'the account'} is under an emergency stop by {stop.actor}: {stop.reason}.",
        value=strategy, rule="nothing trades under an emergency stop (D9)", remedy=ends,
    )


def stop(desk: Desk, *, strategy: str | None = None, reason: str, actor: str, wait_seconds: float = 0.0) -> Report:
    """Stop a strategy for ever, or everything: latch, then `carry_out`.

    Args:
        wait_seconds: How long to ask again until every cancel is confirmed.

    Raises:
        StorageError: The latch could not be made durable: nothing is confirmed, nothing was done.
    """
    pressed = Stop(strategy, reason, actor, datetime.now(UTC))
    desk.latch.stop(pressed)
    return carry_out(desk, pressed, wait_seconds=wait_seconds)


def carry_out(
    desk: Desk, stop: Stop, *, wait_seconds: float = 0.0, resumed: bool = False, told: Callable[[Report], object] | None = None,
) -> Report:
    """Everything after the latch, round by round until nothing is left open or the time is over.

    Args:
        resumed: Taken up again from a file or the journal, by no person now.
        told: Hears of each round.
    """
    deadline, pause, journalled = time.monotonic() + wait_seconds, 0.1, False
    ended: dict[str, stop_orders.Line] = {}
    while True:
        record = _record(desk, stop, resumed=resumed, journalled=journalled)
        journalled = journalled or record == IN_JOURNAL
        report = stop_orders.withdraw(desk, stop, record=record, ended=ended)
        ended = {line.client_id: line for line in report.ended}
        _report(desk, report, journal=journalled)
        if record == IN_LEDGER:
            # Not before the cancels, which do not wait for a file a strategy; what fails here the next boot makes good.
            with suppress(TradingError):
                mirror(desk)
            # A ledger that is put back to before the stop is known for older, though no desk ran to anchor it.
            with suppress(TradingError):
                anchoring.anchor(desk)
        if told is not None:
            told(report)
        left = deadline - time.monotonic()
        if report.clean or left <= 0:
            return report
        time.sleep(min(pause, left))
        pause = min(2.0, pause * 2)


def write_down(desk: Desk, stop: Stop, *, resumed: bool) -> None:
    """All that the ledger must know before a cancel is sent, in one transaction; a second time adds what is missing.

    The account's fence is raised after it: what a submitter has judged and not committed yet it can no longer commit. Once: whoever
    takes the lease after it has seen the latch.
    """
    with desk.ledger.transaction() as tx:
        if stop.strategy is None and is_cleared(desk, tx, stop):
            # Pressed once, carried out and cleared. Its file holds the account while it stands, and ends nothing that began since.
            return
        known = recorded(desk, tx, None)
        _stop_facts(desk, tx, stop, resumed=resumed)
        if stop.actor != RECOVERY:
            void_open(tx, f"emergency stop: {stop.reason}", desk.now(), stop.actor, strategy=stop.strategy)
            _withdraw_facts(desk, tx, stop)
    if stop.strategy is None and (known is None or not resumed):
        desk.ledger.revoke(f"submitter:{desk.broker.account_id}")


def mirror(desk: Desk) -> None:
    """Have a file for every stop that the ledger has: clearing the account's latch, or restoring the ledger, starts none of them again.

    Raises:
        StopUnfiled: The disk does not take one of them; each of the others has been tried.
    """
    failed: StorageError | None = None
    for lost in unfiled(desk):
        try:
            desk.latch.stop(lost)
            if lost.strategy is None and not stands(desk, desk.ledger, lost):
                # Somebody has cleared it since, and what they took away must not come back: it would hold the account once more.
                desk.latch.clear([lost])
        except StorageError as error:
            failed = failed or error
    if failed is not None:
        raise StopUnfiled(f"A stop has no file: {failed.message}", value=failed.value, rule=failed.rule, remedy=failed.remedy) from failed


def unfiled(desk: Desk) -> list[Stop]:
    """The stops that the ledger has and no file says, the account's first."""
    files = desk.latch.stops()
    accounts, strategies = [each for each in files if each.strategy is None], {each.strategy for each in files}
    lost = [press for press in map(press_of, standing(desk, desk.ledger)) if not _is_among(press, accounts)]
    rows = desk.ledger.find("strategies", state=StrategyState.EMERGENCY_STOPPED.value)
    return lost + [Stop(row["name"], row["reason"], row["actor"], row["state_since"]) for row in rows if row["name"] not in strategies]


def clear(desk: Desk, *, actor: str, typed: str, reason: str = "", shown: Held | None = None) -> tuple[Stop, ...]:
    """Take the account's latch away; nothing resumes by that, and stopped strategies stay stopped.

    What goes are the presses that the person has seen, each on record and done; any other stands, and nothing is cleared beside it.
    The files go last: whatever fails on the way, or comes meanwhile, leaves one that stops the account.

    Where the latch was set because the ledger is older than its anchors, the person accepts the ledger as it is: anchors begin anew.

    Args:
        typed: The account's name as the person typed it.
        shown: What the person has seen, by `held`; what holds the account now, without it.

    Returns:
        What holds the account still: pressed or found in this very moment.

    Raises:
        PermissionRequired: No person, or another name.
        Conflict: No latch stands, or another than was shown; or one is not on record, or an order not confirmed yet.
        StorageError: Files of it could not go: they hold the account, and are cleared again.
    """
    account = desk.broker.account_id
    if not is_person(actor) or typed.strip() != account:
        raise PermissionRequired(
            f"{typed!r} is not the name of this account, {account}." if is_person(actor) else f"{actor!r} may not clear a latch.",
            value=typed, rule="a person clears the latch by typing the account's name (D9, invariant 49)", remedy="type it, at a terminal",
        )
    now = held(desk, desk.ledger)
    shown = now if shown is None else shown
    if not now.stops:
        raise Conflict(
            f"The account {account} is under no stop.", value=account, rule="only a latch that stands is cleared", remedy="nothing to do"
        )
    _refuse_another(desk, desk.ledger, shown)
    pressed = [stop for stop in shown.stops if stop.actor != RECOVERY]
    unwritten = next((stop for stop in pressed if not is_on_record(desk.ledger, stop)), None)
    if unwritten is not None:
        raise Conflict(
            f"The stop by {unwritten.actor} is in its file alone, and not on record yet: {unwritten.reason}.", value=account,
            rule="a latch stands until its stop is written down and every order is confirmed",
            remedy="look with `trading stop review`, which writes it down and goes on with its cancels, then clear it",
        )
    report = last_report(desk, None)
    # Of one that was cleared already, and whose file could not go, all was confirmed then.
    if any(stands(desk, desk.ledger, stop) for stop in pressed) and (report is None or not report["clean"]):
        raise Conflict(
            "The stop is not done: orders are not confirmed cancelled.", value=account,
            rule="a latch stands until every order is confirmed",
            remedy="run `trading stop` again, or wait for the desk's process to go on, and look with `trading stop --status`",
        )
    with desk.ledger.transaction() as tx:
        _refuse_another(desk, tx, shown)
        if facts := standing(desk, tx):
            payload = {"account": account, "reason": reason}
            key = f"{EventType.ACCOUNT_LATCH_CLEARED.value}:{account}:{facts[-1].seq}"
            tx.append(NewEvent(EventType.ACCOUNT_LATCH_CLEARED, "account", key, payload, desk.now(), actor, facts[-1].seq))
    if anchoring.restored(desk):
        anchoring.begin_anew(desk)
    desk.latch.clear(shown.stops)
    # Whoever pressed in this very moment, on a disk that took no second file, has none now. What fails here the next boot makes good.
    with suppress(TradingError):
        mirror(desk)
        for fact in desk.journal.waiting()[0]:
            if fact.type is EventType.ACCOUNT_LATCHED and not is_on_record(desk.ledger, by_journal := press_of(fact)):
                desk.latch.stop(by_journal)
    return _holding(desk, desk.ledger)


def last_report(desk: Desk, strategy: str | None) -> dict[str, Any] | None:
    """The newest round that the ledger has of a scope; of the account: since its latch was recorded."""
    row = desk.ledger.get("latches", f"account:{desk.broker.account_id}")
    after = row["last_seq"] if strategy is None and row is not None else 0
    events = desk.ledger.events(after=after, types=(EventType.STOP_REPORTED,))
    return next((dict(event.payload) for event in reversed(events) if event.payload["strategy"] == strategy), None)


def _holding(desk: Desk, reader: Reader) -> tuple[Stop, ...]:
    """Each press of files and ledger once, persons' first."""
    found = [stop for stop in desk.latch.stops() if stop.strategy is None]
    found += [press for press in map(press_of, standing(desk, reader)) if not any(is_same(press, each) for each in found)]
    return tuple(sorted(found, key=lambda press: press.actor == RECOVERY))


def _is_among(pressed: Stop, files: Collection[Stop]) -> bool:
    """Whether a file says this stop; what recovery holds is held by any file of the account."""
    return bool(files) if pressed.actor == RECOVERY else pressed in files


def _refuse_another(desk: Desk, reader: Reader, shown: Held) -> None:
    """Refuse to clear what nobody has looked at: another press, by its file or in the ledger, or an account ahead of its ledger (C14)."""
    now = held(desk, reader)
    another = next((stop for stop in now.stops if not any(is_same(stop, each) for each in shown.stops)), None)
    told = f"Another stop came meanwhile, by {another.actor}: {another.reason}." if another else ""
    if not told:
        found = reader.events(after=shown.seq, types=(EventType.ORDER_ADOPTED, EventType.EXTERNAL_FILLED))
        ahead = next((fact.payload["client_id"] for fact in found if is_ours(fact.payload["client_id"])), "")
        told = f"The broker has told meanwhile of {ahead}, which this ledger never wrote." if ahead else ""
    if not told and now.restored and not shown.restored:
        told = f"It has been found meanwhile that {now.restored}."
    if told:
        raise Conflict(
            told, value=desk.broker.account_id, rule="what is cleared is the latch that was looked at",
            remedy="look again with `trading stop review`",
        )


def _record(desk: Desk, stop: Stop, *, resumed: bool, journalled: bool) -> str:
    """Where the stop is written down: `ledger`, `journal`, or the reason why nowhere but in its file.

    Whatever the ledger says, the cancels go on (invariant 55), but for a name that nobody has.
    """
    try:
        within(
            stop_orders.LEDGER_SECONDS, lambda: write_down(desk, stop, resumed=resumed),
            lambda: LedgerUnavailable(f"The ledger has not answered within {stop_orders.LEDGER_SECONDS:g} s."),
        )
    except UnknownName:
        raise
    except TradingError as error:
        if journalled:
            return IN_JOURNAL
        kind = EventType.ACCOUNT_LATCHED if stop.strategy is None else EventType.STRATEGY_EMERGENCY_STOPPED
        return _journal(desk, _fact(desk, kind, stop, f"journal:{instant_text(stop.at)}", None), str(error))
    return IN_LEDGER


def _report(desk: Desk, report: Report, *, journal: bool) -> None:
    """Write a round down, if it differs from the one before."""
    payload = report.payload(desk.broker.account_id)
    scope = report.stop.strategy or "account"
    stream = "account" if report.stop.strategy is None else f"strategy:{scope}"

    def append() -> None:
        before = last_report(desk, report.stop.strategy)
        if before is None or any(before[name] != value for name, value in payload.items()):
            with desk.ledger.transaction() as tx:
                key = f"{EventType.STOP_REPORTED.value}:{scope}:{tx.head()[0]}"
                tx.append(NewEvent(EventType.STOP_REPORTED, stream, key, payload, desk.now(), report.stop.actor))

    try:
        if not journal:
            within(stop_orders.LEDGER_SECONDS, append, lambda: LedgerUnavailable("The ledger has not answered."))
            return
    except TradingError:
        pass
    now = datetime.now(UTC)
    key = f"{EventType.STOP_REPORTED.value}:{scope}:journal:{instant_text(now)}"
    _journal(desk, NewEvent(EventType.STOP_REPORTED, stream, key, payload, now, report.stop.actor), "")


def _journal(desk: Desk, fact: NewEvent, otherwise: str) -> str:
    try:
        desk.journal.write(fact)
    except StorageError as error:
        return f"{otherwise} {error.message}".strip()
    return IN_JOURNAL


def _stop_facts(desk: Desk, tx: Transaction, stop: Stop, *, resumed: bool) -> None:
    """The latch and the strategies' ends. Every press of the account's stop is a fact: clearing one lifts no other."""
    rows = tx.find("strategies") if stop.strategy is None else [_known(tx, stop.strategy)]
    facts = []
    latch, known = tx.get("latches", f"account:{desk.broker.account_id}"), recorded(desk, tx, None)
    stood = known is not None and (known.actor != RECOVERY or stop.actor == RECOVERY)
    if stop.strategy is None and (not stood or (stop.actor != RECOVERY and not is_on_record(tx, stop))):
        turn = 0 if latch is None else latch["last_seq"]
        facts.append(_fact(desk, EventType.ACCOUNT_LATCHED, stop, str(turn), turn or None))
    # A strategy that was made after the account was latched has begun nothing: a resumed stop leaves it alone.
    spared = stop.actor == RECOVERY or (stop.strategy is None and stood and resumed)
    ending = [] if spared else [row for row in rows if TRANSITIONS[StrategyState(row["state"])]]
    facts += [
        _fact(desk, EventType.STRATEGY_EMERGENCY_STOPPED, replace(stop, strategy=row["name"]), str(row["last_seq"]), row["last_seq"])
        for row in ending
    ]
    tx.append(*facts)


def _known(tx: Transaction, name: str) -> Row:
    row = tx.get("strategies", name)
    if row is None:
        raise UnknownName(
            f"The ledger has no strategy {name!r}: its name is stopped, and nothing else is.", value=name,
            rule="a strategy is named as it was created", remedy="look at `trading strategy list`; `trading stop` stops everything",
        )
    return row


def _fact(desk: Desk, kind: EventType, stop: Stop, turn: str, cause: int | None) -> NewEvent:
    scope = desk.broker.account_id if kind is EventType.ACCOUNT_LATCHED else str(stop.strategy)
    stream = "account" if kind is EventType.ACCOUNT_LATCHED else f"strategy:{scope}"
    named = {"account": scope} if kind is EventType.ACCOUNT_LATCHED else {"strategy": scope}
    payload = named | {"reason": stop.reason, "pressed_at": stop.at}
    return NewEvent(kind, stream, f"{kind.value}:{scope}:{turn}", payload, desk.now(), stop.actor, cause)


def _withdraw_facts(desk: Desk, tx: Transaction, stop: Stop) -> None:
    """What was never sent is denied; a cancel of everything else is requested, a submission without an answer being in doubt first.

    No lease is needed for that: whoever is sending at this moment finds the order's state changed and leaves it.
    """
    now = desk.now()
    scope: dict[str, Any] = {} if stop.strategy is None else {"strategy": stop.strategy}
    reason = f"emergency stop: {stop.reason}"
    tx.append(*denied(tx.find("orders", state=OrderState.INTENT.value, **scope), reason, now, stop.actor))
    tx.append(*(doubt(row, now) for row in tx.find("orders", state=OrderState.SUBMITTED.value, **scope)))
    rows = tx.find("orders", state=OPEN_ORDERS, **scope)
    kept = withheld(rows) if desk.keep_protective_stops else set()
    wanted = [row for row in rows if row["client_id"] not in kept and row["state"] != OrderState.CANCEL_PENDING.value]
    requests = (order_event(EventType.ORDER_CANCEL_REQUESTED, row, {"reason": reason}, now, stop.actor) for row in wanted)
    tx.append(*(replace(event, key=f"{event.key}:{row['last_seq']}") for event, row in zip(requests, wanted, strict=True)))
