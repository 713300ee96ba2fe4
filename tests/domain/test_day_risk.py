"""What is at stake, reckoned by hand."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.rulebook_cases import order
from trading_pipeline.domain.day_risk import at_stake, at_stake_in, risk_left
from trading_pipeline.domain.orders import Bracket

D = Decimal


@pytest.mark.parametrize(
    ("quantity", "stops", "usd"),
    [
        (100, [(100, D("97.50"))], "250"),
        (100, [], "10000"),  # nothing bounds it
        (100, [(60, D(97))], "4180"),  # 60 x 3 and 40 whole
        (100, [(50, D(97)), (50, D(95))], "400"),
        (60, [(50, D(97)), (50, D(95))], "280"),  # the lowest first: 50 x 5, 10 x 3
        (60, [(50, D(95)), (50, D(97))], "280"),
        (10, [(10, D(100))], "1000"),  # reached, and not filled
        (10, [(10, D(101))], "1000"),
        (10, [(10, D(0))], "1000"),
        (10, [(-5, D(97)), (0, D(97)), (10, D(99))], "10"),
        (0, [(10, D(97))], "0"),
    ],
)
def test_shares_lose_what_lies_between_price_and_stop(quantity: int, stops: list[tuple[int, Decimal]], usd: str) -> None:
    assert at_stake(quantity, D(100), stops) == D(usd)


STOPS = st.lists(st.tuples(st.integers(0, 50), st.decimals("0.01", "120", places=2)), max_size=4)


@given(st.integers(0, 100), st.decimals("1", "110", places=2), STOPS, st.integers(0, 50))
def test_more_shares_never_lose_less_and_no_share_loses_more_than_its_price(
    quantity: int, price: Decimal, stops: list[tuple[int, Decimal]], more: int
) -> None:
    lost = at_stake(quantity, price, stops)
    assert 0 <= lost <= quantity * price
    assert at_stake(quantity + more, price, stops) >= lost


@given(st.integers(0, 100), STOPS, st.integers(0, 50), st.decimals("0.01", "99.99", places=2))
def test_another_stop_never_makes_bare_shares_lose_more(
    quantity: int, stops: list[tuple[int, Decimal]], shares: int, stop: Decimal
) -> None:
    bare = max(0, quantity - sum(each for each, _ in stops))
    assert at_stake(quantity, D(100), [*stops, (min(shares, bare), stop)]) <= at_stake(quantity, D(100), stops)


def test_an_entry_loses_from_its_worst_price() -> None:
    assert at_stake_in(order(brackets=(Bracket(25, D(97), D(110)), Bracket(25, D(96), None)))) == 25 * 5 + 25 * 6


def test_a_gain_of_the_day_leaves_no_more_and_a_grant_does() -> None:
    assert risk_left(D(1_000), D(0), D(-200), D(300)) == 500
    assert risk_left(D(1_000), D(0), D(200), D(300)) == 700
    assert risk_left(D(1_000), D(50), D(-900), D(300)) == -150
