"""What the settings of a home say of its market and of its costs, without a database: all that a backtest needs of a home.

Beside `bootstrap`, which connects: to import what it needs for that takes as long as a small backtest.
"""

from collections.abc import Mapping

from trading_pipeline.adapters.market_data.splits import SplitsBySymbol, load_splits, sample_splits
from trading_pipeline.adapters.market_data.table_market import TableMarket
from trading_pipeline.adapters.market_data.with_imports import WithImports
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.domain.shadow import FillCosts
from trading_pipeline.errors import SettingsError
from trading_pipeline.ports import BarArchive, MarketData
from trading_pipeline.settings import Settings, Source


def open_market(settings: Settings, calendar: TradingCalendar, archive: BarArchive) -> tuple[MarketData, SplitsBySymbol]:
    """The source of bars with what was imported beside it, and the splits that its prices step at, as it knows them when asked."""
    wanted = settings.market
    market: MarketData
    source: TableMarket
    match wanted.source:
        case Source.SAMPLES:
            from trading_pipeline.adapters.market_data.samples import SampleMarket

            market = source = SampleMarket(calendar, spread=settings.paper.spread)
        case Source.FILES:
            from trading_pipeline.adapters.market_data.stored import StoredMarket

            market = source = StoredMarket(settings.home / "market", calendar, spread=settings.paper.spread)
        case Source.SYNTHETIC:
            from trading_pipeline.adapters.market_data.synthetic import SyntheticMarket

            if wanted.first is None or wanted.last is None or not wanted.symbols:
                raise SettingsError(
                    "A synthetic market needs symbols, first and last.", value=wanted.source.value,
                    rule="it is made for these symbols and sessions", remedy="set market.symbols, market.first and market.last",
                )
            market = source = SyntheticMarket(wanted.seed, wanted.symbols, wanted.interval, wanted.first, wanted.last, calendar)
        case Source.YFINANCE:
            from trading_pipeline.adapters.market_data.yahoo import YahooMarket

            market = source = YahooMarket(archive, calendar, splits_file=settings.home / "splits.csv")
    if wanted.source is not Source.YFINANCE:
        # Yahoo looks into the archive by itself.
        market = WithImports(market, archive, calendar, spread=settings.paper.spread)
    return market, SplitsBySymbol(lambda: source.splits)


def kept_splits(settings: Settings) -> Mapping[str, tuple[Split, ...]]:
    """The splits of the source as its files have them, without opening the source."""
    files = {Source.FILES: settings.home / "market" / "splits.csv", Source.YFINANCE: settings.home / "splits.csv"}
    file = files.get(settings.market.source)
    found: tuple[Split, ...] = ()
    if settings.market.source is Source.SAMPLES:
        found = sample_splits()
    elif file is not None and file.exists():
        found = load_splits(file)
    return SplitsBySymbol(lambda: found)


def paper_costs(settings: Settings) -> FillCosts:
    """What a fill costs at the paper broker: in backtests, and what trades that were never made would have cost."""
    paper = settings.paper
    return FillCosts(
        paper.spread, paper.slippage, paper.commission_per_share, paper.commission_minimum, paper.commission_rate, paper.volume_share,
    )
