"""What a person reads of each verdict: on the approval page, in the ledger, on the command line.

The words are part of what is hashed and shown; a figure in them that is not the one judged by would mislead who approves.
"""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.domain.rulebook_cases import NOW, context, live, order, quote, session, trips, verdict_of
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import Bracket, OrderClass, OrderType, Side, TimeInForce
from trading_pipeline.domain.risk import Outcome, RiskContext, World
from trading_pipeline.domain.rulebook import judge
from trading_pipeline.domain.strategies import StrategyState
from trading_pipeline.domain.volatility import Volatility

D = Decimal
ALLOW, DENY, HALT, EXEMPT, NOT_APPLICABLE = Outcome.ALLOW, Outcome.DENY, Outcome.HALT, Outcome.EXEMPT, Outcome.NOT_APPLICABLE
OVER = AccountLimits(max_day_risk=D(800))

FIFTY_SHARES_OF_IBM = {
    "hard_order_value": (ALLOW, "$5,100.00", "$100,000.00", ""),
    "penny_stock": (ALLOW, "$100.00", "$1.00", ""),
    "trading_hours": (ALLOW, "2012-10-16 11:00:00.000 New York", "09:30-16:00", ""),
    "cooldown": (ALLOW, "none before", "30.000 s", ""),
    "duplicate_action": (ALLOW, "none before", "60.000 s", ""),
    "account_latch": (ALLOW, "clear", "clear", ""),
    "strategy_state": (ALLOW, "running", "running", ""),
    "environment": (ALLOW, "paper on replay data", "live, paper, backtest or demo, with an account", ""),
    "long_only": (ALLOW, "buy as E", "buy as E, sell as X or P", ""),
    "oversell": (NOT_APPLICABLE, "a buy", "sells only", ""),
    "unknown_order": (ALLOW, "none", "none", ""),
    "already_open": (ALLOW, "none", "none", ""),
    "self_cross": (ALLOW, "none", "none", ""),
    "clock_offset": (NOT_APPLICABLE, "none", "2.000 s", "the market clock is our own"),
    "universe": (ALLOW, "IBM", "1 listed symbols", ""),
    "contract": (NOT_APPLICABLE, "none", "a known contract", "the archive and the paper broker know symbols, not contracts"),
    "forbidden_symbol": (ALLOW, "IBM", "not leveraged, not inverse, not forbidden", ""),
    "halted": (NOT_APPLICABLE, "unknown", "trading", "recorded bars carry no halts or price bands"),
    "volatility": (ALLOW, "1.00 times", "below 3 times its usual range", ""),
    "whole_shares": (ALLOW, "50 shares", "whole, at least 1", ""),
    "known_prices": (ALLOW, "all known", "finite, above zero", ""),
    "tick_size": (ALLOW, "on the grid", "multiples of $0.01, of $0.0001 below $1", ""),
    "time_in_force": (ALLOW, "day", "day, or gtc to protect", ""),
    "brackets": (ALLOW, "none", "at most the quantity", ""),
    "fresh_bar": (ALLOW, "bar to 2012-10-16 15:00 UTC", "2012-10-16 14:55 UTC or newer", ""),
    "fresh_quote": (
        ALLOW, "0.000 s", "5.000 s", "quote derived from the open of the bar that contains now, stamped with the market clock",
    ),
    "spread": (ALLOW, "0.02%", "2.00%", "spread derived from the paper broker's setting"),
    "price_collar": (ALLOW, "2.00%", "5.00%", "limit $102.00, last $100.00"),
    "volume_share": (ALLOW, "50 shares", "10,000 shares", "volume derived from the archive: up to 20 prior sessions"),
    "order_value": (ALLOW, "$5,100.00", "$10,000.00", ""),
    "account_position": (ALLOW, "$25,100.00", "$50,000.00", ""),
    "strategy_position": (ALLOW, "$25,100.00", "$40,000.00", ""),
    "equity": (ALLOW, "$200,000.00", "above $0.00", ""),
    "concentration": (ALLOW, "12.55%", "20.00%", "$25,100.00 of $200,000.00"),
    "sector": (NOT_APPLICABLE, "unknown", "30.00%", "no source of sectors; judged when a sector is known"),
    "buying_power": (ALLOW, "$5,100.00", "$150,000.00", ""),
    "day_notional": (ALLOW, "$5,100.00", "$1,000,000.00", ""),
    "account_day_loss": (ALLOW, "$0.00", "below $1,000.00", ""),
    "strategy_day_loss": (ALLOW, "$0.00", "below $1,000.00", ""),
    "account_day_risk": (NOT_APPLICABLE, "off", "off", "switched off in the limits"),
    "strategy_day_risk": (NOT_APPLICABLE, "off", "off", "switched off in the limits"),
    "consecutive_rejects": (ALLOW, "0", "below 5", ""),
    "orders_per_hour": (ALLOW, "0", "below 10", ""),
    "open_orders": (ALLOW, "0", "below 10", ""),
    "order_gap": (ALLOW, "none before", "1.000 s", ""),
    "cool_off": (ALLOW, "0 losing round trips in a row", "below 3, or 1800.000 s since", ""),
    "recovery_size": (ALLOW, "$5,100.00", "50.00% of $10,000.00 while recovering", "not recovering"),
    "revenge_entry": (ALLOW, "none before", "1800.000 s", ""),
}


def test_an_entry_on_a_quiet_morning_is_told_in_these_words() -> None:
    judgement = judge(order(), context())
    assert {v.rule: (v.outcome, v.measured, v.limit, v.detail) for v in judgement.verdicts} == FIFTY_SHARES_OF_IBM


X, P = OrderClass.EXIT, OrderClass.PROTECTIVE

# rule, what is other in the order, what is other in the context; outcome, measured, limit, detail
TOLD: list[tuple[str, dict[str, Any], dict[str, Any], tuple[Outcome, str, str, str]]] = [
    ("hard_order_value", {"quantity": 1_000, "brackets": (Bracket(1_000, D(97), D("103.5")),)}, {},
        (DENY, "$103,500.00", "$100,000.00", "")),
    ("penny_stock", {"limit_price": D("0.9999")}, {}, (DENY, "$0.9999", "$1.00", "")),
    ("trading_hours", {}, {"session": session("2012-10-16", "13:00")},
        (ALLOW, "2012-10-16 11:00:00.000 New York", "09:30-13:00", "")),
    ("trading_hours", {}, {"session": None}, (DENY, "2012-10-16 11:00:00.000 New York", "09:30-16:00", "the exchange is closed")),
    ("cooldown", {}, {"last_trade_at": NOW - timedelta(seconds=29.5)}, (DENY, "29.500 s", "30.000 s", "")),
    ("duplicate_action", {}, {"last_action_at": NOW - timedelta(seconds=61)}, (ALLOW, "61.000 s", "60.000 s", "")),
    ("account_latch", {}, {"latched": True}, (DENY, "emergency stop", "clear", "")),
    ("strategy_state", {}, {"strategy_state": StrategyState.PAUSED_RISK}, (DENY, "paused_risk", "running", "")),
    ("strategy_state", {"order_class": P, "side": Side.SELL}, {"strategy_state": StrategyState.DRAFT},
        (DENY, "draft", "not draft, not stopped", "")),
    ("environment", {"environment": ""}, {}, (DENY, "no environment on replay data", "live, paper, backtest or demo, with an account", "")),
    ("long_only", {"side": Side.SELL}, {}, (DENY, "sell as E", "buy as E, sell as X or P", "")),
    ("oversell", {"side": Side.SELL}, {"position": 60, "open_exit_quantity": 20},
        (DENY, "50 shares", "40 shares", "60 held, 20 in open exits")),
    ("clock_offset", {}, {"world": World.LIVE, "clock_offset": timedelta(seconds=-2.5)}, (DENY, "2.500 s", "2.000 s", "")),
    ("contract", {}, {"contract_id": "8314"}, (ALLOW, "8314", "a known contract", "")),
    ("forbidden_symbol", {"symbol": "TQQQ"}, {},
        (DENY, "TQQQ", "not leveraged, not inverse, not forbidden", "a leveraged or inverse product")),
    ("forbidden_symbol", {}, {"account_limits": AccountLimits(forbidden_symbols=frozenset({"IBM"}))},
        (DENY, "IBM", "not leveraged, not inverse, not forbidden", "forbidden in the account limits")),
    ("halted", {}, {"halted": True}, (DENY, "halted", "trading", "")),
    ("halted", {}, {"halted": False}, (ALLOW, "trading", "trading", "")),
    ("volatility", {}, {"volatility": Volatility(D("3.10"), True, NOW)},
        (DENY, "3.10 times", "below 3 times its usual range", "tripped by the bar of 2012-10-16 15:00 UTC")),
    ("volatility", {}, {"volatility": None, "account_limits": AccountLimits(volatility_trip=D("2.50"))},
        (NOT_APPLICABLE, "unknown", "below 2.5 times its usual range",
         "the archive holds too few bars to tell what is usual; judged when it holds enough")),
    ("tick_size", {"limit_price": D("100.005"), "brackets": (Bracket(50, D("97.001"), D("103.00")),)}, {},
        (DENY, "100.005, 97.001", "multiples of $0.01, of $0.0001 below $1", "")),
    ("time_in_force", {"time_in_force": TimeInForce.GTC}, {}, (DENY, "gtc", "day, or gtc to protect", "")),
    ("brackets", {"brackets": (Bracket(30, D(97), None), Bracket(21, D(97), None))}, {},
        (DENY, "51 shares covered", "50 shares, stops below and targets above $100.00", "")),
    ("fresh_bar", {}, {"bar_end": NOW + timedelta(minutes=1)},
        (DENY, "bar to 2012-10-16 15:01 UTC", "2012-10-16 14:55 UTC or newer", "a bar from the future")),
    ("fresh_quote", {}, {"world": World.LIVE, "quote": quote(when=NOW - timedelta(seconds=6))}, (DENY, "6.000 s", "5.000 s", "")),
    ("spread", {}, {"world": World.LIVE, "quote": quote(bid="99.00", ask="101.00")}, (ALLOW, "2.00%", "2.00%", "")),
    ("price_collar", {"order_type": OrderType.STOP, "order_class": P, "side": Side.SELL, "stop_price": D("80.5")}, {},
        (NOT_APPLICABLE, "$80.50", "none", "a native stop has no limit")),
    ("price_collar", {"order_type": OrderType.STOP}, {}, (DENY, "stop", "marketable or limit", "only a protective order is a stop")),
    ("price_collar", {"order_class": P, "side": Side.SELL, "limit_price": D("94.00")}, {},
        (ALLOW, "6.00%", "10.00%", "limit $94.00, last $100.00")),
    ("volume_share", {}, {"short_history": True, "average_day_volume": D(4_000)},
        (DENY, "50 shares", "40 shares", "short_history: volume derived from the archive: up to 20 prior sessions")),
    ("sector", {}, {"sector": "Technology", "sector_exposure": D(55_000)}, (DENY, "30.05%", "30.00%", "$60,100.00 of $200,000.00")),
    ("account_day_loss", {}, {"account_day_pnl": D("-1200.50"), "account_loss_granted": D(200)},
        (HALT, "$1,200.50", "below $1,200.00", "$1,000.00, and $200.00 granted for this session")),
    ("strategy_day_loss", {}, {"strategy_day_pnl": D("-0.50")}, (ALLOW, "$0.50", "below $1,000.00", "")),
    ("strategy_day_loss", {}, {"strategy_day_pnl": D(300)}, (ALLOW, "$0.00", "below $1,000.00", "")),
    ("account_day_risk", {"brackets": (Bracket(50, D(97), None),)},
        {"account_limits": OVER, "account_day_pnl": D(-150), "account_open_risk": D(300), "account_loss_granted": D(100)},
        (ALLOW, "$700.00", "$900.00",
         "$150.00 lost, $300.00 to the stops of what is held and under way, $250.00 to those of this order; "
         "$800.00, and $100.00 granted for this session")),
    ("consecutive_rejects", {}, {"consecutive_rejects": 5}, (HALT, "5", "below 5", "")),
    ("orders_per_hour", {}, {"orders_last_hour": 12}, (DENY, "12", "below 10", "")),
    ("open_orders", {}, {"open_orders": 10}, (DENY, "10", "below 10", "")),
    ("cool_off", {}, {"round_trips": trips("-1", "-1", "-1", ago=60)},
        (DENY, "60.000 s", "1800.000 s", "after 3 losing round trips in a row")),
    ("recovery_size", {"limit_price": D("100.01")}, {"round_trips": trips("-1", "-1", "-1")},
        (DENY, "$5,000.50", "$5,000.00", "50.00% of $10,000.00: no round trip has won since 3 in a row lost")),
    ("revenge_entry", {}, {"last_losing_exit_at": NOW - timedelta(minutes=20)}, (DENY, "1200.000 s", "1800.000 s", "")),
    ("cool_off", {}, {"strategy_limits": StrategyLimits(cool_off=None)}, (NOT_APPLICABLE, "off", "off", "switched off in the limits")),
    ("buying_power", {}, {"buying_power": D("-20.125")}, (DENY, "$5,100.00", "-$20.1250", "")),
]


@pytest.mark.parametrize(("rule", "changes", "situation", "told"), TOLD)
def test_a_verdict_tells_the_figures_it_was_judged_by(
    rule: str, changes: dict[str, Any], situation: dict[str, Any], told: tuple[Outcome, str, str, str]
) -> None:
    found = verdict_of(rule, order(**changes), context(**situation))
    assert (found.outcome, found.measured, found.limit, found.detail) == told


UNKNOWN: list[tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = [
    ({}, {"quote": None}, dict.fromkeys(("fresh_quote", "spread", "price_collar"), "there is no quote")),
    ({}, {"quote": quote(symbol="MSFT")}, dict.fromkeys(("fresh_quote", "spread", "price_collar"), "the quote is of MSFT")),
    ({}, {"quote": quote(bid="0")}, {"known_prices": "the bid is 0", "spread": "the bid is 0"}),
    ({}, {"quote": quote(ask="-1")}, {"known_prices": "the ask is -1", "spread": "the ask is -1"}),
    ({}, {"quote": quote(last="0")}, {"known_prices": "the last price is 0", "price_collar": "the last price is 0"}),
    ({"reference": D("NaN")}, {}, dict.fromkeys(("known_prices", "penny_stock"), "the reference price is NaN")),
    ({"limit_price": D(-1)}, {}, dict.fromkeys(("known_prices", "penny_stock", "price_collar"), "the limit price is -1")),
    ({"stop_price": D(-5)}, {}, {"known_prices": "the stop price is -5"}),
    ({"brackets": (Bracket(50, D(-1), D(110)),)}, {}, {"known_prices": "a bracket's stop is -1"}),
    ({"brackets": (Bracket(50, D(97), D("Infinity")),)}, {},
        {"known_prices": "a bracket's target is Infinity", "hard_order_value": "a target is Infinity"}),
    ({}, {"bar_end": None}, {"fresh_bar": "the newest bar is unknown"}),
    ({}, {"bar_expected_end": None}, {"fresh_bar": "which bar ought to exist is unknown"}),
    ({}, {"average_day_volume": D("NaN")}, {"volume_share": "the average daily volume is NaN"}),
    ({}, {"symbol_exposure": D(-1)}, dict.fromkeys(("account_position", "concentration"), "the exposure to the symbol is -1")),
    ({}, {"strategy_symbol_exposure": None}, {"strategy_position": "the strategy's exposure to the symbol is unknown"}),
    ({}, {"equity": D("NaN")}, dict.fromkeys(("equity", "concentration"), "equity is NaN")),
    ({}, {"sector": "Technology"}, {"sector": "the exposure to the sector is unknown"}),
    ({}, {"sector_exposure": D(1)}, {"sector": "the sector is unknown"}),
    ({}, {"buying_power": None}, {"buying_power": "buying power is unknown"}),
    ({}, {"day_notional": None}, {"day_notional": "the day's order value is unknown"}),
    ({}, {"account_day_pnl": None, "account_limits": OVER},
        dict.fromkeys(("account_day_loss", "account_day_risk"), "the day's profit or loss is unknown")),
    ({}, {"account_loss_granted": D(-1), "account_limits": OVER},
        dict.fromkeys(("account_day_loss", "account_day_risk"), "the granted loss is -1")),
    ({}, {"account_open_risk": None, "account_limits": OVER}, {"account_day_risk": "what is at stake already is unknown"}),
    ({}, {"consecutive_rejects": -1}, {"consecutive_rejects": "the number of rejections is -1"}),
    ({}, {"orders_last_hour": True}, {"orders_per_hour": "the number of orders is True"}),
    ({}, {"open_orders": -1}, {"open_orders": "the number of open orders is -1"}),
    ({}, {"position": -1}, {"oversell": "the position is -1"}),
    ({}, {"open_exit_quantity": -1}, {"oversell": "the quantity in open exits is -1"}),
    ({}, {"volatility": Volatility(D("NaN"), False, None)}, {"volatility": "the volatility is NaN"}),
    ({}, {"world": World.LIVE, "volatility": None},
        {"volatility": "how volatile the symbol is cannot be measured: its history is too short"}),
    ({}, {"world": World.LIVE, "clock_offset": None}, {"clock_offset": "the clock's offset is unknown"}),
    ({}, {"world": World.LIVE, "contract_id": None}, {"contract": "the contract is unknown"}),
    ({}, {"world": World.LIVE, "halted": None}, {"halted": "whether the symbol is halted is unknown"}),
    ({"quantity": 0}, {}, {"order_value": "the order's value is 0", "hard_order_value": "the order's value is 0"}),
]


@pytest.mark.parametrize(("changes", "situation", "says"), UNKNOWN)
def test_a_denial_for_want_of_an_input_names_it(changes: dict[str, Any], situation: dict[str, Any], says: dict[str, str]) -> None:
    """33."""
    intent, seen = order(**changes), context(**situation)
    for rule, sentence in says.items():
        found = verdict_of(rule, intent, seen)
        assert (found.outcome, found.measured, found.limit) == (DENY, "unknown", "a usable value"), rule
        assert found.detail == f"Unusable: {sentence}"


@pytest.mark.parametrize(
    ("situation", "told"),
    [
        ({}, ("12.50%", "20.00%", "$25,000.00 of $200,000.00")),
        ({"equity": D(100_000)}, ("25.00%", "20.00%", "an entry would be stopped here; $25,000.00 of $100,000.00")),
        ({"equity": D(-5)}, ("unknown", "a usable value", "an entry would be stopped here; Unusable: equity is -5")),
    ],
)
def test_an_exempt_order_says_that_an_entry_would_be_stopped_only_where_it_would(
    situation: dict[str, Any], told: tuple[str, str, str]
) -> None:
    found = verdict_of("concentration", order(X), context(**situation))
    assert (found.outcome, found.measured, found.limit, found.detail) == (EXEMPT, *told)


def test_the_live_market_leaves_no_input_derived() -> None:
    seen: RiskContext = replace(live(), sector="Technology", sector_exposure=D(10_000))
    told = {verdict.rule: verdict for verdict in judge(order(), seen).verdicts}
    assert (told["sector"].measured, told["clock_offset"].measured) == ("7.55%", "0.000 s")
    assert [rule for rule, verdict in told.items() if "derived" in verdict.detail] == ["volume_share"]
