"""What every source of market data keeps its word on, above all: nothing that had not been published by then."""

import csv
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from tests.domain.market_tables import off_the_calendar
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.market_data.files import FileMarket
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.adapters.market_data.samples import SampleMarket
from trading_pipeline.adapters.market_data.synthetic import SyntheticMarket
from trading_pipeline.adapters.market_data.with_imports import WithImports
from trading_pipeline.adapters.market_data.yahoo import YahooMarket
from trading_pipeline.domain.bar_quality import sane
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.ports import MarketData

TICK = timedelta(microseconds=1)


@pytest.fixture(scope="module")
def calendar():
    return load_calendar()


class MarketDataContract:
    """To be inherited with fixtures `market`, `symbol` and `day`: a session inside its data, not the first one."""

    @pytest.fixture
    def finest(self, market: MarketData, symbol: str) -> Interval:
        return market.intervals(symbol)[0]

    @pytest.fixture
    def bars(self, market, symbol, finest, calendar, day) -> BarTable:
        return market.closed_bars([symbol], finest, None, calendar.session(day).close)[symbol]

    def test_it_has_a_name(self, market: MarketData):
        assert market.name

    def test_intervals_are_finest_first(self, market, symbol):
        minutes = [interval.minutes for interval in market.intervals(symbol)]
        assert minutes
        assert minutes == sorted(minutes)

    def test_bars_are_sane_and_lie_on_the_calendar(self, bars, calendar):
        assert len(bars)
        assert sane(bars)[1] == []
        assert off_the_calendar(bars, calendar) == []

    def test_a_bar_is_seen_from_its_end_on_and_not_before(self, market, symbol, finest, bars):
        """73."""
        end = bars.last_end
        assert market.closed_bars([symbol], finest, None, end)[symbol] == bars
        assert market.closed_bars([symbol], finest, None, end - TICK)[symbol] == bars.rows(0, len(bars) - 1)

    def test_bars_after_an_instant_ended_later_than_it(self, market, symbol, finest, bars):
        after = bars.bar(len(bars) - 2).end
        assert market.closed_bars([symbol], finest, after, bars.last_end)[symbol] == bars.tail(1)
        assert len(market.closed_bars([symbol], finest, bars.last_end, bars.last_end)[symbol]) == 0
        assert market.closed_bars([symbol], finest, after - TICK, bars.last_end)[symbol] == bars.tail(2)

    def test_each_symbol_asked_for_has_a_table(self, market, symbol, finest, bars):
        tables = market.closed_bars([symbol, "ZZZZ"], finest, None, bars.last_end)
        assert set(tables) == {symbol, "ZZZZ"}
        assert len(tables["ZZZZ"]) == 0

    def test_an_open_is_known_from_the_start_of_its_bar_to_its_end(self, market, symbol, finest, bars):
        bar = bars.bar(len(bars) - 1)
        for at in (bar.start, bar.end - TICK):
            assert market.opening_bar(symbol, finest, at) == (bar.start, bar.open)
        assert market.opening_bar(symbol, finest, bar.end) is None
        assert market.opening_bar("ZZZZ", finest, bar.start) is None

    def test_in_regular_hours_the_middle_is_the_open_of_the_bar_now(self, market, symbol, bars):
        bar = bars.bar(len(bars) - 1)
        quote = market.quotes([symbol, "ZZZZ"], bar.start)[symbol]
        assert (quote.symbol, quote.at, quote.last) == (symbol, bar.start, bar.open)
        assert quote.bid < bar.open < quote.ask
        assert market.quotes(["ZZZZ"], bar.start) == {}

    def test_outside_regular_hours_the_middle_is_the_last_close(self, market, symbol, bars, calendar, day):
        quote = market.quotes([symbol], calendar.session(day).close + timedelta(hours=1))[symbol]
        assert quote.last == bars.bar(len(bars) - 1).close

    def test_the_spread_is_two_basis_points_rounded_outward_to_cents(self, market, symbol, bars):
        quote = market.quotes([symbol], bars.bar(len(bars) - 1).start)[symbol]
        half = max(quote.last * Decimal("0.0001"), Decimal("0.005"))
        assert Decimal(0) <= quote.last - half - quote.bid < Decimal("0.01")
        assert Decimal(0) <= quote.ask - quote.last - half < Decimal("0.01")
        assert quote.bid % Decimal("0.01") == quote.ask % Decimal("0.01") == 0


class TestSamples(MarketDataContract):
    @pytest.fixture(scope="class")
    @classmethod
    def market(cls, calendar):
        return SampleMarket(calendar)

    @pytest.fixture
    def symbol(self):
        return "AAPL"

    @pytest.fixture
    def day(self):
        return date(2012, 11, 23)


class TestSynthetic(MarketDataContract):
    @pytest.fixture(scope="class")
    @classmethod
    def market(cls, calendar):
        return SyntheticMarket(3, ["AAA", "BBB"], Interval.MIN5, date(2024, 6, 24), date(2024, 7, 12), calendar)

    @pytest.fixture
    def symbol(self):
        return "BBB"

    @pytest.fixture
    def day(self):
        return date(2024, 7, 3)


class TestFiles(MarketDataContract):
    @pytest.fixture(scope="class")
    @classmethod
    def market(cls, calendar, tmp_path_factory):
        folder = tmp_path_factory.mktemp("bars")
        market = SyntheticMarket(3, ["AAA"], Interval.MIN5, date(2024, 7, 1), date(2024, 7, 12), calendar)
        table = market.closed_bars(["AAA"], Interval.MIN5, None, calendar.horizon.close)["AAA"]
        with (folder / "AAA_2024.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["timestamp", "open", "high", "low", "close", "volume"])
            writer.writerows([bar.start.isoformat(), bar.open, bar.high, bar.low, bar.close, bar.volume] for bar in table)
        return FileMarket(folder, calendar)

    @pytest.fixture
    def symbol(self):
        return "AAA"

    @pytest.fixture
    def day(self):
        return date(2024, 7, 3)


class TestImportsBesideASource(MarketDataContract):
    """Bars that only the archive has, beside the samples."""

    @pytest.fixture
    def market(self, calendar, tmp_path) -> WithImports:
        samples = SampleMarket(calendar)
        archive = ParquetArchive(tmp_path)
        ibm = samples.closed_bars(["IBM"], Interval.DAY1, None, calendar.horizon.close)["IBM"]
        archive.append(replace(ibm, symbol="MINE"))
        archive.append(ibm.tail(3))
        return WithImports(samples, archive, calendar)

    @pytest.fixture
    def symbol(self) -> str:
        return "MINE"

    @pytest.fixture
    def day(self) -> date:
        return date(2012, 10, 16)

    def test_the_source_speaks_for_what_it_has_itself(self, market, calendar):
        samples = SampleMarket(calendar)
        until = calendar.session(date(2012, 10, 16)).close
        assert market.intervals("IBM") == samples.intervals("IBM")
        assert market.closed_bars(["IBM"], Interval.DAY1, None, until) == samples.closed_bars(["IBM"], Interval.DAY1, None, until)
        assert market.quotes(["IBM", "ZZZZ"], until) == samples.quotes(["IBM"], until)
        assert market.intervals("ZZZZ") == ()


class TestYahoo(MarketDataContract):
    """Over frames in the shape of yfinance, handed in where the network would be asked."""

    @pytest.fixture(scope="class")
    @classmethod
    def market(cls, calendar: TradingCalendar, tmp_path_factory):
        import pandas as pd

        today = datetime.now(UTC).date()
        source = {
            interval: SyntheticMarket(3, ["AAA"], interval, today - timedelta(days=20), today - timedelta(days=1), calendar)
            for interval in Interval
        }

        def fetch(symbol: str, interval: Interval, first: date) -> pd.DataFrame:
            table = source[interval].closed_bars([symbol], interval, None, calendar.horizon.close)[symbol]
            start = table.session_days.astype("datetime64[ns]").astype(np.int64) if interval.daily else table.start
            index = pd.DatetimeIndex(start.astype("datetime64[ns]")).tz_localize("America/New_York" if interval.daily else "UTC")
            columns = {"Open": table.open, "High": table.high, "Low": table.low, "Close": table.close, "Volume": table.volume}
            return pd.DataFrame({**columns, "Stock Splits": 0.0}, index=index.tz_convert("America/New_York"))

        return YahooMarket(ParquetArchive(tmp_path_factory.mktemp("yahoo")), calendar, fetch=fetch)

    @pytest.fixture
    def symbol(self):
        return "AAA"

    @pytest.fixture
    def day(self, calendar):
        return calendar.previous(datetime.now(UTC).date() - timedelta(days=5)).day
