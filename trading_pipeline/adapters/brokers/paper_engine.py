"""Moves a paper account through the bars of its open orders, in order of time, up to an instant (D28).

Every bar is two events: its open, at its start, and its range, at its end; at one instant ranges come first, then
expiries and rejections, then splits, then opens. Each event is applied once, by a mark kept per symbol, so the result is the same
however often one looks. A bar that a source publishes late is applied when it appears, to what is still open then; one that ended
before a split and appears after it, to nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import IntEnum

from trading_pipeline.adapters.brokers.paper_book import Book, Execution, KnownSplit, PaperOrder, PaperSettings
from trading_pipeline.adapters.brokers.paper_matching import (
    Opening,
    Range,
    commission,
    commission_of_value,
    most_in_bar,
    price_after_entry,
    price_at_open,
    price_in_range,
)
from trading_pipeline.domain.bars import BarTable, instant_of
from trading_pipeline.domain.money import price_of
from trading_pipeline.domain.orders import OrderType, Side
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.domain.split_holdings import in_lieu, restated_price, restated_quantities, whole_shares
from trading_pipeline.ports import BrokerStatus, MarketData


@dataclass(frozen=True, slots=True)
class SplitDay:
    """A split that the account meets: from `at`, an open, on; fractions are paid out at `close`, the last price before it."""

    at: datetime
    symbol: str
    ratio: Decimal
    close: Decimal


class _Kind(IntEnum):
    RANGE = 0
    END = 1
    SPLIT = 2
    OPEN = 3


@dataclass(frozen=True, slots=True, order=True)
class _Event:
    at: datetime
    kind: _Kind
    symbol: str
    number: int
    """The order's, for END; otherwise 0."""
    table: BarTable | None = field(default=None, compare=False)
    row: int = field(default=0, compare=False)
    opening: Opening | None = field(default=None, compare=False)
    split: SplitDay | None = field(default=None, compare=False)

    def before(self, opened: datetime) -> bool:
        """Whether it belongs to a bar that had ended by an open: published late, its prices are those of other shares."""
        return self.at <= opened if self.kind is _Kind.RANGE else self.at < opened


def advance(book: Book, market: MarketData, settings: PaperSettings, now: datetime, splits: Callable[[], Sequence[SplitDay]]) -> None:
    """Match everything that was published up to `now`, and apply the splits on the way.

    Args:
        splits: Gives those up to `now` that the book's share counts do not have yet; asked once the prices are here.

    Raises:
        MarketDataError: The source does not answer; nothing was changed.
    """
    if not book.symbols:
        return
    events = list(_events(book, market, now)) if book.open else []
    events += [_Event(each.at, _Kind.SPLIT, each.symbol, 0, split=each) for each in splits()]
    events.sort()
    matching = Matching(book, settings)
    for event in events:
        progress = book.progress.get(event.symbol)
        if event.kind is _Kind.END:
            matching.end_of(event.number, event.at)
        elif event.split is not None:
            matching.on_split(event.split)
        elif progress is None or (progress.scaled is not None and event.before(progress.scaled)):
            continue
        elif event.kind is _Kind.RANGE and event.table is not None:
            bar = _range(event.table, event.row)
            if progress.believes(bar.high, bar.low, most=settings.max_bar_gap) and matching.has_work(event.symbol):
                matching.on_range(event.symbol, bar)
            if progress.believes(bar.close, most=settings.max_bar_gap):
                progress.believed = bar.close
            progress.close = bar.close
            progress.closed, progress.volume = event.at, int(event.table.volume[event.row])
        elif event.kind is _Kind.OPEN and (progress.opened is None or progress.opened < event.at):
            progress.opened = event.at
            opening = event.opening
            if opening is None and event.table is not None:
                opening = Opening(event.at, price_of(event.table.open[event.row]))
            if opening is not None and progress.believes(opening.open, most=settings.max_bar_gap):
                ends = None if event.table is None else instant_of(event.table.end[event.row])
                matching.on_open(event.symbol, opening, ends)


def _events(book: Book, market: MarketData, now: datetime) -> Iterator[_Event]:
    for symbol, progress in sorted(book.progress.items()):
        table = market.closed_bars([symbol], progress.interval, progress.closed, now).get(symbol)
        for row in range(len(table) if table is not None else 0):
            assert table is not None
            yield _Event(instant_of(table.start[row]), _Kind.OPEN, symbol, 0, table, row)
            yield _Event(instant_of(table.end[row]), _Kind.RANGE, symbol, 0, table, row)
        current = market.opening_bar(symbol, progress.interval, now)
        if current is not None:
            yield _Event(current[0], _Kind.OPEN, symbol, 0, opening=Opening(*current))
    for order in book.open.values():
        due = [at for at in (order.expires_at, order.quirks.reject_at) if at is not None and at <= now]
        if due:
            yield _Event(min(due), _Kind.END, order.ticket.symbol, order.number)


def _range(table: BarTable, row: int) -> Range:
    high, low, close = price_of(table.high[row]), price_of(table.low[row]), price_of(table.close[row])
    return Range(instant_of(table.start[row]), instant_of(table.end[row]), high, low, close)


class Matching:
    """Applies openings and ranges to the open orders of a book."""

    def __init__(self, book: Book, settings: PaperSettings) -> None:
        self._book = book
        self._settings = settings

    def has_work(self, symbol: str) -> bool:
        """Whether a bar of the symbol can do anything."""
        return any(order.ticket.symbol == symbol and order.status is BrokerStatus.WORKING for order in self._book.open.values())

    def arrive(self, order: PaperOrder, opening: Opening | None) -> None:
        """A new order meets the bar it came in, if one has opened."""
        if opening is not None:
            self._try_open(order, opening)

    def on_open(self, symbol: str, opening: Opening, ends: datetime | None) -> None:
        """A bar's open, for all orders that were there before it ended."""
        for order in self._in_turn(symbol):
            if ends is None or ends > order.active_at:
                self._try_open(order, opening)

    def on_range(self, symbol: str, bar: Range) -> None:
        """A closed bar's range; stops come before targets, exits before entries."""
        for order in self._in_turn(symbol):
            if order.status is BrokerStatus.WORKING and bar.end > order.active_at:
                self._try(order, price_in_range(order, bar, self._settings), bar.end, bar.start, bar)

    def on_split(self, split: SplitDay) -> None:
        """New shares for old ones before the session opens: positions, fractions paid in cash, resting exits restated, entries canceled.

        Source for restating what rests: FINRA Rule 5330. It has orders canceled at a reverse split; here they are restated as well.
        """
        book, symbol, ratio = self._book, split.symbol, split.ratio
        held = book.positions.pop(symbol, 0)
        whole = whole_shares(held, ratio)
        if whole:
            book.positions[symbol] = whole
        book.cash += in_lieu(held, whole, ratio, split.close)
        resting = [order for order in book.open.values() if order.ticket.symbol == symbol]
        for order in resting:
            if order.ticket.side is Side.BUY:
                self.end(order, BrokerStatus.CANCELED, f"the shares were split {ratio.normalize():f} for 1", split.at)
        families: dict[str, list[PaperOrder]] = {}
        for order in resting:
            if order.open:
                families.setdefault(order.parent or order.group, []).append(order)
        for family in families.values():
            self._restate(family, split)
        progress = book.progress.get(symbol)
        if progress is not None:
            progress.scaled = split.at
            if progress.volume is not None:
                progress.volume = whole_shares(progress.volume, ratio)
            progress.close, progress.believed = (
                None if price is None else price / ratio for price in (progress.close, progress.believed)
            )
        book.scales[symbol] = split.at
        book.splits.setdefault(symbol, {})[split.at] = KnownSplit(ratio, split.close)

    def _restate(self, family: list[PaperOrder], split: SplitDay) -> None:
        """The exits of one entry on the new scale; what has filled stays as it filled."""
        left: dict[str, int] = {}
        for order in family:
            left[order.group] = max(left.get(order.group, 0), order.remaining)
        after = dict(zip(left, restated_quantities(list(left.values()), split.ratio), strict=True))
        for order in family:
            rest = min(after[order.group], whole_shares(order.remaining, split.ratio) + 1) if order.remaining else 0
            if not rest:
                self.end(order, BrokerStatus.CANCELED, f"nothing is left of it after the split {split.ratio.normalize():f} for 1", split.at)
                continue
            ticket = order.ticket
            limit, stop = (
                None if price is None else restated_price(price, split.ratio, ticket.order_type)
                for price in (ticket.limit_price, ticket.stop_price)
            )
            order.released = order.filled + order.reduced + rest
            order.ticket = replace(ticket, quantity=order.released, limit_price=limit, stop_price=stop)
            order.updated_at = split.at

    def end_of(self, number: int, at: datetime) -> None:
        """An order's day is over, or the broker rejects it after all."""
        order = next((each for each in self._book.open.values() if each.number == number), None)
        if order is None:
            return
        if order.quirks.reject_at is not None and order.quirks.reject_at <= at:
            self.end(order, BrokerStatus.REJECTED, order.quirks.reject_reason, at)
        else:
            self.end(order, BrokerStatus.EXPIRED, "the session closed", at)

    def end(self, order: PaperOrder, status: BrokerStatus, reason: str, at: datetime) -> None:
        """End an order; children for which nothing was filled end with it, the others live on."""
        self._book.end(order, status, reason, at)
        for child in self._children(order):
            self._settle(child, at)

    def _in_turn(self, symbol: str) -> list[PaperOrder]:
        ours = [order for order in self._book.open.values() if order.ticket.symbol == symbol]
        return sorted(ours, key=lambda o: (o.ticket.side is Side.BUY, o.ticket.order_type is not OrderType.STOP, o.number))

    def _children(self, order: PaperOrder) -> list[PaperOrder]:
        return [each for each in self._book.open.values() if each.parent == order.broker_order_id]

    def _try_open(self, order: PaperOrder, opening: Opening) -> None:
        if order.status is BrokerStatus.WORKING:
            at = max(opening.start, order.active_at)
            self._try(order, price_at_open(order, opening, self._settings), at, opening.start, opening)

    def _try(self, order: PaperOrder, price: Decimal | None, at: datetime, start: datetime, bar: Opening | Range) -> None:
        if price is None or not order.remaining or order.quirks.reject_at is not None:
            return
        order.triggered = order.ticket.order_type is OrderType.STOP
        progress = self._book.progress[order.ticket.symbol]
        quantity = most_in_bar(order, start, progress.volume, self._settings)
        if order.quirks.cancel_after is not None:
            quantity = min(quantity, order.quirks.cancel_after - order.filled)
        held = self._book.positions.get(order.ticket.symbol, 0)
        short = order.ticket.side is Side.SELL and held < quantity
        if short:
            quantity = max(0, held)
        if quantity:
            order.taken = quantity + (order.taken if order.bar == start else 0)
            order.bar = start
            self._fill(order, quantity, price, at, bar)
        if short and order.open:
            self.end(order, BrokerStatus.CANCELED, "the shares it was to sell are gone", at)

    def _fill(self, order: PaperOrder, quantity: int, price: Decimal, at: datetime, bar: Opening | Range) -> None:
        if quantity == order.remaining:
            quantity += order.quirks.overfill
        ticket = order.ticket
        total = commission(order.filled + quantity, self._settings)
        charged = total - order.commission + commission_of_value(quantity, price, self._settings)
        number = self._book.next_execution()
        name = f"{self._book.account}-{number}"
        fill = Fill(name, ticket.client_id, ticket.symbol, ticket.side, quantity, price, charged, at)
        self._book.book(Execution(number, fill, order.visible_at))
        order.filled += quantity
        order.commission = total
        order.updated_at = at
        ready = self._release(order, at)
        self._share(order, quantity, at)
        if order.quirks.cancel_after == order.filled < ticket.quantity:
            self.end(order, BrokerStatus.CANCELED, "canceled by the broker", at)
        self._settle(order, at)
        for child in ready:
            if child.status is not BrokerStatus.WORKING:
                continue
            if isinstance(bar, Opening):
                self._try_open(child, bar)
            else:
                self._try(child, price_after_entry(child, bar, self._settings), at, bar.start, bar)

    def _share(self, order: PaperOrder, quantity: int, at: datetime) -> None:
        """Take what filled off the other orders of the pair, and end an entry whose bracket has begun to exit.

        Source for partial fills re-balancing the group: https://interactivebrokers.github.io/tws-api/oca.html
        """
        for other in list(self._book.open.values()):
            if other.group == order.group and other is not order:
                other.reduced += min(quantity, max(0, other.released - other.filled - other.reduced))
                other.updated_at = at
                self._settle(other, at)
        parent = self._book.open.get(order.parent or "")
        if parent is not None:
            self.end(parent, BrokerStatus.CANCELED, "its bracket has begun to exit", at)

    def _settle(self, order: PaperOrder, at: datetime) -> None:
        """End an order that has nothing left to do and can get nothing more from its parent."""
        if not order.open:
            return
        if order.filled >= order.ticket.quantity:
            self.end(order, BrokerStatus.FILLED, "", at)
        elif not order.remaining and order.parent not in self._book.open:
            if order.reduced:
                reason = "the other order of its pair filled"
            elif order.released:
                reason = f"filled {order.filled} of {order.ticket.quantity}, as many as its parent"
            else:
                reason = "its parent ended without a fill for it"
            self.end(order, BrokerStatus.CANCELED, reason, at)

    def _release(self, parent: PaperOrder, at: datetime) -> list[PaperOrder]:
        """Make children active for what their parent filled, the first bracket served first; those that got more, stops first."""
        left = parent.filled
        shares: dict[str, int] = {}
        ready = []
        for child in self._children(parent):
            if child.group not in shares:
                shares[child.group] = min(left, child.ticket.quantity)
                left -= shares[child.group]
            if shares[child.group] > child.released:
                child.released = shares[child.group]
                child.updated_at = at
                if child.status is BrokerStatus.HELD:
                    child.status, child.active_at = BrokerStatus.WORKING, at
                ready.append(child)
        return sorted(ready, key=lambda each: (each.ticket.order_type is not OrderType.STOP, each.number))
