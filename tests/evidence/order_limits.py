"""What an order that goes out must obey, written a second time: from INVARIANTS and the class matrix, not from the rulebook's code.

`broken` takes the values of an intent and of its situation apart itself, with the hard limits as literals. It names what is broken by
the rule that ought to have said so, so that a harness can tell for every rule whether this check would notice if it were missing.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from trading_pipeline.domain.orders import OrderClass, OrderIntent
from trading_pipeline.domain.risk import RiskContext

NEW_YORK = ZoneInfo("America/New_York")
LEVERAGED = frozenset({"TQQQ", "SQQQ", "SOXL", "UVXY"})
"""Of those that the harnesses trade in; the rulebook knows more."""

ALL, NOT_PROTECTIVE, ENTRIES = "EXP", "EX", "E"
KNOWN = {
    "hard_order_value": ALL, "penny_stock": ENTRIES, "trading_hours": ALL, "cooldown": NOT_PROTECTIVE, "duplicate_action": NOT_PROTECTIVE,
    "account_latch": ALL, "strategy_state": ALL, "environment": ALL, "long_only": ALL, "oversell": ALL, "unknown_order": ALL,
    "already_open": NOT_PROTECTIVE, "self_cross": NOT_PROTECTIVE, "clock_offset": ENTRIES, "universe": ENTRIES, "contract": ALL,
    "forbidden_symbol": ENTRIES, "halted": ENTRIES, "volatility": ENTRIES, "whole_shares": ALL, "known_prices": ALL, "tick_size": ALL,
    "time_in_force": ALL, "brackets": ALL, "fresh_bar": NOT_PROTECTIVE, "fresh_quote": NOT_PROTECTIVE, "spread": NOT_PROTECTIVE,
    "price_collar": ALL, "volume_share": ENTRIES, "order_value": ENTRIES, "account_position": ENTRIES, "strategy_position": ENTRIES,
    "equity": ENTRIES, "concentration": ENTRIES, "sector": ENTRIES, "buying_power": ENTRIES, "day_notional": ENTRIES,
    "account_day_loss": ENTRIES, "strategy_day_loss": ENTRIES, "account_day_risk": ENTRIES, "strategy_day_risk": ENTRIES,
    "consecutive_rejects": NOT_PROTECTIVE, "orders_per_hour": ENTRIES,
    "open_orders": ENTRIES, "order_gap": NOT_PROTECTIVE, "cool_off": ENTRIES, "recovery_size": ENTRIES, "revenge_entry": ENTRIES,
}
"""Which classes each rule stops: INVARIANTS, class matrix."""


def broken(intent: OrderIntent, context: RiskContext) -> set[str]:
    """The limits that the order would break if it went out now; empty when it may go."""
    kind = str(intent.order_class.value)
    found = _form(intent)
    if not found:
        found = _worth(intent, context, kind) | _standing(intent, context) | _times(intent, context) | _market(intent, context, kind)
    return {name for name in found if kind in KNOWN[name]}


def _price(value: Any) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and value > 0


def _sum(value: Any) -> bool:
    """An amount that may be nothing."""
    return isinstance(value, Decimal) and value.is_finite() and value >= 0


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _form(intent: OrderIntent) -> set[str]:
    """What makes the order no order at all: nothing else can be told of it."""
    found = set()
    if type(intent.quantity) is not int or intent.quantity < 1:
        found.add("whole_shares")
    prices = [intent.reference, *(each for each in (intent.limit_price, intent.stop_price) if each is not None)]
    prices += [bracket.stop for bracket in intent.brackets] + [bracket.target for bracket in intent.brackets if bracket.target is not None]
    if not all(map(_price, prices)):
        found.add("known_prices")
    return found


def _worst(intent: OrderIntent) -> Decimal:
    return max(each for each in (intent.reference, intent.limit_price, intent.stop_price) if each is not None)


def _worth(intent: OrderIntent, context: RiskContext, kind: str) -> set[str]:
    account, strategy = context.account_limits, context.strategy_limits
    value = intent.quantity * _worst(intent)
    largest = max([value, *(bracket.quantity * bracket.target for bracket in intent.brackets if bracket.target is not None)])
    held, own, equity = context.symbol_exposure, context.strategy_symbol_exposure, context.equity
    worth = equity if isinstance(equity, Decimal) and equity.is_finite() and equity > 0 else None
    lowest = intent.reference if intent.limit_price is None else min(intent.reference, intent.limit_price)
    last, exits = None if context.quote is None else context.quote.last, intent.order_class is OrderClass.EXIT
    sector_known = context.sector is not None or context.sector_exposure is not None
    tests = {
        "hard_order_value": largest <= 100_000 and (not exits or last is None or (last.is_finite() and intent.quantity * last <= 100_000)),
        "penny_stock": lowest >= 1 and (last is None or (last.is_finite() and last >= 1)),
        "order_value": value <= account.max_order_value and value <= strategy.max_order_value,
        "account_position": _sum(held) and held + value <= account.max_position_value,
        "strategy_position": _sum(own) and own + value <= strategy.max_position_value,
        "equity": worth is not None,
        "concentration": _sum(held) and worth is not None and held + value <= account.max_concentration * worth,
        "sector": not sector_known or bool(
            context.sector and _sum(context.sector_exposure) and worth and context.sector_exposure + value <= account.sector_target * worth
        ),
        "buying_power": isinstance(context.buying_power, Decimal) and context.buying_power.is_finite() and value <= context.buying_power,
        "day_notional": _sum(context.day_notional) and context.day_notional + value <= account.max_day_notional,
        "account_day_loss": _above(context.account_day_pnl, account.max_day_loss, context.account_loss_granted),
        "strategy_day_loss": _above(context.strategy_day_pnl, strategy.max_day_loss, context.strategy_loss_granted),
        "account_day_risk": account.max_day_risk is None or _within(
            intent, context.account_day_pnl, context.account_open_risk, account.max_day_risk, context.account_loss_granted
        ),
        "strategy_day_risk": strategy.max_day_risk is None or _within(
            intent, context.strategy_day_pnl, context.strategy_open_risk, strategy.max_day_risk, context.strategy_loss_granted
        ),
        "consecutive_rejects": _count(context.consecutive_rejects) and context.consecutive_rejects < account.max_consecutive_rejects,
        "orders_per_hour": _count(context.orders_last_hour) and context.orders_last_hour < strategy.max_orders_per_hour,
        "open_orders": _count(context.open_orders) and context.open_orders < account.max_open_orders,
        "volume_share": _price(context.average_day_volume) and intent.quantity <= account.max_volume_share * context.average_day_volume,
        "recovery_size": not _recovering(context) or strategy.recovery_size is None or (
            value <= strategy.recovery_size * min(account.max_order_value, strategy.max_order_value)
        ),
        "brackets": not intent.brackets or (kind == "E" and _covered(intent, lowest)),
    }
    return {name for name, holds in tests.items() if not holds}


def _above(pnl: Any, loss: Decimal, granted: Any) -> bool:
    return isinstance(pnl, Decimal) and pnl.is_finite() and _sum(granted) and pnl > -loss - granted


def _within(intent: OrderIntent, pnl: Any, at_stake: Any, most: Decimal, granted: Any) -> bool:
    """Whether the day's loss, with everything sold at its stops, stays within its limit; a stop at or above the price is none."""
    if not (isinstance(pnl, Decimal) and pnl.is_finite() and _sum(at_stake) and _sum(granted)):
        return False
    worst, got = _worst(intent), Decimal(0)
    left = min(intent.quantity, sum(bracket.quantity for bracket in intent.brackets))
    for bracket in sorted(intent.brackets, key=lambda each: each.stop if each.stop < worst else Decimal(0)):
        sold = min(left, bracket.quantity)
        got, left = got + sold * (bracket.stop if bracket.stop < worst else 0), left - sold
    return bool(max(-pnl, Decimal(0)) + at_stake + intent.quantity * worst - got <= most + granted)


def _covered(intent: OrderIntent, lowest: Decimal) -> bool:
    """Stops below and targets above what is paid, for whole shares, no more than are bought."""
    fits = all(each.quantity >= 1 and each.stop < lowest and (each.target is None or each.target > lowest) for each in intent.brackets)
    return fits and sum(each.quantity for each in intent.brackets) <= intent.quantity


def _streak(context: RiskContext) -> datetime | None:
    """When the last loss closed that made enough of them in a row."""
    run, ended = 0, None
    for trip in context.round_trips:
        run = run + 1 if trip.result < 0 else 0
        ended = trip.closed_at if run >= context.strategy_limits.losing_streak else ended
    return ended


def _recovering(context: RiskContext) -> bool:
    """Whether nothing was won since."""
    ended = _streak(context)
    return ended is not None and not any(trip.result > 0 and trip.closed_at > ended for trip in context.round_trips)


def _standing(intent: OrderIntent, context: RiskContext) -> set[str]:
    kind, side, state = intent.order_class.value, intent.side.value, context.strategy_state.value
    live = context.world.value == "live"
    free = context.position - context.open_exit_quantity if _count(context.position) and _count(context.open_exit_quantity) else None
    offset = context.clock_offset
    tests = {
        "account_latch": context.latched is False,
        "strategy_state": state not in ("draft", "emergency_stopped") if kind == "P" else state == "running",
        "environment": intent.environment in ("live", "paper", "backtest", "demo") and intent.account != "" and (
            live or intent.environment != "live"
        ),
        "long_only": (side == "buy") == (kind == "E"),
        "oversell": free is not None and (side == "buy" or intent.quantity <= free),
        "unknown_order": context.unknown_order is None,
        "already_open": context.open_action is None,
        "self_cross": context.crossing_order is None,
        "clock_offset": not live if offset is None else timedelta(seconds=-2) <= offset <= timedelta(seconds=2),
        "universe": intent.symbol in context.universe,
        "contract": not live or bool(context.contract_id),
        "forbidden_symbol": intent.symbol not in LEVERAGED | context.leveraged_symbols | context.account_limits.forbidden_symbols,
        "halted": not live if context.halted is None else context.halted is False,
        "volatility": not live if context.volatility is None else (
            not context.volatility.tripped and _price(context.volatility.ratio)
            and context.volatility.ratio < context.account_limits.volatility_trip
        ),
        "time_in_force": intent.time_in_force.value == "day" or kind == "P",
    }
    return {name for name, holds in tests.items() if not holds}


def _times(intent: OrderIntent, context: RiskContext) -> set[str]:
    now, session = context.now, context.session
    out = context.at_release or now
    clock = out.astimezone(NEW_YORK)
    minutes = clock.hour * 60 + clock.minute
    newest, expected = context.bar_end, context.bar_expected_end
    lost, limits = _streak(context), context.strategy_limits
    late = timedelta(0) if context.interval.daily else timedelta(minutes=context.interval.minutes)
    tests = {
        "trading_hours": session is not None and session.open <= out < session.close and 570 <= minutes < 960,
        "cooldown": context.last_trade_at is None or (out - context.last_trade_at).total_seconds() >= 30,
        "duplicate_action": context.last_action_at is None or (now - context.last_action_at).total_seconds() >= 60,
        "order_gap": context.last_account_order_at is None or out - context.last_account_order_at >= context.account_limits.min_order_gap,
        "cool_off": limits.cool_off is None or lost is None or out >= lost + limits.cool_off,
        "revenge_entry": limits.revenge_wait is None or context.last_losing_exit_at is None
        or out >= context.last_losing_exit_at + limits.revenge_wait,
        "fresh_bar": newest is not None and expected is not None and expected - late <= newest <= now,
    }
    return {name for name, holds in tests.items() if not holds}


def _market(intent: OrderIntent, context: RiskContext, kind: str) -> set[str]:
    quote, found = context.quote, set()
    usable = quote is not None and quote.symbol == intent.symbol
    if quote is not None and not all(map(_price, (quote.bid, quote.ask, quote.last))):
        found.add("known_prices")
        usable = False
    prices = [intent.limit_price, intent.stop_price, *(price for bracket in intent.brackets for price in (bracket.stop, bracket.target))]
    if any(each is not None and each % (Decimal("0.01") if each >= 1 else Decimal("0.0001")) != 0 for each in prices):
        found.add("tick_size")
    native_stop = kind == "P" and intent.order_type.value == "stop"
    if not usable or quote is None:
        return found | {"fresh_quote", "spread"} | (set() if native_stop and intent.stop_price is not None else {"price_collar"})
    if not timedelta(0) <= context.now - quote.at <= context.account_limits.max_quote_age:
        found.add("fresh_quote")
    if not 0 <= quote.ask - quote.bid <= context.account_limits.max_spread * (quote.ask + quote.bid) / 2:
        found.add("spread")
    if native_stop:
        return found if intent.stop_price is not None else found | {"price_collar"}
    reach = min(context.account_limits.price_collar, context.strategy_limits.price_collar)
    if context.mode.value != "approval":
        reach = min(reach, Decimal("0.03"))
    reach *= 2 if kind == "P" else 1
    limit = intent.limit_price
    beyond = limit is None or (limit > quote.last * (1 + reach) if intent.side.value == "buy" else limit < quote.last * (1 - reach))
    if beyond or intent.order_type.value == "stop":
        found.add("price_collar")
    return found
