"""The importer on real vendors' files; expected counts are those of the corpus' own README, made by other checks."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from tests.domain.market_tables import off_the_calendar
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.market_data.files import FileMarket, ImportOptions, import_file, import_files
from trading_pipeline.adapters.market_data.stamps import Stamp
from trading_pipeline.domain.bar_quality import sane
from trading_pipeline.domain.bars import Interval

CORPUS = Path(__file__).parents[3].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real bars is not beside this checkout")

COPY, OUTSIDE = "identical copy of another row", "outside regular hours"


@pytest.fixture(scope="module")
def calendar():
    return load_calendar()


def dropped(report) -> dict[str, int]:
    return {note.rule: note.rows for note in report.dropped}


@pytest.mark.parametrize(
    ("file", "missing", "drops"),
    [
        ("5min/AAPL_2022-2023.csv.gz", 35, {COPY: 269, OUTSIDE: 36}),
        ("5min/TSLA_2022-2023.csv.gz", 35, {COPY: 269, OUTSIDE: 36}),
        ("5min/MSFT_polygon.csv.gz", 78, {OUTSIDE: 12514 + 9104}),
        ("5min/NVDA_2026-05.csv.gz", 0, {OUTSIDE: 1}),
        ("5min/SPY_2024-08.csv.gz", 0, {OUTSIDE: 378 + 288}),
        ("1min/PPLT_2019-02.csv.gz", 1384, {}),
        ("1min/TSLA_2019-02.csv.gz", 4, {}),
        ("1d/NVDA.csv.gz", 0, {}),
        ("1d_long/SPY.csv.gz", 0, {"copy of another row with less volume": 3}),
        ("1d_long/QQQ.csv.gz", 0, {"copy of another row with less volume": 4}),
        ("1d_long/SPY_2008-2017.csv.gz", 2, {"low above open or close": 2}),
    ],
)
def test_a_vendors_file_gives_what_its_readme_counts(calendar, file, missing, drops):
    table, report = import_file(CORPUS / "bars" / file, calendar, ImportOptions())
    assert report.error is None
    assert (report.missing, dropped(report)) == (missing, drops)
    assert sane(table)[1] == []
    assert off_the_calendar(table, calendar) == []


@pytest.mark.parametrize("folder", ["1d", "1d_adjusted", "1d_iex", "1d_long", "1min", pytest.param("5min", marks=pytest.mark.slow)])
def test_every_folder_makes_a_market(calendar, folder):
    imported = import_files(CORPUS / "bars" / folder, calendar, ImportOptions())
    assert [report.file for report in imported.refused] == (["SPY_2020-12.csv.gz"] if folder == "1min" else [])
    for table in imported.tables:
        assert sane(table)[1] == []
        assert off_the_calendar(table, calendar) == []


def test_a_closing_print_that_could_be_the_last_minute_needs_a_word(calendar):
    """391 rows a day: by the README the 16:00 row is the closing print, which the rows themselves do not prove."""
    file = CORPUS / "bars/1min/SPY_2020-12.csv.gz"
    _, report = import_file(file, calendar, ImportOptions())
    assert "at the close, as well as at the open" in str(report.error)
    _, report = import_file(file, calendar, ImportOptions(stamp=Stamp.START))
    assert (report.kept, dropped(report)) == (1560, {OUTSIDE: 4})


def test_end_stamped_minutes_are_refused_until_said(calendar):
    file = CORPUS / "dirty/AAPL_1min_2016_google_end_stamped.csv.gz"
    _, report = import_file(file, calendar, ImportOptions())
    assert "may be bar ends" in str(report.error)
    table, report = import_file(file, calendar, ImportOptions(stamp=Stamp.END))
    assert (report.kept, dropped(report)) == (8211 - 21, {OUTSIDE: 21})
    assert table.bar(0).start == datetime(2016, 4, 15, 13, 30, tzinfo=UTC)


def test_two_date_formats_in_pacific_time_are_read_like_the_clean_copy_of_the_same_rows(calendar):
    raw, report = import_file(CORPUS / "dirty/AAPL_5min_two_date_formats_raw.csv.gz", calendar, ImportOptions())
    clean, _ = import_file(CORPUS / "bars/5min/AAPL_2022-2023.csv.gz", calendar, ImportOptions())
    assert raw == clean
    told = " ".join(report.notes)
    assert "column datetime (20%) is not used" in told
    assert "2 ways" in told
    assert "America/Los_Angeles" in told
    assert dropped(report) == {COPY: 269, OUTSIDE: 36}


def test_two_sets_of_columns_are_refused(calendar):
    table, report = import_file(CORPUS / "dirty/SPY_1h_mixed_columns_raw.csv.gz", calendar, ImportOptions())
    assert table is None
    assert "2 columns for open: open, Open" in str(report.error)


def test_three_header_rows_are_read_as_one_and_said(calendar):
    table, report = import_file(CORPUS / "dirty/SPY_5min_three_header_rows_raw.csv.gz", calendar, ImportOptions())
    assert (len(table), table.interval) == (625, Interval.MIN5)
    assert (table.close[0], table.open[0]) == pytest.approx((559.18, 559.58), abs=0.001)
    assert report.repaired[0].rule == "three header rows read as one"


@pytest.mark.parametrize("file", ["SPY_2023-2026.csv.gz", "QQQ_2023-2026.csv.gz"])
def test_closes_alone_are_no_bars(calendar, file):
    table, report = import_file(CORPUS / "close_only" / file, calendar, ImportOptions())
    assert table is None
    assert "no column for open" in str(report.error)


def test_minutes_add_up_to_five_minutes_of_the_same_vendor(calendar):
    """Two files of one vendor and the same days: a five-minute bar is its minutes, open to close."""
    minutes, _ = import_file(CORPUS / "bars/1min/NVDA_2024-08.csv.gz", calendar, ImportOptions())
    fives, _ = import_file(CORPUS / "bars/5min/NVDA_2024-08.csv.gz", calendar, ImportOptions())
    first = np.searchsorted(minutes.start, fives.start)
    assert (minutes.start[first] == fives.start).all()
    assert np.isclose(minutes.open[first], fives.open).mean() > 0.99
    assert np.isclose(np.maximum.reduceat(minutes.high, first), fives.high).mean() > 0.98
    assert np.isclose(np.minimum.reduceat(minutes.low, first), fives.low).mean() > 0.98


def test_a_market_of_minutes_quotes_the_open_of_the_minute_now(calendar):
    market = FileMarket(CORPUS / "bars/1min", calendar, skip_refused=True)
    quote = market.quotes(["NVDA"], datetime(2024, 8, 28, 13, 45, 30, tzinfo=UTC))["NVDA"]
    start, opened = market.opening_bar("NVDA", Interval.MIN1, quote.at)
    assert (start, quote.last) == (datetime(2024, 8, 28, 13, 45, tzinfo=UTC), opened)
    assert market.quotes(["PPLT"], datetime(2019, 2, 11, 14, 31, 30, tzinfo=UTC)) == {}, "PPLT did not trade in that minute"
    assert date(2024, 8, 28) in {day.item() for day in market.closed_bars(["SPY"], Interval.MIN1, None, quote.at)["SPY"].session_days}
