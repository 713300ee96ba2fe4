"""The rulebook as a whole: whatever is missing or absurd denies, tighter never lets more through, the same in is the same out."""

from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.domain.rulebook_cases import CALM, NOW, context, live, order, quote, trips
from trading_pipeline.domain.limits import LONGER_IS_TIGHTER, AccountLimits, StrategyLimits, looser
from trading_pipeline.domain.orders import Bracket, OrderClass, OrderIntent
from trading_pipeline.domain.risk import Outcome, RiskContext, World
from trading_pipeline.domain.rulebook import judge
from trading_pipeline.domain.strategies import Mode, StrategyState
from trading_pipeline.domain.volatility import Volatility

E, X, P = OrderClass.ENTRY, OrderClass.EXIT, OrderClass.PROTECTIVE
D = Decimal
NAN, INF = D("NaN"), D("Infinity")

MONEY_FIELDS = (
    "equity", "buying_power", "account_day_pnl", "strategy_day_pnl", "average_day_volume", "symbol_exposure", "strategy_symbol_exposure",
    "sector_exposure", "day_notional", "account_loss_granted", "strategy_loss_granted", "account_open_risk", "strategy_open_risk",
)
COUNT_FIELDS = ("position", "open_exit_quantity", "orders_last_hour", "open_orders", "consecutive_rejects")
NONE_IS_A_FACT = frozenset(
    {
        "last_trade_at", "last_action_at", "last_account_order_at", "open_action", "unknown_order", "crossing_order", "at_release",
        "last_losing_exit_at",
    }
)
SIGNED = frozenset({"account_day_pnl", "strategy_day_pnl"})


@st.composite
def intents(draw: st.DrawFn, classes: tuple[OrderClass, ...] = (E, X, P)) -> OrderIntent:
    """Orders around the limits of the base context."""
    cents = st.integers(50, 20_000)
    reference = D(draw(cents)) / 100
    return order(
        draw(st.sampled_from(classes)), quantity=draw(st.sampled_from([0, 1, 50, 97, 98, 200, 201, 1_000])), reference=reference,
        limit_price=draw(st.sampled_from([reference, D("102.00"), D("98.00"), D("105.01"), None])),
        symbol=draw(st.sampled_from(["IBM", "IBM", "IBM", "TQQQ"])),
        brackets=draw(st.sampled_from([(), (), (Bracket(50, D("97.00"), D("103.00")),)])),
    )


@st.composite
def contexts(draw: st.DrawFn) -> RiskContext:
    """Situations on both sides of every limit, each consistent with its world."""
    around = {
        "equity": [D(200_000), D(40_000)], "buying_power": [D(150_000), D(5_000), D(0)], "account_day_pnl": [D(0), D(-999), D(-1_000)],
        "strategy_day_pnl": [D(50), D(-1_000)], "average_day_volume": [D(1_000_000), D(4_000)],
        "symbol_exposure": [D(0), D(20_000), D(45_000)], "strategy_symbol_exposure": [D(0), D(35_000)], "day_notional": [D(0), D(995_000)],
        "position": [0, 200], "open_exit_quantity": [0, 150], "orders_last_hour": [0, 9, 10], "open_orders": [0, 10],
        "consecutive_rejects": [0, 5], "last_trade_at": [None, NOW - timedelta(seconds=29), NOW - timedelta(seconds=30)],
        "last_action_at": [None, NOW - timedelta(seconds=59)], "open_action": [None, "a-0"], "unknown_order": [None, "ABC"],
        "strategy_state": [StrategyState.RUNNING, StrategyState.PAUSED_USER], "latched": [False, True],
        "volatility": [CALM, Volatility(D("2.50"), True, NOW), Volatility(D("2.50"), False, None), Volatility(D("4.00"), True, NOW)],
        "account_loss_granted": [D(0), D(1), D(500)], "strategy_loss_granted": [D(0), D(500)],
        "round_trips": [(), trips("-1", "-1", "-1", ago=60), trips("-1", "-1", "-1", "-1", "2", ago=900), trips("-5", "-1", "0", ago=5)],
        "last_losing_exit_at": [None, NOW - timedelta(minutes=29), NOW - timedelta(minutes=31)],
        "strategy_limits": [
            StrategyLimits(max_position_value=D(40_000)), StrategyLimits(cool_off=None, recovery_size=None, revenge_wait=None),
            StrategyLimits(max_day_risk=D(5_100)),
        ],
        "account_limits": [AccountLimits(max_day_risk=D(5_000)), AccountLimits(max_day_risk=D(6_000))],
        "account_open_risk": [D(0), D(900), D("900.01")], "strategy_open_risk": [D(0), D(200)],
        "mode": list(Mode), "quote": [quote(), quote(when=NOW - timedelta(seconds=6)), quote(bid="98.00", ask="102.00")],
        "bar_end": [NOW, NOW - timedelta(minutes=6)],
    }
    broken = draw(st.lists(st.sampled_from(sorted(around)), max_size=3, unique=True))
    changes: dict[str, Any] = {name: draw(st.sampled_from(around[name])) for name in broken}
    exposure = draw(st.sampled_from([None, D(10_000), D(60_000)]))
    sector: dict[str, Any] = {} if exposure is None else {"sector": "Technology", "sector_exposure": exposure}
    make = draw(st.sampled_from([context, live]))
    return make(**(sector | changes))


def _spoilt(draw: st.DrawFn, situation: RiskContext) -> RiskContext:
    # Elsewhere no history is required, and what cannot be measured does not apply (D30).
    known = NONE_IS_A_FACT if situation.world is World.LIVE else NONE_IS_A_FACT | {"volatility"}
    names = [field.name for field in fields(RiskContext) if field.name not in known]
    name = draw(st.sampled_from(names))
    value: Any = None
    if name in MONEY_FIELDS:
        value = draw(st.sampled_from([None, NAN, INF, -INF] + ([] if name in SIGNED else [D(-1)])))
    elif name in COUNT_FIELDS:
        value = draw(st.sampled_from([None, -1]))
    elif name == "quote" and situation.quote is not None:
        side = draw(st.sampled_from(["bid", "ask", "last"]))
        value = draw(st.sampled_from([None, *(replace(situation.quote, **{side: bad}) for bad in (NAN, INF, -INF, D(-1), D(0)))]))
    return replace(situation, **{name: value})


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_an_input_that_is_missing_or_absurd_never_makes_a_rule_pass(data: st.DataObject) -> None:
    """33."""
    intent, situation = data.draw(intents((E,))), data.draw(contexts())
    spoilt = data.draw(st.composite(lambda draw: _spoilt(draw, situation))())
    before, after = judge(intent, situation), judge(intent, spoilt)
    gained = [b.rule for b, a in zip(before.verdicts, after.verdicts, strict=True) if a.passed and not b.passed]
    assert not gained


@pytest.mark.parametrize("name", [field.name for field in fields(RiskContext) if field.name not in NONE_IS_A_FACT | {"leveraged_symbols"}])
def test_an_entry_on_the_live_market_is_denied_when_any_input_is_unknown(name: str) -> None:
    """33."""
    limits = {"account_limits": AccountLimits(max_day_risk=D(6_000)), "strategy_limits": StrategyLimits(max_day_risk=D(6_000))}
    situation = live(sector="Technology", sector_exposure=D(0), **limits, strategy_symbol_exposure=D(0))
    assert judge(order(), situation).passed
    harmless = {"mode", "short_history"}  # unknown, they count as autonomous and as short: the stricter reading
    unknown: dict[str, Any] = {name: None}
    assert judge(order(), replace(situation, **unknown)).passed is (name in harmless)


@pytest.mark.parametrize("name", ["reference", "limit_price"])
@pytest.mark.parametrize("bad", [None, NAN, INF, -INF, D(0), D(-1)])
@pytest.mark.parametrize("order_class", [E, X, P])
def test_a_price_that_is_none_is_denied_in_every_class(order_class: OrderClass, name: str, bad: Decimal | None) -> None:
    """33."""
    assert not judge(order(order_class, **{name: bad}), context()).passed


def test_an_error_inside_a_rule_is_that_rules_denial_and_the_others_go_on() -> None:
    """33, fault 63."""
    judgement = judge(order(), context(now=NOW.replace(tzinfo=None), last_trade_at=NOW))
    told = {verdict.rule: verdict for verdict in judgement.verdicts}
    assert told["cooldown"].outcome is Outcome.DENY
    assert told["cooldown"].detail.startswith("TypeError: ")
    assert told["order_value"].outcome is Outcome.ALLOW


SHRINKING = st.decimals("0.0001", "1", places=4)


def _tightened(draw: st.DrawFn, limits: AccountLimits | StrategyLimits) -> AccountLimits | StrategyLimits:
    name = draw(st.sampled_from([field.name for field in fields(limits)]))
    value = getattr(limits, name)
    tighter: Any
    match value:
        case frozenset():
            tighter = value | {"IBM"}
        case timedelta() if name in {"min_order_gap", *LONGER_IS_TIGHTER}:
            tighter = value * draw(st.integers(1, 50))
        case None:
            tighter = D(draw(st.integers(1, 10_000))) if name == "max_day_risk" else getattr(StrategyLimits(), name)
        case timedelta():
            tighter = value / draw(st.integers(1, 50))
        case int():
            tighter = draw(st.integers(1, value))
        case _:
            tighter = value * draw(SHRINKING)
    changed: dict[str, Any] = {name: tighter}
    assert isinstance(limits, AccountLimits) or not looser(name, value, tighter)
    return replace(limits, **changed)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_tightening_a_limit_never_lets_more_through(data: st.DataObject) -> None:
    """34."""
    intent, situation = data.draw(intents()), data.draw(contexts())
    level = data.draw(st.sampled_from(["account_limits", "strategy_limits"]))
    tighter = data.draw(st.composite(lambda draw: _tightened(draw, getattr(situation, level)))())
    changed: dict[str, Any] = {level: tighter}
    before, after = judge(intent, situation), judge(intent, replace(situation, **changed))
    gained = [b.rule for b, a in zip(before.verdicts, after.verdicts, strict=True) if a.passed and not b.passed]
    assert not gained
    assert before.passed or not after.passed


@settings(max_examples=200, deadline=None)
@given(intents(), contexts())
def test_a_judgement_is_a_function_of_its_two_arguments(intent: OrderIntent, situation: RiskContext) -> None:
    assert judge(intent, situation) == judge(intent, situation)
