"""The rulebook's answers: every rule once, the class matrix cell by cell, and what is required where."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.domain.rulebook_cases import HARD, NOW, context, live, order, quote, trips, verdict_of
from trading_pipeline.domain.events import canonical_payload
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.orders import OrderClass, OrderType, Side, TimeInForce
from trading_pipeline.domain.risk import Outcome, RiskContext, World
from trading_pipeline.domain.rulebook import CLASS_MATRIX, RULEBOOK, judge
from trading_pipeline.domain.strategies import StrategyState
from trading_pipeline.domain.volatility import Volatility

E, X, P = OrderClass.ENTRY, OrderClass.EXIT, OrderClass.PROTECTIVE
D = Decimal


@pytest.mark.parametrize("situation", [context(), live(), context(world=World.BACKTEST)])
@pytest.mark.parametrize("order_class", [E, X, P])
def test_a_sound_order_of_any_class_passes_in_any_world(order_class: OrderClass, situation: RiskContext) -> None:
    judgement = judge(order(order_class), situation)
    assert judgement.denials == ()
    assert judgement.passed
    assert judgement.reason == ""


@pytest.mark.parametrize("order_class", [E, X, P])
def test_every_rule_answers_once_in_the_order_of_the_book_hard_limits_first(order_class: OrderClass) -> None:
    names = [verdict.rule for verdict in judge(order(order_class), context()).verdicts]
    assert names == [rule.__name__ for rule in RULEBOOK]
    assert names[:5] == HARD
    assert set(names) == set(CLASS_MATRIX)
    assert len(set(names)) == len(names)


def test_all_rules_are_evaluated_even_when_the_first_denies() -> None:
    """84."""
    judgement = judge(order(quantity=2_000), context(latched=True, equity=None))
    assert judgement.reason.startswith("hard_order_value, account_latch, ")
    assert {"order_value", "equity", "concentration"} <= {verdict.rule for verdict in judgement.denials}
    assert len(judgement.verdicts) == len(RULEBOOK)


@pytest.mark.parametrize("name", ["open_action", "unknown_order", "crossing_order"])
def test_what_stands_in_the_way_is_named(name: str) -> None:
    [denial] = judge(order(), context(**{name: "KRB7"})).denials
    assert (denial.measured, denial.limit) == ("KRB7", "none")


@pytest.mark.parametrize("absurd", [True, D("1.5"), -1, None])
def test_a_count_that_is_no_whole_number_denies(absurd: Any) -> None:
    [denial] = judge(order(), context(open_orders=absurd)).denials
    assert denial.rule == "open_orders"
    assert denial.detail == f"Unusable: the number of open orders is {absurd}"


def test_a_judgement_is_written_down_as_words() -> None:
    told = judge(order(), context()).as_json()
    assert told[0] == {"rule": "hard_order_value", "outcome": "allow", "measured": "$5,100.00", "limit": "$100,000.00", "detail": ""}
    assert canonical_payload({"verdicts": told})


@pytest.mark.parametrize(("rule", "missing"), [("halted", "halted"), ("contract", "contract_id"), ("clock_offset", "clock_offset")])
def test_what_only_the_live_market_has_is_required_there_and_not_applicable_elsewhere(rule: str, missing: str) -> None:
    """40, D30, fault 52."""
    assert verdict_of(rule, order(), live(**{missing: None})).outcome is Outcome.DENY
    for world in (World.REPLAY, World.BACKTEST):
        verdict = verdict_of(rule, order(), context(world=world))
        assert verdict.outcome is Outcome.NOT_APPLICABLE
        assert verdict.detail


def test_a_symbol_whose_volatility_cannot_be_measured_is_denied_on_the_live_market_and_shown_as_such_elsewhere() -> None:
    """33, D13, D30."""
    assert verdict_of("volatility", order(), live(volatility=None)).outcome is Outcome.DENY
    for world in (World.REPLAY, World.BACKTEST):
        verdict = verdict_of("volatility", order(), context(world=world, volatility=None))
        assert (verdict.outcome, verdict.measured) == (Outcome.NOT_APPLICABLE, "unknown")
        assert "too few bars" in verdict.detail


def test_a_rule_of_discipline_that_is_switched_off_says_so() -> None:
    free = context(strategy_limits=StrategyLimits(cool_off=None, recovery_size=None, revenge_wait=None))
    for rule in ("cool_off", "recovery_size", "revenge_entry"):
        assert (verdict_of(rule, order(), free).outcome, verdict_of(rule, order(), free).measured) == (Outcome.NOT_APPLICABLE, "off")


def test_a_sector_is_judged_when_known_and_shown_as_not_applicable_when_not() -> None:
    assert verdict_of("sector", order(), context()).outcome is Outcome.NOT_APPLICABLE
    assert verdict_of("sector", order(), context(sector="Technology")).outcome is Outcome.DENY
    assert verdict_of("sector", order(), context(sector_exposure=D(0))).outcome is Outcome.DENY


def test_a_derived_input_says_how_it_came_about() -> None:
    assert "bar that contains now" in verdict_of("fresh_quote", order(), context()).detail
    assert verdict_of("fresh_quote", order(), live()).detail == ""
    assert verdict_of("volume_share", order(), context(short_history=True)).detail.startswith("short_history")


def test_a_daily_loss_or_a_run_of_rejections_asks_a_person() -> None:
    """36, 43, D12."""
    judgement = judge(order(), context(account_day_pnl=D(-1_000), consecutive_rejects=5, orders_last_hour=10))
    assert [verdict.rule for verdict in judgement.halts] == ["account_day_loss", "consecutive_rejects"]
    assert verdict_of("orders_per_hour", order(), context(orders_last_hour=10)).outcome is Outcome.DENY


@pytest.mark.parametrize("order_class", [X, P])
def test_a_buy_that_calls_itself_an_exit_is_denied(order_class: OrderClass) -> None:
    """41, D6."""
    assert "long_only" in judge(order(order_class, side=Side.BUY), context()).reason


def test_a_class_that_does_not_exist_is_judged_as_an_entry() -> None:
    """41."""
    judgement = judge(order(order_class="Z"), context(equity=None))
    assert {"long_only", "equity", "concentration"} <= {verdict.rule for verdict in judgement.denials}


# The class matrix, INVARIANTS section 1, row by row: what breaks the rule, and the three cells


OK, DENY = "ok", "deny"
MATRIX: list[tuple[str, str, dict[str, Any], dict[str, Any], tuple[str, str, str]]] = [
    ("65", "hard_order_value", {"quantity": 1_100}, {"position": 2_000}, (DENY, DENY, DENY)),
    (
        "66", "penny_stock", {"reference": D("0.9999"), "limit_price": D("0.9999")},
        {"quote": quote("0.9999", "0.9998", "0.9999")}, (DENY, OK, OK),
    ),
    ("67", "trading_hours", {}, {"session": None}, (DENY, DENY, DENY)),
    ("68", "cooldown", {}, {"last_trade_at": NOW - timedelta(seconds=29)}, (DENY, DENY, OK)),
    ("69", "duplicate_action", {}, {"last_action_at": NOW - timedelta(seconds=59)}, (DENY, DENY, OK)),
    ("69, protective: one live exit set", "oversell", {}, {"open_exit_quantity": 200}, (OK, DENY, DENY)),
    ("max order", "order_value", {"quantity": 110}, {}, (DENY, OK, OK)),
    ("max position, account", "account_position", {}, {"symbol_exposure": D(46_000), "equity": D(1_000_000)}, (DENY, OK, OK)),
    ("max position, strategy", "strategy_position", {}, {"strategy_symbol_exposure": D(36_000)}, (DENY, OK, OK)),
    ("concentration", "concentration", {}, {"symbol_exposure": D(36_000)}, (DENY, OK, OK)),
    ("sector", "sector", {}, {"sector": "Technology", "sector_exposure": D(56_000)}, (DENY, OK, OK)),
    ("buying power", "buying_power", {}, {"buying_power": D(100)}, (DENY, OK, OK)),
    ("daily loss, account", "account_day_loss", {}, {"account_day_pnl": D(-1_000)}, (DENY, OK, OK)),
    ("daily loss, strategy", "strategy_day_loss", {}, {"strategy_day_pnl": D(-1_000)}, (DENY, OK, OK)),
    ("volatility", "volatility", {}, {"volatility": Volatility(D("3.10"), True, NOW)}, (DENY, OK, OK)),
    ("losing streak", "cool_off", {}, {"round_trips": trips("-1", "-1", "-1", ago=60)}, (DENY, OK, OK)),
    ("after a losing streak", "recovery_size", {"quantity": 60}, {"round_trips": trips("-1", "-1", "-1", ago=1800)}, (DENY, OK, OK)),
    ("sold at a loss", "revenge_entry", {}, {"last_losing_exit_at": NOW - timedelta(minutes=1)}, (DENY, OK, OK)),
    ("forbidden symbol", "forbidden_symbol", {}, {"leveraged_symbols": frozenset({"IBM"})}, (DENY, OK, OK)),
    ("orders/hour", "orders_per_hour", {}, {"orders_last_hour": 10}, (DENY, OK, OK)),
    ("stale quote", "fresh_quote", {}, {"quote": quote(when=NOW - timedelta(seconds=6))}, (DENY, DENY, OK)),
    ("NaN", "known_prices", {}, {"quote": quote(bid="NaN")}, (DENY, DENY, DENY)),
    ("UNKNOWN or mismatch", "unknown_order", {}, {"unknown_order": "ABC"}, (DENY, DENY, DENY)),
    ("PAUSED by a person", "strategy_state", {}, {"strategy_state": StrategyState.PAUSED_USER}, (DENY, DENY, OK)),
    ("PAUSED by risk", "strategy_state", {}, {"strategy_state": StrategyState.PAUSED_RISK}, (DENY, DENY, OK)),
    ("E-STOPPED", "strategy_state", {}, {"strategy_state": StrategyState.EMERGENCY_STOPPED}, (DENY, DENY, DENY)),
    ("D7, time in force", "time_in_force", {"time_in_force": TimeInForce.GTC}, {}, (DENY, DENY, OK)),
    ("account latch", "account_latch", {}, {"latched": True}, (DENY, DENY, DENY)),
]
CELLS = [
    pytest.param(rule, changes, situation, order_class, expected, id=f"{row}-{order_class.value}")
    for row, rule, changes, situation, cells in MATRIX
    for order_class, expected in zip((E, X, P), cells, strict=True)
]


@pytest.mark.parametrize(("rule", "changes", "situation", "order_class", "expected"), CELLS)
def test_the_class_matrix_holds_in_every_cell(
    rule: str, changes: dict[str, Any], situation: dict[str, Any], order_class: OrderClass, expected: str
) -> None:
    """41, D6."""
    judgement = judge(order(order_class, **changes), context(**situation))
    verdict = verdict_of(rule, order(order_class, **changes), context(**situation))
    assert verdict.passed is (expected == OK)
    if expected == DENY:
        assert rule in judgement.reason.split(", ")
    elif order_class is not E:
        assert judgement.passed, judgement.reason
        assert verdict.measured


def test_a_native_stop_needs_no_quote_and_no_collar() -> None:
    stop = order(P, order_type=OrderType.STOP, limit_price=None, stop_price=D("80.00"))
    assert judge(stop, context(quote=None)).passed
    assert verdict_of("price_collar", stop, context()).outcome is Outcome.NOT_APPLICABLE


@pytest.mark.parametrize("state", list(StrategyState))
def test_only_a_running_strategy_enters_or_exits(state: StrategyState) -> None:
    for order_class in (E, X):
        assert verdict_of("strategy_state", order(order_class), context(strategy_state=state)).passed is (state is StrategyState.RUNNING)
