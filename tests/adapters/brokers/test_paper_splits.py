"""Splits at the paper broker: applied once, at the open, whenever one looks; what rests is restated, entries end."""

from datetime import date
from decimal import Decimal

import pytest

from tests.adapters.brokers.paper_venue import SESSIONS, Venue, at, bracketed, buy, market_of, minutes, permit_for, sell
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bars import Interval, instant_ns, table_of
from trading_pipeline.domain.orders import OrderType, Side
from trading_pipeline.errors import BrokerNotReady
from trading_pipeline.ports import BrokerStatus

SECOND = date(2024, 8, 29)


def two_days(ratio: str, *, session: date = SECOND, **options: object) -> Venue:
    """Ten minutes at 100, and ten of the next session at 100 divided by the ratio."""
    new = f"{100 / Decimal(ratio):.2f}"
    first, second = minutes(*[("100.00",) * 4 + (10_000,)] * 10), minutes(*[(new,) * 4 + (10_000,)] * 10, first=at(0, day=1), before=None)
    table = table_of("AAPL", first.interval, [*(first.bar(i) for i in range(len(first))), *(second.bar(i) for i in range(len(second)))])
    return Venue(market_of(table), splits={"AAPL": (Split("AAPL", session, Decimal(ratio)),)}, **options)  # type: ignore[arg-type]


def test_shares_stop_and_target_are_restated_and_the_account_is_worth_the_same():
    here = two_days("4")
    here.submit(bracketed(75))
    here.go_to(at(9))
    before = here.broker.account()
    here.go_to(at(5, day=1))
    assert here.broker.positions() == {"AAPL": 300}
    assert (here.broker.account().equity, here.broker.account().cash) == (before.equity, before.cash)
    assert {order.ticket.quantity for order in here.broker.orders()} == {300}
    assert (here.order("S").ticket.stop_price, here.order("T").ticket.limit_price) == (Decimal("24.50"), Decimal("25.75"))
    assert len(here.fills()) == 1


def test_a_fraction_is_paid_at_the_last_close_and_the_bracket_shrinks_with_the_shares():
    here = two_days("0.1")
    here.submit(bracketed(75))
    cash = here.go_to(at(9)).broker.account().cash
    here.go_to(at(5, day=1))
    assert here.broker.positions() == {"AAPL": 7}
    assert here.broker.account().cash == cash + 5 * 100
    assert [order.ticket.quantity for order in here.broker.orders()] == [7, 7]


def test_it_does_not_matter_when_one_looks():
    early, late = two_days("4"), two_days("4")
    for here, instants in ((early, [at(5), at(9), at(0, day=1), at(0, 1, day=1), at(6, day=1)]), (late, [at(6, day=1)])):
        here.submit(bracketed(75))
        for instant in instants:
            here.go_to(instant).broker.positions()
    assert early.broker.positions() == late.broker.positions() == {"AAPL": 300}
    assert early.broker.account() == late.broker.account()
    assert [order.ticket for order in early.broker.orders()] == [order.ticket for order in late.broker.orders()]


def test_shares_bought_after_the_split_and_splits_of_the_past_are_not_touched():
    here = two_days("4", session=SESSIONS[1].day)
    here.submit(buy("A", 75, "101.00"))
    here.go_to(at(5, day=1))
    assert here.broker.positions() == {"AAPL": 75}


def test_what_somebody_else_bought_is_split_too():
    here = two_days("4")
    here.broker.trade_by_hand("AAPL", Side.BUY, 10, Decimal(100))
    assert here.go_to(at(5, day=1)).broker.positions() == {"AAPL": 40}


def test_a_reverse_split_that_leaves_no_share_ends_the_orders_and_pays_all():
    here = two_days("0.01")
    here.submit(bracketed(75))
    cash = here.go_to(at(9)).broker.account().cash
    here.go_to(at(5, day=1))
    assert here.broker.positions() == {}
    assert here.broker.account().cash == cash + 7500
    assert here.broker.orders() == []


def test_a_day_entry_ended_with_its_session_before_the_split():
    here = two_days("4")
    here.submit(buy("A", 10, "90.00", kind=OrderType.LIMIT))
    here.go_to(at(5, day=1))
    assert here.order("A").status is BrokerStatus.EXPIRED
    assert here.order("A").ticket.limit_price == Decimal("90.00")


def test_a_split_of_a_session_that_was_slept_through_comes_before_its_prices():
    """One look, two days later: at 25 the old stop would have fired."""
    here = two_days("4")
    here.submit(bracketed(75))
    here.go_to(at(9, day=2))
    assert here.broker.positions() == {"AAPL": 300}
    assert len(here.fills()) == 1


@pytest.mark.parametrize("ratio", ["1.5", "3", "0.3333333333333333333333333333"])
def test_no_share_is_lost_to_a_ratio_without_an_end(ratio):
    here = two_days(ratio)
    ticket = buy("A", 30, "105.00")
    here.broker.submit(ticket, permit_for(ticket))
    here.go_to(at(5, day=1))
    assert here.broker.positions() == {"AAPL": {"1.5": 45, "3": 90}.get(ratio, 10)}


def test_a_split_that_counts_already_cannot_change_its_ratio_and_one_to_come_can():
    here = two_days("4")
    here.submit(bracketed(75))
    changed = {"AAPL": (Split("AAPL", SECOND, Decimal(1)),)}
    called_off = Venue(here.market, book=here.book, splits=changed, start=at(9))
    assert called_off.broker.positions() == here.broker.positions() == {"AAPL": 75}
    here.go_to(at(1, day=1)).broker.positions()
    with pytest.raises(BrokerNotReady, match="AAPL split 4 for 1"):
        Venue(here.market, book=here.book, splits=changed, start=at(1, day=1)).broker.positions()


def test_a_split_of_a_symbol_that_is_not_held_any_more_binds_nobody():
    here = two_days("4")
    here.submit(buy("B", 10, "101.00"))
    blind = Venue(here.market, book=here.book, start=at(1))
    with pytest.raises(BrokerNotReady):
        blind.broker.positions()
    here.submit(sell("S", 10, "99.00"), at(1))
    assert blind.broker.positions() == {}


def test_a_bar_of_before_the_split_that_is_published_after_it_meets_no_restated_order():
    """The target of 103 is 82.40 now; the last bar of the day before, at 100, is no price of these shares."""
    here = two_days("1.25")
    whole = here.market.closed_bars(["AAPL"], Interval.MIN1, None, at(9, day=1))["AAPL"]
    late = Venue(market_of(whole.where(whole.start != instant_ns(at(9)))), splits=here.splits)
    late.submit(bracketed(100))
    late.go_to(at(0, 30, day=1)).broker.positions()
    published = Venue(market_of(whole), book=late.book, splits=here.splits, start=at(2, day=1))
    assert published.broker.positions() == {"AAPL": 125}
    assert [fill[0] for fill in published.fills()] == ["E"]
    assert {order.ticket.quantity for order in published.broker.orders()} == {125}
