"""The rulebook: which rules there are, in which order, whom each stops; and `judge`, the only way through.

All rules are always evaluated. What the class matrix lets an exit do shows as EXEMPT with the value
measured. There is no argument, setting or actor that skips a rule.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from trading_pipeline.domain.orders import OrderClass, OrderIntent
from trading_pipeline.domain.risk import Judgement, Outcome, RiskContext, Verdict
from trading_pipeline.domain.rules import discipline, form, hard, size, standing
from trading_pipeline.domain.rules.readings import Rule


class Treatment(StrEnum):
    """What a rule does to a class of orders. OK and FLAG exempt; the others stop the order."""

    DENY = "deny"
    SLICE = "slice"
    """Stopped as it is; the caller sends slices that fit (`sizing.split_exit`)."""
    WIDEN = "widen"
    """The rule itself allows this class more."""
    FLAG = "flag"
    """Goes, and a value that would stop an entry is pointed out."""
    OK = "ok"


_DENY, _SLICE, _WIDEN, _FLAG, _OK = Treatment.DENY, Treatment.SLICE, Treatment.WIDEN, Treatment.FLAG, Treatment.OK
_ROWS: tuple[tuple[Rule, Treatment, Treatment, Treatment], ...] = (
    # rule, entry, discretionary exit, protective
    (hard.hard_order_value, _DENY, _SLICE, _SLICE),
    (hard.penny_stock, _DENY, _FLAG, _OK),
    (hard.trading_hours, _DENY, _DENY, _DENY),
    (hard.cooldown, _DENY, _DENY, _OK),
    (hard.duplicate_action, _DENY, _DENY, _OK),
    (standing.account_latch, _DENY, _DENY, _DENY),
    (standing.strategy_state, _DENY, _DENY, _WIDEN),
    (standing.environment, _DENY, _DENY, _DENY),
    (standing.long_only, _DENY, _DENY, _DENY),
    (standing.oversell, _DENY, _DENY, _DENY),
    (standing.unknown_order, _DENY, _DENY, _DENY),
    (standing.already_open, _DENY, _DENY, _OK),
    (standing.self_cross, _DENY, _DENY, _OK),
    (standing.clock_offset, _DENY, _OK, _OK),
    (standing.universe, _DENY, _OK, _OK),
    (standing.contract, _DENY, _DENY, _DENY),
    (standing.forbidden_symbol, _DENY, _OK, _OK),
    (standing.halted, _DENY, _OK, _OK),
    (standing.volatility, _DENY, _OK, _OK),
    (form.whole_shares, _DENY, _DENY, _DENY),
    (form.known_prices, _DENY, _DENY, _DENY),
    (form.tick_size, _DENY, _DENY, _DENY),
    (form.time_in_force, _DENY, _DENY, _WIDEN),
    (form.brackets, _DENY, _DENY, _DENY),
    (form.fresh_bar, _DENY, _DENY, _OK),
    (form.fresh_quote, _DENY, _DENY, _OK),
    (form.spread, _DENY, _DENY, _OK),
    (form.price_collar, _DENY, _DENY, _WIDEN),
    (form.volume_share, _DENY, _OK, _OK),
    (size.order_value, _DENY, _OK, _OK),
    (size.account_position, _DENY, _OK, _OK),
    (size.strategy_position, _DENY, _OK, _OK),
    (size.equity, _DENY, _OK, _OK),
    (size.concentration, _DENY, _OK, _OK),
    (size.sector, _DENY, _OK, _OK),
    (size.buying_power, _DENY, _OK, _OK),
    (size.day_notional, _DENY, _OK, _OK),
    (size.account_day_loss, _DENY, _OK, _OK),
    (size.strategy_day_loss, _DENY, _OK, _OK),
    (size.account_day_risk, _DENY, _OK, _OK),
    (size.strategy_day_risk, _DENY, _OK, _OK),
    (size.consecutive_rejects, _DENY, _DENY, _OK),
    (size.orders_per_hour, _DENY, _OK, _OK),
    (size.open_orders, _DENY, _OK, _OK),
    (size.order_gap, _DENY, _DENY, _OK),
    (discipline.cool_off, _DENY, _OK, _OK),
    (discipline.recovery_size, _DENY, _OK, _OK),
    (discipline.revenge_entry, _DENY, _OK, _OK),
)

RULEBOOK: Final[tuple[Rule, ...]] = tuple(row[0] for row in _ROWS)
"""Every rule, hard limits first: the order of verdicts and of reasons."""

CLASS_MATRIX: Final[Mapping[str, Mapping[OrderClass, Treatment]]] = MappingProxyType(
    {rule.__name__: MappingProxyType(dict(zip(OrderClass, treatments, strict=True))) for rule, *treatments in _ROWS}
)
"""Rule by class, INVARIANTS section 1; exits are never trapped by a limit on taking risk (D6)."""

WOULD_STOP: Final = "an entry would be stopped here"
"""What an exempt verdict says first where the same value would stop an entry."""
_EXEMPTING = frozenset({Treatment.OK, Treatment.FLAG})
_PLANS: Final = {
    order_class: tuple((rule.__name__, rule, CLASS_MATRIX[rule.__name__][order_class] in _EXEMPTING) for rule in RULEBOOK)
    for order_class in OrderClass
}


def judge(intent: OrderIntent, context: RiskContext) -> Judgement:
    """Evaluate every rule on one intent; total: whatever goes wrong inside a rule is that rule's denial (33).

    An order class that is none is judged as an entry, the strictest.
    """
    verdicts = []
    for name, rule, exempt in _PLANS.get(intent.order_class, _PLANS[OrderClass.ENTRY]):
        try:
            verdict = rule(intent, context)
        except Exception as error:  # noqa: BLE001 - fail closed: an unexpected error must deny, not escape
            verdict = Verdict(name, Outcome.DENY, "unknown", "a usable value", f"{type(error).__name__}: {error}")
        if exempt and verdict.outcome is not Outcome.NOT_APPLICABLE:
            note = "" if verdict.passed else WOULD_STOP
            detail = "; ".join(part for part in (note, verdict.detail) if part)
            verdict = Verdict(name, Outcome.EXEMPT, verdict.measured, verdict.limit, detail)
        verdicts.append(verdict)
    return Judgement(tuple(verdicts))
