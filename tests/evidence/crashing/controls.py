"""Three wrong ways to send an order, each of which people have traded with. The sweep has to see every one of them fail.

Two stand between the desk and the broker, as adapters do that mean well; the third is a step `orders` of its own. Everything
else, from the market to the oracle, is what the real order path is tried with.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import URL

from tests.conftest import connect
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.errors import BrokerRefused, OutcomeUnknown
from trading_pipeline.ports import Broker, BrokerOrder, Permit, Ticket, lapses_in, ticket_digest
from trading_pipeline.service import approvals
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.book import intent_of
from trading_pipeline.service.orders.gate import PERMIT_SECONDS, ticket_of
from trading_pipeline.service.orders.order_facts import order_event
from trading_pipeline.service.steps import StepResult, Tally, completed

SEQUENCE = "control_orders"


class Sending:
    """A broker whose submit is another; the rest is its own."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def __getattr__(self, name: str) -> Any:
        return getattr(self.broker, name)


class Retrying(Sending):
    """No answer: send it again, as an HTTP client does that retries on a time-out."""

    def submit(self, ticket: Ticket, permit: Permit) -> BrokerOrder:
        """Up to three times."""
        for _ in range(2):
            try:
                return self.broker.submit(ticket, permit)
            except OutcomeUnknown:
                continue
        return self.broker.submit(ticket, permit)


class Impatient(Sending):
    """No answer: look once, and what is not found was rejected."""

    def submit(self, ticket: Ticket, permit: Permit) -> BrokerOrder:
        """As the broker's, but never unknown."""
        try:
            return self.broker.submit(ticket, permit)
        except OutcomeUnknown as unknown:
            found = self.broker.orders([ticket.client_id])
            if found:
                return found[0]
            raise BrokerRefused("Not found, so it was rejected.", value=ticket.client_id) from unknown


def numbered(desk: Desk, cycle: Cycle, numbers: URL) -> StepResult:
    """Step orders with client ids from a database sequence: drawn when sending, written down with the answer."""
    done = completed(desk.ledger, cycle, "orders")
    if done is not None:
        return done
    tally = Tally("orders", cycle)
    with desk.ledger.lease(f"submitter:{desk.broker.account_id}"):
        for name in approvals.due(desk).released:
            _send(desk, cycle, name, numbers, tally)
    with desk.ledger.transaction() as tx:
        return tally.complete(tx, desk.now())


def _send(desk: Desk, cycle: Cycle, action: str, numbers: URL, tally: Tally) -> None:
    row = desk.ledger.get("actions", action)
    assert row is not None
    with closing(connect(numbers)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT nextval('{SEQUENCE}')")
        [number] = cursor.fetchone() or [0]
    intent = replace(intent_of(row), brackets=())
    ticket = replace(ticket_of(intent), client_id=f"SEQ{number:017}")
    good_until = lapses_in(PERMIT_SECONDS)
    permit = Permit(ticket.client_id, ticket_digest(ticket), row["last_seq"], intent.strategy, *good_until)
    try:
        desk.broker.submit(ticket, permit)
        heard = EventType.ORDER_ACCEPTED
    except OutcomeUnknown:
        heard = EventType.ORDER_UNKNOWN
    except BrokerRefused:
        heard = EventType.ORDER_REJECTED
    with desk.ledger.transaction() as tx:
        payload = {
            "cycle": cycle.cycle_id, "client_id": ticket.client_id, "action_id": action, "part": intent.part, "parent": None, "oco": None,
            "account": intent.account, "environment": intent.environment, "strategy": intent.strategy, "symbol": ticket.symbol,
            "side": ticket.side.value, "order_class": intent.order_class.value, "order_type": ticket.order_type.value,
            "time_in_force": ticket.time_in_force.value, "quantity": ticket.quantity, "reference": intent.reference,
            "limit_price": ticket.limit_price, "stop_price": None, "session": cycle.session,
        }
        key, stream = f"order.intent:{ticket.client_id}", f"strategy:{intent.strategy}"
        tally.saw(tx.append(NewEvent(EventType.ORDER_INTENT, stream, key, payload, desk.now(), "desk", row["last_seq"])))
        for type_ in (EventType.ORDER_SUBMITTED, heard):
            order = tx.get("orders", ticket.client_id)
            assert order is not None
            tally.saw(tx.append(order_event(type_, order, {"reason": ""}, desk.now(), "desk")))


@dataclass(frozen=True)
class Control:
    """A wrong order path: on which broker, killed where, and by what it differs."""

    name: str
    profile: str
    points: tuple[str, ...]
    sending: Callable[[Broker], Any] | None = None
    orders: Callable[[Desk, Cycle, URL], StepResult] | None = None


CONTROLS = (
    Control("submit, then retry", "loses replies", ("random",), sending=Retrying),
    Control("ids from a sequence", "deduplicates", ("C5", "C6"), orders=numbered),
    Control("not found = rejected", "shows late", ("random",), sending=Impatient),
)
