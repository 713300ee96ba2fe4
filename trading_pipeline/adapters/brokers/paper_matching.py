"""At what price and for how many shares a bar fills an order (D28): pure rules, nothing is changed here.

Orders that take (marketable ones, stops once reached, limits that cross on arrival) pay half the spread and slippage on
the price they meet; limits that rest fill at their limit, or at a better open. Prices are rounded to 0.0001 USD against the
order. What a bar does inside its range is known only at its end: a stop reached there fills no lower than anybody traded,
while an order filled at an open pays the whole cost, since the bar's range is not yet known then.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from trading_pipeline.adapters.brokers.paper_book import PaperOrder, PaperSettings
from trading_pipeline.domain.money import PRICE_STEP, ZERO
from trading_pipeline.domain.orders import OrderType, Side


@dataclass(frozen=True, slots=True)
class Opening:
    """What a bar publishes at its start."""

    start: datetime
    open: Decimal


@dataclass(frozen=True, slots=True)
class Range:
    """What is known of a bar once it has closed."""

    start: datetime
    end: datetime
    high: Decimal
    low: Decimal
    close: Decimal


def price_at_open(order: PaperOrder, opening: Opening, settings: PaperSettings) -> Decimal | None:
    """The price at which a bar's open fills the order, or None when it does not."""
    ticket = order.ticket
    taken = _taken(ticket.side, opening.open, settings)
    if ticket.order_type is OrderType.STOP:
        return taken if order.triggered or opening.open <= _given(ticket.stop_price) else None
    limit = _given(ticket.limit_price)
    crossing = ticket.order_type is OrderType.MARKETABLE or order.active_at >= opening.start
    price = taken if crossing else opening.open
    return price if _within(ticket.side, price, limit) else None


def price_in_range(order: PaperOrder, bar: Range, settings: PaperSettings) -> Decimal | None:
    """The price at which a closed bar's range fills an order that was there from its open on."""
    ticket = order.ticket
    if ticket.order_type is OrderType.STOP:
        stop = _given(ticket.stop_price)
        return max(bar.low, _taken(ticket.side, stop, settings)) if not order.triggered and bar.low <= stop else None
    limit = _given(ticket.limit_price)
    reached = bar.low <= limit if ticket.side is Side.BUY else bar.high >= limit
    return limit if reached else None


def price_after_entry(order: PaperOrder, bar: Range, settings: PaperSettings) -> Decimal | None:
    """The same for a child whose parent filled somewhere inside this very bar: only what must have come after it counts.

    The price fell to the entry's limit first and to the stop below it later; a high may have come before the entry, so a
    target counts only if the bar closed at it or above.
    """
    if order.ticket.order_type is OrderType.STOP:
        return price_in_range(order, bar, settings)
    limit = _given(order.ticket.limit_price)
    return limit if bar.close >= limit else None


def most_in_bar(order: PaperOrder, start: datetime, volume: int | None, settings: PaperSettings) -> int:
    """Shares the order may still take in the bar that starts at `start`.

    Args:
        volume: Of the bar before it. None: nothing is known, nothing fills; a bar that traded gives one share at least.
    """
    if not volume:
        return 0
    most = max(1, int(settings.volume_share * volume))
    return min(order.remaining, max(0, most - (order.taken if order.bar == start else 0)))


def commission(quantity: int, settings: PaperSettings) -> Decimal:
    """USD for an order of which `quantity` shares filled, by the share."""
    if quantity == 0:
        return ZERO
    return max(settings.commission_minimum, settings.commission_per_share * quantity).quantize(PRICE_STEP)


def commission_of_value(quantity: int, price: Decimal, settings: PaperSettings) -> Decimal:
    """USD for shares that filled at a price, by their value."""
    return (settings.commission_rate * quantity * price).quantize(PRICE_STEP)


def reserved(order: PaperOrder, settings: PaperSettings) -> Decimal:
    """USD that an open order may still take out of the account: its rest at its limit, with commission."""
    if order.ticket.side is not Side.BUY or not order.open:
        return ZERO
    quantity, limit = order.ticket.quantity, _given(order.ticket.limit_price)
    by_share = commission(quantity, settings) - order.commission
    return order.remaining * limit + by_share + commission_of_value(order.remaining, limit, settings)


def _taken(side: Side, price: Decimal, settings: PaperSettings) -> Decimal:
    cost = settings.spread / 2 + settings.slippage
    if side is Side.BUY:
        return (price * (1 + cost)).quantize(PRICE_STEP, ROUND_CEILING)
    return max(PRICE_STEP, (price * (1 - cost)).quantize(PRICE_STEP, ROUND_FLOOR))


def _within(side: Side, price: Decimal, limit: Decimal) -> bool:
    return price <= limit if side is Side.BUY else price >= limit


def _given(price: Decimal | None) -> Decimal:
    assert price is not None, "checked when the order came"
    return price
