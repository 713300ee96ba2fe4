"""Split and dividend adjustment, by hand and against a vendor's adjusted close."""

from datetime import date
from decimal import Decimal

import numpy as np
import pytest

from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.market_data.samples import SampleMarket, read_samples
from trading_pipeline.domain.adjustments import Dividend, Split, dividend_adjusted, split_adjusted
from trading_pipeline.domain.bars import BarTable, Floats, Interval
from trading_pipeline.errors import BarsError

DAY = 86_400_000_000_000
MIDDAY = 16 * 3_600_000_000_000


def daily(first: str, closes: list[float]) -> BarTable:
    """Bars on consecutive days; the rules under test only know dates."""
    start = np.datetime64(first, "ns").astype(np.int64) + MIDDAY + DAY * np.arange(len(closes))
    close = np.array(closes)
    return BarTable("AAPL", Interval.DAY1, start, start + 1, close - 1, close + 2, close - 2, close, np.full(len(closes), 1000.0))


TWO_FOR_ONE = Split("AAPL", date(2005, 2, 28), Decimal(2))


def test_prices_before_a_split_are_divided_and_volumes_multiplied():
    table = split_adjusted(daily("2005-02-26", [88.0, 90.0, 45.0, 46.0]), [TWO_FOR_ONE], date(2005, 3, 1))
    assert table.close.tolist() == [44.0, 45.0, 45.0, 46.0]
    assert table.open.tolist() == [43.5, 44.5, 44.0, 45.0]
    assert table.high.tolist() == [45.0, 46.0, 47.0, 48.0]
    assert table.low.tolist() == [43.0, 44.0, 43.0, 44.0]
    assert table.volume.tolist() == [2000.0, 2000.0, 1000.0, 1000.0]


def test_a_split_that_is_not_yet_effective_changes_nothing():
    before = daily("2005-02-26", [88.0, 90.0])
    assert split_adjusted(before, [TWO_FOR_ONE], date(2005, 2, 27)) == before


def test_on_the_morning_of_a_split_yesterdays_bars_are_on_todays_scale():
    assert split_adjusted(daily("2005-02-26", [88.0, 90.0]), [TWO_FOR_ONE], date(2005, 2, 28)).close.tolist() == [44.0, 45.0]


def test_splits_of_other_symbols_are_passed_over():
    table = daily("2005-02-26", [88.0, 90.0, 45.0])
    assert split_adjusted(table, [Split("MSFT", date(2005, 2, 28), Decimal(2))], date(2006, 1, 1)) == table


def test_two_splits_multiply_and_a_reverse_split_raises_prices():
    table = daily("2020-01-01", [120.0, 60.0, 600.0])
    splits = [Split("AAPL", date(2020, 1, 2), Decimal(2)), Split("AAPL", date(2020, 1, 3), Decimal("0.1"))]
    assert split_adjusted(table, splits, date(2020, 1, 3)).close == pytest.approx([600.0, 600.0, 600.0])


@pytest.mark.parametrize("ratio", ["0", "-2", "NaN", "Infinity"])
def test_a_ratio_that_is_none_is_refused(ratio):
    with pytest.raises(BarsError, match="cannot split"):
        Split("AAPL", date(2005, 2, 28), Decimal(ratio))


def test_a_dividend_lowers_every_price_before_it_by_its_share_of_the_last_close():
    table = dividend_adjusted(daily("2020-01-01", [50.0, 100.0, 99.0]), [Dividend("AAPL", date(2020, 1, 3), Decimal(1))], date(2020, 1, 3))
    assert table.close == pytest.approx([49.5, 99.0, 99.0])
    assert table.volume.tolist() == [1000.0] * 3


def test_a_dividend_counts_from_its_own_session():
    table = daily("2020-01-01", [50.0, 100.0])
    dividend = Dividend("AAPL", date(2020, 1, 3), Decimal(1))
    assert dividend_adjusted(table, [dividend], date(2020, 1, 2)) == table
    assert dividend_adjusted(table, [dividend], date(2020, 1, 3)).close == pytest.approx([49.5, 99.0])


def test_a_dividend_without_an_earlier_bar_changes_nothing():
    table = daily("2020-01-03", [50.0])
    assert dividend_adjusted(table, [Dividend("AAPL", date(2020, 1, 3), Decimal(1))], date(2020, 2, 1)) == table


def test_a_dividend_of_the_whole_price_is_refused():
    with pytest.raises(BarsError, match="cannot pay"):
        dividend_adjusted(daily("2020-01-01", [50.0, 49.0]), [Dividend("AAPL", date(2020, 1, 2), Decimal(50))], date(2020, 1, 2))


AAPL_DIVIDENDS = {"2012-08-09": "2.65", "2012-11-07": "2.65", "2013-02-07": "2.65"}
"""Ex-dates and amounts as Apple announced them; its first dividends since 1995."""
EXACT = 1e-9
"""The vendor's adjusted close has 12 digits, so that returns agree to rounding; a dividend moves one by a thousandth at least."""


@pytest.mark.parametrize(("symbol", "dividend_days"), [("AAPL", set(AAPL_DIVIDENDS)), ("GOOG", set()), ("FB", set())])
def test_returns_of_split_adjusted_closes_are_the_vendors_but_on_dividend_days(symbol, dividend_days):
    raw, splits, adjusted = sample(symbol)
    assert days_that_differ(raw, split_adjusted(raw, splits, END).close, adjusted) == dividend_days


@pytest.mark.parametrize(("symbol", "first", "dividends"), [("MSFT", "2003-02-19", 37), ("IBM", "2000-05-08", 52)])
def test_returns_differ_on_every_dividend_day_of_those_who_pay(symbol, first, dividends):
    """IBM paid 52 quarters; Microsoft 2 yearly, one of August 2004, the special of November 2004, and 33 quarterly ones."""
    raw, splits, adjusted = sample(symbol)
    days = days_that_differ(raw, split_adjusted(raw, splits, END).close, adjusted)
    assert (min(days), len(days)) == (first, dividends)


@pytest.mark.parametrize(
    ("symbol", "day", "amount"), [("AAPL", day, amount) for day, amount in AAPL_DIVIDENDS.items()] + [("MSFT", "2004-11-15", "3.08")]
)
def test_dividend_adjusted_returns_are_the_vendors_to_the_second_order(symbol, day, amount):
    """The vendor counts (close + dividend) / close before, Yahoo and CRSP close / (close before - dividend).

    The two differ by the dividend's share of the price times the day's return, and by no more.
    """
    raw, splits, adjusted = sample(symbol)
    dividend = Dividend(symbol, date.fromisoformat(day), Decimal(amount))
    ours = split_adjusted(dividend_adjusted(raw, [dividend], END), splits, END).close
    index = int(np.searchsorted(raw.session_days, np.datetime64(day)))
    share = float(amount) / raw.close[index - 1]
    theirs = adjusted[index] / adjusted[index - 1]
    assert theirs == pytest.approx((raw.close[index] + float(amount)) / raw.close[index - 1], abs=EXACT)
    assert ours[index] / ours[index - 1] == pytest.approx(theirs, abs=1.2 * share * abs(theirs - 1))
    assert abs(raw.close[index] / raw.close[index - 1] - theirs) > 1.2 * share * abs(theirs - 1)


def test_without_the_split_table_the_splits_show_as_crashes():
    raw, _, adjusted = sample("AAPL")
    assert days_that_differ(raw, raw.close, adjusted) == {"2000-06-21", "2005-02-28"} | set(AAPL_DIVIDENDS)


END = date(2013, 3, 1)


def sample(symbol: str) -> tuple[BarTable, tuple[Split, ...], Floats]:
    calendar = load_calendar()
    market = SampleMarket(calendar)
    raw = market.closed_bars([symbol], Interval.DAY1, None, calendar.horizon.close)[symbol]
    return raw, market.splits, read_samples()[symbol].adjusted_close


def days_that_differ(raw: BarTable, ours: Floats, theirs: Floats) -> set[str]:
    difference = np.abs(ours[1:] / ours[:-1] - theirs[1:] / theirs[:-1])
    return {str(day) for day in raw.session_days[1:][difference > EXACT]}
