# ruff: noqa: ARG001 - every rule has the one signature
"""Whether it is too much: of one order, one symbol, one sector, one day; and whether the day has gone wrong."""

from decimal import Decimal

from trading_pipeline.domain.day_risk import at_stake_in
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import OrderIntent
from trading_pipeline.domain.risk import RiskContext, Verdict
from trading_pipeline.domain.rules.readings import (
    NOT_APPLICABLE,
    Unusable,
    amount,
    count,
    dollars,
    halting,
    judged,
    number,
    off,
    percent,
    positive,
    spaced,
    value_of,
)
from trading_pipeline.domain.worlds import Input, not_supplied


def order_value(intent: OrderIntent, context: RiskContext) -> Verdict:
    """35, D1, D2: the tightest of the account's and the strategy's limit on one order."""
    value, most = value_of(intent), min(context.account_limits.max_order_value, context.strategy_limits.max_order_value)
    return judged("order_value", value <= most, dollars(value), dollars(most))


def account_position(intent: OrderIntent, context: RiskContext) -> Verdict:
    """35, D2: what the account holds and has reserved of the symbol, with this order."""
    after = amount(context.symbol_exposure, "the exposure to the symbol") + value_of(intent)
    most = context.account_limits.max_position_value
    return judged("account_position", after <= most, dollars(after), dollars(most))


def strategy_position(intent: OrderIntent, context: RiskContext) -> Verdict:
    """35, D2: what the strategy holds and has reserved of the symbol, with this order."""
    after = amount(context.strategy_symbol_exposure, "the strategy's exposure to the symbol") + value_of(intent)
    most = context.strategy_limits.max_position_value
    return judged("strategy_position", after <= most, dollars(after), dollars(most))


def equity(intent: OrderIntent, context: RiskContext) -> Verdict:
    """D16: net liquidation is known and above zero."""
    known = number(context.equity, "equity")
    return judged("equity", known > 0, dollars(known), "above $0.00")


def _share(rule: str, exposure: Decimal, intent: OrderIntent, context: RiskContext, most: Decimal) -> Verdict:
    worth, after = positive(context.equity, "equity"), exposure + value_of(intent)
    share = after / worth
    return judged(rule, share <= most, percent(share), percent(most), f"{dollars(after)} of {dollars(worth)}")


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
            return Verdict("sector", NOT_APPLICABLE, "unknown", percent(most), why_not)
    if not context.sector:
        raise Unusable("the sector is unknown")
    return _share("sector", amount(context.sector_exposure, "the exposure to the sector"), intent, context, most)


def buying_power(intent: OrderIntent, context: RiskContext) -> Verdict:
    """35: what is left after the reservations of other orders."""
    value, left = value_of(intent), number(context.buying_power, "buying power")
    return judged("buying_power", value <= left, dollars(value), dollars(left))


def day_notional(intent: OrderIntent, context: RiskContext) -> Verdict:
    """43: the value of all orders of the day, with this one."""
    after, most = amount(context.day_notional, "the day's order value") + value_of(intent), context.account_limits.max_day_notional
    return judged("day_notional", after <= most, dollars(after), dollars(most))


def _day_loss(rule: str, day_pnl: Decimal | None, limit: Decimal, granted: Decimal) -> Verdict:
    loss = -number(day_pnl, "the day's profit or loss")
    most = limit + amount(granted, "the granted loss")
    detail = f"{dollars(limit)}, and {dollars(granted)} granted for this session" if granted else ""
    return halting(rule, loss < most, dollars(loss if loss > 0 else ZERO), f"below {dollars(most)}", detail)


def account_day_loss(intent: OrderIntent, context: RiskContext) -> Verdict:
    """36, D12: the account's loss of the day stays below the limit; at it, a person decides."""
    return _day_loss("account_day_loss", context.account_day_pnl, context.account_limits.max_day_loss, context.account_loss_granted)


def strategy_day_loss(intent: OrderIntent, context: RiskContext) -> Verdict:
    """36, D12: the strategy's loss of the day stays below the limit; at it, a person decides."""
    most, granted = context.strategy_limits.max_day_loss, context.strategy_loss_granted
    return _day_loss("strategy_day_loss", context.strategy_day_pnl, most, granted)


def _day_risk(
    rule: str, intent: OrderIntent, limit: Decimal | None, granted: Decimal, day_pnl: Decimal | None, open_risk: Decimal | None,
) -> Verdict:
    if limit is None:
        return off(rule)
    value_of(intent)
    lost, own = max(ZERO, -number(day_pnl, "the day's profit or loss")), number(at_stake_in(intent), "what the order puts at stake")
    held = amount(open_risk, "what is at stake already")
    most = limit + amount(granted, "the granted loss")
    detail = f"{dollars(lost)} lost, {dollars(held)} to the stops of what is held and under way, {dollars(own)} to those of this order"
    if granted:
        detail += f"; {dollars(limit)}, and {dollars(granted)} granted for this session"
    return judged(rule, lost + held + own <= most, dollars(lost + held + own), dollars(most), detail)


def account_day_risk(intent: OrderIntent, context: RiskContext) -> Verdict:
    """36: were everything sold at its stop, the account's loss of the day would stay within the limit; off unless it is set."""
    limit, granted = context.account_limits.max_day_risk, context.account_loss_granted
    return _day_risk("account_day_risk", intent, limit, granted, context.account_day_pnl, context.account_open_risk)


def strategy_day_risk(intent: OrderIntent, context: RiskContext) -> Verdict:
    """36: the same of the strategy."""
    limit, granted = context.strategy_limits.max_day_risk, context.strategy_loss_granted
    return _day_risk("strategy_day_risk", intent, limit, granted, context.strategy_day_pnl, context.strategy_open_risk)


def consecutive_rejects(intent: OrderIntent, context: RiskContext) -> Verdict:
    """43: after five rejections in a row a person looks."""
    rejects, most = count(context.consecutive_rejects, "the number of rejections"), context.account_limits.max_consecutive_rejects
    return halting("consecutive_rejects", rejects < most, str(rejects), f"below {most}")


def orders_per_hour(intent: OrderIntent, context: RiskContext) -> Verdict:
    """37, D15: submissions in the sliding or the clock hour, whichever is more, leave room for one."""
    orders, most = count(context.orders_last_hour, "the number of orders"), context.strategy_limits.max_orders_per_hour
    return judged("orders_per_hour", orders < most, str(orders), f"below {most}")


def open_orders(intent: OrderIntent, context: RiskContext) -> Verdict:
    """43: working orders of the account leave room for one."""
    orders, most = count(context.open_orders, "the number of open orders"), context.account_limits.max_open_orders
    return judged("open_orders", orders < most, str(orders), f"below {most}")


def order_gap(intent: OrderIntent, context: RiskContext) -> Verdict:
    """43: at least a second after the account's last order; a paced action is judged at its release."""
    return spaced("order_gap", context.last_account_order_at, context.at_release or context.now, context.account_limits.min_order_gap)
