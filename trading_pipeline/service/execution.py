"""Steps orders and fills: the only code that talks to a broker's order entry.

Facts first: the intent is committed, then the submission with its verdict, and only then is the broker
called, once, at one place. A crash in between leaves a question that `settlement` asks the broker; nothing
is ever sent a second time. Never imports Dagster.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle, CycleKind
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.limits import APPROVED_TTL
from trading_pipeline.domain.orders import OrderClass, OrderIntent, OrderState, OrderType, Side, TimeInForce, client_id
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.risk import Judgement, Outcome, RiskContext, Verdict
from trading_pipeline.domain.rulebook import judge
from trading_pipeline.domain.sizing import split_exit
from trading_pipeline.domain.strategies import Mode, StrategySpec
from trading_pipeline.errors import BrokerNotReady, BrokerRefused, OutcomeUnknown
from trading_pipeline.ports import Permit, Reader, Ticket, Transaction, ticket_digest
from trading_pipeline.service.account_limits import in_force
from trading_pipeline.service.book import Book, intent_of
from trading_pipeline.service.corporate_actions import pending
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.outside import look
from trading_pipeline.service.settlement import OPEN_AT_BROKER, cancel, doubt, order_event, settle, settled_mismatches
from trading_pipeline.service.steps import StepResult, Tally, completed, nothing_to_do, spec_of
from trading_pipeline.service.voiding import void

RELEASABLE = (ActionState.READY.value, ActionState.APPROVED.value)


def place_orders(desk: Desk, cycle: Cycle) -> StepResult:
    """Send what is released: the cycle's own ready actions, or exactly those a follow-up names."""
    done = completed(desk.ledger, cycle, "orders")
    if done is not None:
        return done
    if cycle.kind is CycleKind.BACKFILL:
        return nothing_to_do(desk, cycle, "orders", "a backfill places nothing")
    tally = Tally("orders", cycle)
    with desk.ledger.lease(f"submitter:{desk.broker.account_id}"):
        if pending(desk, desk.ledger):
            settle(desk, tally)
        with desk.ledger.transaction() as tx:
            in_force(desk, tx)
        recover(desk, tally)
        for row in _released(desk, cycle):
            _release(desk, cycle, row, tally)
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


def recover(desk: Desk, tally: Tally) -> None:
    """After a crash: a submission without an answer is UNKNOWN, an intent without a submission is gated again or stale.

    Called with the submitter's lease, so that no order can be on its way while this looks.
    """
    for row in desk.ledger.find("orders", state=OrderState.SUBMITTED.value):
        with desk.ledger.transaction() as tx:
            tally.saw(tx.append(doubt(row, desk.now())))
    for row in desk.ledger.find("orders", state=OrderState.INTENT.value, parent=None):
        action = desk.ledger.get("actions", row["action_id"])
        if action is None or desk.now() >= row["intent_at"] + APPROVED_TTL:
            with desk.ledger.transaction() as tx:
                tally.saw(tx.append(*_denials(tx, row, "stale: the intent was never sent", desk.now())))
            tally.count("denied")
        else:
            _gate_and_submit(desk, _stored_intent(row, action), tally)


def _released(desk: Desk, cycle: Cycle) -> list[Row]:
    if cycle.kind is CycleKind.FOLLOW_UP:
        rows = desk.ledger.find("actions", action_id=cycle.actions, state=RELEASABLE) if cycle.actions else []
    else:
        rows = desk.ledger.find("actions", cycle_id=cycle.cycle_id, state=ActionState.READY.value)
    due = [row for row in rows if row["not_before"] is not None and row["not_before"] <= desk.now()]
    return sorted(due, key=lambda row: (row["not_before"], row["generated_seq"]))


def _release(desk: Desk, cycle: Cycle, row: Row, tally: Tally) -> None:
    late = _too_late(desk, row)
    if late:
        with desk.ledger.transaction() as tx:
            named = {name: row[name] for name in ("action_id", "strategy", "symbol")}
            payload = {"cycle": cycle.cycle_id, **named, "reason": late}
            key = f"action.expired:{row['action_id']}"
            stream = f"strategy:{row['strategy']}"
            tally.saw(tx.append(NewEvent(EventType.ACTION_EXPIRED, stream, key, payload, desk.now(), "rulebook", row["last_seq"])))
        tally.count("expired")
        return
    intent = intent_of(row)
    if Book.at_hand(desk, desk.ledger).next_release(intent.strategy, queued=False) > desk.now():
        tally.count("paced")
        return
    if _outside_band(desk, row, intent, tally):
        return
    if intent.order_class is OrderClass.EXIT:
        if _exit_denied(desk, row, intent, tally):
            return
        working = desk.ledger.find("orders", strategy=intent.strategy, symbol=intent.symbol, side=Side.SELL.value, state=OPEN_AT_BROKER)
        cancel(desk, working, f"the position is closed by action {intent.action_id}", "cycle", tally)
    parts = _parts(desk, intent)
    if not parts:
        _void(desk, row, f"nothing is held of {intent.symbol} any more: what protected the position has closed it", tally)
        return
    for part in parts:
        with desk.ledger.transaction() as tx:
            action = tx.get("actions", row["action_id"])
            first = part.part in ("entry", "exit")
            if action is None or (first and action["state"] not in RELEASABLE):
                return
            tally.saw(tx.append(*_intents(desk, cycle, part, row)))
        if not _gate_and_submit(desk, part, tally):
            return


def _too_late(desk: Desk, row: Row) -> str:
    now = desk.now()
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


def _exit_denied(desk: Desk, row: Row, intent: OrderIntent, tally: Tally) -> bool:
    """Void an exit that the gate would deny before anything that protects the position is cancelled for it."""
    mismatched = settled_mismatches(desk, tally)
    strategy, parts = desk.ledger.get("strategies", intent.strategy), _parts(desk, intent)
    if strategy is None or not parts:
        return False
    context = _context(desk, desk.ledger, spec_of(strategy), parts[0], release=desk.now(), mismatched=mismatched)
    judgement = judge(parts[0], context)
    if judgement.passed:
        return False
    _void(desk, row, f"denied before its protection was touched: {judgement.reason}", tally)
    return True


def _void(desk: Desk, row: Row, reason: str, tally: Tally) -> None:
    with desk.ledger.transaction() as tx:
        tally.saw(void(tx, row, reason, desk.now(), "rulebook", row["last_seq"]))
    tally.count("voided")


def _parts(desk: Desk, intent: OrderIntent) -> list[OrderIntent]:
    """The orders of one action: one entry, or an exit cut so that no order passes the hard limit (D1); none when nothing is left."""
    if intent.order_class is not OrderClass.EXIT:
        return [intent]
    held = sum(row["quantity"] for row in desk.ledger.find("positions", strategy=intent.strategy, symbol=intent.symbol))
    quantities = split_exit(min(intent.quantity, held), intent.reference) if held > 0 else []
    return [replace(intent, quantity=many, part="exit" if at == 0 else f"exit-{at + 1}") for at, many in enumerate(quantities)]


def _context(
    desk: Desk, reader: Reader, spec: StrategySpec, intent: OrderIntent, *, release: datetime | None, mismatched: Mapping[str, str]
) -> RiskContext:
    outside = look(desk, reader, [intent.symbol], spec.interval, mismatched=mismatched)
    return Book.read(desk, reader, outside).context(spec, intent, release=release)


def _approved(tx: Transaction, versions: tuple[int, int], spec: StrategySpec, intent: OrderIntent) -> Verdict | None:
    """In Mode 1 a person's approval of this very action, under the limits as they are (invariants 44, 48); None where none is needed."""
    if spec.mode is not Mode.APPROVAL or intent.order_class is OrderClass.PROTECTIVE:
        return None
    approval = tx.get("approvals", intent.action_id)
    decided = approval is not None and approval["decided_by"] is not None and approval["state"] == ActionState.CONSUMED.value
    shown = json.loads(approval["shown"]) if approval is not None else {}
    under = (shown.get("account_limits_version"), shown.get("limits_version"))
    told = "approved under limits {} of the account and {} of the strategy"
    measured = told.format(*under) if decided else "not approved"
    return Verdict("approval", Outcome.ALLOW if decided and under == versions else Outcome.DENY, measured, told.format(*versions))


def _gate_and_submit(desk: Desk, intent: OrderIntent, tally: Tally) -> bool:
    """Judge once more on fresh inputs in the transaction of the submission, then send; whether it was sent."""
    ticket = ticket_of(intent)
    name = intent.client_id
    mismatched = settled_mismatches(desk, tally)
    with desk.ledger.transaction() as tx:
        row, strategy = tx.get("orders", name), tx.get("strategies", intent.strategy)
        if row is None or strategy is None or row["state"] != OrderState.INTENT.value:
            return False
        spec = spec_of(strategy)
        versions = in_force(desk, tx), strategy["limits_version"]
        judgement = judge(intent, _context(desk, tx, spec, intent, release=None, mismatched=mismatched))
        approval = _approved(tx, versions, spec, intent)
        if approval is not None:
            judgement = Judgement((*judgement.verdicts, approval))
        payload = {
            "stage": "gate", "action_id": intent.action_id, "client_id": name, "strategy": intent.strategy, "symbol": intent.symbol,
            "side": intent.side.value, "order_class": intent.order_class.value, "passed": judgement.passed, "reason": judgement.reason,
            "intent": None, "verdicts": judgement.as_json(), "account_limits_version": versions[0], "limits_version": versions[1],
        }
        key = f"risk.evaluated:gate:{name}"
        stream = f"strategy:{intent.strategy}"
        verdict = NewEvent(EventType.RISK_EVALUATED, stream, key, payload, desk.now(), "rulebook", row["intent_seq"])
        [evaluated] = tally.saw(tx.append(verdict))
        if not judgement.passed:
            tally.saw(tx.append(*_denials(tx, row, judgement.reason, desk.now())))
            tally.count("denied")
            return False
        digest = ticket_digest(ticket)
        facts = {"digest": digest, "ticket": encode(ticket), "verdict_seq": evaluated.seq}
        family = _family(tx, row)
        submitted = tally.saw(
            tx.append(*(order_event(EventType.ORDER_SUBMITTED, each, facts, desk.now(), "desk", evaluated.seq) for each in family))
        )
        permit = Permit(name, digest, desk.now(), submitted[0].seq, intent.strategy)
    tally.count("submitted")
    _send(desk, ticket, permit, tally)
    return True


def _send(desk: Desk, ticket: Ticket, permit: Permit, tally: Tally) -> None:
    type_, facts, heard = EventType.ORDER_ACCEPTED, {}, "accepted"
    try:
        order = desk.broker.submit(ticket, permit)
        facts = {"broker_order_id": order.broker_order_id}
    except (BrokerRefused, BrokerNotReady) as refusal:
        type_, facts, heard = EventType.ORDER_REJECTED, {"reason": refusal.message}, "rejected"
    except OutcomeUnknown as unknown:
        type_, facts, heard = EventType.ORDER_UNKNOWN, {"reason": unknown.message}, "unknown"
    with desk.ledger.transaction() as tx:
        row = tx.get("orders", ticket.client_id)
        assert row is not None
        for each in _family(tx, row):
            if each["state"] == OrderState.SUBMITTED.value:
                # The broker's number in its answer is the parent's; its children have numbers of their own.
                told = facts if each is row else {name: value for name, value in facts.items() if name != "broker_order_id"}
                tally.saw(tx.append(order_event(type_, each, told, desk.now(), f"broker:{desk.broker.name}", permit.submitted_seq)))
    tally.count(heard)


def ticket_of(intent: OrderIntent) -> Ticket:
    """The order as the broker gets it, its stops and targets as OCO children."""
    children: list[Ticket] = []
    for number, bracket in enumerate(intent.brackets, start=1):
        group = f"{intent.client_id}-{number}" if bracket.target is not None else None
        stop = client_id(intent.action_id, f"stop-{number}")
        rests = (TimeInForce.GTC, (), group)
        children.append(Ticket(stop, intent.symbol, Side.SELL, bracket.quantity, OrderType.STOP, None, bracket.stop, *rests))
        if bracket.target is not None:
            target = client_id(intent.action_id, f"target-{number}")
            children.append(Ticket(target, intent.symbol, Side.SELL, bracket.quantity, OrderType.LIMIT, bracket.target, None, *rests))
    return Ticket(
        intent.client_id, intent.symbol, intent.side, intent.quantity, intent.order_type, intent.limit_price, intent.stop_price,
        intent.time_in_force, tuple(children),
    )


def _intents(desk: Desk, cycle: Cycle, intent: OrderIntent, action: Row) -> list[NewEvent]:
    """`order.intent` of an order and of its children, one commit for all."""
    ticket = ticket_of(intent)
    named = [f"{kind}-{number}" for number in range(1, len(intent.brackets) + 1) for kind in ("stop", "target")]
    parts = {client_id(intent.action_id, part): part for part in named}
    events = []
    for each in (ticket, *ticket.children):
        child = each is not ticket
        payload: dict[str, Any] = {
            "cycle": cycle.cycle_id, "client_id": each.client_id, "action_id": intent.action_id,
            "part": parts[each.client_id] if child else intent.part,
            "parent": ticket.client_id if child else None, "oco": each.oco, "account": intent.account, "environment": intent.environment,
            "strategy": intent.strategy, "symbol": each.symbol, "side": each.side.value,
            "order_class": OrderClass.PROTECTIVE.value if child else intent.order_class.value, "order_type": each.order_type.value,
            "time_in_force": each.time_in_force.value, "quantity": each.quantity, "reference": intent.reference,
            "limit_price": each.limit_price, "stop_price": each.stop_price, "session": cycle.session,
        }
        key = f"order.intent:{each.client_id}"
        events.append(NewEvent(EventType.ORDER_INTENT, f"strategy:{intent.strategy}", key, payload, desk.now(), "desk", action["last_seq"]))
    return events


def _stored_intent(row: Row, action: Row) -> OrderIntent:
    """The intent of an order that was written down before a crash."""
    intent = intent_of(action)
    return replace(intent, part=row["part"], quantity=row["quantity"])


def _family(tx: Transaction, row: Row) -> list[Row]:
    """An order and its children."""
    return [row, *tx.find("orders", parent=row["client_id"])]


def _denials(tx: Transaction, row: Row, reason: str, at: datetime) -> list[NewEvent]:
    return [
        order_event(EventType.ORDER_DENIED, each, {"reason": reason}, at, "rulebook")
        for each in _family(tx, row)
        if each["state"] == OrderState.INTENT.value
    ]
