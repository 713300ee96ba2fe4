"""The sample market: real daily bars of AAPL, FB, GOOG, IBM and MSFT, 2000-03-01 to 2013-03-01, from bokeh-sampledata.

The package's CSV is read directly, in a tenth of a second and without pandas. Prices are unadjusted as shipped and step at the
splits of the packaged table; every row goes through the same cleaning as a file of one's own, and `reports` tells of it.
Source: Quandl WIKI Prices, public domain, as distributed with bokeh-sampledata.
"""

import csv
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import numpy as np

from trading_pipeline.adapters.market_data.cleaning import Account, ImportReport, RawBars, clean
from trading_pipeline.adapters.market_data.splits import sample_splits
from trading_pipeline.adapters.market_data.table_market import SPREAD, TableMarket
from trading_pipeline.domain.bars import BarTable, Floats, Interval
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.errors import MarketDataError

SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")


class SampleMarket(TableMarket):
    """The samples behind the MarketData port; `reports` says what was dropped or repaired, one report a symbol."""

    def __init__(self, calendar: TradingCalendar, *, spread: Decimal = SPREAD) -> None:
        """Load the samples.

        Raises:
            MarketDataError: bokeh-sampledata is not installed whole.
        """
        tables: list[BarTable] = []
        reports: list[ImportReport] = []
        for symbol, sample in read_samples().items():
            account = Account("bokeh-sampledata stocks.csv", symbol, read=len(sample.rows))
            tables.append(clean(sample.rows, Interval.DAY1, calendar, account))
            reports.append(account.close(tables[-1], calendar))
        super().__init__("samples", tables, calendar, splits=sample_splits(), spread=spread)
        self.reports = tuple(reports)


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows of one symbol as shipped; `adjusted_close` is the vendor's split- and dividend-adjusted close of each."""

    rows: RawBars
    adjusted_close: Floats


def read_samples() -> Mapping[str, Sample]:
    """The package's rows by symbol, in order of the file."""
    try:
        from bokeh_sampledata import package_path

        with gzip.open(package_path("stocks.csv.gz"), "rt", encoding="ascii", newline="") as stream:
            lines = list(csv.reader(stream))
    except (ImportError, OSError) as error:
        raise MarketDataError(
            f"The sample bars cannot be read: {error}.", rule="the samples come with the package bokeh-sampledata",
            remedy="install the dependencies again with `make setup`",
        ) from error
    if lines[0] != ["Ticker", "Date", "Open", "High", "Low", "Close", "Volume", "Adj Close"]:
        raise MarketDataError(
            f"The sample bars have other columns: {','.join(lines[0])}.", value=",".join(lines[0]),
            rule="the columns of bokeh-sampledata's stocks.csv are known", remedy="install the version that requirements.lock names",
        )
    epoch = date(1970, 1, 1).toordinal()
    found = {}
    for symbol in SYMBOLS:
        numbered = [(number, line) for number, line in enumerate(lines, start=1) if line[0] == symbol]
        start = np.array([date.fromisoformat(line[1]).toordinal() - epoch for _, line in numbered], np.int64) * 86_400_000_000_000
        opened, high, low, close, volume, adjusted = (
            np.array([float(line[column]) for _, line in numbered], np.float64) for column in range(2, 8)
        )
        numbers = np.array([number for number, _ in numbered], np.int64)
        found[symbol] = Sample(RawBars(start, opened, high, low, close, volume, numbers), adjusted)
    return found
