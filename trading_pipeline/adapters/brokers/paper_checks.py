"""What the paper broker refuses: each check raises BrokerRefused, and nothing was placed."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from trading_pipeline.adapters.brokers.paper_book import Book, PaperSettings
from trading_pipeline.adapters.brokers.paper_matching import commission, commission_of_value, reserved
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.money import ZERO, tick, usd
from trading_pipeline.domain.orders import OrderType, Side
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.errors import BrokerRefused, CalendarError
from trading_pipeline.ports import BrokerStatus, Permit, Ticket, ticket_digest


def check_permit(ticket: Ticket, permit: Permit) -> None:
    """The permit is for exactly this ticket (invariants 23, 24)."""
    if permit.client_id != ticket.client_id:
        raise _refused("The permit names another order.", permit.client_id, "a permit is good for one order", "let the gate judge it")
    if permit.digest != ticket_digest(ticket):
        raise _refused(
            "The order is not the one that was permitted.", ticket.client_id, "what is sent is what was judged", "let the gate judge it",
        )


def check_hours(calendar: TradingCalendar, now: datetime) -> None:
    """Regular hours are open (D7)."""
    try:
        session = calendar.at(now)
    except CalendarError as error:
        raise BrokerRefused(error.message, value=error.value, rule=error.rule, remedy=error.remedy) from error
    if session is None:
        raise _refused(
            f"The exchange is closed at {now:%Y-%m-%d %H:%M:%S} UTC.", now, "orders are taken in regular hours", "send it in a session",
        )


def check_ticket(ticket: Ticket, intervals: Sequence[Interval]) -> None:
    """The ticket makes sense by itself."""
    if not intervals:
        raise _refused(f"No contract {ticket.symbol} is known.", ticket.symbol, "the market data source has the symbol", "check the symbol")
    _check_prices(ticket)
    if ticket.children and ticket.side is Side.SELL:
        raise _refused("An exit has no children.", ticket.client_id, "brackets belong to entries", "send the exit alone")
    groups: dict[str, int] = {}
    for child in ticket.children:
        _check_prices(child)
        if child.children or child.side is not Side.SELL or child.symbol != ticket.symbol or child.order_type is OrderType.MARKETABLE:
            raise _refused(
                f"The child {child.client_id} does not protect its parent.", child.client_id,
                "a child is a stop or limit that sells the parent's symbol", "correct the bracket",
            )
        group = child.oco or child.client_id
        groups[group] = max(groups.get(group, 0), child.quantity)
    if sum(groups.values()) > ticket.quantity:
        raise _refused(
            f"The children sell {sum(groups.values())} shares of {ticket.quantity}.", sum(groups.values()),
            "exits never exceed the position", "let the brackets share the entry's quantity",
        )


def check_funds(book: Book, ticket: Ticket, settings: PaperSettings) -> None:
    """There is cash for a buy, or there are free shares for a sell (invariant 26, no margin, no short sales)."""
    if ticket.side is Side.BUY:
        assert ticket.limit_price is not None
        charged = commission(ticket.quantity, settings) + commission_of_value(ticket.quantity, ticket.limit_price, settings)
        needed = ticket.quantity * ticket.limit_price + charged
        free = book.cash - sum((reserved(order, settings) for order in book.open.values()), ZERO)
        if needed > free:
            raise _refused(f"{usd(needed)} is needed and {usd(free)} is free.", needed, "buying power is cash", "buy less or free cash")
        return
    offered: dict[str, int] = {}
    for order in book.open.values():
        if order.ticket.side is Side.SELL and order.ticket.symbol == ticket.symbol and order.status is BrokerStatus.WORKING:
            offered[order.group] = max(offered.get(order.group, 0), order.remaining)
    group = ticket.oco or ""
    held = book.positions.get(ticket.symbol, 0)
    others = sum(quantity for name, quantity in offered.items() if name != group)
    if max(ticket.quantity, offered.get(group, 0)) + others > held:
        raise _refused(
            f"{ticket.quantity} shares of {ticket.symbol} are to be sold; {held} are held and {others} are in open exits.", ticket.quantity,
            "open exits never exceed the position", "sell less, or cancel an exit first",
        )


def _check_prices(ticket: Ticket) -> None:
    if isinstance(ticket.quantity, bool) or ticket.quantity < 1:
        raise _refused(f"{ticket.quantity} shares are no order.", ticket.quantity, "a quantity is a whole number above 0", "correct it")
    stop = ticket.order_type is OrderType.STOP
    if stop and ticket.side is Side.BUY:
        raise _refused("A buy stop is not taken.", ticket.client_id, "stops protect a long position", "use a limit")
    for name, price, wanted in (("limit", ticket.limit_price, not stop), ("stop", ticket.stop_price, stop)):
        if (price is not None) is not wanted:
            raise _refused(
                f"A {ticket.order_type} order {'needs a' if wanted else 'has no'} {name} price.", price,
                "marketable and limit orders have a limit price, stops a stop price, and no other", "correct the order",
            )
        if price is not None:
            _check_price(name, price)


def _check_price(name: str, price: Decimal) -> None:
    if not price.is_finite() or price <= 0 or price % tick(price):
        raise _refused(
            f"The {name} price {price} is off the tick.", price,
            "prices are whole cents from $1 up, 0.0001 below (SEC Rule 612)", "round it",
        )


def _refused(message: str, value: object, rule: str, remedy: str) -> BrokerRefused:
    return BrokerRefused(message, value=value, rule=rule, remedy=remedy)


