# ruff: noqa: ARG001 - every rule has the one signature
"""What a desk forbids itself after losses (F5): to trade on at once, at full size, or back into what has just lost.

Each is a strategy's own limit and can be switched off by it. They read round trips that are closed; none keeps anybody from
getting out.
"""

from trading_pipeline.domain.orders import OrderIntent
from trading_pipeline.domain.risk import RiskContext, Verdict
from trading_pipeline.domain.round_trips import losing_run, recovering, streak_ended_at
from trading_pipeline.domain.rules.readings import ALLOW, dollars, judged, off, percent, seconds, spaced, value_of


def cool_off(intent: OrderIntent, context: RiskContext) -> Verdict:
    """F5: after a losing streak no entry for a while."""
    length, wait = context.strategy_limits.losing_streak, context.strategy_limits.cool_off
    if wait is None:
        return off("cool_off")
    ended = streak_ended_at(context.round_trips, length)
    run = f"{losing_run(context.round_trips)} losing round trips in a row"
    if ended is None:
        return Verdict("cool_off", ALLOW, run, f"below {length}, or {seconds(wait)} since")
    return spaced("cool_off", ended, context.at_release or context.now, wait, f"after {length} losing round trips in a row")


def recovery_size(intent: OrderIntent, context: RiskContext) -> Verdict:
    """F5: after a losing streak an entry is smaller than the most allowed, until a round trip wins."""
    share, length = context.strategy_limits.recovery_size, context.strategy_limits.losing_streak
    if share is None:
        return off("recovery_size")
    value, most = value_of(intent), min(context.account_limits.max_order_value, context.strategy_limits.max_order_value)
    if not recovering(context.round_trips, length):
        return Verdict("recovery_size", ALLOW, dollars(value), f"{percent(share)} of {dollars(most)} while recovering", "not recovering")
    allowed = share * most
    detail = f"{percent(share)} of {dollars(most)}: no round trip has won since {length} in a row lost"
    return judged("recovery_size", value <= allowed, dollars(value), dollars(allowed), detail)


def revenge_entry(intent: OrderIntent, context: RiskContext) -> Verdict:
    """F5: no way back into a symbol for a while after it was sold at a loss."""
    wait = context.strategy_limits.revenge_wait
    if wait is None:
        return off("revenge_entry")
    return spaced("revenge_entry", context.last_losing_exit_at, context.at_release or context.now, wait)
