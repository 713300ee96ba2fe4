"""Yahoo Finance: frames in the documented shape become unadjusted bars; a network that does not answer is said.

The service itself cannot be part of the suite. The frame below has Apple's bars around its split of 4:1 on 2020-08-31 in the shape
that yfinance documents, prices and volumes divided and multiplied for the split; traded were 500.04 and 499.23 before it.
"""

import logging
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.adapters.market_data.yahoo import YahooMarket, fetch_history, table_of_frame
from trading_pipeline.domain.adjustments import Split, split_adjusted
from trading_pipeline.domain.bars import Interval
from trading_pipeline.errors import MarketDataError

DAYS = ["2020-08-27", "2020-08-28", "2020-08-31", "2020-09-01"]


@pytest.fixture(scope="module")
def calendar():
    return load_calendar()


def apple() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Open": [127.1425018310547, 126.01249694824219, 127.58000183105469, 132.75999450683594],
            "High": [127.48500061035156, 126.44249725341797, 131.0, 134.8000030517578],
            "Low": [123.8324966430664, 124.57749938964844, 126.0, 130.52999877929688],
            "Close": [125.01000213623047, 124.80750274658203, 129.0399932861328, 134.17999267578125],
            "Volume": [155552400, 187630000, 225702700, 151948100],
            "Dividends": [0.0, 0.0, 0.0, 0.0],
            "Stock Splits": [0.0, 0.0, 4.0, 0.0],
        },
        index=pd.DatetimeIndex(DAYS, name="Date").tz_localize("America/New_York"),
    )


def test_the_split_adjustment_is_undone_and_the_split_told(calendar):
    table, report, splits = table_of_frame(apple(), "AAPL", Interval.DAY1, calendar)
    assert table.close == pytest.approx([500.04, 499.23, 129.04, 134.18], abs=0.0001)
    assert table.volume.tolist() == [38888100, 46907500, 225702700, 151948100]
    assert [str(day) for day in table.session_days] == DAYS
    assert splits == (Split("AAPL", date(2020, 8, 31), Decimal(4)),)
    assert (report.kept, report.dropped) == (4, ())


def test_adjusting_for_the_split_gives_yahoos_prices_back(calendar):
    table, _, splits = table_of_frame(apple(), "AAPL", Interval.DAY1, calendar)
    assert split_adjusted(table, splits, date(2020, 9, 2)).close == pytest.approx(apple()["Close"].to_numpy(), abs=0.0001)


def test_a_row_that_yahoo_left_empty_is_dropped_and_said(calendar):
    frame = apple()
    frame.iloc[1, 0:5] = np.nan
    table, report, _ = table_of_frame(frame, "AAPL", Interval.DAY1, calendar)
    assert len(table) == 3
    assert [note.rule for note in report.dropped] == ["price missing or not finite"]


def test_a_frame_of_another_shape_is_an_error_of_the_source(calendar):
    with pytest.raises(MarketDataError, match="another shape"):
        table_of_frame(apple().drop(columns="Stock Splits"), "AAPL", Interval.DAY1, calendar)
    with pytest.raises(MarketDataError, match="another shape"):
        table_of_frame(apple().tz_localize(None), "AAPL", Interval.DAY1, calendar)


def test_bars_that_cannot_be_used_are_an_error_of_the_source(calendar):
    with pytest.raises(MarketDataError, match="cannot be used"):
        table_of_frame(apple() * -1, "AAPL", Interval.DAY1, calendar)


class Asked:
    """Stands where the network is asked and counts."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Interval]] = []

    def __call__(self, symbol: str, interval: Interval, first: date) -> pd.DataFrame:
        self.calls.append((symbol, interval))
        return apple() if interval.daily else pd.DataFrame()


def test_what_is_archived_is_not_asked_for_again_and_splits_are_kept(calendar, tmp_path):
    until = calendar.session(date(2020, 9, 1)).close
    asked = Asked()
    market = YahooMarket(ParquetArchive(tmp_path / "bars"), calendar, splits_file=tmp_path / "splits.csv", fetch=asked)
    for _ in range(3):
        assert len(market.closed_bars(["AAPL"], Interval.DAY1, None, until)["AAPL"]) == 4
    again = YahooMarket(ParquetArchive(tmp_path / "bars"), calendar, splits_file=tmp_path / "splits.csv", fetch=asked)
    assert len(again.closed_bars(["AAPL"], Interval.DAY1, None, until)["AAPL"]) == 4
    assert asked.calls == [("AAPL", Interval.DAY1)]
    assert again.splits == (Split("AAPL", date(2020, 8, 31), Decimal(4)),)
    assert len(ParquetArchive(tmp_path / "bars").read("AAPL", Interval.DAY1, until=until)) == 4


def test_a_bar_that_yahoo_does_not_have_is_not_asked_for_without_pause(calendar, tmp_path):
    asked = Asked()
    market = YahooMarket(ParquetArchive(tmp_path), calendar, fetch=asked)
    inside = datetime.fromisoformat("2020-09-01T10:00:00-04:00")
    assert market.quotes(["AAPL"], inside) == {}
    assert market.quotes(["AAPL"], inside) == {}
    assert asked.calls == [("AAPL", Interval.MIN1)]


def test_without_a_network_the_error_names_the_remedy(tmp_path, caplog):
    import yfinance

    caplog.set_level(logging.CRITICAL, "yfinance")
    yfinance.set_tz_cache_location(str(tmp_path))
    yfinance.config.network.proxy = "http://127.0.0.1:9"
    try:
        with pytest.raises(MarketDataError, match="gave no bars of AAPL") as caught:
            fetch_history("AAPL", Interval.DAY1, date(2024, 1, 2))
    finally:
        yfinance.config.network.proxy = None
    assert "check the network" in caught.value.remedy


def test_what_another_process_learned_of_splits_is_known_and_kept(calendar, tmp_path):
    """Two processes, one file: neither forgets what the other wrote, nor names a split of the file a second time."""
    def market():
        archive = ParquetArchive(tmp_path / "archive")
        return YahooMarket(archive, calendar, splits_file=tmp_path / "splits.csv", fetch=lambda *_: apple())

    one, other = market(), market()
    (tmp_path / "splits.csv").write_text("symbol,session,ratio\nAAPL,2020-08-31,8/2\nGE,2021-08-02,1/8\n")
    assert [split.symbol for split in one.splits] == ["AAPL", "GE"]
    (tmp_path / "splits.csv").write_text("symbol,session,ratio\nGE,2021-08-02,1/8\n")
    one.closed_bars(["AAPL"], Interval.DAY1, None, datetime(2020, 9, 2, tzinfo=UTC))
    assert [(split.symbol, split.ratio) for split in other.splits] == [("AAPL", 4), ("GE", Decimal("0.125"))]
