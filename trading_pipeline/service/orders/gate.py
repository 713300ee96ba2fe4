"""The gate: the only way to a broker's order entry (invariants 22, 23, 32, 52).

An intent is judged once more on fresh inputs in the transaction that commits its submission; that transaction also makes sure that
the submitter's lease is still its own and that no stop stands. Then the submission is anchored outside the ledger, and only then is
the broker called, once, at the one place there is. A crash in between leaves a question that `settlement` asks the broker; nothing is
ever sent a second time.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.limits import APPROVED_TTL
from trading_pipeline.domain.orders import OrderClass, OrderIntent, OrderState, OrderType, Side, TimeInForce, client_id
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.risk import Judgement, Outcome, Quote, Verdict
from trading_pipeline.domain.rulebook import judge
from trading_pipeline.domain.strategies import Mode, StrategySpec
from trading_pipeline.errors import BrokerError, BrokerNotReady, BrokerRefused, OrderExists
from trading_pipeline.ports import Fence, Permit, Reader, Ticket, Transaction, lapses_in, ticket_digest
from trading_pipeline.service.account_limits import in_force
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.book import Book, intent_of
from trading_pipeline.service.judging.outside import look
from trading_pipeline.service.orders.adoption import latch
from trading_pipeline.service.orders.late_orders import GIVEN_UP, found_late
from trading_pipeline.service.orders.order_facts import denied, misheard, order_event
from trading_pipeline.service.orders.settlement import settled_mismatches
from trading_pipeline.service.record.anchoring import anchor_at
from trading_pipeline.service.steps import Tally, spec_of

PERMIT_SECONDS = 5.0
"""Real time from the commit of a submission to its sending: a process that was stopped in between sends nothing."""


def gate_and_submit(desk: Desk, fence: Fence, intent: OrderIntent, tally: Tally) -> bool:
    """Judge once more on fresh inputs in the transaction of the submission, then send; whether it was sent.

    Raises:
        Fenced: The submitter's lease has passed on: nothing was written, nothing is sent.
    """
    ticket = ticket_of(intent)
    name = intent.client_id
    mismatched = settled_mismatches(desk, tally)
    if intent.order_class is OrderClass.EXIT and not mismatched.keys().isdisjoint(("*", intent.symbol)):
        # Nobody can compare just now, and what protects the position is cancelled for it: the next turn gates it.
        tally.notes.append(mismatched.get(intent.symbol) or mismatched["*"])
        return False
    with desk.ledger.transaction() as tx:
        tx.require(fence)
        row, strategy = tx.get("orders", name), tx.get("strategies", intent.strategy)
        if row is None or strategy is None or row["state"] != OrderState.INTENT.value:
            return False
        spec = spec_of(strategy)
        versions = in_force(desk, tx), strategy["limits_version"]
        outside = look(desk, tx, [intent.symbol], spec.interval, mismatched=mismatched)
        judgement = judged(tx, Book.read(desk, tx, outside), spec, intent)
        payload = {
            "stage": "gate", "action_id": intent.action_id, "client_id": name, "strategy": intent.strategy, "symbol": intent.symbol,
            "side": intent.side.value, "order_class": intent.order_class.value, "passed": judgement.passed, "reason": judgement.reason,
            "intent": None, "verdicts": judgement.as_json(), "account_limits_version": versions[0], "limits_version": versions[1],
            "outside": encode(outside),
        }
        key = f"risk.evaluated:gate:{name}"
        stream = f"strategy:{intent.strategy}"
        verdict = NewEvent(EventType.RISK_EVALUATED, stream, key, payload, desk.now(), "rulebook", row["intent_seq"])
        [evaluated] = tally.saw(tx.append(verdict))
        now = desk.now()
        why = denied_for(judgement, row, now)
        if why:
            tally.saw(tx.append(*denials(tx, row, why, now)))
            tally.count("denied")
            return False
        digest = ticket_digest(ticket)
        facts = {"digest": digest, "ticket": encode(ticket), "verdict_seq": evaluated.seq, "lease": fence.token}
        family = family_of(tx, row)
        submitted = tally.saw(
            tx.append(*(order_event(EventType.ORDER_SUBMITTED, each, facts, now, "desk", evaluated.seq) for each in family))
        )
        permit = Permit(name, digest, submitted[0].seq, intent.strategy, *lapses_in(PERMIT_SECONDS))
    tally.count("submitted")
    # A ledger that is put back to before this is found when it is opened, whatever the broker shows by then (C14).
    unanchored = anchor_at(desk, submitted[-1])
    if unanchored:
        tally.notes.append(f"the submission of {name} could not be kept outside the ledger: {unanchored}")
    _send(desk, ticket, permit, tally)
    return True


def denied_for(judgement: Judgement, row: Row, now: datetime) -> str:
    """Why an intent is not sent: the rules that stopped it, or else its age; empty where it is."""
    if judgement.passed and is_stale(row, now):
        return f"stale: not sent within {APPROVED_TTL.seconds} s"
    return judgement.reason


def is_stale(row: Row, now: datetime) -> bool:
    """Whether an intent has waited too long to be sent (invariant 47); what protects a position is never too late."""
    return row["order_class"] != OrderClass.PROTECTIVE.value and bool(now >= row["intent_at"] + APPROVED_TTL)


def judged(reader: Reader, book: Book, spec: StrategySpec, intent: OrderIntent) -> Judgement:
    """All verdicts on what is about to be sent; the same book gives the same."""
    judgement = judge(intent, book.context(spec, intent, release=None))
    versions = book.account_limits_version or 0, book.strategies[spec.name]["limits_version"]
    approval = _approved(reader, versions, spec, intent, book.outside.quotes.get(intent.symbol))
    return judgement if approval is None else Judgement((*judgement.verdicts, approval))


def _approved(
    reader: Reader, versions: tuple[int, int], spec: StrategySpec, intent: OrderIntent, quote: Quote | None,
) -> Verdict | None:
    """In Mode 1 a person's approval of this very order, under the limits as they are (invariants 44, 48); None where none is needed."""
    if spec.mode is not Mode.APPROVAL or intent.order_class is OrderClass.PROTECTIVE:
        return None
    approval = reader.get("approvals", intent.action_id)
    decided = approval is not None and approval["decided_by"] is not None and approval["state"] == ActionState.CONSUMED.value
    shown = json.loads(approval["shown"]) if approval is not None else {}
    under = (shown.get("account_limits_version"), shown.get("limits_version"))
    told = "approved under limits {} of the account and {} of the strategy"
    other = _other_than_shown(shown, intent) if decided else ""
    if approval is not None and quote is not None and not other and not approval["price_low"] <= quote.last <= approval["price_high"]:
        other = f"the price moved to {quote.last}, outside {approval['price_low']:.4f} to {approval['price_high']:.4f}"
    measured = (other or told.format(*under)) if decided else "not approved"
    fits = decided and not other and under == versions
    return Verdict("approval", Outcome.ALLOW if fits else Outcome.DENY, measured, told.format(*versions))


def _other_than_shown(shown: Mapping[str, Any], intent: OrderIntent) -> str:
    """Where the order is another than a person saw; empty when it is the same, or less of an exit: slices, and what a target left."""
    meant = {
        "account": intent.account, "environment": intent.environment, "strategy": intent.strategy, "symbol": intent.symbol,
        "side": intent.side.value, "order_class": intent.order_class.value, "order_type": intent.order_type.value,
        "time_in_force": intent.time_in_force.value, "reference": format(intent.reference, "f"),
        "limit_price": None if intent.limit_price is None else format(intent.limit_price, "f"),
        "brackets": [encode(bracket) for bracket in intent.brackets],
    }
    changed = [name for name, value in meant.items() if shown.get(name) != value]
    seen = shown.get("quantity", 0)
    if intent.quantity > seen or (intent.quantity < seen and intent.order_class is OrderClass.ENTRY):
        changed.append("quantity")
    return f"another {', '.join(changed)} than was shown" if changed else ""


_WHILE_DOUBTED = {
    (EventType.ORDER_REJECTED, OrderState.UNKNOWN.value): EventType.ORDER_REJECTED,
    (EventType.ORDER_REJECTED, OrderState.CANCEL_PENDING.value): EventType.ORDER_CANCELED,
}
"""An answer may come after somebody else has doubted the order, or a stop has cancelled it: that nothing was placed settles both."""


def _send(desk: Desk, ticket: Ticket, permit: Permit, tally: Tally) -> None:
    type_, facts, heard, older = EventType.ORDER_ACCEPTED, {}, "accepted", False
    try:
        order = desk.broker.submit(ticket, permit)
        facts = {"broker_order_id": order.broker_order_id}
        row = desk.ledger.get("orders", ticket.client_id)
        wrong = misheard(row, order.ticket) if row is not None else ""
        if wrong:
            type_, facts, heard = EventType.ORDER_QUARANTINED, facts | {"reason": wrong}, "quarantined"
    except (BrokerRefused, BrokerNotReady) as refusal:
        type_, facts, heard = EventType.ORDER_REJECTED, {"reason": refusal.message}, "rejected"
    except BrokerError as unknown:
        # OutcomeUnknown, or an answer that nobody can read: whether it was placed, only a query can tell.
        type_, facts, heard = EventType.ORDER_UNKNOWN, {"reason": unknown.message}, "unknown"
        older = isinstance(unknown, OrderExists)
    with desk.ledger.transaction() as tx:
        if older:
            # It is sent once, ever: whoever placed the other one is not in this ledger (C14).
            latch(desk, tx, f"the broker has an order {ticket.client_id} already, and this ledger sends it for the first time", tally)
        row = tx.get("orders", ticket.client_id)
        assert row is not None
        for each in family_of(tx, row):
            said = _WHILE_DOUBTED.get((type_, each["state"])) if each["state"] != OrderState.SUBMITTED.value else type_
            if said is not None:
                # The broker's number in its answer is the parent's; its children have numbers of their own.
                told = facts if each is row else {name: value for name, value in facts.items() if name != "broker_order_id"}
                tally.saw(tx.append(order_event(said, each, told, desk.now(), f"broker:{desk.broker.name}", permit.submitted_seq)))
            elif type_ is EventType.ORDER_ACCEPTED and each["state"] in GIVEN_UP:
                found_late(desk, tx, each, facts["broker_order_id"] if each is row else "", tally)
    tally.count(heard)
    if heard == "quarantined":
        tally.notes.append(f"the order {ticket.client_id} is set aside and cancelled: {facts['reason']}")
    if heard == "quarantined" or row["state"] in (*GIVEN_UP, OrderState.CANCEL_PENDING.value):
        # It is not wanted any more, or never was: an answer that comes after a stop finds its order working.
        with suppress(BrokerNotReady):
            desk.broker.cancel(ticket.client_id)


def denial_ahead(desk: Desk, intent: OrderIntent, mismatched: Mapping[str, str], *, release: datetime | None = None) -> str:
    """Why the gate would deny it now, empty when it would not. Writes nothing.

    Args:
        release: As for `Book.context`: given, what protects the position counts as gone.
    """
    strategy = desk.ledger.get("strategies", intent.strategy)
    if strategy is None:
        return "its strategy does not exist"
    spec = spec_of(strategy)
    outside = look(desk, desk.ledger, [intent.symbol], spec.interval, mismatched=mismatched)
    return judge(intent, Book.read(desk, desk.ledger, outside).context(spec, intent, release=release)).reason


def names_of(intent: OrderIntent) -> list[str]:
    """Of the order and of its stops and targets."""
    ticket = ticket_of(intent)
    return [each.client_id for each in (ticket, *ticket.children)]


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
        intent.time_in_force, tuple(children), intent.oco,
    )


def intents_of(intent: OrderIntent, asked_by: str, session: date, at: datetime, cause: int) -> list[NewEvent]:
    """`order.intent` of an order and of its children, one commit for all.

    Args:
        asked_by: The cycle, or `protection`.
        cause: seq of the fact that led to it.
    """
    ticket = ticket_of(intent)
    named = [f"{kind}-{number}" for number in range(1, len(intent.brackets) + 1) for kind in ("stop", "target")]
    parts = {client_id(intent.action_id, part): part for part in named}
    events = []
    for each in (ticket, *ticket.children):
        child = each is not ticket
        payload: dict[str, Any] = {
            "cycle": asked_by, "client_id": each.client_id, "action_id": intent.action_id,
            "part": parts[each.client_id] if child else intent.part,
            "parent": ticket.client_id if child else None, "oco": each.oco, "account": intent.account, "environment": intent.environment,
            "strategy": intent.strategy, "symbol": each.symbol, "side": each.side.value,
            "order_class": OrderClass.PROTECTIVE.value if child else intent.order_class.value, "order_type": each.order_type.value,
            "time_in_force": each.time_in_force.value, "quantity": each.quantity, "reference": intent.reference,
            "limit_price": each.limit_price, "stop_price": each.stop_price, "session": session,
        }
        key = f"order.intent:{each.client_id}"
        events.append(NewEvent(EventType.ORDER_INTENT, f"strategy:{intent.strategy}", key, payload, at, "desk", cause))
    return events


def stored_intent(row: Row, action: Row) -> OrderIntent:
    """The intent of an order that was written down before a crash."""
    intent = intent_of(action)
    if row["order_class"] != OrderClass.PROTECTIVE.value:
        return replace(intent, part=row["part"], quantity=row["quantity"])
    return protective_intent(
        row, part=row["part"], quantity=row["quantity"], environment=intent.environment, reference=row["reference"], oco=row["oco"],
        limit_price=row["limit_price"], stop_price=row["stop_price"],
    )


def protective_intent(
    row: Row, *, part: str, quantity: int, environment: str, reference: Decimal, oco: str | None, limit_price: Decimal | None,
    stop_price: Decimal | None,
) -> OrderIntent:
    """A stop or target of its own, in the place of one of the row's action."""
    return OrderIntent(
        action_id=row["action_id"], part=part, account=row["account"], environment=environment, strategy=row["strategy"],
        symbol=row["symbol"], side=Side.SELL, order_class=OrderClass.PROTECTIVE, quantity=quantity,
        order_type=OrderType(row["order_type"]), reference=reference, limit_price=limit_price, stop_price=stop_price,
        time_in_force=TimeInForce.GTC, oco=oco,
    )


def family_of(tx: Transaction, row: Row) -> list[Row]:
    """An order and its children."""
    return [row, *tx.find("orders", parent=row["client_id"])]


def denials(tx: Transaction, row: Row, reason: str, at: datetime) -> list[NewEvent]:
    """`order.denied` of an order and of those of its children that were meant with it."""
    return denied(family_of(tx, row), reason, at, "rulebook")
