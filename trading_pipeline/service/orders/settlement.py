"""What the broker says of our orders, written down: executions, ends, answers that came late; and the request to cancel.

Each execution is booked once by its id, in order of time, with splits at their place in between. An order that the broker
does not show is given up only when two looks found nothing; one that appears after that is cancelled and its fills are
booked. Nothing here ever sends an order: that is `execution`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.orders import OrderState, Side
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.domain.projections import Row
from trading_pipeline.errors import BrokerNotReady
from trading_pipeline.ports import BrokerOrder, BrokerStatus, Reader, Transaction
from trading_pipeline.service.accounting import mismatches
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.coverage import booked_splits
from trading_pipeline.service.orders import absence, corporate_actions, overfills
from trading_pipeline.service.orders.absence import ACCEPTED, UNPROVEN
from trading_pipeline.service.orders.adoption import (
    adopt,
    adopt_fill,
    believed,
    correct,
    fill_payload,
    flaws,
    is_ours,
    is_restated,
    refusal_key,
    since_funding,
    since_the_book_began,
)
from trading_pipeline.service.orders.corporate_actions import DueSplit
from trading_pipeline.service.orders.late_orders import GIVEN_UP, found_late
from trading_pipeline.service.orders.order_facts import again, doubt, misheard, order_event
from trading_pipeline.service.steps import Tally

OPEN_AT_BROKER = (
    OrderState.SUBMITTED.value, OrderState.ACCEPTED.value, OrderState.PARTIAL.value, OrderState.UNKNOWN.value,
    OrderState.CANCEL_PENDING.value,
)
RESTATED_WITHIN = timedelta(days=7)
"""As far back executions are asked for again where book and broker differ: one may have been restated over a long weekend."""
SLACK = timedelta(days=1)
"""A fill may be stamped with its bar's start, before the order went out."""
OVERLAP = timedelta(days=1)
"""Executions are asked for from this long before the last one booked: each is applied once by its id."""


def settle(desk: Desk, tally: Tally, overlap: timedelta = OVERLAP) -> None:
    """Ask the broker for executions and states, and write down what is new; one that is not ready is asked again next time (D23).

    Args:
        overlap: From how long before the last execution booked on; those that are booked may be restated.
    """
    try:
        _settle(desk, tally, overlap)
    except BrokerNotReady as unready:
        tally.count("broker_not_ready")
        tally.notes.append(unready.message)


def settled_mismatches(desk: Desk, tally: Tally) -> dict[str, str]:
    """Where book and broker disagree once everything the broker has said is booked."""
    if mismatches(desk):
        settle(desk, tally, RESTATED_WITHIN)
        return mismatches(desk)
    return {}


def _settle(desk: Desk, tally: Tally, overlap: timedelta) -> None:
    executions = believed(desk, _stated(desk, _asked_since(desk, overlap)), tally)
    # Of one instant purchases come first: a stop cannot have sold before its entry bought.
    executions.sort(key=lambda each: (each[1].at, each[1].side is Side.SELL))
    splits = corporate_actions.possible(desk, desk.ledger, (fill for _, fill in executions))
    symbols = {split.symbol for split in splits}
    restated = _restated(desk, desk.ledger.find("orders", state=OPEN_AT_BROKER, symbol=symbols), executions) if symbols else {}
    strangers = _strangers(desk, executions)
    found = [order for order in desk.broker.orders(strangers) if order.status in _WORKS] if strangers else []
    working = {order.client_id: since_the_book_began(desk, order) for order in found}
    with desk.ledger.transaction() as tx:
        booked = _booked(tx, executions)
        for name, fill in executions:
            while splits and splits[0].at <= fill.at:
                _split(desk, tx, splits.pop(0), restated, tally)
            # A busy day's executions are told again by each answer, and nearly all of them say nothing new.
            row = booked.get(fill.execution_id)
            if row is None or is_restated(tx, row, fill):
                _book(desk, tx, name, fill, working.get(name), tally)
        for split in splits:
            _split(desk, tx, split, restated, tally)
    # A cancel that did not get through is sent again: it is idempotent, and an order that was to go must go.
    stuck = _learn(desk, tally)
    for name in stuck:
        desk.broker.cancel(name)
    if stuck:
        _learn(desk, tally)
    overfills.set_aside(desk, tally)


def _booked(reader: Reader, executions: Sequence[tuple[str, Fill]]) -> dict[str, Row]:
    """Those that are in the book already, by id."""
    return {row["execution_id"]: row for row in reader.find("fills", execution_id=[fill.execution_id for _, fill in executions])}


def _strangers(desk: Desk, executions: Sequence[tuple[str, Fill]]) -> set[str]:
    """Orders under names of ours that this ledger never wrote, of which executions are told."""
    booked = _booked(desk.ledger, executions)
    told = {name for name, fill in executions if fill.execution_id not in booked and is_ours(name) and _is_news(desk, fill)}
    return told - {row["client_id"] for row in desk.ledger.find("orders", client_id=told)} if told else told


def _is_news(desk: Desk, fill: Fill) -> bool:
    return desk.ledger.event_by_key(f"fill:{fill.execution_id}") is None


def _restated(desk: Desk, resting: Sequence[Row], executions: Sequence[tuple[str, Fill]]) -> dict[str, BrokerOrder]:
    """What the broker made of resting orders at a split.

    Raises:
        BrokerNotReady: It does not show one that it has accepted: one wrongly empty answer would leave it on the old scale for good.
    """
    stated = {order.client_id: order for order in desk.broker.orders([row["client_id"] for row in resting])} if resting else {}
    for row in resting:
        name, order = row["client_id"], stated.get(row["client_id"])
        coming = sum(fill.quantity for client_id, fill in executions if client_id == name and _is_news(desk, fill))
        # What was taken over has filled before the book began as well.
        if order is not None and row["part"] != "adopted" and order.filled_quantity > row["filled_quantity"] + coming:
            raise BrokerNotReady(
                f"The broker has filled {order.filled_quantity} of the order {name} of {row['symbol']} and has not told of all of it.",
                value=name, rule="a split is booked after every execution before it", remedy="it is asked again by the next cycle",
            )
        if row["state"] in ACCEPTED and row["client_id"] not in stated:
            raise BrokerNotReady(
                f"The broker does not show the order {row['client_id']} of {row['symbol']}, which it has accepted.", value=row["client_id"],
                rule="a split is booked with what it made of every resting order", remedy="it is asked again by the next cycle",
            )
    return stated


def _split(desk: Desk, tx: Transaction, split: DueSplit, restated: Mapping[str, BrokerOrder], tally: Tally) -> None:
    if tally.saw(corporate_actions.record(desk, tx, split, restated)):
        tally.count("splits")
        tally.notes.append(f"{split.symbol} was split {split.ratio.normalize():f} for 1")


def _learn(desk: Desk, tally: Tally) -> list[str]:
    """Write down what the broker states of open orders; returns those that still work though they are to be cancelled."""
    open_rows = _may_work(desk)
    if not open_rows:
        return []
    asked_at = desk.now()
    stated = {order.client_id: order for order in desk.broker.orders(open_rows.keys())}
    absent = [name for name in open_rows.keys() - stated.keys() if open_rows[name]["state"] in UNPROVEN]
    more = any(stated[name].filled_quantity > row["filled_quantity"] for name, row in open_rows.items() if name in stated)
    held = desk.broker.positions() if absent or more else {}
    with desk.ledger.transaction() as tx:
        for name, order in stated.items():
            row = tx.get("orders", name)
            if row is not None:
                _follow(desk, tx, row, order, held, tally)
        for name in sorted(absent):
            row = tx.get("orders", name)
            if row is not None:
                absence.absent(desk, tx, row, held, asked_at, tally)
        cancelling = {row["client_id"] for row in tx.find("orders", state=(OrderState.CANCEL_PENDING.value, OrderState.QUARANTINED.value))}
    return [name for name, order in stated.items() if name in cancelling and order.status in _WORKS]


def _may_work(desk: Desk) -> dict[str, Row]:
    """Orders that the broker may have at work, and those that are not to be: given up, or set aside, by name."""
    asked = [*desk.ledger.find("orders", state=(*OPEN_AT_BROKER, OrderState.QUARANTINED.value)), *_given_up(desk)]
    return {row["client_id"]: row for row in asked}


def _given_up(desk: Desk) -> list[Row]:
    """Orders that were given up as absent, watched until the end of the next session: one may yet appear (invariant 15)."""
    day = desk.today()
    since = desk.calendar.previous(day).open if day > desk.calendar.first.day else desk.calendar.first.open
    watched = desk.ledger.find("orders", state=OrderState.NOT_PLACED.value, since=("submitted_at", since))
    # Cancelled without ever having been heard of: proven absent, or cancelled before it came.
    canceled = OrderState.CANCELED.value
    return watched + desk.ledger.find("orders", since=("submitted_at", since), state=canceled, broker_order_id=None, parent=None)


def _stated(desk: Desk, since: datetime) -> list[tuple[str, Fill]]:
    """Executions as the broker states them now: of one delivered with its correction under one id, what was said last."""
    return list({(fill.execution_id, name, fill.symbol): (name, fill) for name, fill in desk.broker.executions(since)}.values())


def _asked_since(desk: Desk, overlap: timedelta) -> datetime:
    """From when on executions are asked for: before the last one booked, and before the oldest order that may still have some."""
    newest = desk.ledger.find("fills", order_by="at", descending=True, limit=1)
    since: datetime = newest[0]["at"] - overlap if newest else desk.calendar.first.open
    live = [row["submitted_at"] for row in [*desk.ledger.find("orders", state=OPEN_AT_BROKER), *_given_up(desk)] if row["submitted_at"]]
    oldest: datetime = min([since, *(at - SLACK for at in live)])
    return oldest


def news(desk: Desk) -> str:
    """A name for all that the broker knows and the ledger does not; empty when there is nothing. Writes nothing."""
    since = _asked_since(desk, OVERLAP)
    booked = {row["execution_id"]: row for row in desk.ledger.find("fills", since=("at", since))}
    heard = []
    stated = _stated(desk, since)
    for (name, fill), why in zip(stated, flaws(desk, stated), strict=True):
        if why:
            heard += [refusal_key(fill)] if desk.ledger.event_by_key(refusal_key(fill)) is None else []
            continue
        row = booked.get(fill.execution_id)
        if row is None:
            new = _is_news(desk, fill)
            if new and (desk.ledger.get("orders", name) is not None or since_funding(desk, desk.ledger, fill)):
                heard.append(f"fill:{fill.execution_id}")
        elif is_restated(desk.ledger, row, fill):
            heard.append(f"restated:{fill.execution_id}:{fill.price}:{fill.commission}")
    left = desk.ledger.find("orders", state=OrderState.INTENT.value, parent=None)
    heard += [f"intent:{row['client_id']}" for row in left if desk.now() >= row["intent_at"] + absence.SECOND_LOOK]
    heard += [split.key for split in corporate_actions.pending(desk, desk.ledger)]
    heard += _unsnapshotted(desk)
    heard += [f"overfill:{order['client_id']}:{position['last_seq']}" for position, order in overfills.unexplained(desk)]
    rows = _may_work(desk)
    for order in desk.broker.orders(rows.keys()) if rows else []:
        row = rows[order.client_id]
        unresolved = row["state"] in _ACTED_ON and order.status in _WORKS
        if unresolved or (order.status in _ENDED and row["state"] in (*_MAY_END, OrderState.SUBMITTED.value, OrderState.NOT_PLACED.value)):
            heard.append(f"{order.status.value}:{order.client_id}:{row['last_seq']}")
    overdue = [row for row in rows.values() if row["state"] in UNPROVEN and desk.now() >= absence.asked_again_at(desk, desk.ledger, row)]
    heard += [f"absent:{row['client_id']}:{row['last_seq']}" for row in overdue]
    return "+".join(heard) if len(heard) <= 2 else f"{len(heard)}:{hashlib.sha256('+'.join(heard).encode()).hexdigest()[:16]}"


def _unsnapshotted(desk: Desk) -> list[str]:
    """The newest fill, when the portfolio has not been looked at since: the desk's process books without a run."""
    fills = desk.ledger.find("fills", order_by="seq", descending=True, limit=1)
    snapshots = desk.ledger.find("snapshots", order_by="seq", descending=True, limit=1)
    if not fills or (snapshots and snapshots[0]["seq"] > fills[0]["seq"]):
        return []
    return [f"snapshot:{fills[0]['execution_id']}"]


def cancel(desk: Desk, rows: Sequence[Row], reason: str, actor: str, tally: Tally, *, leased: bool = True) -> None:
    """Ask the broker to cancel working orders, the request committed first, and book what became of them.

    Args:
        leased: Whether the caller has the submitter's lease: then a submission without an answer is a crashed one, in doubt like
            any other. Without it that one is on its way, and `withdrawn` finds it once it has been answered.
    """
    for row in rows:
        with desk.ledger.transaction() as tx:
            current = tx.get("orders", row["client_id"])
            if current is None or current["state"] not in OPEN_AT_BROKER:
                continue
            if current["state"] == OrderState.SUBMITTED.value and not leased:
                continue
            if current["state"] == OrderState.SUBMITTED.value:
                tally.saw(tx.append(doubt(current, desk.now())))
                current = tx.get("orders", row["client_id"]) or current
            if current["state"] != OrderState.CANCEL_PENDING.value:
                event = order_event(EventType.ORDER_CANCEL_REQUESTED, current, {"reason": reason}, desk.now(), actor)
                tally.saw(tx.append(replace(event, key=f"{event.key}:{current['last_seq']}")))
        desk.broker.cancel(row["client_id"])
        tally.count("cancel_requested")
    if rows:
        settle(desk, tally)


def _book(desk: Desk, tx: Transaction, name: str, fill: Fill, working: BrokerOrder | None, tally: Tally) -> None:
    """Book an execution once.

    Args:
        working: Its order, where the broker has it open and this ledger never wrote it: what it has filled is known of it then.
    """
    stored = tx.event_by_key(f"fill:{fill.execution_id}")
    if stored is not None:
        correct(desk, tx, stored, fill, tally)
        return
    adopt(desk, tx, name, working if since_funding(desk, tx, fill) else None, tally)
    row = tx.get("orders", name)
    if row is None:
        adopt_fill(desk, tx, name, fill, tally)
        return
    if row["part"] == "adopted" and not since_funding(desk, tx, fill):
        return
    whole = row["filled_quantity"] + fill.quantity >= row["quantity"]
    type_ = EventType.ORDER_FILLED if whole else EventType.ORDER_PARTIALLY_FILLED
    payload = fill_payload(desk, name, row["strategy"], fill) | {
        "action_id": row["action_id"], "order_class": row["order_class"], "part": row["part"],
    }
    stream, key = f"strategy:{row['strategy']}", f"fill:{fill.execution_id}"
    tally.saw(tx.append(NewEvent(type_, stream, key, payload, desk.now(), f"broker:{desk.broker.name}", row["last_seq"])))
    tally.count("filled" if whole else "partially_filled")


def _fills_are_untold(reader: Reader, row: Row, order: BrokerOrder) -> bool:
    """Whether the broker has filled more of it than it has told of, under whatever name that was booked."""
    # What was taken over has filled before the book began as well.
    if row["part"] == "adopted" or order.filled_quantity <= row["filled_quantity"]:
        return False
    told: int = sum(fill["quantity"] for fill in reader.find("fills", client_id=row["client_id"]))
    # Shares of two scales cannot be compared.
    rescaled = any(split.effective_at > row["intent_at"] for split in booked_splits(reader, row["symbol"]))
    return order.filled_quantity > told and not rescaled


_ENDED = {
    BrokerStatus.CANCELED: (EventType.ORDER_CANCELED, "canceled"),
    BrokerStatus.EXPIRED: (EventType.ORDER_EXPIRED, "order_expired"),
    BrokerStatus.REJECTED: (EventType.ORDER_REJECTED, "rejected"),
}
_MAY_END = (OrderState.ACCEPTED.value, OrderState.PARTIAL.value, OrderState.UNKNOWN.value, OrderState.CANCEL_PENDING.value)
"""A submission that is still on its way ends nowhere: its answer, or `recover`, comes first."""
_WORKS = (BrokerStatus.WORKING, BrokerStatus.HELD)
_ACTED_ON = (*UNPROVEN, OrderState.SUBMITTED.value, *GIVEN_UP)
"""Of these, that the broker shows them working is something to act on at once; what is set aside is cancelled again when reconciling."""


def _follow(desk: Desk, tx: Transaction, row: Row, order: BrokerOrder, held: Mapping[str, int], tally: Tally) -> None:
    """Write down a state that the broker states and the ledger does not have yet, and that it shows what was looked for in vain."""
    actor = f"broker:{desk.broker.name}"
    found = row["state"] in (OrderState.UNKNOWN.value, OrderState.SUBMITTED.value) and order.status in _WORKS
    wrong = misheard(row, order.ticket) if found else ""
    if wrong:
        tally.saw(tx.append(again(tx, order_event(EventType.ORDER_QUARANTINED, row, {"reason": wrong}, desk.now(), actor))))
        tally.notes.append(f"the order {row['client_id']} is set aside: {wrong}")
    elif found:
        event = order_event(EventType.ORDER_ACCEPTED, row, {"broker_order_id": order.broker_order_id}, desk.now(), actor)
        tally.saw(tx.append(again(tx, event)))
        tally.count("accepted")
    elif row["state"] in GIVEN_UP and order.status in _WORKS:
        found_late(desk, tx, row, order.broker_order_id, tally)
    elif row["state"] == OrderState.NOT_PLACED.value and order.status in _ENDED:
        found_late(desk, tx, row, order.broker_order_id, tally)
        current = tx.get("orders", row["client_id"]) or row
        tally.saw(tx.append(again(tx, order_event(EventType.ORDER_CANCELED, current, {"reason": order.reason}, desk.now(), actor))))
    elif (
        order.status in _ENDED and row["state"] in _MAY_END and _fills_are_untold(tx, row, order)
        and absence.wait_for_fills(desk, tx, row, order, held, tally)
    ):
        # It sold or bought before it ended. Over now, it would leave shares to others that are gone, or were never bought.
        return
    elif order.status in _ENDED and row["state"] in _MAY_END:
        type_, heard = _ENDED[order.status]
        if row["state"] == OrderState.CANCEL_PENDING.value:
            type_, heard = EventType.ORDER_CANCELED, "canceled"
        tally.saw(tx.append(again(tx, order_event(type_, row, {"reason": order.reason}, desk.now(), actor))))
        tally.count(heard)
    elif row["state"] in UNPROVEN:
        absence.shown(desk, tx, row, tally)
        if order.status is BrokerStatus.FILLED:
            # Its executions say so as well, and end it, unless they were booked as a stranger's.
            absence.give_to_a_person(desk, tx, row, tally)
