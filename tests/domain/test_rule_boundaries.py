"""Every rule at its boundary: it passes at its limit and denies beyond."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.domain.rulebook_cases import HARD, NOW, context, live, order, quote, trips, verdict_of
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import Bracket, OrderClass, OrderType, Side, TimeInForce
from trading_pipeline.domain.rulebook import CLASS_MATRIX, judge
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.domain.volatility import Volatility

D = Decimal
X, P = OrderClass.EXIT, OrderClass.PROTECTIVE
NAN = D("NaN")


@pytest.mark.parametrize(
    ("changes", "worst", "value"),
    [
        ({"limit_price": None}, "100.00", "5000.00"),
        ({"limit_price": D("99.00")}, "100.00", "5000.00"),
        ({"limit_price": D("102.00")}, "102.00", "5100.00"),
        ({"limit_price": None, "stop_price": D("103.00")}, "103.00", "5150.00"),
        ({"limit_price": D("102.00"), "stop_price": D("101.00")}, "102.00", "5100.00"),
        ({"quantity": 0}, "102.00", "0"),
        ({"quantity": -5}, "102.00", "0"),
    ],
)
def test_an_order_is_worth_its_shares_at_the_worst_of_its_prices(changes: dict[str, Any], worst: str, value: str) -> None:
    """D1."""
    intent = order(**changes)
    assert (intent.worst_price, intent.value) == (D(worst), D(value))


# Boundaries: rule, what changes in the intent, what changes in the context, whether an entry passes


def _cent_ask(width: str) -> Any:
    return quote(bid="100.00", ask=width)


BOUNDARIES: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    # D1, D2: the tightest of account and strategy; 100 x $100 = $10,000.00
    ("order_value", {"quantity": 100, "limit_price": D("100.00")}, {}, True),
    ("order_value", {"quantity": 1, "reference": D("10000.01"), "limit_price": D("10000.01")}, {}, False),
    ("order_value", {"quantity": 81, "limit_price": D("100.00")}, {"account_limits": AccountLimits(max_order_value=D(8_000))}, False),
    # $45,000 held and $5,000 more is the account's $50,000
    ("account_position", {"limit_price": D("100.00")}, {"symbol_exposure": D(45_000)}, True),
    ("account_position", {"limit_price": D("100.00")}, {"symbol_exposure": D("45000.01")}, False),
    ("strategy_position", {"limit_price": D("100.00")}, {"strategy_symbol_exposure": D(35_000)}, True),
    ("strategy_position", {"limit_price": D("100.00")}, {"strategy_symbol_exposure": D("35000.01")}, False),
    # D16: 20 % of $200,000 is $40,000; 30 % is $60,000
    ("concentration", {"limit_price": D("100.00")}, {"symbol_exposure": D(35_000)}, True),
    ("concentration", {"limit_price": D("100.00")}, {"symbol_exposure": D("35000.01")}, False),
    ("sector", {"limit_price": D("100.00")}, {"sector": "Technology", "sector_exposure": D(55_000)}, True),
    ("sector", {"limit_price": D("100.00")}, {"sector": "Technology", "sector_exposure": D("55000.01")}, False),
    ("equity", {}, {"equity": D("0.01")}, True),
    ("equity", {}, {"equity": D(0)}, False),
    ("equity", {}, {"equity": D(-1)}, False),
    ("buying_power", {"limit_price": D("100.00")}, {"buying_power": D("5000.00")}, True),
    ("buying_power", {"limit_price": D("100.00")}, {"buying_power": D("4999.99")}, False),
    ("day_notional", {"limit_price": D("100.00")}, {"day_notional": D(995_000)}, True),
    ("day_notional", {"limit_price": D("100.00")}, {"day_notional": D("995000.01")}, False),
    # D12: equality blocks
    ("account_day_loss", {}, {"account_day_pnl": D("-999.99")}, True),
    ("account_day_loss", {}, {"account_day_pnl": D("-1000.00")}, False),
    ("strategy_day_loss", {}, {"strategy_day_pnl": D("-999.99")}, True),
    ("strategy_day_loss", {}, {"strategy_day_pnl": D("-1000.00")}, False),
    # D12: what a person granted for the session is added, never to the other level; 53: fees and open losses are in the measure
    ("account_day_loss", {}, {"account_day_pnl": D("-1499.99"), "account_loss_granted": D(500)}, True),
    ("account_day_loss", {}, {"account_day_pnl": D("-1500.00"), "account_loss_granted": D(500)}, False),
    ("account_day_loss", {}, {"account_day_pnl": D("-1000.00"), "strategy_loss_granted": D(500)}, False),
    ("strategy_day_loss", {}, {"strategy_day_pnl": D("-1499.99"), "strategy_loss_granted": D(500)}, True),
    ("strategy_day_loss", {}, {"strategy_day_pnl": D("-1500.00"), "strategy_loss_granted": D(500)}, False),
    ("strategy_day_loss", {}, {"strategy_day_pnl": D("-1000.00"), "account_loss_granted": D(500)}, False),
    ("strategy_day_loss", {}, {"strategy_loss_granted": D(-1)}, False),
    ("account_day_loss", {}, {"account_loss_granted": NAN}, False),
    # 36, max_day_risk: $150.00 lost, $300.00 at stake, and 50 shares from $102.00 to $97.00 are $250.00 more: $700.00
    *(
        (f"{scope}_day_risk", {"brackets": (Bracket(50, D("97.00"), None),)}, {
            f"{scope}_limits": limits(max_day_risk=D(most)), f"{scope}_day_pnl": D(-150), f"{scope}_open_risk": D(300),
        }, passes)
        for scope, limits in (("account", AccountLimits), ("strategy", StrategyLimits))
        for most, passes in (("700.00", True), ("699.99", False))
    ),
    # the worst price counts where it is the reference, a bracket for 30 of 50 shares leaves 20 at their whole price: 30 x $3 + 20 x $100
    ("account_day_risk", {"limit_price": D("99.00"), "brackets": (Bracket(30, D("97.00"), None),)}, {
        "account_limits": AccountLimits(max_day_risk=D(2_090)),
    }, True),
    ("account_day_risk", {"limit_price": D("99.00"), "brackets": (Bracket(30, D("97.00"), None),)}, {
        "account_limits": AccountLimits(max_day_risk=D("2089.99")),
    }, False),
    # no stop at all: 50 x $102.00
    ("account_day_risk", {}, {"account_limits": AccountLimits(max_day_risk=D(5_100))}, True),
    ("account_day_risk", {}, {"account_limits": AccountLimits(max_day_risk=D("5099.99"))}, False),
    # a gain of the day allows no more, a grant does, for its own level only
    ("account_day_risk", {}, {"account_limits": AccountLimits(max_day_risk=D("5099.99")), "account_day_pnl": D(500)}, False),
    ("account_day_risk", {}, {"account_limits": AccountLimits(max_day_risk=D(5_000)), "account_loss_granted": D(100)}, True),
    ("account_day_risk", {}, {"account_limits": AccountLimits(max_day_risk=D(5_000)), "strategy_loss_granted": D(100)}, False),
    ("strategy_day_risk", {}, {"strategy_limits": StrategyLimits(max_day_risk=D(5_000)), "strategy_loss_granted": D(100)}, True),
    ("strategy_day_risk", {}, {"strategy_limits": StrategyLimits(max_day_risk=D(9_000)), "strategy_open_risk": None}, False),
    ("account_day_risk", {}, {"account_limits": AccountLimits(max_day_risk=D(9_000)), "account_open_risk": D(-1)}, False),
    # F5: three losses in a row, half an hour
    ("cool_off", {}, {"round_trips": trips("-1", "-1", ago=0)}, True),
    ("cool_off", {}, {"round_trips": trips("-1", "-1", "-1", ago=1799.999)}, False),
    ("cool_off", {}, {"round_trips": trips("-1", "-1", "-1", ago=1800)}, True),
    ("cool_off", {}, {"round_trips": trips("-1", "-1", "0", "-1", ago=0)}, True),
    ("cool_off", {}, {"round_trips": trips("-1", "-1", "-1", "5", ago=60)}, False),
    ("cool_off", {}, {"round_trips": trips("-1", "-1", "-1", ago=1799), "at_release": NOW + timedelta(seconds=1)}, True),
    ("cool_off", {}, {"round_trips": trips("-1", ago=0), "strategy_limits": StrategyLimits(losing_streak=1)}, False),
    ("cool_off", {}, {"round_trips": trips("-1", "-1", "-1", ago=0), "strategy_limits": StrategyLimits(cool_off=None)}, True),
    # half of $10,000
    ("recovery_size", {"limit_price": D("100.00")}, {"round_trips": trips("-1", "-1", "-1")}, True),
    ("recovery_size", {"limit_price": D("100.01")}, {"round_trips": trips("-1", "-1", "-1")}, False),
    ("recovery_size", {"limit_price": D("100.01")}, {"round_trips": trips("-1", "-1", "-1", "0")}, False),
    ("recovery_size", {"limit_price": D("100.01")}, {"round_trips": trips("-1", "-1", "-1", "0.01")}, True),
    ("recovery_size", {"limit_price": D("100.01")}, {"round_trips": trips("-1", "-1")}, True),
    (
        "recovery_size", {"limit_price": D("100.01")},
        {"round_trips": trips("-1", "-1", "-1"), "strategy_limits": StrategyLimits(recovery_size=None)}, True,
    ),
    ("revenge_entry", {}, {"last_losing_exit_at": NOW - timedelta(minutes=30)}, True),
    ("revenge_entry", {}, {"last_losing_exit_at": NOW - timedelta(minutes=29, seconds=59.999)}, False),
    ("revenge_entry", {}, {"last_losing_exit_at": NOW, "strategy_limits": StrategyLimits(revenge_wait=None)}, True),
    ("revenge_entry", {}, {"last_losing_exit_at": NOW + timedelta(seconds=1)}, False),
    ("consecutive_rejects", {}, {"consecutive_rejects": 4}, True),
    ("consecutive_rejects", {}, {"consecutive_rejects": 5}, False),
    ("orders_per_hour", {}, {"orders_last_hour": 9}, True),
    ("orders_per_hour", {}, {"orders_last_hour": 10}, False),
    ("open_orders", {}, {"open_orders": 9}, True),
    ("open_orders", {}, {"open_orders": 10}, False),
    ("order_gap", {}, {"last_account_order_at": NOW - timedelta(seconds=1)}, True),
    ("order_gap", {}, {"last_account_order_at": NOW - timedelta(milliseconds=999)}, False),
    ("order_gap", {}, {"last_account_order_at": NOW, "at_release": NOW + timedelta(seconds=1)}, True),
    # 39
    ("universe", {"symbol": "MSFT"}, {"quote": quote(symbol="MSFT")}, False),
    ("forbidden_symbol", {"symbol": "TQQQ"}, {}, False),
    ("forbidden_symbol", {"symbol": "SH"}, {}, False),
    ("forbidden_symbol", {}, {"account_limits": AccountLimits(forbidden_symbols=frozenset({"IBM"}))}, False),
    ("forbidden_symbol", {}, {"leveraged_symbols": frozenset({"IBM"})}, False),
    # 38
    ("whole_shares", {"quantity": 1}, {}, True),
    ("whole_shares", {"quantity": 0}, {}, False),
    ("whole_shares", {"quantity": -5}, {}, False),
    ("whole_shares", {"quantity": D("1.5")}, {}, False),
    ("tick_size", {"limit_price": D("100.01")}, {}, True),
    ("tick_size", {"limit_price": D("100.005")}, {}, False),
    ("tick_size", {"limit_price": D("0.9999")}, {}, True),
    ("tick_size", {"limit_price": D("0.99995")}, {}, False),
    ("tick_size", {"brackets": (Bracket(50, D("97.005"), None),)}, {}, False),
    ("volume_share", {"quantity": 50}, {"average_day_volume": D(5_000)}, True),
    ("volume_share", {"quantity": 51}, {"average_day_volume": D(5_000)}, False),
    ("volume_share", {"quantity": 0}, {}, False),
    ("price_collar", {"limit_price": D("105.00")}, {}, True),
    ("price_collar", {"limit_price": D("105.01")}, {}, False),
    ("price_collar", {"limit_price": D("103.00")}, {"mode": Mode.AUTONOMOUS}, True),
    ("price_collar", {"limit_price": D("103.01")}, {"mode": Mode.AUTONOMOUS}, False),
    ("price_collar", {"limit_price": D("102.01")}, {"strategy_limits": StrategyLimits(price_collar=D("0.02"))}, False),
    ("price_collar", {"limit_price": D("102.01")}, {"account_limits": AccountLimits(price_collar=D("0.02"))}, False),
    ("price_collar", {"limit_price": D("80.00"), "order_type": OrderType.LIMIT}, {}, True),
    ("price_collar", {"limit_price": None}, {}, False),
    ("price_collar", {"limit_price": None, "stop_price": D("101.00"), "order_type": OrderType.STOP}, {}, False),
    ("fresh_quote", {}, {"quote": quote(when=NOW - timedelta(seconds=5))}, True),
    ("fresh_quote", {}, {"quote": quote(when=NOW - timedelta(seconds=5.001))}, False),
    ("fresh_quote", {}, {"quote": quote(when=NOW + timedelta(seconds=0.001))}, False),
    ("fresh_quote", {}, {"quote": quote(symbol="MSFT")}, False),
    # 2 % of the middle: 2 / 101 is 1.98 %, 2.03 / 101.015 is 2.01 %
    ("spread", {}, {"quote": _cent_ask("102.00")}, True),
    ("spread", {}, {"quote": _cent_ask("102.03")}, False),
    ("spread", {}, {"quote": quote(bid="100.00", ask="100.00")}, True),
    ("spread", {}, {"quote": quote(bid="100.01", ask="100.00")}, False),
    # 73: the newest bar or, intraday, the one before
    ("fresh_bar", {}, {"bar_end": NOW - timedelta(minutes=5)}, True),
    ("fresh_bar", {}, {"bar_end": NOW - timedelta(minutes=5, microseconds=1)}, False),
    ("fresh_bar", {}, {"bar_end": NOW + timedelta(microseconds=1)}, False),
    ("fresh_bar", {}, {"interval": Interval.DAY1, "bar_end": NOW - timedelta(minutes=1)}, False),
    # D7
    ("time_in_force", {"time_in_force": TimeInForce.GTC}, {}, False),
    # 26, F6
    ("brackets", {"brackets": (Bracket(25, D("97.00"), D("103.00")), Bracket(25, D("97.00"), None))}, {}, True),
    ("brackets", {"brackets": (Bracket(1, D("97.00"), D("103.00")),)}, {}, True),
    ("brackets", {"brackets": (Bracket(1, D("97.00"), D("103.00")),), "limit_price": None}, {}, True),
    ("brackets", {"brackets": (Bracket(1, D("100.00"), D("103.00")),), "limit_price": None}, {}, False),
    ("brackets", {"brackets": (Bracket(0, D("97.00"), D("103.00")),)}, {}, False),
    ("brackets", {"brackets": (Bracket(51, D("97.00"), D("103.00")),)}, {}, False),
    ("brackets", {"brackets": (Bracket(50, D("100.00"), D("103.00")),)}, {}, False),
    ("brackets", {"brackets": (Bracket(50, D("97.00"), D("100.00")),)}, {}, False),
    ("brackets", {"brackets": (Bracket(50, D("97.00"), D("103.00")),), "limit_price": D("96.00")}, {}, False),
    # D24, D29, D31, 17, 40, 43
    ("already_open", {}, {"open_action": "a-0"}, False),
    ("unknown_order", {}, {"unknown_order": "ABC"}, False),
    ("self_cross", {}, {"crossing_order": "ABC"}, False),
    ("halted", {}, {"halted": True}, False),
    # D13: the ratio that would trip it, and the block that outlasts it
    ("volatility", {}, {"volatility": Volatility(D("0.00"), False, None)}, True),
    ("volatility", {}, {"volatility": Volatility(D("2.99"), False, None)}, True),
    ("volatility", {}, {"volatility": Volatility(D("3.00"), True, NOW)}, False),
    ("volatility", {}, {"volatility": Volatility(D("2.99"), True, NOW - timedelta(minutes=5))}, False),
    ("volatility", {}, {"volatility": Volatility(D("2.00"), False, None), "account_limits": AccountLimits(volatility_trip=D(2))}, False),
    ("environment", {"environment": "prod"}, {}, False),
    ("environment", {"account": ""}, {}, False),
    ("environment", {"environment": "live"}, {}, False),
    ("long_only", {"side": Side.SELL}, {}, False),
]


@pytest.mark.parametrize(("rule", "changes", "situation", "passes"), BOUNDARIES)
def test_a_rule_passes_at_its_limit_and_denies_beyond(rule: str, changes: dict[str, Any], situation: dict[str, Any], passes: bool) -> None:
    """35-40, 43, fault 41, fault 52, D2, D12, D13, D15, D16, D24, T2."""
    intent = order(**changes)
    verdict = verdict_of(rule, intent, context(**situation))
    assert verdict.passed is passes
    assert verdict.measured
    assert verdict.limit
    if not passes:
        assert rule in judge(intent, context(**situation)).reason.split(", ")


def test_every_rule_has_a_boundary_that_denies() -> None:
    tried = {rule for rule, _, _, passes in BOUNDARIES if not passes}
    elsewhere = {*HARD, "account_latch", "strategy_state", "oversell", "known_prices", "clock_offset", "contract"}
    assert tried | elsewhere == set(CLASS_MATRIX)


@pytest.mark.parametrize(
    ("offset", "passes"), [(timedelta(seconds=2), True), (timedelta(seconds=-2), True), (timedelta(seconds=2.001), False), (None, False)]
)
def test_the_clock_is_within_two_seconds_on_the_live_market(offset: timedelta | None, passes: bool) -> None:
    """72, fault 45."""
    assert verdict_of("clock_offset", order(), live(clock_offset=offset)).passed is passes


@pytest.mark.parametrize(
    ("quantity", "position", "selling", "passes"),
    [
        (200, 200, 0, True), (201, 200, 0, False), (100, 200, 100, True), (101, 200, 100, False), (1, 0, 0, False), (1, -5, 0, False),
        (0, 200, 0, False),
    ],
)
@pytest.mark.parametrize("order_class", [X, P])
def test_nothing_is_sold_twice_or_short(order_class: OrderClass, quantity: int, position: int, selling: int, passes: bool) -> None:
    """26, D24."""
    situation = context(position=position, open_exit_quantity=selling)
    assert verdict_of("oversell", order(order_class, quantity=quantity), situation).passed is passes


@pytest.mark.parametrize(
    ("limit", "exit_passes", "protective_passes"),
    [("95.00", True, True), ("94.99", False, True), ("90.00", False, True), ("89.99", False, False)],
)
def test_the_collar_is_twice_as_wide_for_a_protective_order(limit: str, exit_passes: bool, protective_passes: bool) -> None:
    assert verdict_of("price_collar", order(X, limit_price=D(limit)), context()).passed is exit_passes
    assert verdict_of("price_collar", order(P, limit_price=D(limit)), context()).passed is protective_passes
