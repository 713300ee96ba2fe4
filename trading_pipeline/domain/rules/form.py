# ruff: noqa: ARG001 - every rule has the one signature
"""Whether the order is well formed, and the data it was decided on fresh (invariants 33, 38, 73)."""

from datetime import timedelta

from trading_pipeline.domain.limits import PROTECTIVE_COLLAR_FACTOR, effective_collar
from trading_pipeline.domain.money import tick
from trading_pipeline.domain.orders import OrderClass, OrderIntent, OrderType, Side, TimeInForce
from trading_pipeline.domain.risk import RiskContext, Verdict
from trading_pipeline.domain.rules.readings import (
    ALLOW,
    DENY,
    NOT_APPLICABLE,
    Unusable,
    dollars,
    judged,
    minute,
    percent,
    positive,
    quote_of,
    seconds,
)
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.domain.worlds import Input, how_supplied


def whole_shares(intent: OrderIntent, context: RiskContext) -> Verdict:
    """38: whole shares, at least one."""
    quantity = intent.quantity
    whole = isinstance(quantity, int) and not isinstance(quantity, bool) and quantity >= 1
    return judged("whole_shares", whole, f"{quantity} shares", "whole, at least 1")


def known_prices(intent: OrderIntent, context: RiskContext) -> Verdict:
    """33: every price of the order and of the quote is finite and above zero."""
    positive(intent.reference, "the reference price")
    for name, value in (("the limit price", intent.limit_price), ("the stop price", intent.stop_price)):
        if value is not None:
            positive(value, name)
    for bracket in intent.brackets:
        positive(bracket.stop, "a bracket's stop")
        if bracket.target is not None:
            positive(bracket.target, "a bracket's target")
    quote = context.quote
    if quote is not None:
        positive(quote.bid, "the bid")
        positive(quote.ask, "the ask")
        positive(quote.last, "the last price")
    return Verdict("known_prices", ALLOW, "all known", "finite, above zero")


def tick_size(intent: OrderIntent, context: RiskContext) -> Verdict:
    """38: prices lie on the exchange's grid, a cent from $1 up. Source: SEC Rule 612."""
    prices = [intent.limit_price, intent.stop_price]
    for bracket in intent.brackets:
        prices += (bracket.stop, bracket.target)
    off = [value for value in prices if value is not None and value % tick(value) != 0]
    return judged("tick_size", not off, ", ".join(map(str, off)) or "on the grid", "multiples of $0.01, of $0.0001 below $1")


def time_in_force(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D7: entries and exits end with the day; only what protects may rest longer."""
    rests = intent.time_in_force is TimeInForce.GTC and intent.order_class is OrderClass.PROTECTIVE
    limit = "day, or gtc to protect"
    return judged("time_in_force", intent.time_in_force is TimeInForce.DAY or rests, str(intent.time_in_force), limit)


def brackets(intent: OrderIntent, context: RiskContext) -> Verdict:
    """26, F6: an entry's stops lie below it, its targets above, for no more shares than it buys."""
    if not intent.brackets:
        return Verdict("brackets", ALLOW, "none", "at most the quantity")
    entry = intent.reference if intent.limit_price is None else min(intent.reference, intent.limit_price)
    covered = sum(bracket.quantity for bracket in intent.brackets)
    sane = intent.order_class is OrderClass.ENTRY and all(
        bracket.quantity >= 1 and bracket.stop < entry and (bracket.target is None or bracket.target > entry)
        for bracket in intent.brackets
    )
    limit = f"{intent.quantity} shares, stops below and targets above {dollars(entry)}"
    return judged("brackets", sane and covered <= intent.quantity, f"{covered} shares covered", limit)


def fresh_bar(intent: OrderIntent, context: RiskContext) -> Verdict:
    """73: decided on the newest closed bar, or intraday on the one before; a daily bar is the newest or nothing."""
    newest, expected = context.bar_end, context.bar_expected_end
    if newest is None or expected is None:
        raise Unusable("the newest bar is unknown" if newest is None else "which bar ought to exist is unknown")
    oldest = expected if context.interval.daily else expected - timedelta(minutes=context.interval.minutes)
    detail = "a bar from the future" if newest > context.now else ""
    fresh = oldest <= newest <= context.now
    return judged("fresh_bar", fresh, f"bar to {minute(newest)}", f"{minute(oldest)} or newer", detail)


def fresh_quote(intent: OrderIntent, context: RiskContext) -> Verdict:
    """38: a quote of this symbol at most 5 s old by the market clock."""
    age, oldest = context.now - quote_of(intent, context).at, context.account_limits.max_quote_age
    return judged("fresh_quote", timedelta(0) <= age <= oldest, seconds(age), seconds(oldest), how_supplied(Input.QUOTE, context.world))


def spread(intent: OrderIntent, context: RiskContext) -> Verdict:
    """38: bid not above ask, and not far below it."""
    quote = quote_of(intent, context)
    bid, ask, widest = positive(quote.bid, "the bid"), positive(quote.ask, "the ask"), context.account_limits.max_spread
    width = (ask - bid) / ((ask + bid) / 2)
    return judged("spread", 0 <= width <= widest, percent(width), percent(widest), how_supplied(Input.SPREAD, context.world))


def price_collar(intent: OrderIntent, context: RiskContext) -> Verdict:
    """38: a limit reaches at most the collar beyond the last price, in the direction that costs.

    A patient limit, below the market for a buy, costs nothing and passes. A native stop has no limit.
    """
    protective = intent.order_class is OrderClass.PROTECTIVE
    if intent.order_type is OrderType.STOP and protective:
        stop = positive(intent.stop_price, "the stop price")
        return Verdict("price_collar", NOT_APPLICABLE, dollars(stop), "none", "a native stop has no limit")
    if intent.order_type not in (OrderType.MARKETABLE, OrderType.LIMIT):
        return Verdict("price_collar", DENY, str(intent.order_type), "marketable or limit", "only a protective order is a stop")
    collar = effective_collar(context.account_limits, context.strategy_limits, autonomous=context.mode is not Mode.APPROVAL)
    if protective:
        collar *= PROTECTIVE_COLLAR_FACTOR
    last, limit_price = positive(quote_of(intent, context).last, "the last price"), positive(intent.limit_price, "the limit price")
    beyond = (limit_price - last) / last if intent.side is Side.BUY else (last - limit_price) / last
    detail = f"limit {dollars(limit_price)}, last {dollars(last)}"
    return judged("price_collar", beyond <= collar, percent(beyond), percent(collar), detail)


def volume_share(intent: OrderIntent, context: RiskContext) -> Verdict:
    """38: at most 1 % of the average daily volume."""
    most = positive(context.average_day_volume, "the average daily volume") * context.account_limits.max_volume_share
    detail = "short_history: " if context.short_history is not False else ""
    detail += how_supplied(Input.AVERAGE_VOLUME, context.world)
    return judged("volume_share", 0 < intent.quantity <= most, f"{intent.quantity:,} shares", f"{most:,.0f} shares", detail)
