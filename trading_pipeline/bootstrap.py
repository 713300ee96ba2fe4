"""The composition root: settings in, a desk out. The only place that knows which adapter stands behind a port."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.chart_png import PngCharts
from trading_pipeline.adapters.clocks import ReplayClock, SystemClock
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.adapters.llm.rules import RulesAgent
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.adapters.market_data.table_market import TableMarket
from trading_pipeline.adapters.objects.local import LocalObjects
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.errors import EnvironmentMismatch, SettingsError
from trading_pipeline.ports import Broker, Clock, Home, MarketData
from trading_pipeline.service.desk import Desk
from trading_pipeline.settings import Environment, Market, Settings, Source


@contextmanager
def open_desk(settings: Settings, clock: Clock | None = None) -> Iterator[Desk]:
    """Open every port of a home and close them on leaving; the embedded server goes on running.

    Args:
        clock: Handed in by whoever steps time: the demo, tests. None: as the settings say.

    Raises:
        SettingsError, StorageError, LedgerError, MarketDataError: As each port refuses.
    """
    if settings.environment is Environment.LIVE:
        raise SettingsError(
            "There is no live broker yet.", value=settings.environment.value, rule="only the paper broker exists in this version",
            remedy="set environment to paper",
        )
    home = Home(settings.home)
    calendar = load_calendar(home.root / "cache")
    clock = clock or market_clock(settings)
    ledger = open_ledger(settings, clock)
    try:
        market, splits = open_market(settings, calendar)
        yield Desk(
            environment=settings.environment.value,
            world=World.REPLAY if settings.market.clock is Market.REPLAY else World.LIVE,
            limits=settings.limits.limits(),
            clock=clock,
            calendar=calendar,
            ledger=ledger,
            archive=ParquetArchive(home.archive),
            market=market,
            splits=splits,
            objects=LocalObjects(home.objects),
            charts=PngCharts(),
            deciders={"rules": RulesAgent()},
            broker=open_broker(settings, market, calendar, clock),
        )
    finally:
        ledger.close()


def market_clock(settings: Settings) -> Clock:
    """The clock that every process of the home reads."""
    if settings.market.clock is Market.LIVE:
        return SystemClock()
    return ReplayClock.attach(settings.home / "clock.json")


def open_ledger(settings: Settings, clock: Clock) -> PostgresLedger:
    """The home's ledger, on the server given or the embedded one."""
    url, owner_url = settings.database_url, settings.owner_database_url
    return PostgresLedger.for_home(
        settings.home, settings.environment.value, url.get_secret_value() if url else None,
        owner_url.get_secret_value() if owner_url else None, opened_at=clock.now(),
    )


def open_market(settings: Settings, calendar: TradingCalendar) -> tuple[MarketData, dict[str, tuple[Split, ...]]]:
    """The source of bars, and the splits that its prices step at."""
    wanted = settings.market
    market: MarketData
    splits: tuple[Split, ...] = ()
    match wanted.source:
        case Source.SAMPLES:
            from trading_pipeline.adapters.market_data.samples import SampleMarket

            samples = SampleMarket(calendar, spread=settings.paper.spread)
            market, splits = samples, samples.splits
        case Source.FILES:
            from trading_pipeline.adapters.market_data.stored import StoredMarket

            stored = StoredMarket(settings.home / "market", calendar, spread=settings.paper.spread)
            market, splits = stored, stored.splits
        case Source.SYNTHETIC:
            from trading_pipeline.adapters.market_data.synthetic import SyntheticMarket

            if wanted.first is None or wanted.last is None or not wanted.symbols:
                raise SettingsError(
                    "A synthetic market needs symbols, first and last.", value=wanted.source.value,
                    rule="it is made for these symbols and sessions", remedy="set market.symbols, market.first and market.last",
                )
            market = SyntheticMarket(wanted.seed, wanted.symbols, wanted.interval, wanted.first, wanted.last, calendar)
        case Source.YFINANCE:
            from trading_pipeline.adapters.market_data.yahoo import YahooMarket

            market = YahooMarket(calendar)
    by_symbol: dict[str, tuple[Split, ...]] = {}
    for split in splits:
        by_symbol[split.symbol] = (*by_symbol.get(split.symbol, ()), split)
    return market, by_symbol
