"""65-69: each at its boundary; the figures are those of INVARIANTS section 1 and the fault table, rows 48 and 56."""

from dataclasses import FrozenInstanceError, fields
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.domain.rulebook_cases import NOW, at, context, order, quote, session, verdict_of
from trading_pipeline.domain import limits
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import Bracket, OrderClass, OrderType
from trading_pipeline.domain.risk import Outcome
from trading_pipeline.errors import SettingsError

E, X, P = OrderClass.ENTRY, OrderClass.EXIT, OrderClass.PROTECTIVE
D = Decimal


@pytest.mark.parametrize("order_class", [E, X, P])
@pytest.mark.parametrize(
    ("quantity", "price", "passes"),
    [(1_000, "100.00", True), (1, "100000.00", True), (1, "100000.01", False), (1_001, "100.00", False), (3, "33333.34", False)],
)
def test_no_order_is_worth_more_than_100_000_dollars(order_class: OrderClass, quantity: int, price: str, passes: bool) -> None:
    """65, D1."""
    intent = order(order_class, quantity=quantity, reference=D(price), limit_price=D(price))
    verdict = verdict_of("hard_order_value", intent, context(position=5_000))
    assert verdict.passed is passes
    assert verdict.limit == "$100,000.00"


def test_the_value_is_taken_at_the_limit_where_that_is_worse() -> None:
    intent = order(quantity=1_000, reference=D("99.00"), limit_price=D("100.01"))
    verdict = verdict_of("hard_order_value", intent, context())
    assert (verdict.outcome, verdict.measured) == (Outcome.DENY, "$100,010.00")


@pytest.mark.parametrize(("last", "passes"), [("105.04", True), ("105.05", False), ("NaN", False)])
def test_what_an_exit_would_bring_by_now_counts(last: str, passes: bool) -> None:
    """65, D1: decided at $100, it goes out when the market has risen."""
    intent = order(X, quantity=952, reference=D("100.00"), limit_price=D("96.00"))
    assert verdict_of("hard_order_value", intent, context(position=5_000, quote=quote(last=last))).passed is passes


@pytest.mark.parametrize("order_class", [E, P])
def test_what_does_not_close_a_position_at_the_market_counts_at_its_own_price(order_class: OrderClass) -> None:
    """65: an entry at a limit of $100 is worth no more because the market stands at $101."""
    intent = order(order_class, quantity=1_000, reference=D("100.00"), limit_price=D("100.00"))
    verdict = verdict_of("hard_order_value", intent, context(position=5_000, quote=quote(last="101.00")))
    assert (verdict.passed, verdict.measured) == (True, "$100,000.00")


def test_an_exit_counts_at_its_own_price_where_nobody_knows_the_market() -> None:
    intent = order(X, quantity=1_000, reference=D("100.00"), limit_price=D("96.00"))
    assert verdict_of("hard_order_value", intent, context(position=5_000, quote=None)).measured == "$100,000.00"


def test_a_target_of_an_entry_is_an_order_too() -> None:
    brackets = (Bracket(1_000, D("95.00"), D("104.00")),)
    intent = order(quantity=1_000, reference=D("95.50"), limit_price=D("96.00"), brackets=brackets)
    verdict = verdict_of("hard_order_value", intent, context())
    assert (verdict.outcome, verdict.measured) == (Outcome.DENY, "$104,000.00")


@pytest.mark.parametrize(
    ("reference", "limit", "passes"),
    [("1.00", "1.00", True), ("0.9999", "1.00", False), ("1.00", "0.9999", False), ("1.0001", "1.02", True), ("0.5", "0.51", False)],
)
def test_an_entry_below_one_dollar_is_denied(reference: str, limit: str, passes: bool) -> None:
    """66, D5."""
    assert verdict_of("penny_stock", order(reference=D(reference), limit_price=D(limit)), context()).passed is passes


@pytest.mark.parametrize(("last", "passes"), [("1.00", True), ("0.9999", False), ("NaN", False)])
def test_what_the_share_has_come_to_since_the_proposal_counts(last: str, passes: bool) -> None:
    """66, D5: within the price band of a reference of $1.00, and filled below it."""
    entry = order(reference=D("1.00"), limit_price=D("1.00"))
    assert verdict_of("penny_stock", entry, context(quote=quote(last=last))).passed is passes


def test_an_exit_below_one_dollar_goes_and_is_flagged() -> None:
    """D5."""
    verdict = verdict_of("penny_stock", order(X, reference=D("0.40"), limit_price=D("0.39")), context())
    assert (verdict.outcome, verdict.measured, verdict.limit) == (Outcome.EXEMPT, "$0.39", "$1.00")
    assert verdict.detail == "an entry would be stopped here"


@pytest.mark.parametrize("order_class", [E, X, P])
@pytest.mark.parametrize(
    ("day", "close", "clock", "passes"),
    [
        ("2012-10-16", "16:00", "09:29:59.999", False),
        ("2012-10-16", "16:00", "09:30:00", True),
        ("2012-10-16", "16:00", "15:59:59.999", True),
        ("2012-10-16", "16:00", "16:00:00", False),
        # The day after Thanksgiving closes at 13:00 New York. Source: NYSE holidays and trading hours 2012.
        ("2012-11-23", "13:00", "12:59:59.999", True),
        ("2012-11-23", "13:00", "13:00:00", False),
        # In summer New York is four hours behind UTC, in winter five.
        ("2012-07-05", "16:00", "09:30:00", True),
        ("2012-12-05", "16:00", "09:30:00", True),
    ],
)
def test_orders_go_out_in_regular_hours_only(order_class: OrderClass, day: str, close: str, clock: str, passes: bool) -> None:
    """67, D7, D8, fault 48."""
    now = at(day, clock)
    verdict = verdict_of("trading_hours", order(order_class), context(now=now, session=session(day, close)))
    assert verdict.passed is passes
    assert verdict.limit == f"09:30-{close}"


def test_a_day_without_a_session_is_closed() -> None:
    # XNYS was closed on 2012-10-29 for Hurricane Sandy.
    """67, 70, fault 47."""
    verdict = verdict_of("trading_hours", order(), context(now=at("2012-10-29", "11:00"), session=None))
    assert (verdict.outcome, verdict.detail) == (Outcome.DENY, "the exchange is closed")


def test_a_session_that_opens_early_does_not_widen_the_hours() -> None:
    early = session("2012-10-16")
    early = type(early)(early.day, at("2012-10-16", "04:00"), at("2012-10-16", "20:00"))
    assert not verdict_of("trading_hours", order(), context(now=at("2012-10-16", "09:29:59.999"), session=early)).passed
    assert not verdict_of("trading_hours", order(), context(now=at("2012-10-16", "16:00"), session=early)).passed


def test_a_release_after_the_close_is_denied_although_now_is_in_hours() -> None:
    """67."""
    now, release = at("2012-10-16", "15:59:50"), at("2012-10-16", "16:00:05")
    assert not verdict_of("trading_hours", order(), context(now=now, at_release=release)).passed


@pytest.mark.parametrize("order_class", [E, X])
@pytest.mark.parametrize(("elapsed", "passes"), [("29.999", False), ("30", True), ("0", False), ("-5", False), ("3600", True)])
def test_trades_of_a_strategy_are_30_seconds_apart(order_class: OrderClass, elapsed: str, passes: bool) -> None:
    """68, D3, fault 56."""
    last = NOW - timedelta(seconds=float(elapsed))
    verdict = verdict_of("cooldown", order(order_class), context(last_trade_at=last))
    assert verdict.passed is passes
    assert verdict.limit == "30.000 s"


def test_a_paced_action_is_judged_by_the_cooldown_at_its_release() -> None:
    waiting = {"last_trade_at": NOW - timedelta(seconds=10)}
    assert verdict_of("cooldown", order(), context(**waiting, at_release=NOW + timedelta(seconds=20))).passed
    assert not verdict_of("cooldown", order(), context(**waiting, at_release=NOW + timedelta(seconds=19.999))).passed


@pytest.mark.parametrize("order_class", [E, X])
@pytest.mark.parametrize(("elapsed", "passes"), [("59.999", False), ("60", True), ("-1", False)])
def test_the_same_action_is_not_repeated_within_a_minute(order_class: OrderClass, elapsed: str, passes: bool) -> None:
    """69, D4, fault 56."""
    last = NOW - timedelta(seconds=float(elapsed))
    assert verdict_of("duplicate_action", order(order_class), context(last_action_at=last)).passed is passes


def test_waiting_for_a_release_does_not_make_a_duplicate_pass() -> None:
    situation = context(last_action_at=NOW - timedelta(seconds=40), at_release=NOW + timedelta(seconds=30))
    assert not verdict_of("duplicate_action", order(), situation).passed


def test_the_first_trade_of_a_strategy_waits_for_nothing() -> None:
    assert verdict_of("cooldown", order(), context()).measured == "none before"
    assert verdict_of("duplicate_action", order(), context()).measured == "none before"


def test_a_native_stop_is_valued_without_a_limit() -> None:
    stop = order(P, order_type=OrderType.STOP, limit_price=None, stop_price=D("97.00"), quantity=1_001, reference=D("100.00"))
    assert not verdict_of("hard_order_value", stop, context(position=2_000)).passed


def test_the_hard_limits_are_the_figures_of_the_founding_documents_and_cannot_be_changed() -> None:
    assert {number: str(value) for number, value in limits.HARD_LIMITS.items() if number != 67} == {
        65: "100000", 66: "1", 68: "0:00:30", 69: "0:01:00",
    }
    assert [clock.isoformat() for clock in limits.HARD_LIMITS[67]] == ["09:30:00", "16:00:00"]  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        limits.HARD_LIMITS[65] = D(1)  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        AccountLimits().max_order_value = D(1)  # type: ignore[misc]


@pytest.mark.parametrize("level", [AccountLimits, StrategyLimits])
@pytest.mark.parametrize("value", ["100000.01", "NaN", "Infinity", "0", "-1"])
def test_a_setting_above_the_hard_limit_or_without_meaning_is_refused(level: type, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        level(max_order_value=D(value))
    assert refused.value.rule
    assert refused.value.remedy


def test_a_setting_at_the_hard_limit_is_accepted_and_one_above_names_the_invariant() -> None:
    assert AccountLimits(max_order_value=D("100000.00")).max_order_value == 100_000
    with pytest.raises(SettingsError, match="INVARIANT_65"):
        StrategyLimits(max_order_value=D("100000.01"))


TIGHT_AND_LOOSE: list[tuple[str, Any, Any]] = [
    *((name, D("0.01"), D("0.02")) for name in (
        "max_order_value", "max_position_value", "max_concentration", "position_target", "sector_target", "max_day_loss",
        "max_day_notional", "max_volume_share", "max_spread", "price_collar", "max_bar_gap", "volatility_trip",
        "volatility_clear",
    )),
    ("max_day_risk", D("0.01"), D("0.02")), ("max_day_risk", D("0.01"), None),
    ("max_open_orders", 3, 4), ("max_consecutive_rejects", 1, 2),
    ("max_quote_age", timedelta(seconds=1), timedelta(seconds=2)),
    ("min_order_gap", timedelta(seconds=9), timedelta(seconds=1)),
    ("forbidden_symbols", frozenset({"IBM", "TQQQ"}), frozenset({"IBM"})),
]


@pytest.mark.parametrize(("name", "tight", "loose"), TIGHT_AND_LOOSE)
def test_of_two_limits_of_the_account_the_one_that_allows_less_holds(name: str, tight: Any, loose: Any) -> None:
    """D2."""
    one, other = AccountLimits(**{name: tight}), AccountLimits(**{name: loose})
    assert one.tightened_by(other) == other.tightened_by(one) == one


def test_it_is_written_down_of_every_limit_which_way_it_tightens() -> None:
    assert {name for name, _, _ in TIGHT_AND_LOOSE} == {field.name for field in fields(AccountLimits)}
