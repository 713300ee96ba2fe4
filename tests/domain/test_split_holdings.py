"""What a split does to shares, cost and resting orders: nothing appears, nothing is lost, nothing is oversold."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.orders import OrderType
from trading_pipeline.domain.portfolio import Position
from trading_pipeline.domain.sessions import Session, TradingCalendar
from trading_pipeline.domain.split_holdings import (
    effective_at,
    in_lieu,
    restated_price,
    restated_quantities,
    shared_out,
    whole_shares,
)

RATIOS = st.sampled_from([Decimal(text) for text in ("2", "4", "1.5", "0.1", "0.04", "7", "1.05")] + [Decimal(1) / 3, Decimal(4) / 3])
HELD = st.dictionaries(st.sampled_from(["one", "two", "three"]), st.integers(1, 9_999), min_size=1)
CLOSE = st.decimals(Decimal("0.5"), Decimal(900), places=2)


@pytest.mark.parametrize(
    ("held", "ratio", "whole", "paid"),
    [(100, "4", 400, "0.00"), (75, "1.5", 112, "33.33"), (166, "0.1", 16, "600.00"), (9, "0.1", 0, "900.00")],
)
def test_whole_shares_stay_and_the_fraction_is_paid_at_the_last_close(held, ratio, whole, paid):
    """At 100 an old share: half a new share of 3 for 2 is a third of an old one."""
    assert whole_shares(held, Decimal(ratio)) == whole
    assert in_lieu(held, whole, Decimal(ratio), Decimal(100)) == Decimal(paid)


def test_a_ratio_without_an_end_loses_no_share():
    assert whole_shares(30, Decimal(1) / 3) == 10
    assert in_lieu(30, 10, Decimal(1) / 3, Decimal(100)) == 0


@given(held=HELD, ratio=RATIOS, close=CLOSE)
def test_the_strategies_together_hold_and_get_what_the_account_does(held, ratio, close):
    shares = shared_out(held, ratio, close)
    account = sum(held.values())
    assert sum(whole for whole, _ in shares.values()) == whole_shares(account, ratio)
    assert sum(paid for _, paid in shares.values()) == in_lieu(account, whole_shares(account, ratio), ratio, close)
    assert all(abs(shares[name][0] - held[name] * ratio) < Decimal("1.000001") for name in held)


@given(quantity=st.integers(1, 9_999), ratio=RATIOS, close=CLOSE, cost=st.decimals(1, 900, places=2))
def test_profit_open_and_realised_is_the_same_before_and_after(quantity, ratio, close, cost):
    """To the cent that the cash in lieu is rounded to."""
    position = Position("one", "AAPL", quantity, quantity * cost, Decimal(5), datetime(2024, 8, 27, 14, tzinfo=UTC))
    whole, paid = shared_out({"one": quantity}, ratio, close)["one"]
    after = position.after_split(ratio, whole, paid)
    profit = after.realised + after.unrealised(close / ratio)
    assert abs(profit - position.realised - position.unrealised(close)) <= Decimal("0.006")
    assert (after.opened_at is None) is (whole == 0)
    assert after.cost == (0 if whole == 0 else after.cost)


@given(quantities=st.lists(st.integers(0, 500), min_size=1, max_size=4), ratio=RATIOS)
def test_brackets_together_protect_every_whole_share_and_no_more(quantities, ratio):
    assert sum(restated_quantities(quantities, ratio)) == whole_shares(sum(quantities), ratio)


@pytest.mark.parametrize(
    ("price", "ratio", "kind", "expected"),
    [
        ("95.01", "4", OrderType.STOP, "23.75"), ("110.03", "4", OrderType.LIMIT, "27.51"), ("9.50", "0.1", OrderType.STOP, "95.00"),
        ("3.01", "4", OrderType.STOP, "0.7525"), ("0.9", "0.1", OrderType.LIMIT, "9.00"),
    ],
)
def test_a_resting_price_moves_to_the_tick_away_from_the_market(price, ratio, kind, expected):
    """SEC Rule 612: cents from $1 up, 0.0001 below."""
    assert restated_price(Decimal(price), Decimal(ratio), kind) == Decimal(expected)


def test_a_split_counts_from_the_open_of_its_session_or_of_the_next():
    opens = [datetime(2024, 8, day, 13, 30, tzinfo=UTC) for day in (28, 30)]
    calendar = TradingCalendar([Session(at.date(), at, at.replace(hour=20, minute=0)) for at in opens])
    assert effective_at(Split("AAPL", date(2024, 8, 28), Decimal(2)), calendar) == opens[0]
    assert effective_at(Split("AAPL", date(2024, 8, 29), Decimal(2)), calendar) == opens[1]
    assert effective_at(Split("AAPL", date(2005, 2, 28), Decimal(2)), calendar) is None
