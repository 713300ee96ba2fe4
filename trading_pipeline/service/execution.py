"""Steps orders and fills: what is released goes to the gate, what crashed on the way is taken up again, what filled is booked.

All of it under the submitter's lease, by whoever holds it: the desk's process, or this very step. Never imports Dagster.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime

from trading_pipeline.domain.approvals import RELEASABLE, ActionState
from trading_pipeline.domain.cycles import Cycle, CycleKind
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.limits import APPROVED_TTL
from trading_pipeline.domain.orders import OrderClass, OrderIntent, OrderState, Side
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.sizing import exit_slices
from trading_pipeline.domain.strategies import StrategyState
from trading_pipeline.errors import BrokerNotReady, LedgerUnavailable
from trading_pipeline.ports import Fence, Reader, Transaction
from trading_pipeline.service.account_limits import in_force, tighten
from trading_pipeline.service.approvals import has_come
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.book import held_for, intent_of
from trading_pipeline.service.judging.pacing import Pacing
from trading_pipeline.service.orders.adoption import adopt_orders, known_to_broker
from trading_pipeline.service.orders.corporate_actions import pending
from trading_pipeline.service.orders.gate import denial_ahead, denials, gate_and_submit, intents_of, is_stale, names_of, stored_intent
from trading_pipeline.service.orders.late_orders import cancel_what_is_over
from trading_pipeline.service.orders.order_facts import doubt, taken
from trading_pipeline.service.orders.protection import protect
from trading_pipeline.service.orders.settlement import OPEN_AT_BROKER, cancel, settle, settled_mismatches
from trading_pipeline.service.orders.voiding import void
from trading_pipeline.service.real_time import pause
from trading_pipeline.service.steps import StepResult, Tally, completed, nothing_to_do, spec_of
from trading_pipeline.service.submitter.handover import answer, lease_name

_WITHDRAWN = tuple(
    state.value for state in (
        StrategyState.PAUSED_USER, StrategyState.PAUSED_RISK, StrategyState.FINISHED, StrategyState.EMERGENCY_STOPPED,
    )
)
_LIVE = (OrderState.ACCEPTED.value, OrderState.PARTIAL.value, OrderState.UNKNOWN.value)
LEASE_WAIT_SECONDS = 45
"""Longer than a lease outlives its holder: a desk that is frozen loses it meanwhile."""
_LOOKS, _MOST_SECONDS = 20, 4
"""How often, and for how long, an order that was cancelled is looked for before an exit is sent in its place."""


def place_orders(desk: Desk, cycle: Cycle) -> StepResult:
    """Send what is released: the cycle's own ready actions, or exactly those a follow-up names.

    Where a desk's process holds the submitter's lease, it is asked, and its answer waited for; otherwise whoever runs this step
    takes the lease and does it, if the broker lets itself be used in place.
    """
    done = completed(desk.ledger, cycle, "orders")
    if done is not None:
        return done
    if cycle.kind is CycleKind.BACKFILL:
        return nothing_to_do(desk, cycle, "orders", "a backfill places nothing")
    # The desk's process may have been started before the settings were edited.
    tighten(desk)
    deadline = time.monotonic() + LEASE_WAIT_SECONDS
    while True:
        answered = answer(desk, cycle)
        if answered is not None:
            return answered
        if not desk.broker.capabilities.in_place:
            return nothing_to_do(desk, cycle, "orders", "the desk's process does not run: nothing was sent")
        with ExitStack() as held:
            try:
                fence = held.enter_context(desk.ledger.lease(lease_name(desk), wait_seconds=1))
            except LedgerUnavailable:
                # A desk that is just coming up has it, and answers in a moment.
                if time.monotonic() >= deadline:
                    raise
                continue
            return place(desk, fence, cycle)


def place(desk: Desk, fence: Fence, cycle: Cycle) -> StepResult:
    """Do it, under the submitter's lease: what protects positions first, then what is released."""
    done = completed(desk.ledger, cycle, "orders")
    if done is not None:
        return done
    tally = Tally("orders", cycle)
    if pending(desk, desk.ledger):
        settle(desk, tally)
    with desk.ledger.transaction() as tx:
        in_force(desk, tx)
    try:
        adopt_orders(desk, tally)
        cancel_what_is_over(desk, tally)
        withdrawn(desk, tally)
    except BrokerNotReady as unready:
        tally.count("broker_not_ready")
        tally.notes.append(unready.message)
        if not desk.broker.capabilities.deduplicates:
            # What it has that this ledger never wrote is not known, and it would take a name twice (C14): what is ready waits.
            with desk.ledger.transaction() as tx:
                return tally.complete(tx, desk.now())
    recover(desk, fence, tally)
    protect(desk, fence, tally)
    try:
        for row in _released(desk, cycle):
            _release(desk, fence, cycle, row, tally)
    except BrokerNotReady as unready:
        tally.count("broker_not_ready")
        tally.notes.append(unready.message)
    protect(desk, fence, tally)
    with desk.ledger.transaction() as tx:
        return tally.complete(tx, desk.now())


def collect_fills(desk: Desk, cycle: Cycle) -> StepResult:
    """Book every execution once and learn what became of each open order."""
    done = completed(desk.ledger, cycle, "fills")
    if done is not None:
        return done
    if cycle.kind is CycleKind.BACKFILL:
        return nothing_to_do(desk, cycle, "fills", "a backfill places nothing")
    tally = Tally("fills", cycle)
    settle(desk, tally)
    with desk.ledger.transaction() as tx:
        return tally.complete(tx, desk.now())


def withdrawn(desk: Desk, tally: Tally) -> None:
    """Cancel entries of strategies that have paused or ended: one that was on its way meanwhile has been answered by now (D10, 57)."""
    halted = [row["name"] for row in desk.ledger.find("strategies", state=_WITHDRAWN)]
    if halted:
        working = desk.ledger.find("orders", strategy=halted, order_class=OrderClass.ENTRY.value, state=_LIVE)
        cancel(desk, working, "its strategy does not run", "desk", tally)


def recover(desk: Desk, fence: Fence, tally: Tally) -> None:
    """After a crash: a submission without an answer is UNKNOWN, an intent without a submission is gated again or stale.

    Called with the submitter's lease, so that no order can be on its way while this looks.
    """
    for row in desk.ledger.find("orders", state=OrderState.SUBMITTED.value):
        with desk.ledger.transaction() as tx:
            tally.saw(tx.append(doubt(row, desk.now())))
    for row in desk.ledger.find("orders", state=OrderState.INTENT.value, parent=None, order_by="intent_seq"):
        action = desk.ledger.get("actions", row["action_id"])
        if action is None or is_stale(row, desk.now()):
            with desk.ledger.transaction() as tx:
                tally.saw(tx.append(*denials(tx, row, "stale: the intent was never sent", desk.now())))
            tally.count("denied")
        else:
            gate_and_submit(desk, fence, stored_intent(row, action), tally)


def _released(desk: Desk, cycle: Cycle) -> list[Row]:
    if cycle.kind is CycleKind.FOLLOW_UP:
        rows = desk.ledger.find("actions", action_id=cycle.actions, state=RELEASABLE) if cycle.actions else []
    else:
        rows = desk.ledger.find("actions", cycle_id=cycle.cycle_id, state=ActionState.READY.value)
    return sorted((row for row in rows if has_come(desk, row)), key=lambda row: (row["not_before"], row["generated_seq"]))


def _release(desk: Desk, fence: Fence, cycle: Cycle, row: Row, tally: Tally) -> None:
    if _expired(desk, cycle, row, tally):
        return
    intent = intent_of(row)
    # Every name that it can have had: of an exit more was held then, perhaps.
    meant = _slices(intent, intent.quantity) if intent.order_class is OrderClass.EXIT else [intent]
    names = [name for part in meant for name in names_of(part)]
    if there := taken(desk.ledger, names):
        # The broker had it, as an order that was taken over or as an execution that no order explained: this ledger is older (C14).
        _void(desk, row, f"the order {there[0]} of its name is there already", tally)
        return
    if intent.order_class is OrderClass.EXIT and not _has_stopped_buying(desk, intent, tally):
        return
    if row["not_before"] > desk.now() or _is_paced(desk, intent, tally) or _outside_band(desk, row, intent, tally):
        return
    mismatched = settled_mismatches(desk, tally) if intent.order_class is OrderClass.EXIT else {}
    if "*" in mismatched:
        # Nobody can compare just now, which is no reason to keep what was to be sold.
        tally.count("waiting")
        return
    if intent.order_class is OrderClass.EXIT and _is_paced(desk, intent, tally):
        # Settling has just booked a fill, whose cooldown this can wait for.
        return
    if intent.order_class is OrderClass.EXIT and _exit_denied(desk, row, intent, mismatched, tally):
        return
    if name := known_to_broker(desk, fence, names, tally):
        _void(desk, row, f"the broker has had an order {name}", tally)
        return
    if intent.order_class is OrderClass.EXIT and not _is_free_to_leave(desk, intent, tally):
        return
    parts = parts_of(desk.ledger, intent)
    if not parts:
        _void(desk, row, f"nothing is held of {intent.symbol} any more: what protected the position has closed it", tally)
        return
    for part in parts:
        with desk.ledger.transaction() as tx:
            action = tx.get("actions", row["action_id"])
            first = part.part in ("entry", "exit")
            if action is None or (first and action["state"] not in RELEASABLE):
                return
            now = desk.now()
            # Once more: the broker may have been slow with all that it was asked since.
            if first and (late := _too_late(action, now)):
                _expire(tx, cycle, action, late, now, tally)
                return
            tally.saw(tx.append(*intents_of(part, cycle.cycle_id, cycle.session, now, row["last_seq"])))
        if not gate_and_submit(desk, fence, part, tally) and not _waits(desk, part):
            return


def _waits(desk: Desk, intent: OrderIntent) -> bool:
    """Whether the gate has left it for the next turn: then so it does the slices after it."""
    row = desk.ledger.get("orders", intent.client_id)
    return row is not None and bool(row["state"] == OrderState.INTENT.value)


def _are_over(desk: Desk, rows: Sequence[Row], tally: Tally) -> bool:
    """Whether the ends of these orders are confirmed, which takes a broker a moment after a cancel; what is not is waited for."""
    names, until = [row["client_id"] for row in rows], time.monotonic() + _MOST_SECONDS
    for _ in range(_LOOKS):
        if not desk.ledger.find("orders", client_id=names, state=OPEN_AT_BROKER, limit=1):
            return True
        if desk.world is World.LIVE:
            if time.monotonic() >= until:
                break
            pause()
        settle(desk, tally)
    tally.count("waiting")
    return False


def _expired(desk: Desk, cycle: Cycle, row: Row, tally: Tally) -> bool:
    """Expire an action that comes too late; somebody may have decided otherwise meanwhile, and that stands."""
    now = desk.now()
    late = _too_late(row, now)
    if late:
        with desk.ledger.transaction() as tx:
            current = tx.get("actions", row["action_id"])
            if current is not None and current["state"] in RELEASABLE:
                _expire(tx, cycle, current, late, now, tally)
    return bool(late)


def _expire(tx: Transaction, cycle: Cycle, row: Row, late: str, now: datetime, tally: Tally) -> None:
    payload = {"cycle": cycle.cycle_id, **{name: row[name] for name in ("action_id", "strategy", "symbol")}, "reason": late}
    key, stream = f"action.expired:{row['action_id']}", f"strategy:{row['strategy']}"
    tally.saw(tx.append(NewEvent(EventType.ACTION_EXPIRED, stream, key, payload, now, "rulebook", row["last_seq"])))
    tally.count("expired")


def _too_late(row: Row, now: datetime) -> str:
    if row["state"] == ActionState.APPROVED.value and now >= row["not_before"] + APPROVED_TTL:
        return f"approved, and not sent within {APPROVED_TTL.seconds} s of {row['not_before']:%H:%M:%S} UTC"
    if row["state"] == ActionState.READY.value and row["expires_at"] is not None and now >= row["expires_at"]:
        return f"ready, and not sent before {row['expires_at']:%H:%M:%S} UTC"
    return ""


def _outside_band(desk: Desk, row: Row, intent: OrderIntent, tally: Tally) -> bool:
    """Void an action when the price has left the band around the price that was decided at."""
    approval, strategy = desk.ledger.get("approvals", row["action_id"]), desk.ledger.get("strategies", intent.strategy)
    quote = desk.market.quotes([intent.symbol], desk.now()).get(intent.symbol)
    # An exit that nobody has to approve again is not given up because the price moved: the gate's collar bounds it.
    if quote is None or strategy is None or (approval is None and intent.order_class is OrderClass.EXIT):
        return False
    band = spec_of(strategy).price_band
    low = approval["price_low"] if approval else intent.reference * (1 - band)
    high = approval["price_high"] if approval else intent.reference * (1 + band)
    if low <= quote.last <= high:
        return False
    _void(desk, row, f"the price moved to {quote.last}, outside {low:.4f} to {high:.4f}", tally)
    return True


def _has_stopped_buying(desk: Desk, intent: OrderIntent, tally: Tally) -> bool:
    """Cancel what is left of the entry that an exit leaves; whether it is over.

    Before the exit is paced: each fill would put it off again, and a cancel needs no cooldown. Sent beside it the exit could trade with it.
    """
    buying = _open_on(desk, intent, Side.BUY)
    cancel(desk, buying, f"action {intent.action_id} closes the position", "cycle", tally)
    return _are_over(desk, buying, tally)


def _is_free_to_leave(desk: Desk, intent: OrderIntent, tally: Tally) -> bool:
    """Cancel what protects the position; whether it is over, so that the exit sells nothing twice.

    Until then it stays ready, and what is left of them is cancelled again in the next turn.
    """
    working = _open_on(desk, intent, Side.SELL)
    cancel(desk, working, f"the position is closed by action {intent.action_id}", "cycle", tally)
    return _are_over(desk, working, tally)


def _open_on(desk: Desk, intent: OrderIntent, side: Side) -> list[Row]:
    """Orders of the intent's strategy and symbol that the broker may have at work."""
    return desk.ledger.find("orders", strategy=intent.strategy, symbol=intent.symbol, side=side.value, state=OPEN_AT_BROKER)


def _is_paced(desk: Desk, intent: OrderIntent, tally: Tally) -> bool:
    if Pacing.at_hand(desk, desk.ledger, desk.now()).next_release(intent.strategy, queued=False) <= desk.now():
        return False
    tally.count("paced")
    return True


def _exit_denied(desk: Desk, row: Row, intent: OrderIntent, mismatched: Mapping[str, str], tally: Tally) -> bool:
    """Void an exit that the gate would deny before anything that protects the position is cancelled for it."""
    parts = parts_of(desk.ledger, intent)
    denied = denial_ahead(desk, parts[0], mismatched, release=desk.now()) if parts else ""
    if denied:
        _void(desk, row, f"denied before its protection was touched: {denied}", tally)
    return bool(denied)


def _void(desk: Desk, row: Row, reason: str, tally: Tally) -> None:
    with desk.ledger.transaction() as tx:
        tally.saw(void(tx, row, reason, desk.now(), "rulebook", row["last_seq"]))
    tally.count("voided")


def parts_of(reader: Reader, intent: OrderIntent) -> list[OrderIntent]:
    """The orders of one action: one entry, or an exit cut so that no order passes the hard limit (D1); none when nothing is left."""
    if intent.order_class is not OrderClass.EXIT:
        return [intent]
    held = held_for(reader, intent.strategy, intent.symbol)
    return _slices(intent, min(intent.quantity, held)) if held > 0 else []


def _slices(intent: OrderIntent, quantity: int) -> list[OrderIntent]:
    quantities = exit_slices(quantity, intent.reference)
    return [replace(intent, quantity=many, part="exit" if at == 0 else f"exit-{at + 1}") for at, many in enumerate(quantities)]
