"""Orders that the broker does not show: when that is believed, what becomes of them, and when a person is asked (invariants 15, 20).

One answer may be wrongly empty. What works by the ledger is put in doubt when it was missed twice; what is in doubt, or was to be
cancelled, is given up when two more looks found nothing, with nothing heard of it in between.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.orders import OrderState
from trading_pipeline.domain.projections import Row
from trading_pipeline.ports import BrokerOrder, Reader, Transaction
from trading_pipeline.service.actors import RECOVERY
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.orders.order_facts import again, order_event
from trading_pipeline.service.steps import Tally

ACCEPTED = (OrderState.ACCEPTED.value, OrderState.PARTIAL.value)
"""The broker is known to have these."""
UNPROVEN = (OrderState.UNKNOWN.value, OrderState.CANCEL_PENDING.value)
"""Of these, that the broker does not show them is something to be proven."""
UNRESOLVED = timedelta(minutes=15)
"""An order in doubt for longer is a person's."""
SECOND_LOOK = timedelta(seconds=5)
"""One answer may be wrongly empty: absence is proven by two, this far apart at least."""
UNTOLD = timedelta(seconds=10)
"""Executions of an order that has ended come no later than this, or it is in doubt (C12)."""
_LOOK = "order.absent:"


def doubt_unshown(desk: Desk, missed: Mapping[str, datetime], tally: Tally) -> dict[str, datetime]:
    """Put in doubt what works by the ledger and was not shown by two answers, each asked for it by name.

    Args:
        missed: What this returned the last time.

    Returns:
        Since when the broker has not shown which orders.

    Raises:
        BrokerError: It cannot be asked.
    """
    rows = {row["client_id"]: row for row in desk.ledger.find("orders", state=ACCEPTED)}
    asked_at, since = desk.now(), dict[str, datetime]()
    shown = {order.client_id for order in desk.broker.orders(rows.keys())} if rows else set()
    for name in sorted(rows.keys() - shown):
        row = rows[name]
        if asked_at < row["submitted_at"] + desk.broker.capabilities.visibility:
            continue
        since[name] = missed.get(name, asked_at)
        if asked_at >= since[name] + SECOND_LOOK:
            _doubt(desk, row, tally)
    return since


def _doubt(desk: Desk, row: Row, tally: Tally) -> None:
    with desk.ledger.transaction() as tx:
        current = tx.get("orders", row["client_id"])
        if current is None or current["last_seq"] != row["last_seq"]:
            return
        reason = f"the broker has it no more: it was {row['state']}, and two answers did not show it"
        tally.saw(tx.append(again(tx, order_event(EventType.ORDER_UNKNOWN, row, {"reason": reason}, desk.now(), RECOVERY))))
    tally.count("unknown")
    tally.notes.append(f"the order {row['client_id']} of {row['symbol']}: {reason}")


def wait_for_fills(desk: Desk, tx: Transaction, row: Row, order: BrokerOrder, held: Mapping[str, int], tally: Tally) -> bool:
    """Keep an order open that the broker has ended, and of which it has filled more than it has told; whether it is kept.

    Ends and executions are told on two ways, and the one catches up with the other. What has not in a while is in doubt: it protects
    nothing and may sell no more. It is over when the shares have agreed without them for long, as after a trade that the venue has undone;
    otherwise it is a person's.

    Args:
        held: Shares a symbol, as the broker has them.
    """
    over, booked = max(order.updated_at, row["submitted_at"]), sum(each["quantity"] for each in tx.find("positions", symbol=row["symbol"]))
    if desk.now() >= over + UNRESOLVED and held.get(row["symbol"], 0) == booked:
        return False
    tally.count("fills_untold")
    if row["state"] in ACCEPTED and desk.now() >= over + UNTOLD:
        reason = f"the broker has {order.status.value} it with {order.filled_quantity} filled, and told of {row['filled_quantity']}"
        tally.saw(tx.append(again(tx, order_event(EventType.ORDER_UNKNOWN, row, {"reason": reason}, desk.now(), RECOVERY))))
        tally.notes.append(f"the order {row['client_id']} of {row['symbol']}: {reason}")
    elif row["state"] in UNPROVEN:
        give_to_a_person(desk, tx, row, tally)
    return True


def asked_again_at(desk: Desk, reader: Reader, row: Row) -> datetime:
    """From when on an order that the broker does not show can be given up, or looked for the second time (invariant 15)."""
    first = _looked_at(reader, row)
    submitted: datetime = row["submitted_at"]
    return submitted + desk.broker.capabilities.visibility if first is None else first + SECOND_LOOK


def _looked_at(reader: Reader, row: Row) -> datetime | None:
    """When it was looked for in vain; None where that was never, or something was heard of it since."""
    [last] = reader.events(after=row["last_seq"] - 1, limit=1)
    return last.at if last.key.startswith(_LOOK) else None


def absent(desk: Desk, tx: Transaction, row: Row, held: Mapping[str, int], asked_at: datetime, tally: Tally) -> None:
    """An order of ours that the broker does not know: in doubt until two looks after the visibility window found nothing.

    Nothing means absent from orders, executions and positions; where the positions differ from the book it stays in doubt. So it does
    where its stops and targets have sold more than it has bought by the book: they were born of fills that are not told yet.
    """
    sold = sum(each["filled_quantity"] for each in tx.find("orders", parent=row["client_id"]))
    booked = sum(each["quantity"] for each in tx.find("positions", symbol=row["symbol"]))
    window = desk.broker.capabilities.visibility.seconds
    # Not when it is written down: an answer may have been long on its way.
    if row["state"] not in UNPROVEN or asked_at < asked_again_at(desk, tx, row):
        return
    if held.get(row["symbol"], 0) != booked or sold > row["filled_quantity"]:
        give_to_a_person(desk, tx, row, tally)
        return
    if _looked_at(tx, row) is None:
        reason = f"absent {window} s after its submission: looked for once more in {SECOND_LOOK.seconds} s"
        tally.saw(tx.append(_as_before(desk, row, reason, f"{_LOOK}{row['client_id']}:{row['last_seq']}")))
        return
    type_, heard = (EventType.ORDER_CANCELED, "canceled")
    if row["state"] == OrderState.UNKNOWN.value and not _was_there(tx, row):
        type_, heard = EventType.ORDER_NOT_PLACED, "not_placed"
    reason = f"absent twice from orders, executions and positions, {window} s after its submission and later"
    tally.saw(tx.append(again(tx, order_event(type_, row, {"reason": reason}, desk.now(), f"broker:{desk.broker.name}"))))
    tally.count(heard)


def _was_there(reader: Reader, row: Row) -> bool:
    """Whether the broker has ever told of it; the children of an entry have no numbers of their own in its answer."""
    told = row["filled_quantity"] or row["broker_order_id"]
    return bool(told) or reader.event_by_key(f"{EventType.ORDER_ACCEPTED.value}:{row['client_id']}") is not None


def shown(desk: Desk, tx: Transaction, row: Row, tally: Tally) -> None:
    """The broker shows what was looked for in vain, which proves nothing any more: absence takes two new looks."""
    if _looked_at(tx, row) is not None:
        reason = "the broker shows it after it was looked for in vain"
        tally.saw(tx.append(_as_before(desk, row, reason, f"order.shown:{row['client_id']}:{row['last_seq']}")))


def give_to_a_person(desk: Desk, tx: Transaction, row: Row, tally: Tally) -> None:
    """What cannot be proven in time stays in doubt, counted and blocking its symbol, until somebody looks (INVARIANTS 3.2)."""
    key = f"order.unresolved:{row['client_id']}"
    if desk.now() < row["submitted_at"] + UNRESOLVED or tx.event_by_key(key) is not None:
        return
    reason = f"not resolved within {UNRESOLVED.seconds // 60} minutes: compare the account with the ledger by hand"
    tally.saw(tx.append(_as_before(desk, row, reason, key)))
    tally.notes.append(f"the order {row['client_id']} of {row['symbol']}: {reason}")


def _as_before(desk: Desk, row: Row, reason: str, key: str) -> NewEvent:
    """A fact under this key that leaves an order in doubt, or to be cancelled, as it is."""
    type_ = EventType.ORDER_UNKNOWN if row["state"] == OrderState.UNKNOWN.value else EventType.ORDER_CANCEL_REQUESTED
    return replace(order_event(type_, row, {"reason": reason}, desk.now(), RECOVERY), key=key)
