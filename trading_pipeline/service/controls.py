"""What people do to strategies, and what happens to them by themselves: create, start, pause, finish, revise."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from typing import Any

from trading_pipeline import __version__
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle, CycleKind, follow_up
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.limits import StrategyLimits, looser
from trading_pipeline.domain.orders import OrderClass
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.strategies import TRANSITIONS, Mode, PauseReason, StrategySpec, StrategyState
from trading_pipeline.domain.words import state_words
from trading_pipeline.errors import BrokerNotReady, IllegalTransition, LedgerUnavailable, PermissionRequired, StrategyError, UnknownName
from trading_pipeline.ports import Reader, Transaction
from trading_pipeline.service.day_baseline import open_session
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.causes import CLEARING, cause_of, clears_by_itself, whole_book
from trading_pipeline.service.models.askable import require_askable
from trading_pipeline.service.models.model_changes import going_on
from trading_pipeline.service.orders import settlement
from trading_pipeline.service.orders.voiding import take_back
from trading_pipeline.service.steps import RUNNING, Tally, due_strategies, spec_of
from trading_pipeline.service.stopping import emergency
from trading_pipeline.service.submitter.handover import lease_name


def create(desk: Desk, spec: StrategySpec, *, actor: str) -> Event:
    """Write a strategy down as DRAFT.

    Raises:
        StrategyError: The name was used before, or a symbol has no bars in this market.
    """
    check(desk, spec)
    barred = desk.latch.standing(spec.name)
    if barred is not None and barred.strategy == spec.name:
        emergency.refuse_under_stop(desk, desk.ledger, spec.name, "Creating it")
    if desk.ledger.get("strategies", spec.name) is not None:
        raise StrategyError(
            f"The strategy {spec.name} exists already.", value=spec.name, rule="a strategy's name is used once, for good",
            remedy="choose another name, or change it with `trading strategy revise`",
        )
    with desk.ledger.transaction() as tx:
        [event] = tx.append(_event(desk, EventType.STRATEGY_CREATED, spec.name, actor, spec=encode(spec)))
        return event


def check(desk: Desk, spec: StrategySpec) -> None:
    """Refuse a strategy that could not run here: a model that cannot be asked, symbols or intervals that the market does not have."""
    require_askable(desk, spec)
    for symbol in spec.symbols:
        known = desk.market.intervals(symbol)
        archived = desk.archive.read(symbol, spec.interval, until=desk.now(), count=1)
        if spec.interval not in known and not len(archived):
            has = f"it has {', '.join(known)} bars" if known else "it does not know the symbol"
            raise UnknownName(
                f"There are no {spec.interval} bars of {symbol}.", value=symbol,
                rule=f"the source {desk.market.name} supplies the bars; {has}",
                remedy="choose another symbol or interval, or import bars with `trading bars import`",
            )


def start(desk: Desk, name: str, *, actor: str) -> StrategyState:
    """DRAFT or NOT_READY to RUNNING, if book and broker agree; to NOT_READY, said why, if not."""
    _require_allowed(require(desk.ledger, name), StrategyState.STARTING)
    emergency.refuse_under_stop(desk, desk.ledger, name, f"Starting {name}")
    with desk.ledger.transaction() as tx:
        tx.append(_event(desk, EventType.STRATEGY_STARTING, name, actor))
    differences = list(settlement.settled_mismatches(desk, _uncounted(desk)).values())
    with desk.ledger.transaction() as tx:
        if differences:
            tx.append(_event(desk, EventType.STRATEGY_NOT_READY, name, "desk", reason="; ".join(differences)))
            return StrategyState.NOT_READY
        row = tx.get("strategies", name)
        assert row is not None
        code = {"version": __version__, "spec_digest": hashlib.sha256(row["spec"].encode()).hexdigest()}
        tx.append(_event(desk, EventType.STRATEGY_STARTED, name, actor, **code))
        return StrategyState.RUNNING


def pause(desk: Desk, name: str, *, actor: str, reason: str = "") -> None:
    """A person pauses what runs, or would go on by itself: entries are cancelled, proposals voided, protective orders stay (D10)."""
    row = require(desk.ledger, name)
    if row["state"] == StrategyState.PAUSED_RISK.value and not clears_by_itself(row):
        raise IllegalTransition(
            f"{name} is {state_words(row['state'])} and waits for a person already.", value=row["reason"],
            rule="what goes on only when a person says so needs no other pause",
            remedy=f"trading strategy resume {name}, once you have looked",
        )
    _move(desk, name, EventType.STRATEGY_PAUSED, actor, state=StrategyState.PAUSED_USER.value, reason=reason)
    withdraw(desk, name, "the strategy was paused", actor)


def pause_by_itself(desk: Desk, name: str, why: PauseReason, detail: str, *, measured: str = "", limit: str = "") -> bool:
    """The system pauses a strategy and says why: one that runs, or waits for what clears by itself while this does not. Whether it did."""
    facts = {"state": StrategyState.PAUSED_RISK.value, "reason": f"{why.value}: {detail}"[:500], "measured": measured, "limit": limit}
    with desk.ledger.transaction() as tx:
        row = tx.get("strategies", name)
        if row is None or not (row["state"] in RUNNING or (clears_by_itself(row) and why not in CLEARING)):
            return False
        _moved(desk, tx, row, EventType.STRATEGY_PAUSED, facts)
    # A broker that is not ready gets the cancels when it is: the pause is a fact, and whoever holds the lease sends them.
    with suppress(BrokerNotReady):
        withdraw(desk, name, f"the strategy paused: {why.value}", "desk")
    return True


def moved_by_itself(desk: Desk, seen: Row, type_: EventType, **facts: Any) -> bool:
    """Move a strategy if it is still as it was seen, for the same reason; whether it was. What is open is void unless it goes on."""
    with desk.ledger.transaction() as tx:
        row = tx.get("strategies", seen["name"])
        if row is None or any(row[part] != seen[part] for part in ("state", "state_since", "reason")):
            return False
        _moved(desk, tx, row, type_, facts)
    return True


def _moved(desk: Desk, tx: Transaction, row: Row, type_: EventType, facts: Mapping[str, Any]) -> None:
    name, turn = row["name"], row["last_seq"]
    key = f"{type_.value}:{name}:{turn}"
    tx.append(NewEvent(type_, f"strategy:{name}", key, {"strategy": name, **facts}, desk.now(), "desk", turn))
    if type_ is not EventType.STRATEGY_RESUMED:
        take_back(tx, name, f"the strategy was {type_.value.partition('.')[2]}", desk.now(), "desk")


def record_failed_run(desk: Desk, run_id: str, job: str, error: str, cycles: Sequence[Cycle]) -> None:
    """A run failed: a fact, and a pause for every strategy it was trading for."""
    names = {spec.name for cycle in cycles if cycle.kind is CycleKind.BAR for spec in due_strategies(desk, cycle)}
    wanted = tuple(action for cycle in cycles for action in cycle.actions)
    names |= {row["strategy"] for row in desk.ledger.find("actions", action_id=wanted)} if wanted else set()
    payload = {"run_id": run_id, "job": job, "error": error, "cycles": [cycle.cycle_id for cycle in cycles], "strategies": sorted(names)}
    with desk.ledger.transaction() as tx:
        tx.append(NewEvent(EventType.RUN_FAILED, "system", f"run.failed:{run_id}", payload, desk.now(), "dagster"))
    for name in sorted(names):
        pause_by_itself(desk, name, PauseReason.RUN_FAILED, f"the run {run_id[:8]} of {job} failed")


def resume(desk: Desk, name: str, *, actor: str, unchecked: bool = False) -> None:
    """A paused strategy runs again, if book and broker agree and what it paused for is over; rejections are over once a person looked.

    Args:
        unchecked: Also with a prompt or model that changed and did not pass the golden set, on the actor's word.

    Raises:
        StrategyError: They do not, or it is not.
    """
    row = require(desk.ledger, name)
    _require_allowed(row, StrategyState.RUNNING)
    emergency.refuse_under_stop(desk, desk.ledger, name, f"Resuming {name}")
    differences = list(settlement.settled_mismatches(desk, _uncounted(desk)).values())
    if differences:
        raise StrategyError(
            f"{name} cannot resume: {differences[0]}.", value=name, rule="book and broker agree before a strategy trades (invariant 27)",
            remedy="settle the difference with the broker first",
        )
    cause = None
    if (session := desk.calendar.at(desk.now())) is not None:
        # Nobody may have traded yet today: what the night has cost counts.
        open_session(desk, session.day)
        cause = cause_of(desk, whole_book(desk), row)
    if cause is not None and cause.why is not PauseReason.REJECTS:
        raise StrategyError(
            f"{name} cannot resume: {cause.words}.", value=cause.measured, rule=f"it is {cause.limit} before a strategy goes on",
            remedy="grant more, as it says" if cause.why is PauseReason.LOSS else "wait: it goes on by itself",
        )
    _move(desk, name, EventType.STRATEGY_RESUMED, actor, was=row["state"], **going_on(desk, row, unchecked=unchecked))


def finish(desk: Desk, name: str, *, actor: str, reason: str = "") -> None:
    """End a strategy for good: entries cancelled, proposals voided, positions kept and reported (invariant 58)."""
    _move(desk, name, EventType.STRATEGY_FINISHED, actor, reason=reason)
    withdraw(desk, name, "the strategy finished", actor)


def revise(desk: Desk, spec: StrategySpec, *, actor: str, confirmed: Sequence[str] = ()) -> Event:
    """Replace a strategy's definition; pending proposals are voided, and so are entries that were never sent (invariant 48).

    Args:
        confirmed: What it loosens, of `loosened_limits`, that the person typed again at a terminal (D17).

    Raises:
        PermissionRequired: It loosens something else.
    """
    check(desk, spec)
    with desk.ledger.transaction() as tx:
        # Against what it is now: somebody may have tightened it since the person was shown what this loosens.
        loosened = loosened_limits(spec_of(require(tx, spec.name)), spec)
        if not set(loosened) <= set(confirmed):
            raise PermissionRequired(
                f"{spec.name} would loosen {', '.join(loosened)}.", value=", ".join(loosened),
                rule="limits are tightened at once and loosened only by a person who confirms it at a terminal (D17)",
                remedy="run `trading strategy revise` at a terminal and type the new values again",
            )
        [revised] = tx.append(_event(desk, EventType.STRATEGY_REVISED, spec.name, actor, spec=encode(spec), loosened=loosened))
        take_back(tx, spec.name, "the strategy was revised", desk.now(), actor)
    return revised


def loosened_limits(before: StrategySpec, after: StrategySpec) -> list[str]:
    """What the new definition would loosen, with both values: limits, sizes, the time and price a proposal stands, who decides, symbols."""
    values = [(name, getattr(before.limits, name), getattr(after.limits, name)) for name in StrategyLimits.__dataclass_fields__]
    values += [(name, getattr(before, name), getattr(after, name)) for name in ("price_band", "approval_timeout")]
    for name in ("risk_per_trade", "max_stop", "exposure_multiplier", "fraction", "stop", "atr_stop"):
        if hasattr(before.sizing, name) and hasattr(after.sizing, name):
            values.append((name, getattr(before.sizing, name), getattr(after.sizing, name)))
    found = [f"{name} from {_limit(old)} to {_limit(new)}" for name, old, new in values if looser(name, old, new)]
    if type(before.sizing) is not type(after.sizing):
        found.append(f"sizing from {type(before.sizing).__name__} to {type(after.sizing).__name__}")
    # Where a person decides on each proposal, no confidence is asked of it.
    if after.mode is Mode.AUTONOMOUS and after.min_confidence < before.min_confidence:
        found.append(f"min_confidence from {before.min_confidence} to {after.min_confidence}")
    if (before.mode, after.mode) == (Mode.APPROVAL, Mode.AUTONOMOUS):
        found.append("mode from approval to autonomous")
    added = sorted(set(after.symbols) - set(before.symbols))
    if added:
        found.append(f"symbols by {', '.join(added)}")
    return found


def _limit(value: object) -> str:
    return "off" if value is None else str(value)


def withdraw(desk: Desk, name: str, reason: str, actor: str, *, until: date | None = None) -> None:
    """Void a strategy's open actions, deny its entries that were never sent, cancel those at work; protective orders stay.

    Args:
        until: Only what belongs to this session or an earlier one.
    """
    with desk.ledger.transaction() as tx:
        take_back(tx, name, reason, desk.now(), actor, until=until)
    working = desk.ledger.find("orders", strategy=name, order_class=OrderClass.ENTRY.value, state=settlement.OPEN_AT_BROKER)
    working = [row for row in working if until is None or row["session"] <= until.isoformat()]
    if working:
        _cancel(desk, working, reason, actor)


def _cancel(desk: Desk, working: Sequence[Row], reason: str, actor: str) -> None:
    """With the submitter's lease if it is free. A desk's process may hold it for good: it cancels what is on its way, once answered."""
    try:
        with desk.ledger.lease(lease_name(desk), wait_seconds=0):
            settlement.cancel(desk, working, reason, actor, _uncounted(desk))
    except LedgerUnavailable:
        settlement.cancel(desk, working, reason, actor, _uncounted(desk), leased=False)


def require(reader: Reader, name: str) -> Row:
    """The strategy's row; UnknownName, with those that exist, when there is none."""
    row = reader.get("strategies", name)
    if row is None:
        names = [other["name"] for other in reader.find("strategies")]
        raise UnknownName(
            f"There is no strategy {name!r}.", value=name, rule="a strategy is named as it was created",
            remedy=f"use one of: {', '.join(names)}" if names else "create one with `trading strategy create FILE`",
        )
    return row


_LEADS_TO = {EventType.STRATEGY_RESUMED: StrategyState.RUNNING, EventType.STRATEGY_FINISHED: StrategyState.FINISHED}
_COMMANDS = {
    StrategyState.STARTING: "start", StrategyState.PAUSED_USER: "pause", StrategyState.RUNNING: "resume", StrategyState.FINISHED: "finish",
}
"""What a person does to bring a strategy into a state."""


def _require_allowed(row: Row, target: StrategyState) -> None:
    """Make sure that the state machine has the transition, before anything is asked of a broker.

    Raises:
        StrategyError: The strategy is over.
        IllegalTransition: The transition does not exist; names those that do, by their commands.
    """
    name, state = row["name"], StrategyState(row["state"])
    shown = state_words(state.value)
    if not TRANSITIONS[state]:
        raise StrategyError(
            f"{name} is {shown}: nothing changes that.", value=state.value, rule="a finished or stopped strategy is history",
            remedy="create a new strategy",
        )
    if target in TRANSITIONS[state]:
        return
    allowed = [command for each, command in _COMMANDS.items() if each in TRANSITIONS[state]]
    wanted = _COMMANDS.get(target, state_words(target.value))
    raise IllegalTransition(
        f"{name} is {shown}; {wanted} is not possible from there.", value=state.value,
        rule=f"a strategy that is {shown} can {' or '.join(allowed) or 'only wait'}",
        remedy=" or ".join(f"trading strategy {command} {name}" for command in allowed) or "look again: trading strategy list",
    )


def _move(desk: Desk, name: str, type_: EventType, actor: str, **facts: Any) -> None:
    row = require(desk.ledger, name)
    _require_allowed(row, _LEADS_TO.get(type_) or StrategyState(facts["state"]))
    with desk.ledger.transaction() as tx:
        tx.append(_event(desk, type_, name, actor, **facts))
        if type_ is not EventType.STRATEGY_RESUMED:
            take_back(tx, name, f"the strategy was {type_.value.partition('.')[2]}", desk.now(), actor)


def _event(desk: Desk, type_: EventType, name: str, actor: str, **facts: Any) -> NewEvent:
    now = desk.now()
    row = desk.ledger.get("strategies", name)
    turn = row["last_seq"] if row is not None else 0
    payload = {"strategy": name} | facts
    return NewEvent(type_, f"strategy:{name}", f"{type_.value}:{name}:{turn}", payload, now, actor, turn or None)


def _uncounted(desk: Desk) -> Tally:
    return Tally("controls", follow_up((), desk.today(), desk.now(), "controls"))
