# ruff: noqa: ARG001 - every rule has the one signature
"""Whether this strategy may send anything at all, and whether this symbol may be traded."""

from typing import Final

from trading_pipeline.domain.forbidden import LEVERAGED_AND_INVERSE
from trading_pipeline.domain.limits import MAX_CLOCK_OFFSET
from trading_pipeline.domain.orders import OrderClass, OrderIntent, Side
from trading_pipeline.domain.risk import RiskContext, Verdict, World
from trading_pipeline.domain.rules.readings import (
    ALLOW,
    NOT_APPLICABLE,
    Unusable,
    amount,
    count,
    flagged,
    judged,
    minute,
    seconds,
)
from trading_pipeline.domain.strategies import StrategyState
from trading_pipeline.domain.worlds import ENVIRONMENTS, Input, not_supplied


def account_latch(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D9, 52: nothing goes out under an emergency stop of the account."""
    clear = context.latched is False
    return flagged("account_latch", clear, "clear" if clear else "emergency stop", "clear")


PROTECTIVE_STATES: Final = frozenset(StrategyState) - {StrategyState.DRAFT, StrategyState.EMERGENCY_STOPPED}
"""A holding is never trapped by a pause or by its strategy's end; after an emergency stop only a person closes (D9)."""


def strategy_state(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D10, 51: only a running strategy trades; what protects a holding goes on until an emergency stop."""
    state = context.strategy_state
    if intent.order_class is OrderClass.PROTECTIVE:
        return flagged("strategy_state", state in PROTECTIVE_STATES, state.value, "not draft, not stopped")
    return flagged("strategy_state", state is StrategyState.RUNNING, state.value, "running")


def environment(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D31, 80: a named account in a known environment; live money only on the live market."""
    known = intent.environment in ENVIRONMENTS and bool(intent.account)
    fits = intent.environment != "live" or context.world is World.LIVE
    return flagged(
        "environment", known and fits, f"{intent.environment or 'no environment'} on {context.world.value} data",
        "live, paper, backtest or demo, with an account",
    )


def long_only(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D24, 41: a buy enters, a sell reduces; no other class exists for either."""
    fits = (intent.side is Side.BUY) if intent.order_class is OrderClass.ENTRY else (
        intent.side is Side.SELL and intent.order_class in (OrderClass.EXIT, OrderClass.PROTECTIVE)
    )
    return flagged("long_only", fits, f"{intent.side.value} as {intent.order_class.value}", "buy as E, sell as X or P")


def oversell(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D24, 26: a sell is at most what is held and not yet being sold; a position that makes no sense stops buys too."""
    position, selling = count(context.position, "the position"), count(context.open_exit_quantity, "the quantity in open exits")
    if intent.side is not Side.SELL:
        return Verdict("oversell", NOT_APPLICABLE, "a buy", "sells only")
    free = position - selling
    detail = f"{position} held, {selling} in open exits"
    return judged("oversell", 0 < intent.quantity <= free, f"{intent.quantity} shares", f"{free} shares", detail)


def unknown_order(intent: OrderIntent, context: RiskContext) -> Verdict:
    """17, 31: nothing for a symbol with an order nobody knows the outcome of, or under quarantine."""
    order = context.unknown_order
    return flagged("unknown_order", order is None, order or "none", "none")


def already_open(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D29: one open action or working order of (strategy, symbol, side) at a time."""
    action = context.open_action
    return flagged("already_open", action is None, action or "none", "none")


def self_cross(intent: OrderIntent, context: RiskContext) -> Verdict:
    """43: the account never trades against itself."""
    order = context.crossing_order
    return flagged("self_cross", order is None, order or "none", "none")


def clock_offset(intent: OrderIntent, context: RiskContext) -> Verdict:
    """72: our clock is within 2 s of the broker's."""
    why_not = not_supplied(Input.CLOCK_OFFSET, context.world)
    if why_not is not None and context.clock_offset is None:
        return Verdict("clock_offset", NOT_APPLICABLE, "none", seconds(MAX_CLOCK_OFFSET), why_not)
    if context.clock_offset is None:
        raise Unusable("the clock's offset is unknown")
    offset = abs(context.clock_offset)
    return judged("clock_offset", offset <= MAX_CLOCK_OFFSET, seconds(offset), seconds(MAX_CLOCK_OFFSET))


def universe(intent: OrderIntent, context: RiskContext) -> Verdict:
    """39: only symbols that the strategy lists."""
    return judged("universe", intent.symbol in context.universe, intent.symbol, f"{len(context.universe)} listed symbols")


def contract(intent: OrderIntent, context: RiskContext) -> Verdict:
    """39: the instrument is known by the broker's own id, not by its ticker."""
    if context.contract_id:
        return Verdict("contract", ALLOW, context.contract_id, "a known contract")
    why_not = not_supplied(Input.CONTRACT, context.world)
    if why_not is not None:
        return Verdict("contract", NOT_APPLICABLE, "none", "a known contract", why_not)
    raise Unusable("the contract is unknown")


def forbidden_symbol(intent: OrderIntent, context: RiskContext) -> Verdict:
    """F2, 39: no leveraged or inverse product, nothing the account forbids."""
    symbol = intent.symbol
    leveraged = symbol in LEVERAGED_AND_INVERSE or symbol in context.leveraged_symbols
    forbidden = symbol in context.account_limits.forbidden_symbols
    detail = "a leveraged or inverse product" if leveraged else "forbidden in the account limits" if forbidden else ""
    return judged("forbidden_symbol", not (leveraged or forbidden), symbol, "not leveraged, not inverse, not forbidden", detail)


def halted(intent: OrderIntent, context: RiskContext) -> Verdict:
    """40: no trading halt, no limit-up limit-down pause, no market-wide breaker."""
    if context.halted is None:
        why_not = not_supplied(Input.HALTS, context.world)
        if why_not is None:
            raise Unusable("whether the symbol is halted is unknown")
        return Verdict("halted", NOT_APPLICABLE, "unknown", "trading", why_not)
    trading = context.halted is False
    return flagged("halted", trading, "trading" if trading else "halted", "trading")


def volatility(intent: OrderIntent, context: RiskContext) -> Verdict:
    """40, D13: no new position while the symbol's volatility breaker is up."""
    trip = context.account_limits.volatility_trip
    limit = f"below {trip.normalize():f} times its usual range"
    breaker = context.volatility
    if breaker is None:
        why_not = not_supplied(Input.VOLATILITY, context.world)
        if why_not is None:
            raise Unusable("how volatile the symbol is cannot be measured: its history is too short")
        return Verdict("volatility", NOT_APPLICABLE, "unknown", limit, why_not)
    ratio = amount(breaker.ratio, "the volatility")
    detail = "" if breaker.since is None else f"tripped by the bar of {minute(breaker.since)}"
    return judged("volatility", breaker.tripped is False and ratio < trip, f"{ratio:f} times", limit, detail)
