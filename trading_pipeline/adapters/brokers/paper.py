"""The paper broker: the default account, simulated against whatever market data there is (PRODUCT G1, D28).

It has no thread. Every call first moves its book to the clock's now, deterministically, so what happened does not depend on
when one looks. Matching is in `paper_engine`, prices in `paper_matching`, storage in `paper_book` and `paper_postgres`. Long
only, buying power is cash, regular hours only; dividends, margin, short sales and buy stops are deliberately absent.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from math import prod
from types import MappingProxyType

from trading_pipeline.adapters.brokers.paper_book import Book, Execution, KnownSplit, PaperBook, PaperOrder, PaperSettings, Progress, Quirks
from trading_pipeline.adapters.brokers.paper_cancels import GatheredCancels
from trading_pipeline.adapters.brokers.paper_checks import check_funds, check_hours, check_permit, check_ticket
from trading_pipeline.adapters.brokers.paper_engine import Matching, SplitDay, advance
from trading_pipeline.adapters.brokers.paper_faults import (
    Call,
    CancelAfter,
    DropReply,
    Empty,
    FaultPlan,
    LoseRequest,
    NotReady,
    Overfill,
    Refuse,
    RejectLater,
    ShowLate,
    Slow,
)
from trading_pipeline.adapters.brokers.paper_matching import Opening, commission, reserved
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bars import SYMBOL, Interval, instant_of
from trading_pipeline.domain.money import ZERO, price_of
from trading_pipeline.domain.orders import OrderType, Side, TimeInForce
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.domain.split_holdings import effective_at, whole_shares
from trading_pipeline.errors import BrokerNotReady, BrokerRefused, MarketDataError, OrderExists, OutcomeUnknown
from trading_pipeline.ports import BrokerAccount, BrokerOrder, BrokerStatus, Capabilities, Clock, MarketData, Permit, Ticket

EXTERNAL = "EXTERNAL"
"""Begins the client id of a trade that somebody else made in the account."""
VISIBILITY = timedelta(seconds=60)
"""As IBKR's: a fault plan may show orders late."""
LOOK_BACK = timedelta(days=14)
"""How far the bar before the first one is looked for: longer than any closure of the exchange since 1914."""


class PaperBroker:
    """A simulated account behind the Broker port."""

    name = "paper"

    def __init__(
        self, book: PaperBook, market: MarketData, clock: Clock, calendar: TradingCalendar, settings: PaperSettings | None = None,
        faults: FaultPlan | None = None, splits: Mapping[str, Sequence[Split]] = MappingProxyType({}),
    ) -> None:
        """Open the account.

        Args:
            book: Of the settings' account.
            market: Fills are made of its bars, in the finest interval it has of a symbol.
            faults: What goes wrong; nothing when None.
            splits: By symbol: those that the market's prices step at, read at each call, so that a source may learn of more. Each is
                applied at its session's open to what is held then.
        """
        self._book = book
        self._market = market
        self._clock = clock
        self._calendar = calendar
        self._settings = settings or PaperSettings()
        self._faults = faults or FaultPlan()
        self._splits = splits
        self._cancels = GatheredCancels(self._cancel)

    @property
    def capabilities(self) -> Capabilities:
        """It shows what was placed at once; one process as good as another."""
        return Capabilities(VISIBILITY, self._settings.deduplicates, brackets=True, in_place=True)

    @property
    def account_id(self) -> str:
        """The account that orders go to."""
        return self._settings.account

    def submit(self, ticket: Ticket, permit: Permit) -> BrokerOrder:
        """Place an order with its children; a marketable one meets the open of the running bar at once."""
        check_permit(ticket, permit)
        self._call(Call.SUBMIT)
        faults = self._faults.of_submit(ticket.client_id)
        for fault in faults:
            match fault:
                case Slow(seconds):
                    time.sleep(seconds)
                case NotReady():
                    raise _not_ready()
                case Refuse(reason):
                    raise BrokerRefused(f"The order was refused: {reason}.", value=ticket.client_id)
                case LoseRequest():
                    raise _unknown(ticket.client_id)
        names = [ticket.client_id, *(child.client_id for child in ticket.children)]
        with self._moved(named=names, placing=True) as (book, now):
            if self._settings.deduplicates and any(name in book.named for name in names):
                raise OrderExists(
                    f"duplicate client id {ticket.client_id}: an order of that name was placed before.", value=ticket.client_id,
                    rule="a client id is used once", remedy="look the order up",
                )
            order = self._place(book, ticket, now)
            stated = order.stated()
        if any(isinstance(fault, DropReply) for fault in faults):
            raise _unknown(ticket.client_id)
        return stated

    def cancel(self, client_id: str) -> None:
        """Cancel what still works under that name, at once; unknown and ended orders are left as they are.

        Children for which nothing was filled end with their parent; the others stay, as does the other order of a pair.
        """
        self._call(Call.CANCEL)
        self._cancels.ask(client_id)

    def _cancel(self, client_ids: Sequence[str]) -> None:
        with self._moved(named=client_ids) as (book, now):
            matching = Matching(book, self._settings)
            for order in (each for name in client_ids for each in book.named.get(name, [])):
                if order.open:
                    matching.end(order, BrokerStatus.CANCELED, "canceled on request", now)

    def orders(self, client_ids: Collection[str] | None = None) -> list[BrokerOrder]:
        """The named orders, or all open ones when None, in order of placing."""
        if isinstance(self._call(Call.ORDERS), Empty):
            return []
        with self._moved(named=client_ids or ()) as (book, now):
            if client_ids is None:
                found = list(book.open.values())
            else:
                found = [order for name in dict.fromkeys(client_ids) for order in book.named.get(name, [])]
            found.sort(key=lambda order: order.number)
            return [order.stated() for order in found if order.visible_at is None or order.visible_at <= now]

    def executions(self, since: datetime) -> list[tuple[str, Fill]]:
        """(client id, fill) of every execution at or after an instant.

        `at` is the market's instant of the fill: for a fill at an open the bar's start, or the order's own if it came
        later; for a fill inside a bar's range the bar's end.
        """
        if isinstance(self._call(Call.EXECUTIONS), Empty):
            return []
        with self._moved(since=since) as (book, now):
            visible = [each for each in book.since(since) if not each.hidden(now)]
        return [(each.fill.client_id, each.fill) for each in self._faults.delivered(visible)]

    def positions(self) -> dict[str, int]:
        """Shares a symbol, zero left out."""
        if isinstance(self._call(Call.POSITIONS), Empty):
            return {}
        with self._moved(hidden=True) as (book, now):
            held = book.visible(now)
        return {symbol: quantity for symbol, quantity in sorted(held.items()) if quantity}

    def account(self) -> BrokerAccount:
        """Balances now, holdings at the quote's last price, at the newest close without a quote, or at what a hand trade paid.

        Raises:
            BrokerNotReady: A held symbol has no price.
        """
        self._call(Call.ACCOUNT)
        with self._moved(hidden=True) as (book, now):
            cash, held = book.cash, book.visible(now)
            for fill in book.hidden(now):
                cash += (fill.quantity if fill.side is Side.BUY else -fill.quantity) * fill.price + fill.commission
            bound = sum((reserved(order, self._settings) for order in book.open.values()), ZERO)
        with _market_errors():
            marks = self._marks(sorted(symbol for symbol, quantity in held.items() if quantity), now)
        equity = cash + sum((quantity * marks[symbol] for symbol, quantity in held.items() if quantity), ZERO)
        return BrokerAccount(self.account_id, cash, equity, max(ZERO, cash - bound))

    def paid_in_lieu_at(self, symbol: str, split_at: datetime) -> Decimal | None:
        """The last close before a split of the last two weeks, at which this account's fractions were paid."""
        with self._moved() as (book, _):
            split = book.splits.get(symbol, {}).get(split_at)
        return None if split is None else split.close

    def trade_by_hand(self, symbol: str, side: Side, quantity: int, price: Decimal) -> str:
        """What the account's owner, or a liquidation, does past us: booked now at the given price; returns its client id."""
        with self._moved() as (book, now):
            name = f"{EXTERNAL}-{book.placed + 1}"
            ticket = Ticket(name, symbol, side, quantity, OrderType.LIMIT, price, None, TimeInForce.DAY)
            order = self._new(book, ticket, now, None, BrokerStatus.WORKING)
            order.filled, order.commission = quantity, commission(quantity, self._settings)
            book.add(order)
            number = book.next_execution()
            fill = Fill(f"{book.account}-{number}", name, symbol, side, quantity, price, order.commission, now)
            book.book(Execution(number, fill))
            book.scales[symbol] = now
            book.end(order, BrokerStatus.FILLED, "", now)
        return name

    @contextmanager
    def _moved(
        self, *, named: Collection[str] = (), since: datetime | None = None, hidden: bool = False, placing: bool = False,
    ) -> Iterator[tuple[Book, datetime]]:
        """The book at the clock's now. What a query or a cancel cannot learn is merely not ready: it may be asked again."""
        try:
            with self._book.change(named=named, since=since, hidden=hidden) as book:
                now = self._clock.now()
                with _market_errors():
                    self._check_splits(book, now)
                    advance(book, self._market, self._settings, now, lambda: self._splits_met(book, now))
                yield book, now
                book.splits = self._kept(book, now - LOOK_BACK)
        except OutcomeUnknown as error:
            if placing:
                raise
            raise BrokerNotReady(error.message, value=error.value, rule=error.rule, remedy="ask again") from error

    def _known(self, symbol: str, since: datetime | None = None) -> dict[datetime, Decimal]:
        """The symbol's splits as they are known at this moment, by the open that they count from; all when `since` is None."""
        opens = ((effective_at(split, self._calendar), split.ratio) for split in self._splits.get(symbol, ()))
        return {at: ratio for at, ratio in opens if at is not None and (since is None or at >= since)}

    def _kept(self, book: Book, since: datetime) -> dict[str, dict[datetime, KnownSplit]]:
        """The splits to remember: what is known of what is held or has open orders, and what fractions were paid at."""
        kept: dict[str, dict[datetime, KnownSplit]] = {}
        for symbol in sorted(book.symbols | book.splits.keys()):
            applied = {at: split for at, split in book.splits.get(symbol, {}).items() if split.close is not None and at >= since}
            known = self._known(symbol, since) if symbol in book.symbols else {}
            splits = {at: KnownSplit(ratio) for at, ratio in known.items()} | applied
            if splits:
                kept[symbol] = splits
        return kept

    def _check_splits(self, book: Book, now: datetime) -> None:
        """Refuse to move an account that somebody with a newer split table has moved: shares and prices would part.

        A split to come may have been announced with another ratio since; one that counts already is in the shares as it was.
        """
        for symbol in sorted(book.symbols & book.splits.keys()):
            known = self._known(symbol)
            for at, ratio in ((at, split.ratio) for at, split in book.splits[symbol].items()):
                if at not in known or (at <= now and known[at] != ratio):
                    raise BrokerNotReady(
                        f"The account was moved with {symbol} split {ratio.normalize():f} for 1 at {at:%Y-%m-%d %H:%M} UTC, which this"
                        " process does not know.", value=symbol, rule="an account is never moved by an older split table than before",
                        remedy="start the process again, or put the split back into the split table, with the ratio 1 if it was called off",
                    )

    def _splits_met(self, book: Book, now: datetime) -> list[SplitDay]:
        """What the account has lived through and its share counts do not have yet, asked for once the prices up to now were looked at.

        A source may learn of a split with the first price on the new scale, and never after it.
        """
        self._market.quotes(self._followed(book.positions.keys() - book.progress.keys()), now)
        met = []
        for symbol in sorted(book.symbols):
            since = book.scales.get(symbol, now)
            for at, ratio in self._known(symbol).items():
                if since < at <= now:
                    met.append(SplitDay(at, symbol, ratio, self._last_close(symbol, since - LOOK_BACK, at)[1]))
        return met

    def _call(self, call: Call) -> object:
        fault = self._faults.next_of(call)
        if isinstance(fault, NotReady):
            raise _not_ready()
        if isinstance(fault, Slow):
            time.sleep(fault.seconds)
        return fault

    def _place(self, book: Book, ticket: Ticket, now: datetime) -> PaperOrder:
        check_hours(self._calendar, now)
        with _market_errors():
            intervals = self._market.intervals(ticket.symbol)
            check_ticket(ticket, intervals)
            check_funds(book, ticket, self._settings)
            opening = None
            progress = book.progress.get(ticket.symbol)
            if progress is None:
                progress = self._progress(ticket.symbol, intervals[0], now)
            current = self._market.opening_bar(ticket.symbol, progress.interval, now)
        if current is not None:
            progress.opened = current[0]
            opening = Opening(*current) if progress.believes(current[1], most=self._settings.max_bar_gap) else None
        book.progress[ticket.symbol] = progress
        book.scales[ticket.symbol] = now
        order = self._new(book, ticket, now, None, BrokerStatus.WORKING)
        book.add(order)
        for child in ticket.children:
            book.add(self._new(book, child, now, order, BrokerStatus.HELD))
        Matching(book, self._settings).arrive(order, opening)
        return order

    def _progress(self, symbol: str, interval: Interval, now: datetime) -> Progress:
        """Where matching begins: after the newest closed bar, in the shares of now."""
        before = self._market.closed_bars([symbol], interval, now - LOOK_BACK, now).get(symbol)
        if before is None or not len(before):
            return Progress(interval, closed=now)
        volume = whole_shares(int(before.volume[-1]), self._split_since(symbol, before.last_end, now))
        closes = [
            price_of(before.close[row]) / self._split_since(symbol, instant_of(before.end[row]), now)
            for row in range(max(0, len(before) - 2), len(before))
        ]
        return Progress(interval, closed=now, volume=volume, close=closes[-1], believed=closes[0])

    def _new(self, book: Book, ticket: Ticket, now: datetime, parent: PaperOrder | None, status: BrokerStatus) -> PaperOrder:
        number = book.next_order()
        name = f"P-{book.account}-{number}"
        quirks, delay = Quirks(), timedelta(0)
        for fault in self._faults.of_submit(ticket.client_id):
            match fault:
                case ShowLate(after):
                    delay = after
                case RejectLater(after, reason):
                    quirks = Quirks(now + after, reason)
                case CancelAfter(quantity):
                    quirks = Quirks(cancel_after=quantity)
                case Overfill(quantity):
                    quirks = Quirks(overfill=quantity)
        session = self._calendar.at(now) if ticket.time_in_force is TimeInForce.DAY else None
        visible_at = now + delay if delay else None
        if parent is not None and visible_at is None:
            visible_at = parent.visible_at
        return PaperOrder(
            number, name, ticket, parent.broker_order_id if parent else None, ticket.oco or name, status,
            ticket.quantity if parent is None else 0, updated_at=now, active_at=now, expires_at=session.close if session else None,
            visible_at=visible_at, quirks=quirks,
        )

    def _marks(self, symbols: list[str], now: datetime) -> dict[str, Decimal]:
        asked = self._followed(symbols)
        marks = {symbol: quote.last for symbol, quote in self._market.quotes(asked, now).items()} if asked else {}
        for symbol in symbols:
            if symbol not in marks:
                marks[symbol] = self._paid_by_hand(symbol) or self._newest_close(symbol, now)
        return marks

    def _followed(self, names: Iterable[str]) -> list[str]:
        """Those that the market can be asked about: by hand anything is traded, such as options."""
        return sorted(name for name in names if SYMBOL.fullmatch(name) and self._market.intervals(name))

    def _newest_close(self, symbol: str, now: datetime) -> Decimal:
        end, close = self._last_close(symbol, now - LOOK_BACK, now)
        return close / self._split_since(symbol, end, now)

    def _paid_by_hand(self, symbol: str) -> Decimal | None:
        """The price of the newest execution of what no market has, and somebody else has brought into the account."""
        if self._followed([symbol]):
            return None
        with self._book.change(traded=[symbol]) as book:
            newest = [each.fill for each in book.executions if each.fill.symbol == symbol][-1]
        return newest.price if newest.client_id.startswith(EXTERNAL) else None

    def _split_since(self, symbol: str, then: datetime, now: datetime) -> Decimal:
        """New shares for one of `then`: 1 when the symbol has not split since."""
        return prod((ratio for at, ratio in self._known(symbol).items() if then < at <= now), start=Decimal(1))

    def _last_close(self, symbol: str, after: datetime, now: datetime) -> tuple[datetime, Decimal]:
        """When the newest bar closed, and at what price in the shares of then."""
        newest: tuple[datetime, Decimal] | None = None
        for interval in self._market.intervals(symbol):
            table = self._market.closed_bars([symbol], interval, after, now).get(symbol)
            if table is not None and len(table) and (newest is None or table.last_end > newest[0]):
                newest = table.last_end, price_of(table.close[-1])
        if newest is None:
            raise MarketDataError(
                f"{symbol} is held and has no price at {now}.", value=symbol, rule="a held symbol has a price",
                remedy="check the market data source",
            )
        return newest


def _not_ready() -> BrokerNotReady:
    return BrokerNotReady("The broker has no session.", rule="orders and queries need a session", remedy="wait, or log in again")


def _unknown(client_id: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"The order {client_id} was sent and nothing came back.", value=client_id, rule="an order is sent once",
        remedy="look the order up; never send it again",
    )


@contextmanager
def _market_errors() -> Iterator[None]:
    try:
        yield
    except MarketDataError as error:
        raise BrokerNotReady(
            f"The paper broker has no market: {error.message}", value=error.value, rule=error.rule, remedy=error.remedy,
        ) from error
