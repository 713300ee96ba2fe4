"""A small exchange for paper broker tests: three sessions of ten minutes, one-minute bars written out by hand."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from trading_pipeline.adapters.brokers.paper import PaperBroker
from trading_pipeline.adapters.brokers.paper_book import MemoryBook, PaperBook, PaperSettings
from trading_pipeline.adapters.brokers.paper_faults import FaultPlan
from trading_pipeline.adapters.clocks import SteppedClock
from trading_pipeline.adapters.market_data.table_market import TableMarket
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bars import Bar, BarTable, Interval, table_of
from trading_pipeline.domain.orders import OrderType, Side, TimeInForce
from trading_pipeline.domain.sessions import Session, TradingCalendar
from trading_pipeline.ports import BrokerOrder, MarketData, Permit, Ticket, ticket_digest

OPEN = datetime(2024, 8, 28, 13, 30, tzinfo=UTC)
SESSIONS = tuple(
    Session(date(2024, 8, 28) + day, OPEN + day, OPEN + day + timedelta(minutes=10)) for day in (timedelta(days=n) for n in range(-1, 3))
)
CALENDAR = TradingCalendar(SESSIONS)
MINUTE = timedelta(minutes=1)
Prices = tuple[str, str, str, str, int]
"""Open, high, low, close, volume."""
CALM: Prices = ("100.00", "100.50", "99.50", "100.00", 10_000)


def at(minute: int, second: int = 0, *, day: int = 0) -> datetime:
    """An instant of the first session, or of a later one."""
    return OPEN + timedelta(days=day, minutes=minute, seconds=second)


def minutes(*bars: Prices | None, symbol: str = "AAPL", first: datetime = OPEN, before: int | None = 10_000) -> BarTable:
    """Consecutive one-minute bars from the open on (None: nothing traded), after one of the day before with volume `before`."""
    made = [_bar(symbol, first + MINUTE * number, prices) for number, prices in enumerate(bars) if prices is not None]
    if before is not None:
        made.insert(0, _bar(symbol, SESSIONS[0].close - MINUTE, ("100.00", "100.00", "100.00", "100.00", before)))
    return table_of(symbol, Interval.MIN1, made)


def daily(*bars: Prices, symbol: str = "IBM") -> BarTable:
    """Daily bars from the session before the first on."""
    made = [
        Bar(symbol, Interval.DAY1, session.open, session.close, *(Decimal(price) for price in prices[:4]), prices[4])
        for session, prices in zip(SESSIONS, bars, strict=False)
    ]
    return table_of(symbol, Interval.DAY1, made)


def _bar(symbol: str, start: datetime, prices: Prices) -> Bar:
    return Bar(symbol, Interval.MIN1, start, start + MINUTE, *(Decimal(price) for price in prices[:4]), prices[4])


def market_of(*tables: BarTable) -> TableMarket:
    """The tables as a source."""
    return TableMarket("by hand", tables, CALENDAR)


def buy(name: str, quantity: int, limit: str, *children: Ticket, kind: OrderType = OrderType.MARKETABLE, symbol: str = "AAPL") -> Ticket:
    """A day order to buy."""
    return Ticket(name, symbol, Side.BUY, quantity, kind, Decimal(limit), None, TimeInForce.DAY, children)


def sell(name: str, quantity: int, limit: str, *, kind: OrderType = OrderType.MARKETABLE, symbol: str = "AAPL") -> Ticket:
    """A day order to sell."""
    return Ticket(name, symbol, Side.SELL, quantity, kind, Decimal(limit), None, TimeInForce.DAY)


def stop(name: str, quantity: int, price: str, oco: str | None = "PAIR", symbol: str = "AAPL") -> Ticket:
    """A protective stop."""
    return Ticket(name, symbol, Side.SELL, quantity, OrderType.STOP, None, Decimal(price), TimeInForce.GTC, (), oco)


def target(name: str, quantity: int, price: str, oco: str | None = "PAIR", symbol: str = "AAPL") -> Ticket:
    """A target."""
    return Ticket(name, symbol, Side.SELL, quantity, OrderType.LIMIT, Decimal(price), None, TimeInForce.GTC, (), oco)


def bracketed(quantity: int = 100, limit: str = "101.00", low: str = "98.00", high: str = "103.00") -> Ticket:
    """An entry E with stop S and target T."""
    return buy("E", quantity, limit, stop("S", quantity, low), target("T", quantity, high))


def permit_for(ticket: Ticket) -> Permit:
    """Leave for exactly this ticket, as the gate gives it."""
    return Permit(ticket.client_id, ticket_digest(ticket), 1, "buyer", math.inf, math.inf)


@dataclass
class Venue:
    """A broker with its clock and market."""

    market: MarketData
    settings: PaperSettings = field(default_factory=PaperSettings)
    faults: FaultPlan = field(default_factory=FaultPlan)
    book: PaperBook | None = None
    start: datetime = OPEN
    splits: Mapping[str, tuple[Split, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = SteppedClock(self.start)
        self.book = self.book or MemoryBook(self.settings.account, self.settings.cash)
        self.broker = PaperBroker(self.book, self.market, self.clock, CALENDAR, self.settings, self.faults, self.splits)

    def submit(self, ticket: Ticket, when: datetime | None = None) -> BrokerOrder:
        """Place a ticket, at an instant."""
        if when is not None:
            self.clock.advance_to(when)
        return self.broker.submit(ticket, permit_for(ticket))

    def go_to(self, when: datetime) -> "Venue":
        """Let time pass."""
        self.clock.advance_to(when)
        return self

    def order(self, name: str) -> BrokerOrder:
        """The order of that name."""
        [order] = self.broker.orders([name])
        return order

    def fills(self) -> list[tuple[str, int, str, datetime]]:
        """(client id, shares, price, instant) of all executions."""
        return [(name, fill.quantity, f"{fill.price:.4f}", fill.at) for name, fill in self.broker.executions(SESSIONS[0].open)]


def venue(*bars: Prices | None, **options: object) -> Venue:
    """A venue on one-minute bars of AAPL."""
    return Venue(market_of(minutes(*bars)), **options)  # type: ignore[arg-type]
