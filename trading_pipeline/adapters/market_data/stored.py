"""A market stored in a home: one Parquet file a symbol and interval, written once by an import, read by every process.

So a folder of one's own is parsed and checked once, and each run finds its bars in milliseconds. The
market's bars lie in the future of a replay; what has closed goes from here to the archive.
"""

import csv
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

from trading_pipeline.adapters.market_data.parquet_archive import read_table, write_table
from trading_pipeline.adapters.market_data.splits import load_splits
from trading_pipeline.adapters.market_data.table_market import SPREAD, TableMarket
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.errors import MarketDataError

SPLITS = "splits.csv"


class StoredMarket(TableMarket):
    """The stored market behind the MarketData port."""

    def __init__(self, folder: Path, calendar: TradingCalendar, *, spread: Decimal = SPREAD) -> None:
        """Read everything that was stored.

        Raises:
            MarketDataError: Nothing was stored there.
        """
        files = sorted(folder.glob("*/*.parquet"))
        if not files:
            raise MarketDataError(
                "This home has no market of its own.", value=str(folder), rule="source = \"files\" reads what was imported into the home",
                remedy="import a folder with `trading demo --bars DIR` or `trading up --bars DIR`",
            )
        tables = [read_table(file, file.parent.name, Interval(file.stem)) for file in files]
        beside = folder / SPLITS
        super().__init__("files", tables, calendar, splits=load_splits(beside) if beside.exists() else (), spread=spread)


def store_market(folder: Path, tables: Iterable[BarTable], splits: Sequence[Split] = ()) -> None:
    """Write tables and splits as a home's market; a table that is there already is replaced."""
    for table in tables:
        path = folder / table.symbol / f"{table.interval.value}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, table)
    if splits:
        with (folder / SPLITS).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["symbol", "session", "ratio"])
            writer.writerows([split.symbol, split.session.isoformat(), format(split.ratio, "f")] for split in splits)
