"""What the paper broker remembers: its settings, its orders, and the book that a call works on.

A `PaperBook` hands out the `Book` of one account under a lock, and stores what was changed when the call ends; on an
exception nothing is stored. Here are the values and the book in memory (backtests, tests); `paper_postgres` keeps one that
survives kill -9. No rule of matching lives here.
"""

import threading
from bisect import bisect_left, insort
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from trading_pipeline.domain.bar_quality import believed
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.errors import SettingsError
from trading_pipeline.ports import BrokerOrder, BrokerStatus, Ticket


@dataclass(frozen=True, slots=True)
class PaperSettings:
    """What the simulated account costs and how it behaves. Money in USD; spread, slippage and shares are fractions.

    Commission defaults: $0.005 a share, at least $1.00 an order.
    Source: IBKR Pro, fixed pricing, US stocks.
    """

    account: str = "PAPER-1"
    cash: Decimal = Decimal(100_000)
    """The account begins with this; later values change nothing."""
    spread: Decimal = Decimal("0.0002")
    """Ask less bid; an order that takes pays half of it."""
    slippage: Decimal = Decimal("0.0002")
    commission_per_share: Decimal = Decimal("0.005")
    commission_minimum: Decimal = Decimal(1)
    commission_rate: Decimal = ZERO
    """Of the value that filled, beside what is charged a share."""
    volume_share: Decimal = Decimal("0.10")
    """Most that one order takes in a bar, of the volume of the bar before it."""
    max_bar_gap: Decimal = AccountLimits().max_bar_gap
    """A price further from those before it, as a fraction of the lower, is a bad print until the next one confirms it: nobody trades."""
    deduplicates: bool = True
    """A client id is accepted once, ever; otherwise a second submit is a second order (as orderRef at IBKR)."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Decimal) and not (value.is_finite() and value >= 0):
                raise _bad(item.name, value, "finite and not negative")
        if self.spread >= 1 or self.slippage >= 1 or self.spread + self.slippage >= 1:
            raise _bad("spread, slippage", self.spread + self.slippage, "below 1 together")
        if not 0 < self.volume_share <= 1:
            raise _bad("volume_share", self.volume_share, "above 0 and at most 1")


def _bad(name: str, value: object, rule: str) -> SettingsError:
    message = f"{name} = {value} of the paper broker is refused."
    return SettingsError(message, value=value, rule=f"{name} is {rule}", remedy=f"correct {name} under [paper]")


@dataclass(frozen=True, slots=True)
class Quirks:
    """What a fault plan has in store for one order; kept with it, so that every process sees the same."""

    reject_at: datetime | None = None
    reject_reason: str = ""
    cancel_after: int | None = None
    """Shares after which the broker cancels the rest."""
    overfill: int = 0
    """Shares too many in the last execution."""


@dataclass(slots=True)
class PaperOrder:
    """An order at the paper broker; the one mutable value here, changed only inside a book's lock."""

    number: int
    broker_order_id: str
    ticket: Ticket
    parent: str | None
    """The parent's broker order id."""
    group: str
    """Orders of one group reduce each other; a lone order is its own group."""
    status: BrokerStatus
    released: int
    """Shares it may fill: its whole quantity, or for a child what its parent has filled for it."""
    updated_at: datetime
    active_at: datetime
    """Since when the market can reach it; meaningless while HELD."""
    expires_at: datetime | None
    visible_at: datetime | None = None
    filled: int = 0
    reduced: int = 0
    """Shares that the other order of its pair has taken over."""
    triggered: bool = False
    """A stop that was reached: the rest goes at the next opens."""
    commission: Decimal = ZERO
    """What was charged a share so far; what goes by value is each fill's own."""
    bar: datetime | None = None
    """Start of the bar it filled in last, and how many shares it took there."""
    taken: int = 0
    reason: str = ""
    quirks: Quirks = Quirks()

    @property
    def open(self) -> bool:
        """Whether anything can still happen to it."""
        return self.status in (BrokerStatus.HELD, BrokerStatus.WORKING)

    @property
    def remaining(self) -> int:
        """Shares it may fill now."""
        return max(0, self.released - self.filled - self.reduced)

    def stated(self) -> BrokerOrder:
        """As the port shows it."""
        return BrokerOrder(
            self.ticket.client_id, self.broker_order_id, self.ticket, self.status, self.filled, self.reason, self.updated_at,
        )


@dataclass(frozen=True, slots=True)
class Execution:
    """A fill with its place in the account's numbering; hidden from queries until `visible_at`."""

    number: int
    fill: Fill
    visible_at: datetime | None = None

    @property
    def place(self) -> tuple[datetime, int]:
        """Order of time."""
        return self.fill.at, self.number

    def hidden(self, now: datetime) -> bool:
        """Whether nobody can see it yet."""
        return self.visible_at is not None and self.visible_at > now


@dataclass(slots=True)
class Progress:
    """How far a symbol's bars have been matched, while an order of it is open."""

    interval: Interval
    closed: datetime
    """Ranges of bars that ended by then are done."""
    opened: datetime | None = None
    """Start of the newest bar whose open is done."""
    volume: int | None = None
    """Shares of the newest closed bar; None when none is known."""
    scaled: datetime | None = None
    """The open since which prices are on the scale of the orders: that of the newest split."""
    close: Decimal | None = None
    """Of the newest closed bar, and the newest one that was no bad print by those before it."""
    believed: Decimal | None = None

    def believes(self, *prices: Decimal, most: Decimal) -> bool:
        """Whether the prices of a bar can be traded at, by what closed before it."""
        known = [price for price in (self.close, self.believed) if price is not None]
        return all(believed(price, known, most) for price in prices)


@dataclass(frozen=True, slots=True)
class KnownSplit:
    """A split as whoever moved the account last knew it; `close` is the price that fractions were paid at, once it is applied."""

    ratio: Decimal
    close: Decimal | None = None


@dataclass(slots=True)
class Book:
    """One account as a call works on it: open orders whole, ended ones and executions as far as they were asked for."""

    account: str
    cash: Decimal
    placed: int = 0
    executed: int = 0
    open: dict[str, PaperOrder] = field(default_factory=dict)
    """By broker order id, in order of placing."""
    named: dict[str, list[PaperOrder]] = field(default_factory=dict)
    """By client id, open or ended."""
    positions: dict[str, int] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)
    scales: dict[str, datetime] = field(default_factory=dict)
    """Until when the splits of a symbol are in its share count."""
    splits: dict[str, dict[datetime, KnownSplit]] = field(default_factory=dict)
    """By symbol and instant: the splits that whoever moved the account knew, of what is held or has open orders; who does not know
    them may not move it."""
    executions: list[Execution] = field(default_factory=list)
    """In order of time."""

    def add(self, order: PaperOrder) -> None:
        """Take a new order in."""
        self.named.setdefault(order.ticket.client_id, []).append(order)
        if order.open:
            self.open[order.broker_order_id] = order

    def end(self, order: PaperOrder, status: BrokerStatus, reason: str, at: datetime) -> None:
        """Nothing more happens to this order."""
        order.status, order.reason, order.updated_at = status, reason, at
        self.open.pop(order.broker_order_id, None)
        symbol = order.ticket.symbol
        if all(other.ticket.symbol != symbol for other in self.open.values()):
            self.progress.pop(symbol, None)

    def book(self, execution: Execution) -> None:
        """Note an execution and what it does to cash and position."""
        fill = execution.fill
        sign = 1 if fill.side is Side.BUY else -1
        self.cash -= sign * fill.quantity * fill.price + fill.commission
        held = self.positions.get(fill.symbol, 0) + sign * fill.quantity
        if held:
            self.positions[fill.symbol] = held
        else:
            self.positions.pop(fill.symbol, None)
        insort(self.executions, execution, key=lambda each: each.place)

    @property
    def symbols(self) -> set[str]:
        """What is held or has open orders."""
        return {*self.positions, *(order.ticket.symbol for order in self.open.values())}

    def hidden(self, now: datetime) -> list[Fill]:
        """What nobody can see yet."""
        return [each.fill for each in self.executions if (visible_at := each.visible_at) is not None and visible_at > now]

    def visible(self, now: datetime) -> dict[str, int]:
        """Shares a symbol without what is hidden still, zero included."""
        held = dict(self.positions)
        for fill in self.hidden(now):
            held[fill.symbol] = held.get(fill.symbol, 0) - (fill.quantity if fill.side is Side.BUY else -fill.quantity)
        return held

    def next_order(self) -> int:
        """The next order's number."""
        self.placed += 1
        return self.placed

    def next_execution(self) -> int:
        """The next execution's number."""
        self.executed += 1
        return self.executed

    def since(self, instant: datetime) -> list[Execution]:
        """Executions at or after an instant, in order of time."""
        return self.executions[bisect_left(self.executions, instant, key=lambda each: each.fill.at) :]


class PaperBook(Protocol):
    """Keeps the account of a paper broker."""

    def change(
        self, *, named: Collection[str] = (), since: datetime | None = None, hidden: bool = False, traded: Collection[str] = (),
    ) -> AbstractContextManager[Book]:
        """The account under its lock; what was changed is stored on leaving, nothing on an exception.

        Args:
            named: Client ids whose ended orders are wanted too.
            since: Executions from then on are wanted.
            hidden: Executions that have ever been invisible are wanted too.
            traded: Symbols of which the newest execution is wanted too.

        Raises:
            BrokerNotReady: The store does not answer; nothing was changed.
            OutcomeUnknown: It stopped answering while it was told to keep the changes.
        """


class MemoryBook:
    """A book for backtests and tests: everything in memory, one process, any threads.

    An exception in the middle of matching leaves it half changed; the broker reads all bars before it changes anything.
    """

    def __init__(self, account: str, cash: Decimal) -> None:
        self._lock = threading.Lock()
        self._book = Book(account, cash)

    @contextmanager
    def change(
        self, *, named: Collection[str] = (), since: datetime | None = None, hidden: bool = False, traded: Collection[str] = (),
    ) -> Iterator[Book]:
        """The one book, whole: it holds more than was asked for."""
        del named, since, hidden, traded
        with self._lock:
            yield self._book
