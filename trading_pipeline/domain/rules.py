# ruff: noqa: ARG001 - every rule has the one signature
"""Every rule: (OrderIntent, RiskContext) -> Verdict, a few lines each, numbered as in INVARIANTS.

A rule judges as if the order were an entry; whom it stops is the class matrix's business, in `rulebook`.
An input that is unknown, not finite or negative raises `Unusable`, which `judge` turns into the denial of
that rule: there is no neutral stand-in. Comparisons are written so that only a proven pass is a pass.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final

from trading_pipeline.domain.forbidden import LEVERAGED_AND_INVERSE
from trading_pipeline.domain.limits import (
    COOLDOWN,
    DUPLICATE_WINDOW,
    MAX_CLOCK_OFFSET,
    MAX_ORDER_VALUE,
    MIN_PRICE,
    ORDERS_FROM,
    ORDERS_UNTIL,
    PROTECTIVE_COLLAR_FACTOR,
    effective_collar,
)
from trading_pipeline.domain.money import CENT, ZERO, tick
from trading_pipeline.domain.orders import OrderClass, OrderIntent, OrderType, Side
from trading_pipeline.domain.risk import Outcome, Quote, RiskContext, Verdict, World
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.domain.strategies import Mode, StrategyState
from trading_pipeline.domain.worlds import ENVIRONMENTS, Input, how_supplied, not_supplied


class Unusable(ValueError):
    """An input of a rule is missing or makes no sense: the rule denies."""


def number(value: Decimal | None, what: str) -> Decimal:
    """The value if it is known and finite."""
    if value is None:
        raise Unusable(f"{what} is unknown")
    if not value.is_finite():
        raise Unusable(f"{what} is {value}")
    return value


def amount(value: Decimal | None, what: str) -> Decimal:
    """The value if it is known, finite and not negative."""
    known = number(value, what)
    if known < 0:
        raise Unusable(f"{what} is {known}")
    return known


def positive(value: Decimal | None, what: str) -> Decimal:
    """The value if it is known, finite and above zero."""
    known = number(value, what)
    if known <= 0:
        raise Unusable(f"{what} is {known}")
    return known


def count(value: int, what: str) -> int:
    """The value if it is a whole number, not negative."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Unusable(f"{what} is {value}")
    return value


@lru_cache(maxsize=4096)
def dollars(value: Decimal) -> str:
    """USD to the cent, to 0.0001 where there is more: a denial never shows two equal figures."""
    digits = 2 if value == value.quantize(CENT) else 4
    return f"-${-value:,.{digits}f}" if value < 0 else f"${value:,.{digits}f}"


@lru_cache(maxsize=1024)
def percent(fraction: Decimal) -> str:
    """A fraction as people read it."""
    return f"{fraction:.2%}"


@lru_cache(maxsize=1024)
def seconds(span: timedelta) -> str:
    """A span to the millisecond."""
    return f"{span.total_seconds():.3f} s"


def _judged(rule: str, passes: bool, measured: str, limit: str, detail: str = "") -> Verdict:
    return Verdict(rule, Outcome.ALLOW if passes is True else Outcome.DENY, measured, limit, detail)


def _halting(rule: str, passes: bool, measured: str, limit: str, detail: str = "") -> Verdict:
    return Verdict(rule, Outcome.ALLOW if passes is True else Outcome.HALT, measured, limit, detail)


def _value(intent: OrderIntent) -> Decimal:
    """USD at the worst price; a quantity below one share or a price that is none has no value."""
    return positive(intent.value, "the order's value")


def _since(rule: str, last: datetime | None, at: datetime, least: timedelta, detail: str = "") -> Verdict:
    """Exactly `least` passes; an instant in the future of `at` does not."""
    if last is None:
        return Verdict(rule, Outcome.ALLOW, "none before", seconds(least), detail)
    elapsed = at - last
    return _judged(rule, elapsed >= least, seconds(elapsed), seconds(least), detail)


# The hard limits: no setting lifts them


def hard_order_value(intent: OrderIntent, context: RiskContext) -> Verdict:
    """65, D1: no order above $100,000 at its worst price, its own targets included."""
    largest = _value(intent)
    for bracket in intent.brackets:
        if bracket.target is not None:
            largest = max(largest, bracket.quantity * positive(bracket.target, "a target"))
    return _judged("hard_order_value", largest <= MAX_ORDER_VALUE, dollars(largest), dollars(MAX_ORDER_VALUE))


def penny_stock(intent: OrderIntent, context: RiskContext) -> Verdict:
    """66, D5: no share below $1.00, by the reference or by the limit."""
    lowest = positive(intent.reference, "the reference price")
    if intent.limit_price is not None:
        lowest = min(lowest, positive(intent.limit_price, "the limit price"))
    return _judged("penny_stock", lowest >= MIN_PRICE, dollars(lowest), dollars(MIN_PRICE))


def trading_hours(intent: OrderIntent, context: RiskContext) -> Verdict:
    """67, D7: regular hours of the day's session within 09:30-16:00 New York; early closes are earlier."""
    at = context.at_release or context.now
    local = at.astimezone(NEW_YORK)
    measured = f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d} New York"
    session = context.session
    if session is None:
        return Verdict("trading_hours", Outcome.DENY, measured, "09:30-16:00", "the exchange is closed")
    inside = session.contains(at) and ORDERS_FROM <= local.time() < ORDERS_UNTIL
    close = "16:00" if not session.early_close else f"{session.close.astimezone(NEW_YORK):%H:%M}"
    return _judged("trading_hours", inside, measured, f"09:30-{close}")


def cooldown(intent: OrderIntent, context: RiskContext) -> Verdict:
    """68, D3: 30 s after the strategy's last submission or entry fill; a paced action is judged at its release."""
    return _since("cooldown", context.last_trade_at, context.at_release or context.now, COOLDOWN)


def duplicate_action(intent: OrderIntent, context: RiskContext) -> Verdict:
    """69, D4: 60 s after the last admitted action of the same account, strategy, symbol and side."""
    return _since("duplicate_action", context.last_action_at, context.now, DUPLICATE_WINDOW)


# May this strategy send anything


def account_latch(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D9, 52: nothing goes out under an emergency stop of the account."""
    clear = context.latched is False
    return _judged("account_latch", clear, "clear" if clear else "emergency stop", "clear")


PROTECTIVE_STATES: Final = frozenset(StrategyState) - {StrategyState.DRAFT, StrategyState.EMERGENCY_STOPPED}
"""A holding is never trapped by a pause or by its strategy's end; after an emergency stop only a person closes (D9)."""


def strategy_state(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D10, 51: only a running strategy trades; what protects a holding goes on until an emergency stop."""
    state = context.strategy_state
    if intent.order_class is OrderClass.PROTECTIVE:
        return _judged("strategy_state", state in PROTECTIVE_STATES, state.value, "not draft, not stopped")
    return _judged("strategy_state", state is StrategyState.RUNNING, state.value, "running")


def environment(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D31, 80: a named account in a known environment; live money only on the live market."""
    known = intent.environment in ENVIRONMENTS and bool(intent.account)
    fits = intent.environment != "live" or context.world is World.LIVE
    return _judged(
        "environment", known and fits, f"{intent.environment or 'no environment'} on {context.world.value} data",
        "live, paper, backtest or demo, with an account",
    )


def long_only(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D24, 41: a buy enters, a sell reduces; no other class exists for either."""
    fits = (intent.side is Side.BUY) if intent.order_class is OrderClass.ENTRY else (
        intent.side is Side.SELL and intent.order_class in (OrderClass.EXIT, OrderClass.PROTECTIVE)
    )
    return _judged("long_only", fits, f"{intent.side.value} as {intent.order_class.value}", "buy as E, sell as X or P")


def oversell(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D24, 26: a sell is at most what is held and not yet being sold."""
    if intent.side is not Side.SELL:
        return Verdict("oversell", Outcome.NOT_APPLICABLE, "a buy", "sells only")
    position, selling = count(context.position, "the position"), count(context.open_exit_quantity, "the quantity in open exits")
    free = position - selling
    detail = f"{position} held, {selling} in open exits"
    return _judged("oversell", 0 < intent.quantity <= free, f"{intent.quantity} shares", f"{free} shares", detail)


def unknown_order(intent: OrderIntent, context: RiskContext) -> Verdict:
    """17, 31: nothing for a symbol with an order nobody knows the outcome of, or under quarantine."""
    order = context.unknown_order
    return _judged("unknown_order", order is None, order or "none", "none")


def already_open(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D29: one open action or working order of (strategy, symbol, side) at a time."""
    action = context.open_action
    return _judged("already_open", action is None, action or "none", "none")


def self_cross(intent: OrderIntent, context: RiskContext) -> Verdict:
    """43: the account never trades against itself."""
    order = context.crossing_order
    return _judged("self_cross", order is None, order or "none", "none")


def clock_offset(intent: OrderIntent, context: RiskContext) -> Verdict:
    """72: our clock is within 2 s of the broker's."""
    why_not = not_supplied(Input.CLOCK_OFFSET, context.world)
    if why_not is not None and context.clock_offset is None:
        return Verdict("clock_offset", Outcome.NOT_APPLICABLE, "none", seconds(MAX_CLOCK_OFFSET), why_not)
    if context.clock_offset is None:
        raise Unusable("the clock's offset is unknown")
    offset = abs(context.clock_offset)
    return _judged("clock_offset", offset <= MAX_CLOCK_OFFSET, seconds(offset), seconds(MAX_CLOCK_OFFSET))


# May this symbol be traded


def universe(intent: OrderIntent, context: RiskContext) -> Verdict:
    """39: only symbols that the strategy lists."""
    return _judged("universe", intent.symbol in context.universe, intent.symbol, f"{len(context.universe)} listed symbols")


def contract(intent: OrderIntent, context: RiskContext) -> Verdict:
    """39: the instrument is known by the broker's own id, not by its ticker."""
    if context.contract_id:
        return Verdict("contract", Outcome.ALLOW, context.contract_id, "a known contract")
    why_not = not_supplied(Input.CONTRACT, context.world)
    if why_not is not None:
        return Verdict("contract", Outcome.NOT_APPLICABLE, "none", "a known contract", why_not)
    raise Unusable("the contract is unknown")


def forbidden_symbol(intent: OrderIntent, context: RiskContext) -> Verdict:
    """F2, 39: no leveraged or inverse product, nothing the account forbids."""
    symbol = intent.symbol
    leveraged = symbol in LEVERAGED_AND_INVERSE or symbol in context.leveraged_symbols
    forbidden = symbol in context.account_limits.forbidden_symbols
    detail = "a leveraged or inverse product" if leveraged else "forbidden in the account limits" if forbidden else ""
    return _judged("forbidden_symbol", not (leveraged or forbidden), symbol, "not leveraged, not inverse, not forbidden", detail)


def halted(intent: OrderIntent, context: RiskContext) -> Verdict:
    """40: no trading halt, no limit-up limit-down pause, no market-wide breaker."""
    if context.halted is None:
        why_not = not_supplied(Input.HALTS, context.world)
        if why_not is None:
            raise Unusable("whether the symbol is halted is unknown")
        return Verdict("halted", Outcome.NOT_APPLICABLE, "unknown", "trading", why_not)
    trading = context.halted is False
    return _judged("halted", trading, "trading" if trading else "halted", "trading")


def volatility(intent: OrderIntent, context: RiskContext) -> Verdict:
    """40, D13: no new position while the volatility breaker is up."""
    calm = context.volatility_block is False
    return _judged("volatility", calm, "clear" if calm else "breaker tripped", "clear")


# Is the order well formed, on data that is fresh


def whole_shares(intent: OrderIntent, context: RiskContext) -> Verdict:
    """38: whole shares, at least one."""
    quantity = intent.quantity
    whole = isinstance(quantity, int) and not isinstance(quantity, bool) and quantity >= 1
    return _judged("whole_shares", whole, f"{quantity} shares", "whole, at least 1")


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
    return Verdict("known_prices", Outcome.ALLOW, "all known", "finite, above zero")


def tick_size(intent: OrderIntent, context: RiskContext) -> Verdict:
    """38: prices lie on the exchange's grid, a cent from $1 up. Source: SEC Rule 612."""
    prices = [intent.limit_price, intent.stop_price]
    for bracket in intent.brackets:
        prices += (bracket.stop, bracket.target)
    off = [value for value in prices if value is not None and value % tick(value) != 0]
    return _judged("tick_size", not off, ", ".join(map(str, off)) or "on the grid", "multiples of $0.01, of $0.0001 below $1")


def brackets(intent: OrderIntent, context: RiskContext) -> Verdict:
    """26, F6: an entry's stops lie below it, its targets above, for no more shares than it buys."""
    if not intent.brackets:
        return Verdict("brackets", Outcome.ALLOW, "none", "at most the quantity")
    entry = intent.reference if intent.limit_price is None else min(intent.reference, intent.limit_price)
    covered = sum(bracket.quantity for bracket in intent.brackets)
    sane = intent.order_class is OrderClass.ENTRY and all(
        bracket.quantity >= 1 and bracket.stop < entry and (bracket.target is None or bracket.target > entry)
        for bracket in intent.brackets
    )
    limit = f"{intent.quantity} shares, stops below and targets above {dollars(entry)}"
    return _judged("brackets", sane and covered <= intent.quantity, f"{covered} shares covered", limit)


def fresh_bar(intent: OrderIntent, context: RiskContext) -> Verdict:
    """73: decided on the newest closed bar, or intraday on the one before; a daily bar is the newest or nothing."""
    newest, expected = context.bar_end, context.bar_expected_end
    if newest is None or expected is None:
        raise Unusable("the newest bar is unknown" if newest is None else "which bar ought to exist is unknown")
    oldest = expected if context.interval.daily else expected - timedelta(minutes=context.interval.minutes)
    detail = "a bar from the future" if newest > context.now else ""
    fresh = oldest <= newest <= context.now
    return _judged("fresh_bar", fresh, f"bar to {newest:%m-%d %H:%M} UTC", f"{oldest:%m-%d %H:%M} UTC or newer", detail)


def _quote(intent: OrderIntent, context: RiskContext) -> Quote:
    quote = context.quote
    if quote is None:
        raise Unusable("there is no quote")
    if quote.symbol != intent.symbol:
        raise Unusable(f"the quote is of {quote.symbol}")
    return quote


def fresh_quote(intent: OrderIntent, context: RiskContext) -> Verdict:
    """38: a quote of this symbol at most 5 s old by the market clock."""
    age, oldest = context.now - _quote(intent, context).at, context.account_limits.max_quote_age
    return _judged("fresh_quote", timedelta(0) <= age <= oldest, seconds(age), seconds(oldest), how_supplied(Input.QUOTE, context.world))


def spread(intent: OrderIntent, context: RiskContext) -> Verdict:
    """38: bid not above ask, and not far below it."""
    quote = _quote(intent, context)
    bid, ask, widest = positive(quote.bid, "the bid"), positive(quote.ask, "the ask"), context.account_limits.max_spread
    width = (ask - bid) / ((ask + bid) / 2)
    return _judged("spread", 0 <= width <= widest, percent(width), percent(widest), how_supplied(Input.SPREAD, context.world))


def price_collar(intent: OrderIntent, context: RiskContext) -> Verdict:
    """38: a limit reaches at most the collar beyond the last price, in the direction that costs.

    A patient limit, below the market for a buy, costs nothing and passes. A native stop has no limit.
    """
    protective = intent.order_class is OrderClass.PROTECTIVE
    if intent.order_type is OrderType.STOP and protective:
        stop = positive(intent.stop_price, "the stop price")
        return Verdict("price_collar", Outcome.NOT_APPLICABLE, dollars(stop), "none", "a native stop has no limit")
    if intent.order_type not in (OrderType.MARKETABLE, OrderType.LIMIT):
        return Verdict("price_collar", Outcome.DENY, str(intent.order_type), "marketable or limit", "only a protective order is a stop")
    collar = effective_collar(context.account_limits, context.strategy_limits, autonomous=context.mode is not Mode.APPROVAL)
    if protective:
        collar *= PROTECTIVE_COLLAR_FACTOR
    last, limit_price = positive(_quote(intent, context).last, "the last price"), positive(intent.limit_price, "the limit price")
    beyond = (limit_price - last) / last if intent.side is Side.BUY else (last - limit_price) / last
    detail = f"limit {dollars(limit_price)}, last {dollars(last)}"
    return _judged("price_collar", beyond <= collar, percent(beyond), percent(collar), detail)


def volume_share(intent: OrderIntent, context: RiskContext) -> Verdict:
    """38: at most 1 % of the average daily volume."""
    most = positive(context.average_day_volume, "the average daily volume") * context.account_limits.max_volume_share
    detail = "short_history: " if context.short_history is not False else ""
    detail += how_supplied(Input.AVERAGE_VOLUME, context.world)
    return _judged("volume_share", 0 < intent.quantity <= most, f"{intent.quantity:,} shares", f"{most:,.0f} shares", detail)


# Is it too much


def order_value(intent: OrderIntent, context: RiskContext) -> Verdict:
    """35, D1, D2: the tightest of the account's and the strategy's limit on one order."""
    value, most = _value(intent), min(context.account_limits.max_order_value, context.strategy_limits.max_order_value)
    return _judged("order_value", value <= most, dollars(value), dollars(most))


def account_position(intent: OrderIntent, context: RiskContext) -> Verdict:
    """35, D2: what the account holds and has reserved of the symbol, with this order."""
    after = amount(context.symbol_exposure, "the exposure to the symbol") + _value(intent)
    most = context.account_limits.max_position_value
    return _judged("account_position", after <= most, dollars(after), dollars(most))


def strategy_position(intent: OrderIntent, context: RiskContext) -> Verdict:
    """35, D2: what the strategy holds and has reserved of the symbol, with this order."""
    after = amount(context.strategy_symbol_exposure, "the strategy's exposure to the symbol") + _value(intent)
    most = context.strategy_limits.max_position_value
    return _judged("strategy_position", after <= most, dollars(after), dollars(most))


def equity(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D16: net liquidation is known and above zero."""
    known = number(context.equity, "equity")
    return _judged("equity", known > 0, dollars(known), "above $0.00")


def _share(rule: str, exposure: Decimal, intent: OrderIntent, context: RiskContext, most: Decimal) -> Verdict:
    worth, after = positive(context.equity, "equity"), exposure + _value(intent)
    share = after / worth
    return _judged(rule, share <= most, percent(share), percent(most), f"{dollars(after)} of {dollars(worth)}")


def concentration(intent: OrderIntent, context: RiskContext) -> Verdict:
    """35, D16: at most 20 % of equity in one symbol."""
    exposure = amount(context.symbol_exposure, "the exposure to the symbol")
    return _share("concentration", exposure, intent, context, context.account_limits.max_concentration)


def sector(intent: OrderIntent, context: RiskContext) -> Verdict:
    """35, D16: at most 30 % of equity in one sector, where sectors are known."""
    most = context.account_limits.sector_target
    if context.sector is None and context.sector_exposure is None:
        why_not = not_supplied(Input.SECTOR, context.world)
        if why_not is not None:
            return Verdict("sector", Outcome.NOT_APPLICABLE, "unknown", percent(most), why_not)
    if not context.sector:
        raise Unusable("the sector is unknown")
    return _share("sector", amount(context.sector_exposure, "the exposure to the sector"), intent, context, most)


def buying_power(intent: OrderIntent, context: RiskContext) -> Verdict:
    """35: what is left after the reservations of other orders."""
    value, left = _value(intent), number(context.buying_power, "buying power")
    return _judged("buying_power", value <= left, dollars(value), dollars(left))


def day_notional(intent: OrderIntent, context: RiskContext) -> Verdict:
    """43: the value of all orders of the day, with this one."""
    after, most = amount(context.day_notional, "the day's order value") + _value(intent), context.account_limits.max_day_notional
    return _judged("day_notional", after <= most, dollars(after), dollars(most))


# Has the day gone wrong


def _day_loss(rule: str, day_pnl: Decimal | None, most: Decimal) -> Verdict:
    loss = -number(day_pnl, "the day's profit or loss")
    return _halting(rule, loss < most, dollars(loss if loss > 0 else ZERO), f"below {dollars(most)}")


def account_day_loss(intent: OrderIntent, context: RiskContext) -> Verdict:
    """36, D12: the account's loss of the day stays below the limit; at it, a person decides."""
    return _day_loss("account_day_loss", context.account_day_pnl, context.account_limits.max_day_loss)


def strategy_day_loss(intent: OrderIntent, context: RiskContext) -> Verdict:
    """36, D12: the strategy's loss of the day stays below the limit; at it, a person decides."""
    return _day_loss("strategy_day_loss", context.strategy_day_pnl, context.strategy_limits.max_day_loss)


def consecutive_rejects(intent: OrderIntent, context: RiskContext) -> Verdict:
    """43: after five rejections in a row a person looks."""
    rejects, most = count(context.consecutive_rejects, "the number of rejections"), context.account_limits.max_consecutive_rejects
    return _halting("consecutive_rejects", rejects < most, str(rejects), f"below {most}")


def orders_per_hour(intent: OrderIntent, context: RiskContext) -> Verdict:
    """37, D15: submissions in the sliding or the clock hour, whichever is more, leave room for one."""
    orders, most = count(context.orders_last_hour, "the number of orders"), context.strategy_limits.max_orders_per_hour
    return _judged("orders_per_hour", orders < most, str(orders), f"below {most}")


def open_orders(intent: OrderIntent, context: RiskContext) -> Verdict:
    """43: working orders of the account leave room for one."""
    orders, most = count(context.open_orders, "the number of open orders"), context.account_limits.max_open_orders
    return _judged("open_orders", orders < most, str(orders), f"below {most}")


def order_gap(intent: OrderIntent, context: RiskContext) -> Verdict:
    """43: at least a second after the account's last order; a paced action is judged at its release."""
    return _since("order_gap", context.last_account_order_at, context.at_release or context.now, context.account_limits.min_order_gap)
