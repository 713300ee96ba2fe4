"""What is looked at after every step: each new fact by the oracle, and the account behind the broker's back against the ledger.

The account is read from the paper book itself, past the line and its faults, so that what the pipeline was told and what is true can
be told apart. At the day's end everything has come through, and book and account must be the same to the cent and to the order.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from trading_pipeline.adapters.brokers.paper_book import Book, MemoryBook, PaperOrder
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.orders import OrderClass, Side
from trading_pipeline.oracle import Oracle
from trading_pipeline.ports import BrokerStatus, Ledger
from trading_pipeline.service.orders.adoption import is_ours
from trading_pipeline.service.record.judgement import exported
from trading_pipeline.service.record.verification import verify

OVER = frozenset({"canceled", "expired", "rejected", "denied", "filled"})
"""States of an order in the ledger after which the broker may not have it working."""
WORKS = frozenset({"submitted", "unknown", "accepted", "partial", "cancel_pending", "late_found"})
STATUS = {
    "accepted": (BrokerStatus.WORKING, BrokerStatus.HELD), "partial": (BrokerStatus.WORKING,), "filled": (BrokerStatus.FILLED,),
    "canceled": (BrokerStatus.CANCELED, BrokerStatus.EXPIRED, BrokerStatus.REJECTED), "expired": (BrokerStatus.EXPIRED,),
    "rejected": (BrokerStatus.REJECTED,),
}
"""What the broker must say of an order at the day's end, by what the ledger says."""


TAKES_BACK = (
    EventType.STRATEGY_PAUSED, EventType.STRATEGY_REVISED, EventType.STRATEGY_FINISHED, EventType.STRATEGY_EMERGENCY_STOPPED,
)
"""Facts after which no entry of the strategy that was meant before may go out."""


@dataclass
class Watch:
    """The judge of one day."""

    ledger: Ledger
    book: MemoryBook
    struck: Counter[str]
    """What has gone wrong so far, by kind."""
    violations: list[str] = field(default_factory=list)
    by_hand: set[str] = field(default_factory=set)
    """Symbols of which somebody else has sold shares that were ours: a resting stop may then sell short."""
    oracle: Oracle = field(default_factory=Oracle)
    types: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    _seen: int = 0
    _meant: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Entries that were never sent: strategy and number of the intent."""
    _taken_back: dict[str, int] = field(default_factory=dict)
    """By strategy: the last fact by which a person took back what was not sent."""
    _said: set[str] = field(default_factory=set)

    def step(self, what: str) -> None:
        """After one step: every new fact, one by one, and what must hold at any instant, however much is on its way."""
        for event in self.ledger.events(after=self._seen):
            self._seen = event.seq
            self.types[event.type.value] += 1
            for found in self.oracle.feed(exported(event)):
                self.say(f"{found}", what)
            self._unsent(event, what)
        with self.book.change() as book:
            for wrong in self._at_any_time(book):
                self.say(wrong, what)
        self.looks += 1

    def _unsent(self, event: Event, what: str) -> None:
        """An entry that was meant before a strategy was paused, revised or ended is not sent after it."""
        told = event.payload
        if event.type in TAKES_BACK:
            self._taken_back[told["strategy"]] = event.seq
        elif event.type is EventType.ORDER_INTENT and told["order_class"] == OrderClass.ENTRY.value:
            self._meant[told["client_id"]] = told["strategy"], event.seq
        elif event.type is EventType.ORDER_SUBMITTED and (name := told["client_id"]) in self._meant:
            strategy, meant = self._meant.pop(name)
            if self._taken_back.get(strategy, 0) > meant:
                self.say(f"{name}, meant before {strategy} was paused, revised or ended, is sent after it", what)

    def say(self, wrong: str, what: str) -> None:
        """Note a violation once."""
        if wrong not in self._said:
            self._said.add(wrong)
            self.violations.append(f"{wrong} (after {what})")

    def _at_any_time(self, book: Book) -> list[str]:
        found = []
        rows = {row["client_id"]: row for row in self.ledger.find("orders")}
        for name, orders in book.named.items():
            if not is_ours(name):
                continue
            row = rows.get(name)
            if len(orders) > 1:
                found.append(f"doubled: {name} is {len(orders)} orders at the broker")
            if row is None or row["state"] in ("intent", "denied"):
                knows = "never wrote" if row is None else f"has as {row['state']}"
                found.append(f"phantom: the broker has {name}, which the ledger {knows}")
            elif row["state"] in OVER and any(order.open for order in orders):
                found.append(f"orphan: {name} works at the broker, the ledger has it as {row['state']}")
        truth = {execution.fill.execution_id: execution.fill for execution in book.executions}
        for fill in self.ledger.find("fills"):
            real = truth.get(fill["execution_id"])
            if real is None or (real.symbol, real.side.value, real.quantity) != (fill["symbol"], fill["side"], fill["quantity"]):
                found.append(f"the ledger has booked {fill['execution_id']}, which the account does not have so")
        if not self.struck["submit: Overfill"]:
            short = {symbol: many for symbol, many in book.positions.items() if many < 0 and symbol not in self.by_hand}
            found += [f"short: the account has {many} {symbol}" for symbol, many in short.items()]
            found += [f"oversold: {each}" for each in _oversold(book, self.by_hand)]
        return found

    def end(self) -> None:
        """After the last look of a day whose line was clean: the two are one."""
        told = {event.payload["symbol"] for event in self.ledger.events(types=(EventType.PROTECTION_OVERSIZED,))}
        with self.book.change() as book:
            left = {symbol for symbol, many in book.positions.items() if many > 0}
            # Where some are left, what is too large goes with the next open.
            over = [f"over nothing, and nobody is told: {each}" for each in _oversold(book, told | left)]
            for wrong in self._at_the_end(book) + over:
                self.say(wrong, "the day's end")
        report = verify(self.ledger)
        if not report.ok:
            self.say(f"the ledger does not verify: {report.difference}", "the day's end")

    def _at_the_end(self, book: Book) -> list[str]:
        found, held = [], Counter[str]()
        for row in self.ledger.find("positions"):
            held[row["symbol"]] += row["quantity"]
        for symbol in sorted(held.keys() | book.positions.keys()):
            if held[symbol] != book.positions.get(symbol, 0):
                found.append(f"{symbol}: booked {held[symbol]}, the account has {book.positions.get(symbol, 0)}")
        [cash] = self.ledger.find("cash") or [{"cash": book.cash}]
        if cash["cash"] != book.cash:
            found.append(f"cash: booked {cash['cash']}, the account has {book.cash}")
        booked = {fill["execution_id"] for fill in self.ledger.find("fills")}
        real = {execution.fill.execution_id for execution in book.executions}
        if self.ledger.find("cash"):
            found += [f"lost: the execution {name} was never booked" for name in sorted(real - booked)]
        for row in self.ledger.find("orders"):
            found += self._order_at_the_end(row, book.named.get(row["client_id"], []))
        return found

    def _order_at_the_end(self, row: dict[str, Any], orders: list[PaperOrder]) -> list[str]:
        name, state = row["client_id"], row["state"]
        found = []
        if state in WORKS and row["order_class"] != OrderClass.PROTECTIVE.value:
            found.append(f"open after the close: {row['order_class']} {name} is {state}")
        if state in ("submitted", "unknown", "late_found", "intent"):
            found.append(f"undecided after the close: {name} is {state}")
        if state == "not_placed" and orders and orders[0].visible_at is None:
            found.append(f"lost: {name} was given up and is {orders[0].status} at the broker")
        if orders and state in STATUS and orders[0].status not in STATUS[state]:
            found.append(f"{name} is {state}, at the broker {orders[0].status}")
        return found


def _oversold(book: Book, but: set[str]) -> list[str]:
    """Symbols of which more shares are in working exits than the account holds, an OCO pair counted once."""
    selling: dict[str, dict[str, int]] = {}
    for order in book.open.values():
        if order.ticket.side is Side.SELL and order.status is BrokerStatus.WORKING:
            groups = selling.setdefault(order.ticket.symbol, {})
            groups[order.group] = max(groups.get(order.group, 0), order.remaining)
    return [
        f"{sum(groups.values())} {symbol} in working exits, {book.positions.get(symbol, 0)} held"
        for symbol, groups in selling.items() if symbol not in but and sum(groups.values()) > book.positions.get(symbol, 0)
    ]
