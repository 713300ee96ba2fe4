# ruff: noqa: ARG001 - every rule has the one signature
"""The hard limits of the founding documents, invariants 65-69: constants, and no setting lifts them."""

from trading_pipeline.domain.limits import COOLDOWN, DUPLICATE_WINDOW, MAX_ORDER_VALUE, MIN_PRICE, ORDERS_FROM, ORDERS_UNTIL
from trading_pipeline.domain.orders import OrderClass, OrderIntent
from trading_pipeline.domain.risk import RiskContext, Verdict
from trading_pipeline.domain.rules.readings import DENY, dollars, judged, new_york, positive, spaced, value_of


def hard_order_value(intent: OrderIntent, context: RiskContext) -> Verdict:
    """65, D1: no order above $100,000 at its worst price, its own targets and what an exit would bring by now included."""
    largest = value_of(intent)
    if intent.order_class is OrderClass.EXIT and context.quote is not None:
        largest = max(largest, intent.quantity * positive(context.quote.last, "the last price"))
    for bracket in intent.brackets:
        if bracket.target is not None:
            largest = max(largest, bracket.quantity * positive(bracket.target, "a target"))
    return judged("hard_order_value", largest <= MAX_ORDER_VALUE, dollars(largest), dollars(MAX_ORDER_VALUE))


def penny_stock(intent: OrderIntent, context: RiskContext) -> Verdict:
    """66, D5: no share below $1.00, by the reference, by the limit or by what it has come to since."""
    lowest = positive(intent.reference, "the reference price")
    if intent.limit_price is not None:
        lowest = min(lowest, positive(intent.limit_price, "the limit price"))
    if context.quote is not None:
        lowest = min(lowest, positive(context.quote.last, "the last price"))
    return judged("penny_stock", lowest >= MIN_PRICE, dollars(lowest), dollars(MIN_PRICE))


def trading_hours(intent: OrderIntent, context: RiskContext) -> Verdict:
    """67, D7: regular hours of the day's session within 09:30-16:00 New York; early closes are earlier."""
    at = context.at_release or context.now
    local = new_york(at)
    measured = f"{local.isoformat(' ', 'milliseconds')[:-6]} New York"
    session = context.session
    if session is None:
        return Verdict("trading_hours", DENY, measured, "09:30-16:00", "the exchange is closed")
    inside = session.contains(at) and ORDERS_FROM <= local.time() < ORDERS_UNTIL
    close = min(new_york(session.close).time(), ORDERS_UNTIL)
    return judged("trading_hours", inside, measured, f"09:30-{close.isoformat('minutes')}")


def cooldown(intent: OrderIntent, context: RiskContext) -> Verdict:
    """68, D3: 30 s after the strategy's last submission or entry fill; a paced action is judged at its release."""
    return spaced("cooldown", context.last_trade_at, context.at_release or context.now, COOLDOWN)


def duplicate_action(intent: OrderIntent, context: RiskContext) -> Verdict:
    """69, D4: 60 s after the last admitted action of the same account, strategy, symbol and side."""
    return spaced("duplicate_action", context.last_action_at, context.now, DUPLICATE_WINDOW)
