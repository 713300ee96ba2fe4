"""Orders that the ledger has over and the broker shows at work: they came late, and nobody wants them any more (invariant 15)."""

from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import OrderState
from trading_pipeline.domain.projections import Row
from trading_pipeline.ports import BrokerStatus, Transaction
from trading_pipeline.service.actors import RECOVERY
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.orders.adoption import is_ours
from trading_pipeline.service.orders.order_facts import again, order_event
from trading_pipeline.service.steps import Tally

GIVEN_UP = (OrderState.NOT_PLACED.value, OrderState.CANCELED.value)
_OVER = (*GIVEN_UP, OrderState.REJECTED.value, OrderState.EXPIRED.value, OrderState.FILLED.value)
_UNWANTED = (*_OVER, OrderState.QUARANTINED.value)
_WORKS = (BrokerStatus.WORKING, BrokerStatus.HELD)


def found_late(desk: Desk, tx: Transaction, row: Row, broker_order_id: str, tally: Tally) -> None:
    """An order that was given up works at the broker after all: it is to be cancelled, and what it fills is booked."""
    actor, found = f"broker:{desk.broker.name}", {"reason": f"it appeared while it was {row['state']}", "broker_order_id": broker_order_id}
    tally.saw(tx.append(again(tx, order_event(EventType.ORDER_LATE_FOUND, row, found, desk.now(), actor))))
    request = order_event(EventType.ORDER_CANCEL_REQUESTED, row, {"reason": "found late"}, desk.now(), RECOVERY)
    tally.saw(tx.append(again(tx, request)))
    tally.count("late_found")
    tally.notes.append(f"the order {row['client_id']} of {row['symbol']} appeared late and is cancelled")


def cancel_what_is_over(desk: Desk, tally: Tally) -> None:
    """Cancel orders of ours that the broker shows at work though the ledger has them over: it came late, or it is a person's.

    One that is set aside already is cancelled again: it is not to work, and its first cancel may have been lost.
    """
    unwanted = {
        order.client_id for order in desk.broker.orders()
        if is_ours(order.client_id) and (row := desk.ledger.get("orders", order.client_id)) is not None and row["state"] in _UNWANTED
    }
    # Asked again after the ledger was read: one that ended between the two looks is no surprise.
    for order in desk.broker.orders(unwanted) if unwanted else []:
        if order.status not in _WORKS:
            continue
        with desk.ledger.transaction() as tx:
            row = tx.get("orders", order.client_id)
            if row is None or row["state"] not in _UNWANTED:
                continue
            if row["state"] in GIVEN_UP:
                found_late(desk, tx, row, order.broker_order_id, tally)
            elif row["state"] in _OVER:
                said = {"reason": f"it works at the broker and is {row['state']} in the ledger"}
                actor = f"broker:{desk.broker.name}"
                tally.saw(tx.append(again(tx, order_event(EventType.ORDER_QUARANTINED, row, said, desk.now(), actor))))
        desk.broker.cancel(order.client_id)
