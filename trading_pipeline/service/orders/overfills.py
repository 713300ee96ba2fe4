"""Sales that took a strategy below zero: its broker has sold what it never held (invariant 18, fault 18).

An order that fills beyond its own size is set aside by the booking itself. A bracket's child is written for the whole entry, so what it
sells beyond what the entry has bought shows in the position alone. That may also be a sale told before its purchase; so nothing is set
aside while an entry works, or while the broker states fills of one that it has not delivered.
"""

from collections.abc import Iterator

from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.orders import WORKING, OrderState, Side
from trading_pipeline.domain.portfolio import EXTERNAL
from trading_pipeline.domain.projections import Row
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.steps import Tally

_WORKS = tuple(state.value for state in WORKING)


def unexplained(desk: Desk) -> list[tuple[Row, Row]]:
    """Positions below zero with the order that sold last, where nobody has looked yet and no purchase can still come."""
    return [(position, order) for position, order in _sold_last(desk) if not _purchase_may_come(desk, position)]


def set_aside(desk: Desk, tally: Tally) -> None:
    """Quarantine that order: its symbol is a person's."""
    for position, order in unexplained(desk):
        strategy, symbol = position["strategy"], position["symbol"]
        reason = f"overfill: {strategy} is at {position['quantity']} shares of {symbol}, more were sold than it held"
        named = {name: order[name] for name in ("client_id", "action_id", "strategy", "symbol")} | {"reason": reason}
        key = f"order.quarantined:overfill:{strategy}:{symbol}:{position['last_seq']}"
        with desk.ledger.transaction() as tx:
            event = NewEvent(EventType.ORDER_QUARANTINED, f"strategy:{strategy}", key, named, desk.now(), "desk", position["last_seq"])
            tally.saw(tx.append(event))
        tally.notes.append(reason)


def _sold_last(desk: Desk) -> Iterator[tuple[Row, Row]]:
    for position in desk.ledger.find("positions"):
        if position["quantity"] >= 0 or position["strategy"] == EXTERNAL:
            continue
        place = {"strategy": position["strategy"], "symbol": position["symbol"]}
        [sale] = desk.ledger.find("fills", side=Side.SELL.value, order_by="seq", descending=True, limit=1, **place)
        order = desk.ledger.get("orders", sale["client_id"])
        if order is None or order["state"] == OrderState.QUARANTINED.value:
            continue
        released = desk.ledger.events(after=sale["seq"], types=(EventType.ORDER_RELEASED,), stream=f"strategy:{position['strategy']}")
        if not any(event.payload["client_id"] == order["client_id"] for event in released):
            yield position, order


def _purchase_may_come(desk: Desk, position: Row) -> bool:
    entries = desk.ledger.find("orders", strategy=position["strategy"], symbol=position["symbol"], side=Side.BUY.value)
    if any(row["state"] in _WORKS for row in entries):
        return True
    booked = {row["client_id"]: row["filled_quantity"] for row in entries if row["submitted_at"] is not None}
    return any(order.filled_quantity > booked[order.client_id] for order in (desk.broker.orders(booked) if booked else ()))
