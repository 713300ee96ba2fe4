"""The packaged samples: real bars as shipped, and the splits inside them."""

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pytest

from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.market_data.samples import SYMBOLS, SampleMarket
from trading_pipeline.domain.bars import Interval

END = datetime(2013, 3, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def calendar():
    return load_calendar()


@pytest.fixture(scope="module")
def market(calendar):
    return SampleMarket(calendar)


@pytest.mark.parametrize(
    ("symbol", "first", "count"),
    [
        ("AAPL", "2000-03-01", 3270), ("FB", "2012-05-18", 196), ("GOOG", "2004-08-19", 2148), ("IBM", "2000-03-01", 3270),
        ("MSFT", "2000-03-01", 3270),
    ],
)  # fmt: skip
def test_every_session_of_a_symbol_is_there(market, calendar, symbol, first, count):
    table = market.closed_bars([symbol], Interval.DAY1, None, END)[symbol]
    assert len(table) == count
    sessions = calendar.between(date.fromisoformat(first), date(2013, 3, 1))
    assert [day.item() for day in table.session_days] == [each.day for each in sessions]


def test_every_row_is_accounted_for_and_none_was_lost(market):
    assert [report.symbol for report in market.reports] == list(SYMBOLS)
    for report in market.reports:
        assert (report.kept, report.missing, report.dropped, report.repaired, report.error) == (report.read, 0, (), (), None)


def test_prices_are_as_they_were_traded(market):
    """Facebook opened at $42.05 and closed at $38.23 on its first day; Apple closed at $604.00 before hurricane Sandy."""
    bar = market.closed_bars(["FB"], Interval.DAY1, None, END)["FB"].bar(0)
    assert (bar.open, round(bar.close, 2)) == (Decimal("42.05"), Decimal("38.23"))
    before = market.closed_bars(["AAPL"], Interval.DAY1, None, datetime(2012, 10, 30, tzinfo=UTC))["AAPL"]
    assert before.bar(len(before) - 1).close == 604


def test_a_bar_ends_with_its_session_on_early_closes_too(market):
    table = market.closed_bars(["IBM"], Interval.DAY1, None, datetime(2012, 11, 24, tzinfo=UTC))["IBM"]
    assert table.last_end == datetime(2012, 11, 23, 18, 0, tzinfo=UTC)


def test_the_split_table_holds_the_steps_of_the_bars_and_no_others(market):
    """A close that halves against the day's own adjusted close is a split; there are three in five symbols."""
    from trading_pipeline.adapters.market_data.samples import read_samples

    found = set()
    for symbol, sample in read_samples().items():
        days = sample.rows.start.astype("datetime64[ns]").astype("datetime64[D]")
        raw = sample.rows.close[1:] / sample.rows.close[:-1]
        adjusted = sample.adjusted_close[1:] / sample.adjusted_close[:-1]
        for index in np.flatnonzero(np.abs(np.log(adjusted / raw)) > 0.2):
            found.add((symbol, days[index + 1].item(), Decimal(round(adjusted[index] / raw[index], 6)).quantize(Decimal("0.1"))))
    assert found == {(split.symbol, split.session, split.ratio) for split in market.splits}


def test_loading_the_samples_needs_no_pandas_and_warns_of_nothing(tmp_path, calendar):
    load_calendar(tmp_path)
    code = (
        "import sys, pathlib; from trading_pipeline.adapters.calendar import load_calendar;"
        "from trading_pipeline.adapters.market_data.samples import SampleMarket;"
        "SampleMarket(load_calendar(pathlib.Path(sys.argv[1]))); print({'pandas', 'pyarrow', 'bokeh'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
