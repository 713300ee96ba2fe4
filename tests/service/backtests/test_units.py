"""Whole numbers against the Decimals that they stand for."""

from decimal import ROUND_HALF_EVEN, Decimal

from hypothesis import given
from hypothesis import strategies as st

from trading_pipeline.domain.money import price_of
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.shadow import FillCosts
from trading_pipeline.service.backtests.columnar.units import charges, half_even, price_steps, steps, usd

D = Decimal
prices = st.integers(1, 10_000_000).map(lambda many: D(many) / 10_000)
fractions = st.integers(0, 500).map(lambda many: D(many) / 10_000)
minimums = st.integers(0, 50_000).map(lambda many: D(many) / 10_000)


@given(st.floats(0.0002, 100_000))
def test_a_bars_price_is_rounded_as_money_rounds_it(value):
    assert usd(price_steps(value)) == price_of(value)


@given(st.integers(1, 10**9))
def test_a_price_half_way_between_two_steps_is_rounded_as_money_rounds_it(half):
    value = (2 * half + 1) / 20_000
    assert usd(price_steps(value)) == price_of(value)


@given(prices)
def test_steps_and_dollars_are_each_others_inverse(price):
    assert usd(steps(price)) == price


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_quotients_are_rounded_half_to_even(numerator, denominator):
    exact = (D(numerator) / D(denominator)).quantize(D(1), rounding=ROUND_HALF_EVEN)
    if (2 * numerator) % denominator or denominator % 2 == 0 or numerator % denominator == 0:
        assert half_even(numerator, denominator) == exact


@given(prices, st.integers(1, 100_000), fractions, fractions, fractions, fractions, minimums)
def test_costs_on_whole_numbers_are_the_costs_on_decimals(price, shares, spread, slippage, per_share, rate, least):
    costs = FillCosts(spread, slippage, per_share, least, rate)
    quick = charges(costs)
    assert usd(quick.taken_buy(steps(price))) == costs.taken(Side.BUY, price)
    assert usd(quick.taken_sell(steps(price))) == costs.taken(Side.SELL, price)
    assert usd(quick.commission(shares, steps(price))) == costs.commission(shares, price)
