"""The rulebook: which rules there are, in which order, whom each stops; and `judge`, the only way through.

All rules are always evaluated. What the class matrix lets an exit do shows as EXEMPT with the value
measured. There is no argument, setting or actor that skips a rule.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from trading_pipeline.domain import rules
from trading_pipeline.domain.orders import OrderClass, OrderIntent
from trading_pipeline.domain.risk import Judgement, Outcome, RiskContext, Verdict

Rule = Callable[[OrderIntent, RiskContext], Verdict]


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
    (rules.hard_order_value, _DENY, _SLICE, _SLICE),
    (rules.penny_stock, _DENY, _FLAG, _OK),
    (rules.trading_hours, _DENY, _DENY, _DENY),
    (rules.cooldown, _DENY, _DENY, _OK),
    (rules.duplicate_action, _DENY, _DENY, _OK),
    (rules.account_latch, _DENY, _DENY, _DENY),
    (rules.strategy_state, _DENY, _DENY, _WIDEN),
    (rules.environment, _DENY, _DENY, _DENY),
    (rules.long_only, _DENY, _DENY, _DENY),
    (rules.oversell, _DENY, _DENY, _DENY),
    (rules.unknown_order, _DENY, _DENY, _DENY),
    (rules.already_open, _DENY, _DENY, _OK),
    (rules.self_cross, _DENY, _DENY, _OK),
    (rules.clock_offset, _DENY, _OK, _OK),
    (rules.universe, _DENY, _OK, _OK),
    (rules.contract, _DENY, _DENY, _DENY),
    (rules.forbidden_symbol, _DENY, _OK, _OK),
    (rules.halted, _DENY, _OK, _OK),
    (rules.volatility, _DENY, _OK, _OK),
    (rules.whole_shares, _DENY, _DENY, _DENY),
    (rules.known_prices, _DENY, _DENY, _DENY),
    (rules.tick_size, _DENY, _DENY, _DENY),
    (rules.brackets, _DENY, _DENY, _DENY),
    (rules.fresh_bar, _DENY, _DENY, _OK),
    (rules.fresh_quote, _DENY, _DENY, _OK),
    (rules.spread, _DENY, _DENY, _OK),
    (rules.price_collar, _DENY, _DENY, _WIDEN),
    (rules.volume_share, _DENY, _OK, _OK),
    (rules.order_value, _DENY, _OK, _OK),
    (rules.account_position, _DENY, _OK, _OK),
    (rules.strategy_position, _DENY, _OK, _OK),
    (rules.equity, _DENY, _OK, _OK),
    (rules.concentration, _DENY, _OK, _OK),
    (rules.sector, _DENY, _OK, _OK),
    (rules.buying_power, _DENY, _OK, _OK),
    (rules.day_notional, _DENY, _OK, _OK),
    (rules.account_day_loss, _DENY, _OK, _OK),
    (rules.strategy_day_loss, _DENY, _OK, _OK),
    (rules.consecutive_rejects, _DENY, _DENY, _OK),
    (rules.orders_per_hour, _DENY, _OK, _OK),
    (rules.open_orders, _DENY, _OK, _OK),
    (rules.order_gap, _DENY, _DENY, _OK),
)

RULEBOOK: Final[tuple[Rule, ...]] = tuple(row[0] for row in _ROWS)
"""Every rule, hard limits first: the order of verdicts and of reasons."""

CLASS_MATRIX: Final[Mapping[str, Mapping[OrderClass, Treatment]]] = MappingProxyType(
    {rule.__name__: MappingProxyType(dict(zip(OrderClass, treatments, strict=True))) for rule, *treatments in _ROWS}
)
"""Rule by class, INVARIANTS section 1; exits are never trapped by a limit on taking risk (D6)."""

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
            note = "" if verdict.passed else "an entry would be stopped here"
            detail = "; ".join(part for part in (note, verdict.detail) if part)
            verdict = Verdict(name, Outcome.EXEMPT, verdict.measured, verdict.limit, detail)
        verdicts.append(verdict)
    return Judgement(tuple(verdicts))
