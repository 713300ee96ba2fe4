"""What every bar archive keeps its word on. Each adapter inherits the contract."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.market_data.memory_archive import MemoryArchive
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.adapters.market_data.synthetic import SyntheticMarket
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.errors import BarsError
from trading_pipeline.ports import Appended, BarArchive

FIRST, LAST = date(2023, 12, 26), date(2024, 1, 5)
LATE = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def calendar():
    return load_calendar()


@pytest.fixture(scope="module")
def bars(calendar):
    """Bars by symbol and interval over a change of year."""
    symbols = ["AAA", "BRK.B"]
    found = {}
    for interval in (Interval.DAY1, Interval.HOUR1):
        market = SyntheticMarket(11, symbols, interval, FIRST, LAST, calendar)
        for symbol, table in market.closed_bars(symbols, interval, None, LATE).items():
            found[symbol, interval] = table
    return found


class BarArchiveContract:
    """To be inherited with a fixture `archive`."""

    def test_an_empty_archive_has_nothing_and_says_so(self, archive: BarArchive):
        assert archive.symbols() == ()
        assert archive.sessions("AAA", Interval.DAY1) == ()
        table = archive.read("AAA", Interval.DAY1, until=LATE)
        assert (len(table), table.symbol, table.interval) == (0, "AAA", Interval.DAY1)
        assert archive.append(BarTable.empty("AAA", Interval.DAY1)) == Appended(0, 0, 0)

    @pytest.mark.parametrize("interval", [Interval.DAY1, Interval.HOUR1])
    def test_what_was_appended_is_read_back_bit_for_bit(self, archive, bars, interval):
        table = bars["AAA", interval]
        assert archive.append(table) == Appended(len(table), 0, 0)
        assert archive.read("AAA", interval, until=LATE) == table

    @pytest.mark.parametrize("interval", [Interval.DAY1, Interval.HOUR1])
    def test_appending_again_changes_nothing(self, archive, bars, interval):
        table = bars["AAA", interval]
        archive.append(table)
        assert archive.append(table) == Appended(0, 0, len(table))
        assert archive.read("AAA", interval, until=LATE) == table

    def test_bars_may_come_in_any_order_of_appends(self, archive, bars):
        table = bars["AAA", Interval.HOUR1]
        for first, last in ((20, len(table)), (0, 9), (5, 30)):
            archive.append(table.rows(first, last))
        assert archive.read("AAA", Interval.HOUR1, until=LATE) == table

    def test_a_bar_with_other_values_replaces_the_old_one(self, archive, bars):
        table = bars["AAA", Interval.DAY1]
        archive.append(table)
        corrected = table.rows(2, 4)
        corrected = BarTable(
            corrected.symbol, corrected.interval, corrected.start, corrected.end, corrected.open, corrected.high, corrected.low,
            corrected.close, corrected.volume + np.array([0.0, 1.0]),
        )
        assert archive.append(corrected) == Appended(0, 1, 1)
        assert archive.read("AAA", Interval.DAY1, until=LATE).volume[3] == table.volume[3] + 1
        assert len(archive.read("AAA", Interval.DAY1, until=LATE)) == len(table)

    def test_bars_that_close_after_the_instant_asked_for_are_not_seen(self, archive, bars):
        for interval in (Interval.DAY1, Interval.HOUR1):
            table = bars["AAA", interval]
            archive.append(table)
            for index in (0, 3, len(table) - 2):
                end = table.bar(index).end
                assert archive.read("AAA", interval, until=end).last_end == end
                assert len(archive.read("AAA", interval, until=end - timedelta(microseconds=1))) == index

    def test_the_newest_bars_are_read_when_a_count_is_given(self, archive, bars):
        table = bars["AAA", Interval.HOUR1]
        archive.append(table)
        for count in (0, 1, 7, 8, 20, 10_000):
            assert archive.read("AAA", Interval.HOUR1, until=LATE, count=count) == table.tail(count)

    def test_many_symbols_are_read_as_one_is(self, archive, bars):
        for table in bars.values():
            archive.append(table)
        many = archive.read_many(["AAA", "BRK.B", "NONE"], Interval.DAY1, until=LATE, count=3)
        assert many["AAA"] == bars["AAA", Interval.DAY1].tail(3)
        assert many["BRK.B"] == bars["BRK.B", Interval.DAY1].tail(3)
        assert len(many["NONE"]) == 0

    def test_it_knows_its_symbols_and_their_sessions(self, archive, bars, calendar):
        archive.append(bars["BRK.B", Interval.DAY1])
        archive.append(bars["AAA", Interval.HOUR1])
        assert archive.symbols() == ("AAA", "BRK.B")
        assert archive.symbols(Interval.DAY1) == ("BRK.B",)
        days = tuple(session.day for session in calendar.between(FIRST, LAST))
        assert archive.sessions("BRK.B", Interval.DAY1) == days
        assert archive.sessions("AAA", Interval.HOUR1) == days
        assert archive.sessions("AAA", Interval.DAY1) == ()

    @pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume"])
    def test_bars_that_make_no_sense_are_refused_whole(self, archive, bars, column):
        table = bars["AAA", Interval.DAY1]
        columns = {name: getattr(table, name).copy() for name in ("start", "end", "open", "high", "low", "close", "volume")}
        columns[column][2] = np.nan
        with pytest.raises(BarsError, match="AAA"):
            archive.append(BarTable("AAA", Interval.DAY1, **columns))
        assert archive.symbols() == ()

    def test_repeated_bars_in_one_append_are_refused(self, archive, bars):
        table = bars["AAA", Interval.DAY1]
        with pytest.raises(BarsError, match="repeated"):
            archive.append(table.where(np.array([0, 1, 1])))

    @pytest.mark.parametrize("symbol", ["", "../AAA", "aaa", "A/B", ".", "A" * 17])
    def test_a_name_that_is_no_symbol_is_refused(self, archive, symbol):
        with pytest.raises(BarsError, match="no symbol"):
            archive.read(symbol, Interval.DAY1, until=LATE)


class TestParquetArchive(BarArchiveContract):
    @pytest.fixture
    def archive(self, tmp_path):
        return ParquetArchive(tmp_path / "archive")


class TestMemoryArchive(BarArchiveContract):
    @pytest.fixture
    def archive(self):
        return MemoryArchive()
