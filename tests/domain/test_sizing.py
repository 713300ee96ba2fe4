"""Sizes, stops and targets, reckoned by hand; and the promise that a plan is not denied for its size."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.domain.rulebook_cases import context, order, quote, verdict_of
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import Bracket, OrderClass, OrderType, Side
from trading_pipeline.domain.rulebook import judge
from trading_pipeline.domain.sizing import EntryPlan, NoEntry, exit_slices, marketable_limit, size_entry, split_exit
from trading_pipeline.domain.strategies import Entry, FractionSizing, RiskSizing, Sizing
from trading_pipeline.errors import InputError, StrategyError

D = Decimal
WIDE = StrategyLimits(max_order_value=D(100_000), max_position_value=D(1_000_000))
WIDE_ACCOUNT = AccountLimits(max_position_value=D(1_000_000), max_concentration=D(1), position_target=D(1))


def sized(sizing: Sizing | None = None, **changes: Any) -> EntryPlan | NoEntry:
    """IBM at $100, $100,000 of equity, ATR $1, support $98.50, SMA20 $97.456, nothing held; no price band."""
    inputs: dict[str, Any] = {
        "price": D(100), "equity": D(100_000), "buying_power": D(100_000), "held_value": D(0), "limits": AccountLimits(),
        "strategy_limits": StrategyLimits(), "atr": D(1), "support": D("98.50"), "sma20": D("97.456"), "collar": D("0.05"),
        "price_band": D(0),
    }
    return size_entry(sizing or RiskSizing(), **(inputs | changes))


def plan(sizing: Sizing | None = None, **changes: Any) -> EntryPlan:
    """The same where an entry is expected."""
    found = sized(sizing, **changes)
    assert isinstance(found, EntryPlan), found
    return found


@pytest.mark.parametrize(
    ("support", "atr", "stop"),
    [
        (D("98.50"), D(1), "98.50"),  # support is nearest
        (D("95.00"), D(1), "98.00"),  # 2 x ATR is nearest
        (D("90.00"), D(4), "97.00"),  # 3 % is nearest
        (D("101.00"), D(1), "98.00"),  # a support above the price is none
        (D("100.00"), D(1), "98.00"),  # nor is one at the price
        (None, None, "97.00"),  # in warm-up 3 % is left
        (D("NaN"), D("NaN"), "97.00"),
        (D("98.507"), D(1), "98.50"),  # down to the cent
    ],
)
def test_the_stop_is_the_highest_of_support_two_atr_and_three_percent(support: Decimal | None, atr: Decimal | None, stop: str) -> None:
    assert plan(support=support, atr=atr).stop == D(stop)


def test_targets_lie_at_one_and_a_half_and_two_and_a_half_times_the_risk() -> None:
    found = plan()
    assert (found.entry, found.stop) == (D("100.00"), D("98.50"))
    assert found.targets == (D("102.25"), D("103.75"))


def test_the_first_target_takes_the_larger_half() -> None:
    found = plan(strategy_limits=StrategyLimits(max_order_value=D(1_000)))
    # $1,000 at the worst price of $105.00 are 9 shares
    assert (found.limit_price, found.quantity) == (D("105.00"), 9)
    assert found.brackets == (Bracket(5, D("98.50"), D("102.25")), Bracket(4, D("98.50"), D("103.75")))


def test_one_share_has_one_bracket() -> None:
    found = plan(buying_power=D("209.99"))
    assert (found.quantity, found.binding) == (1, "buying_power")
    assert found.brackets == (Bracket(1, D("98.50"), D("102.25")),)


@pytest.mark.parametrize(
    ("changes", "quantity", "binding"),
    [
        # risk: 2 % of $10,000 at $1.50
        ({"equity": D(10_000), "limits": WIDE_ACCOUNT, "strategy_limits": WIDE, "buying_power": D(1_000_000)}, 95, "capital"),
        ({"equity": D(10_000), "limits": WIDE_ACCOUNT, "strategy_limits": WIDE, "support": D("97.00"), "atr": D(5)}, 66, "risk"),
        # capital: 15 % of $50,000 is $7,500, at $105.00
        ({"equity": D(50_000)}, 71, "capital"),
        ({"equity": D(50_000), "held_value": D(5_000)}, 23, "capital"),
        # position: the strategy's $10,000 less $4,000 held, at $105.00
        ({"held_value": D(4_000)}, 57, "position_limit"),
        # one order: $5,000 at $105.00
        ({"strategy_limits": StrategyLimits(max_order_value=D(5_000))}, 47, "order_limit"),
        ({"buying_power": D("1049.99")}, 9, "buying_power"),
        ({"average_day_volume": D(1_234)}, 12, "volume"),
        # the day's risk: from $105.00, the worst price, to the stop at $98.50
        ({"day_risk_left": D("65.00")}, 10, "day_risk"),
        ({"day_risk_left": D("64.99")}, 9, "day_risk"),
    ],
)
def test_the_quantity_is_the_smallest_size_and_says_which_one_bound(changes: dict[str, Any], quantity: int, binding: str) -> None:
    found = plan(**changes)
    assert (found.quantity, found.binding) == (quantity, binding)
    assert min(size.shares for size in found.sizes) == quantity
    assert all(size.because for size in found.sizes)


def test_the_sizes_of_risk_capital_and_buying_power_are_shown_side_by_side() -> None:
    shown = {size.name: size.shares for size in plan().sizes}
    # 2,000 / 1.50; 15,000 / 105; 10,000 / 105 twice; 100,000 / 105 twice, the target being below the worst price
    assert shown == {"risk": 1_333, "capital": 142, "position_limit": 95, "order_limit": 95, "hard_limit": 952, "buying_power": 952}


def test_the_exposure_multiplier_shrinks_the_size_and_never_lifts_a_cap() -> None:
    assert plan().quantity == 95
    assert plan(RiskSizing(exposure_multiplier=D("0.5"))).quantity == 47
    assert plan(RiskSizing(exposure_multiplier=D(3))).quantity == 95


def test_a_marketable_entry_reaches_to_the_collar_and_rounds_into_it() -> None:
    found = plan(price=D("99.99"), collar=D("0.03"))
    assert found.order_type is OrderType.MARKETABLE
    assert found.limit_price == D("102.98")  # 102.9897 rounded down
    assert found.entry == D("99.99")


@pytest.mark.parametrize(
    ("side", "price", "collar", "band", "limit"),
    [
        (Side.BUY, "100", "0.05", "0.01", "103.95"),  # 105 x 0.99
        (Side.BUY, "100", "0.005", "0.01", "100.00"),  # the band is the wider: never below the price itself
        (Side.SELL, "100", "0.05", "0.01", "95.95"),  # 95 x 1.01
        (Side.SELL, "100", "0.005", "0.01", "100.00"),
        (Side.SELL, "99.99", "0.05", "0", "95.00"),  # 94.9905 rounded up, into the collar
    ],
)
def test_a_marketable_limit_reaches_the_collar_less_the_band_in_the_direction_that_costs(
    side: Side, price: str, collar: str, band: str, limit: str
) -> None:
    assert marketable_limit(side, D(price), D(collar), D(band)) == D(limit)


def test_an_entry_on_pullback_waits_at_the_nearer_of_sma20_and_support() -> None:
    sizing = RiskSizing(entry=Entry.PULLBACK)
    at_support = plan(sizing)
    assert (at_support.order_type, at_support.limit_price) == (OrderType.LIMIT, D("98.50"))
    # Support is the price itself and no stop: 98.50 - 2 x 1.00 is above 3 %
    assert at_support.stop == D("96.50")
    at_average = plan(sizing, support=D("95.00"))
    assert (at_average.limit_price, at_average.stop) == (D("97.45"), D("95.45"))
    assert at_average.targets == (D("100.45"), D("102.45"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price": D("NaN")}, "no_price"),
        ({"price": D(0)}, "no_price"),
        ({"equity": D(0)}, "no_equity"),
        ({"equity": D("NaN")}, "no_equity"),
        ({"held_value": D(-1)}, "no_equity"),
        ({"buying_power": D("Infinity")}, "no_equity"),
        ({"buying_power": D(0)}, "below_one_share"),
        ({"buying_power": D(-5_000)}, "below_one_share"),
        ({"held_value": D(15_000)}, "below_one_share"),
        ({"day_risk_left": D("6.49")}, "below_one_share"),
        *(({"day_risk_left": D(left)}, "no_day_risk") for left in ("0", "-0.01", "NaN", "-Infinity")),
        ({"sizing": RiskSizing(entry=Entry.PULLBACK), "sma20": None, "support": D(101)}, "no_pullback_level"),
        ({"sizing": RiskSizing(entry=Entry.PULLBACK), "price": D("0.0002"), "sma20": D("0.00009"), "support": None}, "no_pullback_level"),
        ({"price": D("0.0001"), "support": None, "atr": None}, "no_stop"),
        ({"sizing": FractionSizing(D("0.10"), stop=D("0.5")), "price": D("0.0001")}, "no_stop"),
        # little is not nothing
        ({"equity": D("0.80")}, "below_one_share"),
        ({"day_risk_left": D("0.80")}, "below_one_share"),
        ({"recovering": True, "buying_power": D("105.00")}, "below_one_share"),
    ],
)
def test_no_entry_says_why(changes: dict[str, Any], reason: str) -> None:
    found = sized(**changes)
    assert isinstance(found, NoEntry)
    assert found.reason == reason
    assert found.detail


def test_a_fraction_of_equity_is_bounded_by_buying_power_alone() -> None:
    found = plan(FractionSizing(D("0.10")), strategy_limits=StrategyLimits(max_order_value=D(1_000)))
    assert (found.quantity, found.binding, found.brackets, found.stop) == (100, "fraction", (), None)
    assert plan(FractionSizing(D("0.10")), buying_power=D(5_250)).quantity == 50


def test_without_a_stop_the_whole_price_is_at_risk() -> None:
    found = plan(FractionSizing(D("0.10")), day_risk_left=D(1_050))
    assert (found.quantity, found.binding) == (10, "day_risk")  # $1,050.00 at the worst price of $105.00


def test_the_days_risk_is_a_cap_that_no_multiplier_lifts() -> None:
    assert plan(RiskSizing(exposure_multiplier=D(3)), day_risk_left=D("65.00")).quantity == 10


def test_after_a_losing_streak_an_entry_is_half_of_what_it_would_have_been() -> None:
    found = plan(recovering=True)
    assert (found.quantity, found.binding) == (47, "recovery")  # half of 95, rounded down
    assert [size.shares for size in found.sizes if size.name == "recovery"] == [47]
    assert found.brackets == (Bracket(24, D("98.50"), D("102.25")), Bracket(23, D("98.50"), D("103.75")))
    assert plan(recovering=True, strategy_limits=StrategyLimits(recovery_size=None)).quantity == 95


def test_a_size_says_how_it_was_reckoned() -> None:
    [fraction, *_] = plan(FractionSizing(D("0.10"))).sizes
    assert fraction.because == "10.00% of $100,000.00 at $100.00"
    [*_, recovery] = plan(recovering=True).sizes
    assert recovery.because == "50.00% of 95 shares after a losing streak"


def test_a_share_below_a_dollar_is_sized_like_any_other() -> None:
    """Whether it may be bought is the rulebook's business."""
    on_pullback = plan(RiskSizing(entry=Entry.PULLBACK), price=D("1.05"), sma20=D("0.95"), support=None, atr=None)
    assert (on_pullback.limit_price, on_pullback.stop) == (D("0.95"), D("0.9215"))
    assert plan(FractionSizing(D("0.10"), stop=D("0.1")), price=D("0.90")).stop == D("0.81")


def test_a_fraction_with_a_stop_and_no_target_has_one_bracket() -> None:
    assert plan(FractionSizing(D("0.10"), stop=D("0.02"))).brackets == (Bracket(100, D("98.00"), None),)


def test_a_fraction_may_carry_a_stop_and_a_target() -> None:
    found = plan(FractionSizing(D("0.10"), stop=D("0.02"), target=D("0.04")))
    assert found.brackets == (Bracket(100, D("98.00"), D("104.00")),)


def test_a_fractions_stop_may_lie_some_atr_below_the_close_decided_at() -> None:
    """100.07 less twice 1.2345 is 97.601, to the nearest cent 97.60; the price paid has no part in it."""
    found = plan(FractionSizing(D("0.10"), atr_stop=D(2)), close=D("100.07"), atr=D("1.2345"))
    assert found.brackets == (Bracket(100, D("97.60"), None),)


@pytest.mark.parametrize(
    ("close", "atr", "stop"),
    [("97.645", "0.02", "97.60"), ("97.655", "0.02", "97.62"), ("100.50", "50", "0.50"), ("101.99", "1", "99.99")],
)
def test_a_stop_by_atr_is_to_the_nearest_cent_and_lies_anywhere_between_zero_and_the_entry(close: str, atr: str, stop: str) -> None:
    """A half goes to the even cent, as prices are rounded everywhere."""
    assert plan(FractionSizing(D("0.10"), atr_stop=D(2)), close=D(close), atr=D(atr)).brackets == (Bracket(100, D(stop), None),)


@pytest.mark.parametrize(
    "changes", [{"atr": None}, {"close": None}, {"close": D(105)}, {"atr": D(60)}, {"close": D(102)}, {"close": D(120), "atr": D(60)}],
)
def test_a_stop_by_atr_that_cannot_be_is_no_entry(changes: dict[str, Any]) -> None:
    """Warm-up, nothing decided at, a stop above the price, one below zero, one at the price, one at zero."""
    found = sized(**({"sizing": FractionSizing(D("0.10"), atr_stop=D(2)), "close": D("100.07"), "atr": D(1)} | changes))
    assert isinstance(found, NoEntry)
    assert found.reason == "no_stop"


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (FractionSizing, {"atr_stop": D(0)}),
        (FractionSizing, {"atr_stop": D(2), "stop": D("0.02")}),
        (FractionSizing, {"fraction": D(0)}),
        (FractionSizing, {"fraction": D("1.01")}),
        (FractionSizing, {"target": D("0.04")}),
        (FractionSizing, {"stop": D(1)}),
        (RiskSizing, {"risk_per_trade": D("NaN")}),
        (RiskSizing, {"max_stop": D(1)}),
        (RiskSizing, {"support_bars": 0}),
        (RiskSizing, {"targets": (D("2.5"), D("1.5"))}),
    ],
)
def test_a_sizing_that_means_nothing_is_refused(make: Any, values: dict[str, Any]) -> None:
    with pytest.raises(StrategyError) as refused:
        make(**values)
    assert refused.value.rule
    assert refused.value.remedy


def test_an_exit_is_sliced_so_that_no_order_is_above_the_hard_limit() -> None:
    assert split_exit(2_500, D("100.00")) == [1_000, 1_000, 500]
    assert split_exit(1_000, D("100.00")) == [1_000]
    assert split_exit(1_000, D("100.01")) == [999, 1]
    assert split_exit(3, D("600000")) == [1, 1, 1]


def test_an_exits_slices_leave_room_for_the_price_at_which_they_go_out() -> None:
    """65, D1: up to five percent above the price that was decided at, further than any gate lets them go."""
    assert exit_slices(1_000, D("100.00")) == [952, 48]
    assert exit_slices(952, D("100.00")) == [952]
    assert exit_slices(2, D("99000")) == [1, 1]


@pytest.mark.parametrize(("quantity", "price"), [(0, "100"), (-1, "100"), (1, "0"), (1, "NaN"), (1, "-3")])
def test_what_is_no_exit_cannot_be_sliced(quantity: int, price: str) -> None:
    with pytest.raises(InputError):
        split_exit(quantity, D(price))


@given(st.integers(1, 10_000_000), st.decimals("0.0001", "100000", places=4))
def test_slices_add_up_and_each_is_within_the_hard_limit(quantity: int, price: Decimal) -> None:
    assume(quantity * price < 20_000_000)
    slices = split_exit(quantity, price)
    assert sum(slices) == quantity
    assert all(part >= 1 and part * price <= 100_000 for part in slices)


PRICES = st.decimals("2", "900", places=4)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(Side), PRICES, st.sampled_from(["0.05", "0.03", "0.02"]), st.decimals("-0.01", "0.01", places=4))
def test_a_marketable_limit_stays_in_the_collar_while_the_market_stays_in_the_band(
    side: Side, price: Decimal, collar: str, move: Decimal
) -> None:
    last = price * (1 + move)
    kind = OrderClass.ENTRY if side is Side.BUY else OrderClass.EXIT
    intent = order(kind, reference=price, limit_price=marketable_limit(side, price, D(collar), D("0.01")))
    now = replace(quote(), last=last)
    limits = {"account_limits": AccountLimits(price_collar=D(collar))}
    assert verdict_of("price_collar", intent, context(quote=now, **limits)).passed
    assert verdict_of("tick_size", intent, context(quote=now, **limits)).passed


@settings(max_examples=300, deadline=None)
@given(
    price=PRICES, atr=st.one_of(st.none(), st.decimals("0.01", "30", places=4)),
    support=st.one_of(st.none(), PRICES), sma20=st.one_of(st.none(), PRICES),
    held=st.decimals("0", "20000", places=2), equity=st.decimals("1000", "2000000", places=2), power=st.decimals("0", "500000", places=2),
    entry=st.sampled_from(Entry), volume=st.decimals("100", "1000000", places=0),
    lost=st.decimals("0", "600", places=2), at_stake=st.decimals("0", "600", places=2),
)
def test_a_plan_is_never_denied_for_its_size_or_its_form(
    price: Decimal, atr: Decimal | None, support: Decimal | None, sma20: Decimal | None, held: Decimal, equity: Decimal, power: Decimal,
    entry: Entry, volume: Decimal, lost: Decimal, at_stake: Decimal,
) -> None:
    """60."""
    risk = StrategyLimits(max_day_risk=D(800))
    found = size_entry(
        RiskSizing(entry=entry), price=price, equity=equity, buying_power=power, held_value=held, limits=AccountLimits(),
        strategy_limits=risk, atr=atr, support=support, sma20=sma20, collar=D("0.05"), average_day_volume=volume,
        day_risk_left=800 - lost - at_stake,
    )
    if isinstance(found, NoEntry):
        assert lost + at_stake < 800 or found.reason in ("no_day_risk", "no_stop", "no_pullback_level")
        return
    intent = order(
        quantity=found.quantity, order_type=found.order_type, reference=price, limit_price=found.limit_price, brackets=found.brackets
    )
    judgement = judge(
        intent,
        context(
            equity=equity, buying_power=power, symbol_exposure=held, strategy_symbol_exposure=held, average_day_volume=volume,
            strategy_limits=risk, strategy_day_pnl=-lost, strategy_open_risk=at_stake, quote=replace(quote(), last=price),
        ),
    )
    assert judgement.passed, judgement.reason
    assert sum(bracket.quantity for bracket in found.brackets) == found.quantity
    at_risk = D(0) if found.stop is None else found.entry - found.stop
    assert found.quantity * at_risk <= equity * D("0.02")
