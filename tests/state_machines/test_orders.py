"""Orders: any fact about any order at any time, through the real fold of a real ledger, against a table typed in from the diagram."""

import random
from decimal import Decimal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.histories import AT, E, created, fact, funded
from tests.state_machines.walking import walk
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.errors import IllegalTransition
from trading_pipeline.service.record.verification import verify

D = Decimal
QUANTITY = 10
KINDS = (*["next"] * 6, *["any"] * 3, *["some"] * 2, "rest", "too many", *["new"] * 3, "nobody", "again")

FOLLOWS = {
    "intent": "denied submitted quarantined",
    "denied": "quarantined",
    "submitted": "accepted rejected unknown quarantined",
    "accepted": "canceled expired rejected unknown cancel_pending quarantined",
    "partial": "canceled expired rejected unknown cancel_pending quarantined",
    "unknown": "accepted canceled rejected expired not_placed unknown cancel_pending quarantined released",
    "cancel_pending": "canceled cancel_pending unknown late_found quarantined back",
    "not_placed": "late_found not_placed quarantined",
    "late_found": "cancel_pending quarantined",
    "canceled": "canceled late_found quarantined",
    "expired": "expired quarantined",
    "rejected": "quarantined",
    "filled": "quarantined",
    "quarantined": "canceled quarantined released",
}
"""What a fact other than a fill may make of an order (INVARIANTS 3.2); `back`: the broker refused the cancel; `released`: a person
says that it is over, which nobody can say of an order at work."""
FACTS = {
    "denied": E.ORDER_DENIED, "submitted": E.ORDER_SUBMITTED, "accepted": E.ORDER_ACCEPTED, "rejected": E.ORDER_REJECTED,
    "unknown": E.ORDER_UNKNOWN, "cancel_pending": E.ORDER_CANCEL_REQUESTED, "canceled": E.ORDER_CANCELED, "expired": E.ORDER_EXPIRED,
    "not_placed": E.ORDER_NOT_PLACED, "late_found": E.ORDER_LATE_FOUND, "quarantined": E.ORDER_QUARANTINED,
    "released": E.ORDER_RELEASED,
}
KEPT_BY_A_FILL = {"canceled", "expired", "cancel_pending", "not_placed", "late_found"}
NEVER_SENT = {"intent", "denied"}
"""Whoever hears of a fill of one adopts the order first: the fold refuses it, unless it is too many shares in any case."""
ALIVE = {"intent", "submitted", "accepted", "partial", "unknown", "cancel_pending", "late_found"}
OVER = {"filled", "rejected", "quarantined"}


class Orders(RuleBasedStateMachine):
    """Orders to buy ten shares each, their states beside the ledger's."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = MemoryLedger("demo", opened_at=AT)
        self.state: dict[str, str] = {}
        self.before_cancel: dict[str, str] = {}
        self.filled: dict[str, int] = {}
        self.spent = D(0)
        self.facts = 0
        self._append(funded(), created())
        self._intend("C0", follows=True)

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

    @rule(seed=st.integers(0, 2**32))
    def hear(self, seed: int) -> None:
        """A new order, a fact that follows, any fact, an execution (some shares, the rest, too many), or what was heard before.

        One rule for all of it: Hypothesis leaves some rules out of each walk, and an order's life needs every kind of fact.
        """
        chance = random.Random(seed)
        newest = list(self.state)[-3:]
        name, what, price = chance.choice(newest), chance.choice(KINDS), chance.randint(90, 110)
        following = [each for each in FOLLOWS[self.state[name]].split() if each not in ("denied", "quarantined")]
        match what:
            case "next" if following:
                chosen = chance.choice(following)
                self._move(name, "accepted" if chosen == "back" else chosen)
            case "some":
                self._fill(name, price, chance.randint(1, QUANTITY // 2))
            case "rest":
                self._fill(name, price, max(1, QUANTITY - self.filled[name]))
            case "too many":
                self._fill(name, price, QUANTITY + 1)
            case "new" if sum(self.state[each] in ALIVE for each in newest) < 2:
                self._intend(f"C{len(self.state)}", follows=True)
            case "new":
                self._intend(name, follows=False)
            case "nobody":
                self._tell(FACTS[chance.choice(sorted(FACTS))], "nobody", follows=False)
            case "again":
                self._hear_again(chance.choice(self.ledger.events()[1:]))
            case _:
                self._move(name, chance.choice(sorted(FACTS)))

    def _intend(self, name: str, *, follows: bool) -> None:
        terms = {
            "account": "PAPER", "side": "buy", "quantity": QUANTITY, "part": "entry", "order_class": "entry", "order_type": "limit",
            "time_in_force": "day", "reference": "100", "limit_price": "101", "session": "2012-10-16",
        }
        if self._tell(E.ORDER_INTENT, name, follows, **terms):
            self.state[name], self.filled[name] = "intent", 0

    def _move(self, name: str, to: str) -> None:
        now = self.state[name]
        refused_cancel = (now, to) == ("cancel_pending", "accepted")
        if self._tell(FACTS[to], name, to in FOLLOWS[now].split() or refused_cancel):
            if to == "cancel_pending" and now != "cancel_pending":
                self.before_cancel[name] = now
            self.state[name] = self.before_cancel[name] if refused_cancel else {"released": "canceled"}.get(to, to)

    def _fill(self, name: str, price: int, quantity: int) -> None:
        """An execution is booked whatever became of the order; too many shares, or shares of what was over, set it aside."""
        now = self.state[name]
        booked = now not in NEVER_SENT or quantity > QUANTITY
        whole = self.filled[name] + quantity >= QUANTITY
        terms = {
            "execution_id": f"E{self.facts}", "account": "PAPER", "side": "buy", "quantity": quantity, "price": D(price),
            "commission": D(1), "filled_at": "2012-10-16T14:00:00.000000Z", "session": "2012-10-16",
        }
        if not self._tell(E.ORDER_FILLED if whole else E.ORDER_PARTIALLY_FILLED, name, booked, **terms):
            return
        self.filled[name] += quantity
        self.spent += quantity * price + 1
        if now in OVER or self.filled[name] > QUANTITY:
            self.state[name] = "quarantined"
        elif self.filled[name] == QUANTITY:
            self.state[name] = "filled"
        elif now not in KEPT_BY_A_FILL:
            self.state[name] = "partial"

    def _hear_again(self, old: Event) -> None:
        """A fact that was written is no second one."""
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
    walk(Orders, examples=60, steps=40)
