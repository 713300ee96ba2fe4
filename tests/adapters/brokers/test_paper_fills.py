"""D28: price by price. Half a spread of 0.0002 and slippage of 0.0002 make 3 basis points: 100.00 is bought at 100.03."""

from datetime import timedelta
from decimal import Decimal

import pytest

from tests.adapters.brokers import paper_venue
from tests.adapters.brokers.paper_venue import CALM, SESSIONS, Venue, at, bracketed, buy, daily, market_of, minutes, sell, stop, venue
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.domain.orders import OrderType
from trading_pipeline.errors import BrokerRefused
from trading_pipeline.ports import BrokerStatus

W, F, C, X, H = BrokerStatus.WORKING, BrokerStatus.FILLED, BrokerStatus.CANCELED, BrokerStatus.EXPIRED, BrokerStatus.HELD


def test_a_marketable_order_fills_at_the_open_of_the_running_bar_with_half_the_spread_and_slippage():
    here = venue(CALM, ("200.00", "201.00", "199.00", "200.00", 10_000))
    assert here.submit(buy("A", 100, "105.00"), at(0, 40)).status is F
    assert here.fills() == [("A", 100, "100.0300", at(0, 40))]


def test_released_exactly_at_a_bars_end_it_fills_at_the_next_open():
    here = venue(CALM, ("102.00", "103.00", "101.00", "102.00", 10_000))
    here.submit(buy("A", 100, "105.00"), at(1))
    assert here.fills() == [("A", 100, "102.0306", at(1))]


def test_a_commission_by_value_is_charged_with_each_fill_beside_the_one_by_share():
    """100 shares at 100.03: 0.05 % are 5.0015 USD, and a dollar."""
    here = venue(CALM, CALM, settings=PaperSettings(commission_rate=Decimal("0.0005")))
    here.submit(buy("A", 100, "105.00"))
    assert [fill.commission for _, fill in here.broker.executions(at(0))] == [Decimal("6.0015")]
    assert here.broker.account().cash == Decimal(100_000) - Decimal("10003.00") - Decimal("6.0015")


def test_a_commission_by_value_is_set_aside_with_an_order_that_rests():
    here = venue(CALM, CALM, settings=PaperSettings(commission_rate=Decimal("0.01"), cash=Decimal(10_000)))
    with pytest.raises(BrokerRefused, match="needed"):
        here.submit(buy("A", 100, "99.50"))
    here.submit(buy("B", 98, "99.00"))
    assert here.broker.account().buying_power == Decimal(10_000) - 98 * Decimal(99) * Decimal("1.01") - 1


def test_a_sale_receives_less_than_the_open():
    here = venue(CALM, CALM, CALM)
    here.submit(buy("A", 100, "105.00"))
    here.submit(sell("B", 100, "95.00"), at(1, 5))
    assert here.fills()[1] == ("B", 100, "99.9700", at(1, 5))
    assert here.broker.positions() == {}


def test_prices_are_rounded_against_the_order():
    here = venue(("33.33", "33.40", "33.00", "33.30", 10_000), settings=PaperSettings(max_bar_gap=Decimal(3)))
    here.submit(buy("A", 10, "34.00"))
    assert here.fills()[0][2] == "33.3400"  # 33.339999 up


def test_a_marketable_order_beyond_its_collar_rests_as_a_limit_for_the_day():
    here = venue(CALM, ("100.10", "100.60", "99.80", "100.00", 10_000))
    assert here.submit(buy("A", 100, "99.40")).status is W
    here.go_to(at(10))
    assert here.order("A").status is X
    assert here.fills() == []


def test_it_fills_at_its_limit_once_a_bars_range_reaches_it_known_at_the_bars_end():
    here = venue(CALM, CALM)
    here.submit(buy("A", 100, "99.90"), at(0, 10))
    here.go_to(at(0, 59))
    assert here.fills() == []
    here.go_to(at(1))
    assert here.fills() == [("A", 100, "99.9000", at(1))]


def test_an_open_inside_the_costs_of_the_limit_is_not_paid_beyond_it():
    here = venue(CALM, CALM)
    here.submit(buy("A", 100, "100.02"))
    here.go_to(at(1))
    assert here.fills() == [("A", 100, "100.0200", at(1))]


def test_a_resting_limit_gets_the_better_open_of_a_gap():
    here = venue(CALM, ("98.00", "99.00", "97.00", "98.50", 10_000))
    here.submit(buy("A", 100, "99.40", kind=OrderType.LIMIT))
    here.go_to(at(1, 30))
    assert here.fills() == [("A", 100, "98.0000", at(1))]


def test_a_limit_that_crosses_on_arrival_pays_as_a_marketable_order():
    here = venue(CALM)
    here.submit(buy("A", 100, "101.00", kind=OrderType.LIMIT), at(0, 3))
    assert here.fills() == [("A", 100, "100.0300", at(0, 3))]


def test_nothing_fills_in_a_minute_without_trades():
    here = venue(CALM, None, ("101.00", "101.00", "101.00", "101.00", 10_000))
    assert here.submit(buy("A", 100, "105.00"), at(1, 20)).status is W
    here.go_to(at(2))
    assert here.fills() == [("A", 100, "101.0303", at(2))]


def test_a_target_is_reached_by_the_entry_bars_own_range():
    here = venue(("100.00", "103.10", "99.00", "103.00", 10_000), CALM)
    here.submit(bracketed(), at(0, 20))
    assert [here.order(name).status for name in "EST"] == [F, W, W]
    here.go_to(at(1))
    assert here.fills()[1] == ("T", 100, "103.0000", at(1))
    assert (here.order("T").status, here.order("S").status) == (F, C)
    assert here.order("S").reason == "the other order of its pair filled"


def test_the_stop_comes_before_the_target_within_one_bar_and_pays_costs():
    here = venue(("100.00", "104.00", "97.00", "103.00", 10_000), CALM)
    here.submit(bracketed())
    here.go_to(at(1))
    assert here.fills()[1] == ("S", 100, "97.9706", at(1))  # 98 x 0.9997
    assert (here.order("S").status, here.order("T").status) == (F, C)


def test_a_stop_reached_inside_a_bar_fills_no_lower_than_the_bar_traded():
    low = ("100.00", "101.00", "97.99", "98.50", 10_000)
    here = venue(CALM, low, CALM)
    here.submit(bracketed())
    here.go_to(at(2))
    assert here.fills()[1] == ("S", 100, "97.9900", at(2)), "costs would make it 97.9706, where nobody traded"


def test_a_gap_through_the_stop_fills_at_the_worse_open_at_once():
    here = venue(CALM, ("95.00", "96.00", "94.00", "95.00", 10_000))
    here.submit(bracketed())
    here.go_to(at(1))
    assert here.fills()[1] == ("S", 100, "94.9715", at(1))  # 95 x 0.9997


def test_a_gap_through_the_target_fills_at_the_better_open():
    here = venue(CALM, ("105.00", "106.00", "104.00", "105.00", 10_000))
    here.submit(bracketed())
    here.go_to(at(1))
    assert here.fills()[1] == ("T", 100, "105.0000", at(1))


def test_after_an_entry_inside_the_range_the_stop_below_it_counts_in_the_same_bar():
    here = venue(("100.00", "100.20", "97.50", "98.00", 10_000), CALM)
    here.submit(bracketed(limit="99.00"))
    here.go_to(at(1))
    assert here.fills() == [("E", 100, "99.0000", at(1)), ("S", 100, "97.9706", at(1))]


@pytest.mark.parametrize(("close", "sold"), [("102.90", False), ("103.00", True)])
def test_after_an_entry_inside_the_range_a_target_counts_only_if_the_bar_closed_there(close, sold):
    here = venue(("100.00", "103.50", "98.90", close, 10_000), None)
    here.submit(bracketed(limit="99.00"))
    here.go_to(at(1))
    assert [fill[0] for fill in here.fills()] == (["E", "T"] if sold else ["E"])


def test_a_bar_gives_a_share_of_the_bar_before_it_and_the_rest_goes_on():
    here = Venue(market_of(minutes(
        ("100.00", "100.00", "100.00", "100.00", 300), ("101.00", "101.00", "101.00", "101.00", 5_000),
        ("102.00", "102.00", "102.00", "102.00", 5_000), before=400,
    )))
    here.submit(buy("A", 100, "105.00"))
    assert here.order("A").filled_quantity == 40
    here.go_to(at(2))
    assert here.fills() == [("A", 40, "100.0300", at(0)), ("A", 30, "101.0303", at(1)), ("A", 30, "102.0306", at(2))]


def test_without_a_bar_before_nothing_is_known_of_the_volume_and_nothing_fills():
    here = Venue(market_of(minutes(CALM, CALM, before=None)))
    assert here.submit(buy("A", 100, "105.00")).status is W
    here.go_to(at(1))
    assert here.fills() == [("A", 100, "100.0300", at(1))]


def test_a_thin_stop_is_filled_over_several_bars_and_its_target_shrinks_with_it():
    here = Venue(market_of(minutes(
        ("100.00", "100.00", "100.00", "100.00", 600), ("100.00", "100.00", "97.00", "99.50", 10_000),
        ("99.00", "104.00", "99.00", "104.00", 10_000),
    )))
    here.submit(bracketed(100))
    here.go_to(at(2))
    assert here.fills()[1:] == [("S", 60, "97.9706", at(2)), ("S", 40, "98.9703", at(2))]
    assert here.broker.positions() == {}


def test_children_follow_the_shares_their_parent_has_filled():
    thin = ("100.00", "100.00", "100.00", "100.00", 300)
    here = Venue(market_of(minutes(thin, ("100.00", "103.50", "100.00", "100.00", 10_000), thin, before=400)))
    here.submit(bracketed(100))
    assert (here.order("E").filled_quantity, here.order("S").status, here.order("T").status) == (40, W, W)
    here.go_to(at(2))
    # 40 + 30 bought; the bar that reached the target gave the share of a bar of 300; the entry's rest is called off.
    assert [fill[:2] for fill in here.fills()] == [("E", 40), ("E", 30), ("T", 30)]
    assert here.broker.positions() == {"AAPL": 40}
    assert (here.order("S").status, here.order("T").status, here.order("E").status) == (W, W, C)
    assert here.order("E").reason == "its bracket has begun to exit"


def test_a_daily_bar_is_one_session_and_its_order_fills_at_its_open_even_minutes_later():
    day = ("200.00", "204.00", "196.00", "203.00", 10_000)
    here = Venue(market_of(daily(day, ("202.00", "206.00", "197.00", "205.00", 10_000), day)))
    children = stop("S", 10, "198.00", symbol="IBM"), paper_venue.target("T", 10, "205.50", symbol="IBM")
    here.submit(buy("E", 10, "210.00", *children, symbol="IBM"), at(4))
    assert here.fills() == [("E", 10, "202.0606", at(4))]
    here.go_to(SESSIONS[1].close)
    assert here.fills()[1] == ("S", 10, "197.9406", SESSIONS[1].close)


def test_the_finest_interval_of_a_symbol_makes_its_fills():
    here = Venue(market_of(minutes(CALM, CALM), daily(*[("500.00", "500.00", "500.00", "500.00", 10)] * 2, symbol="AAPL")))
    here.submit(buy("A", 10, "101.00"))
    assert here.fills()[0][2] == "100.0300"


def test_a_day_order_expires_at_the_close_and_protection_stays_for_the_next_session():
    first, second = minutes(CALM), minutes(("97.00", "97.00", "97.00", "97.00", 10_000), first=at(0, day=1), before=None)
    here = Venue(market_of(first.joined(second)))
    here.submit(bracketed())
    here.submit(buy("L", 10, "90.00", kind=OrderType.LIMIT))
    here.go_to(at(10) - timedelta(microseconds=1))
    assert here.order("L").status is W
    here.go_to(at(10))
    assert (here.order("L").status, here.order("L").updated_at, here.order("S").status) == (X, at(10), W)
    here.go_to(at(0, day=1))
    assert here.fills()[1] == ("S", 100, "96.9709", at(0, day=1))


def test_an_unfilled_entry_takes_its_children_with_it_when_it_expires_or_is_canceled():
    for ending in ("expire", "cancel"):
        here = venue(CALM)
        here.submit(bracketed(limit="90.00", low="80.00"))
        assert [here.order(name).status for name in "EST"] == [W, H, H]
        if ending == "cancel":
            here.broker.cancel("E")
        else:
            here.go_to(at(10))
        assert [here.order(name).status for name in "ST"] == [C, C]
        assert here.broker.orders() == []


def test_commission_is_half_a_cent_a_share_and_at_least_a_dollar_an_order():
    here = Venue(market_of(minutes(CALM, CALM, before=1_500)))
    here.submit(buy("A", 400, "105.00"))
    here.go_to(at(2))
    paid = [fill.commission for _, fill in here.broker.executions(at(0))]
    assert paid == [Decimal("1"), Decimal("1")]  # 150 shares: the minimum; 400: $2.00 in all


def test_cash_and_equity_follow_the_fills():
    here = venue(CALM, settings=PaperSettings(cash=Decimal(20_000)))
    here.submit(buy("A", 100, "105.00"))
    account = here.broker.account()
    assert account.cash == Decimal(20_000) - Decimal("10003.00") - 1
    assert account.equity == account.cash + 10_000
    assert account.buying_power == account.cash


def test_open_buys_reserve_their_cash_at_the_limit():
    here = venue(CALM, settings=PaperSettings(cash=Decimal(20_000)))
    here.submit(buy("A", 100, "90.00", kind=OrderType.LIMIT))
    assert here.broker.account().buying_power == Decimal(20_000) - 9_000 - 1


class Late:
    """A source that publishes everything half a minute after it happened."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def closed_bars(self, symbols, interval, after, until):
        return self.inner.closed_bars(symbols, interval, after, until - timedelta(seconds=30))

    def opening_bar(self, symbol, interval, at):
        found = self.inner.opening_bar(symbol, interval, at)
        return found if found and found[0] + timedelta(seconds=30) <= at else None


def test_bars_published_late_reach_only_orders_that_were_there_before_they_ended():
    here = Venue(Late(market_of(minutes(CALM, ("101.00", "101.50", "100.80", "101.00", 10_000), CALM))))
    here.submit(buy("A", 10, "80.00", kind=OrderType.LIMIT), at(0, 10))
    here.submit(buy("B", 10, "99.90", kind=OrderType.LIMIT), at(1, 10))
    here.submit(buy("C", 10, "105.00"))
    here.go_to(at(1, 29))
    assert here.fills() == []
    here.go_to(at(2, 30))
    assert here.fills() == [("C", 10, "101.0303", at(1, 10))]


WILD = ("100.00", "900.00", "100.00", "100.00", 10_000)
LOW = ("100.00", "100.00", "20.00", "100.00", 10_000)
OPENED = ("900.00", "900.00", "100.00", "100.00", 10_000)
STILL = ("100.00", "100.00", "100.00", "100.00", 10_000)


@pytest.mark.parametrize("print_", [WILD, LOW, OPENED, ("100.00", "900.00", "100.00", "900.00", 10_000)])
def test_a_bad_print_fills_no_stop_and_no_target(print_):
    here = venue(STILL, print_, STILL, STILL)
    here.submit(bracketed())
    for minute in range(1, 5):
        here.go_to(at(minute, 1)).broker.positions()
    assert [fill[0] for fill in here.fills()] == ["E"]
    late = venue(STILL, print_, STILL, STILL)
    late.submit(bracketed())
    late.go_to(at(4, 1))
    assert late.fills() == here.fills()


def test_a_move_that_stays_fills_the_stop_one_bar_later():
    fallen = ("40.00", "40.00", "40.00", "40.00", 10_000)
    here = venue(STILL, fallen, fallen)
    here.submit(bracketed())
    assert len(here.go_to(at(1, 30)).fills()) == 1
    here.go_to(at(2, 1))
    assert [(fill[0], Decimal(fill[2]) < 40) for fill in here.fills()] == [("E", False), ("S", True)]
