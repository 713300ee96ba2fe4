"""The synthetic market: the same arguments, the same bars, and bars that could be real."""

from datetime import date

import numpy as np
import pytest

from tests.domain.market_tables import off_the_calendar
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.market_data.synthetic import LEAST_PRICE, SyntheticMarket
from trading_pipeline.domain.bar_quality import missing, sane
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.errors import BarsError, CalendarError


@pytest.fixture(scope="module")
def calendar():
    return load_calendar()


def bars(calendar, symbols, seed=5, interval=Interval.DAY1, first=date(2022, 1, 3), last=date(2024, 1, 31)) -> dict[str, BarTable]:
    market = SyntheticMarket(seed, symbols, interval, first, last, calendar)
    return dict(market.closed_bars(symbols, interval, None, calendar.horizon.close))


def test_the_same_seed_gives_the_same_bars_whoever_else_is_there(calendar):
    assert bars(calendar, ["AAA", "BBB"])["BBB"] == bars(calendar, ["CCC", "BBB"])["BBB"]


def test_another_seed_or_symbol_gives_other_bars(calendar):
    tables = bars(calendar, ["AAA", "BBB"])
    assert not np.array_equal(tables["AAA"].close, tables["BBB"].close)
    assert tables["AAA"] != bars(calendar, ["AAA"], seed=6)["AAA"]


@pytest.mark.parametrize("interval", list(Interval))
def test_bars_are_whole_sane_and_on_the_calendar(calendar, interval):
    first, last = date(2024, 6, 24), date(2024, 7, 12)
    for table in bars(calendar, ["AAA", "BBB", "CCC"], interval=interval, first=first, last=last).values():
        assert sane(table)[1] == []
        assert off_the_calendar(table, calendar) == []
        assert missing(table, calendar, first, last) == ()


def test_five_hundred_symbols_over_two_years_stay_above_the_least_price(calendar):
    symbols = [f"S{index:03}" for index in range(500)]
    tables = bars(calendar, symbols)
    assert {len(table) for table in tables.values()} == {522}
    assert min(table.low.min() for table in tables.values()) > LEAST_PRICE / 2
    daily = np.concatenate([np.diff(np.log(table.close)) for table in tables.values()])
    assert 0.01 < daily.std() < 0.04


def test_a_time_without_sessions_and_a_name_that_is_none_are_refused(calendar):
    with pytest.raises(BarsError, match="no session"):
        SyntheticMarket(1, ["AAA"], Interval.DAY1, date(2024, 3, 29), date(2024, 3, 31), calendar)
    with pytest.raises(BarsError, match="no symbol"):
        SyntheticMarket(1, ["aaa"], Interval.DAY1, date(2024, 4, 1), date(2024, 4, 2), calendar)
    with pytest.raises(CalendarError):
        SyntheticMarket(1, ["AAA"], Interval.DAY1, date(1989, 4, 3), date(2024, 4, 2), calendar)
