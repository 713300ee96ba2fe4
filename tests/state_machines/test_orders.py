"""Orders: any fact about any order at any time, through the real fold of a real ledger, against a table typed in from the diagram."""

from decimal import Decimal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.histories import AT, E, created, fact, funded
from tests.state_machines.walking import walk
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.errors import IllegalTransition
from trading_pipeline.service.verification import verify

D = Decimal
ORDERS = ("A", "B", "C")
QUANTITY = 10

FOLLOWS = {
    "intent": "denied submitted quarantined",
    "denied": "quarantined",
    "submitted": "accepted rejected unknown quarantined",
    "accepted": "canceled expired rejected cancel_pending quarantined",
    "partial": "canceled expired rejected cancel_pending quarantined",
    "unknown": "accepted canceled rejected expired not_placed unknown cancel_pending quarantined",
    "cancel_pending": "canceled cancel_pending unknown late_found quarantined back",
    "not_placed": "late_found not_placed quarantined",
    "late_found": "cancel_pending quarantined",
    "canceled": "canceled quarantined",
    "expired": "expired quarantined",
    "rejected": "quarantined",
    "filled": "quarantined",
    "quarantined": "quarantined",
}
"""What a fact other than a fill may make of an order (INVARIANTS 3.2); `back`: the broker refused the cancel."""
FACTS = {
    "denied": E.ORDER_DENIED, "submitted": E.ORDER_SUBMITTED, "accepted": E.ORDER_ACCEPTED, "rejected": E.ORDER_REJECTED,
    "unknown": E.ORDER_UNKNOWN, "cancel_pending": E.ORDER_CANCEL_REQUESTED, "canceled": E.ORDER_CANCELED, "expired": E.ORDER_EXPIRED,
    "not_placed": E.ORDER_NOT_PLACED, "late_found": E.ORDER_LATE_FOUND, "quarantined": E.ORDER_QUARANTINED,
}
KEPT_BY_A_FILL = {"canceled", "expired", "cancel_pending", "not_placed", "late_found"}
NEVER_SENT = {"intent", "denied"}
"""Whoever hears of a fill of one adopts the order first: the fold refuses it, unless it is too many shares in any case."""
OVER = {"filled", "rejected", "quarantined"}


class Orders(RuleBasedStateMachine):
    """Three orders to buy ten shares each, their states beside the ledger's."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = MemoryLedger("demo", opened_at=AT)
        self.state: dict[str, str] = {}
        self.before_cancel: dict[str, str] = {}
        self.filled: dict[str, int] = {}
        self.spent = D(0)
        self.executions: list[NewEvent] = []
        self.facts = 0
        self._append(funded(), created())

    def _append(self, *events: NewEvent) -> None:
        with self.ledger.transaction() as tx:
            tx.append(*events)

    def _tell(self, type_: EventType, name: str, follows: bool, **payload: object) -> bool:
        """Append a fact; it is written if it follows, and refused without a trace if not. Whether it was written."""
        self.facts += 1
        named = {"client_id": name, "action_id": "", "strategy": "trend", "symbol": "AAPL"}
        event = fact(type_, f"fact:{self.facts}", "strategy:trend", **named, **payload)
        head = self.ledger.head()
        if follows:
            self._append(event)
        else:
            try:
                self._append(event)
            except IllegalTransition:
                assert self.ledger.head() == head
            else:
                raise AssertionError(f"{type_} was written about {name}, which is {self.state.get(name)}")
        return follows

    @rule(name=st.sampled_from(ORDERS))
    def intend(self, name: str) -> None:
        """A client id is used once."""
        terms = {
            "account": "PAPER", "side": "buy", "quantity": QUANTITY, "part": "entry", "order_class": "entry", "order_type": "limit",
            "time_in_force": "day", "reference": "100", "limit_price": "101", "session": "2012-10-16",
        }
        if self._tell(E.ORDER_INTENT, name, name not in self.state, **terms):
            self.state[name], self.filled[name] = "intent", 0

    @rule(name=st.sampled_from(ORDERS), to=st.sampled_from(sorted(FACTS)))
    def move(self, name: str, to: str) -> None:
        """Any fact but a fill."""
        now = self.state.get(name)
        allowed = FOLLOWS[now].split() if now else []
        refused_cancel = (now, to) == ("cancel_pending", "accepted")
        if self._tell(FACTS[to], name, to in allowed or refused_cancel) and now:
            if to == "cancel_pending" and now != "cancel_pending":
                self.before_cancel[name] = now
            self.state[name] = self.before_cancel[name] if refused_cancel else to

    @rule(name=st.sampled_from(ORDERS), quantity=st.integers(1, QUANTITY + 2), price=st.integers(90, 110))
    def fill(self, name: str, quantity: int, price: int) -> None:
        """An execution is booked whatever became of the order; too many shares, or shares of what was over, set it aside."""
        now = self.state.get(name)
        booked = now is not None and (now not in NEVER_SENT or quantity > QUANTITY)
        whole = booked and self.filled[name] + quantity >= QUANTITY
        terms = {
            "execution_id": f"E{self.facts}", "account": "PAPER", "side": "buy", "quantity": quantity, "price": D(price),
            "commission": D(1), "filled_at": "2012-10-16T14:00:00.000000Z", "session": "2012-10-16",
        }
        if not self._tell(E.ORDER_FILLED if whole else E.ORDER_PARTIALLY_FILLED, name, booked, **terms):
            return
        assert now is not None
        self.filled[name] += quantity
        self.spent += quantity * price + 1
        if now in OVER or self.filled[name] > QUANTITY:
            self.state[name] = "quarantined"
        elif self.filled[name] == QUANTITY:
            self.state[name] = "filled"
        elif now not in KEPT_BY_A_FILL:
            self.state[name] = "partial"

    @rule(number=st.integers(0, 30))
    def hear_again(self, number: int) -> None:
        """A fact that was written is no second one."""
        events = [event for event in self.ledger.events() if event.type is not E.LEDGER_OPENED]
        old = events[number % len(events)]
        head = self.ledger.head()
        self._append(NewEvent(old.type, old.stream, old.key, old.payload, old.at, old.actor))
        assert self.ledger.head() == head

    @invariant()
    def the_orders_are_where_the_diagram_says(self) -> None:
        rows = {row["client_id"]: row for row in self.ledger.find("orders")}
        assert {name: row["state"] for name, row in rows.items()} == self.state
        assert {name: row["filled_quantity"] for name, row in rows.items()} == self.filled

    @invariant()
    def every_share_and_every_dollar_is_accounted_for(self) -> None:
        positions = self.ledger.find("positions")
        assert sum(row["quantity"] for row in positions) == sum(self.filled.values())
        assert self.ledger.find("cash")[0]["cash"] == 100_000 - self.spent

    def teardown(self) -> None:
        report = verify(self.ledger)
        assert report.ok, report.difference


def test_an_order_moves_as_the_diagram_says_whatever_is_heard_of_it() -> None:
    """5, 10, 14, 17-19, fault 7, fault 17, fault 18."""
    walk(Orders, examples=40, steps=30)
