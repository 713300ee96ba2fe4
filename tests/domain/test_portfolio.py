"""Average cost of what is held and of what is owed: profit is made where a position closes, and no dollar is made of nothing."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Fill, Position
from trading_pipeline.oracle.booking import apply
from trading_pipeline.oracle.state import Execution
from trading_pipeline.oracle.state import Position as Judged

AT = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
D = Decimal


def fill(side: Side, quantity: int, price: str, commission: str = "1") -> Fill:
    return Fill("1", "a", "AAPL", side, quantity, D(price), D(commission), AT)


def after(*fills: Fill) -> Position:
    position = Position("EXTERNAL", "AAPL")
    for each in fills:
        position = position.after(each)
    return position


def figures(position: Position) -> tuple[int, Decimal, Decimal]:
    return position.quantity, position.cost, position.realised


def test_a_short_sale_earns_nothing_before_it_is_covered():
    short = after(fill(Side.SELL, 50, "100"))
    assert figures(short) == (-50, D(-4999), D(0))
    assert short.unrealised(D(90)) == D(499)


def test_covering_realises_what_the_shares_were_sold_for_less_what_they_cost_now():
    """Sold at $99.98 each after the fee; 20 bought back at $90.05: 20 x (99.98 - 90.05) = 198.60; 30 stay owed."""
    assert figures(after(fill(Side.SELL, 50, "100"), fill(Side.BUY, 20, "90"))) == (-30, D("-2999.4"), D("198.6"))
    assert figures(after(fill(Side.SELL, 50, "100"), fill(Side.BUY, 50, "100"))) == (0, D(0), D(-2))


def test_a_sale_beyond_what_is_held_closes_that_and_owes_the_rest():
    """100 bought at $10.01 with the fee; 150 sold at $11.98: 100 x 1.97 earned, 50 owed at $11.98."""
    assert figures(after(fill(Side.BUY, 100, "10"), fill(Side.SELL, 150, "12", "3"))) == (-50, D(-599), D(197))


@pytest.mark.parametrize(("quantity", "paid", "expected"), [
    # 50 owed for $4,999 are 12.5 after 1:4. The half share is bought back at $400 a share, or another half is lent out.
    (-12, "-200", (-12, D("-4799.04"), D("-0.04"))),
    (-13, "200", (-13, D(-5199), D(0))),
])
def test_a_split_closes_or_opens_the_fraction_of_what_is_owed(quantity, paid, expected):
    assert figures(after(fill(Side.SELL, 50, "100")).after_split(D("0.25"), quantity, D(paid))) == expected


def test_a_split_that_leaves_less_than_a_share_owed_closes_it():
    assert figures(after(fill(Side.SELL, 1, "100")).after_split(D("0.25"), 0, D(-100))) == (0, D(0), D(-1))


traded = st.tuples(st.sampled_from(Side), st.integers(1, 60), st.integers(200, 20_000).map(lambda cents: D(cents) / 100))


@given(st.lists(traded, min_size=1, max_size=12))
def test_what_is_realised_less_what_is_open_is_the_cash_that_flowed_and_the_oracle_agrees(trades):
    fills = [fill(side, quantity, str(price)) for side, quantity, price in trades]
    position, judged = after(*fills), Judged()
    for each in fills:
        done = Execution("1", "EXTERNAL", "PAPER-1", "AAPL", each.side.value, each.quantity, each.price, each.commission, each.at)
        apply(judged, done)
    cash = sum((each.quantity * each.price * (1 if each.side is Side.SELL else -1) - each.commission for each in fills), D(0))
    assert position.realised - position.cost == cash
    assert (position.cost == 0) == (position.quantity == 0) and position.cost * position.quantity >= 0
    assert judged.quantity == position.quantity
    assert abs(judged.cost - position.cost) < D("0.000001") and abs(judged.realised - position.realised) < D("0.000001")
