"""The composition root: settings in, a desk out. The only place that knows which adapter stands behind a port."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import URL, make_url

from trading_pipeline.adapters.anchor_file import AnchorFile
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.adapters.brokers.paper import PaperBroker
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.adapters.brokers.paper_postgres import PostgresBook, prepare_paper_schema
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.chart_png import PngCharts
from trading_pipeline.adapters.clocks import ReplayClock, SteppedClock, SystemClock
from trading_pipeline.adapters.golden_files import GoldenFiles
from trading_pipeline.adapters.journal_file import JournalFile
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.adapters.ledger.at_hand import read_at_hand
from trading_pipeline.adapters.ledger.backtests import BacktestDatabases
from trading_pipeline.adapters.ledger.connecting import engine_for
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.embedded_passwords import APP
from trading_pipeline.adapters.ledger.late import LateLedger
from trading_pipeline.adapters.ledger.past import PastLedger
from trading_pipeline.adapters.ledger.postgres import PostgresLedger, is_prepared, prepare_database
from trading_pipeline.adapters.llm.providers import open_providers
from trading_pipeline.adapters.llm.rules import RulesAgent
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.adapters.objects.local import LocalObjects
from trading_pipeline.adapters.prices import load_prices
from trading_pipeline.adapters.prompt_files import PromptFiles
from trading_pipeline.adapters.stop_files import keep_reserve
from trading_pipeline.adapters.text_files import TextFiles
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.errors import CalendarError, LedgerUnavailable, SettingsError, StopUnfiled, StorageError
from trading_pipeline.home_market import kept_splits, open_market, paper_costs
from trading_pipeline.ports import Clock, Home, Ledger
from trading_pipeline.service.desk import Desk, Models
from trading_pipeline.service.record.past_desk import Record
from trading_pipeline.service.submitter.recovery import resume_stop
from trading_pipeline.settings import Environment, Market, Settings


@contextmanager
def open_desk(
    settings: Settings, clock: Clock | None = None, *, leaving: bool = True, emergency: bool = False, doubts: list[str] | None = None,
) -> Iterator[Desk]:
    """Open every port of a home and close them on leaving; the last one to leave the embedded server stops it.

    An emergency stop that is not done is gone on with before anything else, one round.

    Args:
        clock: Handed in by whoever steps time: the demo, tests. None: as the settings say.
        leaving: False where the process goes on with the home on another desk: the embedded server is not left.
        emergency: For the stop itself: the ledger is opened when it is asked for, and nothing else is resumed.
        doubts: Of an emergency: what could not be read of the settings. Where there is something, or the market clock cannot be read
            either, which is added, the database says what is this home's.

    Raises:
        SettingsError, StorageError, LedgerError, MarketDataError: As each port refuses.
    """
    if settings.environment is Environment.LIVE:
        raise SettingsError(
            "There is no live broker yet.", value=settings.environment.value, rule="only the paper broker exists in this version",
            remedy="set environment to paper",
        )
    home = Home(settings.home)
    if clock is None and not emergency:
        _require_begun(settings)
    calendar = load_calendar(home.root / "cache")
    if not emergency:
        clock = clock or market_clock(settings, calendar)
    with ExitStack() as stack:
        if doubts and settings.database_url is None and (not home.database.exists() or any("database_url" in each for each in doubts)):
            raise SettingsError(
                f"Which database is that of {home.root} cannot be read from its settings.", value=str(home.root),
                rule="an emergency asks the home's own database and makes no new one", remedy="correct the settings, and press again",
            )
        if settings.database_url is None and not home.database.exists() and home.anchors.exists():
            raise LedgerUnavailable(
                f"The database of {home.root} is gone; its anchors say that there was one.", value=str(home.database),
                rule="a home that has had a database gets no new one",
                remedy="cancel with the broker by hand; put the folder back, and press again" if emergency
                else "put the folder back, or use another home",
            )
        database = _database(settings)
        if leaving and database.leave is not None:
            stack.callback(database.leave)
        if clock is None:
            settings, clock = _at_hand(settings, database, calendar, [] if doubts is None else doubts)
        late = LateLedger(lambda: _ledger(settings, database, clock))
        ledger: Ledger = stack.enter_context(closing(late if emergency else _ledger(settings, database, clock)))
        archive = ParquetArchive(home.archive)
        market, splits = open_market(settings, calendar, archive)
        book = stack.enter_context(closing(_paper_book(settings, database)))
        latch = LatchFiles(home.stops)
        desk = Desk(
            environment=settings.environment.value,
            world=World.REPLAY if settings.market.clock is Market.REPLAY else World.LIVE,
            limits=settings.limits.limits(),
            clock=clock,
            calendar=calendar,
            ledger=ledger,
            archive=archive,
            market=market,
            splits=splits,
            objects=LocalObjects(home.objects),
            charts=PngCharts(),
            costs=paper_costs(settings),
            deciders={"rules": RulesAgent()},
            broker=LatchedBroker(PaperBroker(book, market, clock, calendar, paper_settings(settings), splits=splits), latch),
            latch=latch,
            anchors=AnchorFile(home.anchors),
            journal=JournalFile(home.journal),
            keep_protective_stops=settings.keep_protective_stops,
            models=None if emergency else _models(settings, home, stack),
        )
        if not emergency:
            # A disk that is full already has no room for a reserve; what works without goes on.
            with suppress(StorageError):
                keep_reserve(home.stops)
            # A stop without a file is in force by the ledger: a home that could not be opened could not be looked at or cleared either.
            with suppress(StopUnfiled):
                resume_stop(desk)
        yield desk


def _models(settings: Settings, home: Home, stack: ExitStack) -> Models:
    """Who can be asked, in which words, and for how much."""
    llms = open_providers(settings, home)
    for llm in llms.values():
        stack.callback(llm.close)
    prices = load_prices(home.root, settings.model.claude_code.max_cost_per_call)
    golden = GoldenFiles(home.golden)
    return Models(llms, PromptFiles(home.prompts), prices, TextFiles(home.texts), settings.model.budget(), golden=golden)


def _at_hand(settings: Settings, database: "_Database", calendar: TradingCalendar, doubts: list[str]) -> tuple[Settings, Clock]:
    """Settings and clock of an emergency; what is in doubt as the database has it.

    Raises:
        SettingsError: It has several accounts, and none of them is the one that is set.
        LedgerError: It cannot be asked.
    """
    clock: Clock | None = None
    try:
        clock = market_clock(settings, calendar)
    except (StorageError, SettingsError, CalendarError) as error:
        doubts.append(error.message)
    if not doubts:
        assert clock is not None
        return settings, clock
    known = read_at_hand(database.app, database.revive)
    account = settings.paper.account
    if known.accounts and account not in known.accounts:
        if len(known.accounts) > 1:
            raise SettingsError(
                f"The account {account} is none of {', '.join(known.accounts)}.", value=account,
                rule="what cannot be read of the settings must not name another account", remedy="correct the settings, and press again",
            )
        [account] = known.accounts
    if clock is None:
        # Facts of a live market are recorded as they happen. A replay stands where it was: later, other orders would have filled.
        at, recorded_at = known.newest or (None, None)
        live = at is None or recorded_at is None or abs(recorded_at - at) < timedelta(minutes=1)
        clock = SystemClock() if live or at is None else SteppedClock(at)
    found = {"paper": settings.paper.model_copy(update={"account": account})}
    return settings.model_copy(update=found | ({"environment": Environment(known.environment)} if known.environment else {})), clock


@contextmanager
def open_record(settings: Settings, *, leaving: bool = True) -> Iterator[Record]:
    """What a replay of a home reads, closed on leaving: its ledger, archive and split table. No broker, market or model is opened.

    Args:
        leaving: As of `open_desk`.

    Raises:
        LedgerError: There is no ledger yet, or it cannot be read.
        BarsError: The split table cannot be read.
    """
    home = Home(settings.home)
    with ExitStack() as stack:
        database = _database(settings)
        if leaving and database.leave is not None:
            stack.callback(database.leave)
        _prepare(database)
        opened = PostgresLedger.open(database.app, settings.environment.value, revive=database.revive)
        ledger = stack.enter_context(closing(opened))
        yield Record(
            ledger, PastLedger(ledger), load_calendar(home.root / "cache"), ParquetArchive(home.archive), kept_splits(settings),
            {"rules": RulesAgent()},
        )


@contextmanager
def open_backtests(settings: Settings, *, leaving: bool = True) -> Iterator[BacktestDatabases]:
    """The backtests that are stored beside the home's ledger; the last one to leave the embedded server stops it.

    Args:
        leaving: As of `open_desk`.

    Raises:
        LedgerError, StorageError: The server cannot be reached.
    """
    database = _database(settings)
    try:
        yield BacktestDatabases(database.app, database.owner, database.maker, database.revive)
    finally:
        if leaving and database.leave is not None:
            database.leave()


def market_clock(settings: Settings, calendar: TradingCalendar) -> Clock:
    """The clock that every process of the home reads."""
    if settings.market.clock is Market.LIVE:
        return SystemClock()
    _require_begun(settings)
    return ReplayClock.attach(settings.home / "clock.json", calendar)


def _require_begun(settings: Settings) -> None:
    """Refuse a home that is none yet, before anything is written into it."""
    if settings.market.clock is Market.REPLAY and not (settings.home / "clock.json").exists():
        raise SettingsError(
            f"No replay has begun in {settings.home}.", value=str(settings.home), rule="a replayed market runs by the home's clock.json",
            remedy="begin one with `trading demo` or `trading up`, or set market.clock = \"live\" in trading.toml",
        )


def paper_settings(settings: Settings) -> PaperSettings:
    """The paper broker's settings as it takes them."""
    return PaperSettings(**settings.paper.model_dump(), max_bar_gap=settings.limits.max_bar_gap)


@dataclass(frozen=True, slots=True)
class _Database:
    """Where ledger and paper broker live: the application's role, the owner's if it is known, how to revive the server and leave it."""

    app: URL
    owner: URL | None
    maker: URL | None
    """A role that may create databases, connected to one that is always there."""
    revive: Callable[[], object] | None = None
    leave: Callable[[], object] | None = None


def _database(settings: Settings) -> _Database:
    if settings.database_url is not None:
        owner = make_url(settings.owner_database_url.get_secret_value()) if settings.owner_database_url else None
        return _Database(make_url(settings.database_url.get_secret_value()), owner, owner)
    folder = Home(settings.home).database
    server = EmbeddedPostgres.start(folder)
    return _Database(server.app_url(), server.owner_url(), server.superuser_url(), lambda: EmbeddedPostgres.start(folder), server.leave)


def _prepare(database: _Database) -> None:
    if database.owner is not None and not is_prepared(database.app):
        prepare_database(database.owner, database.app.username or APP)


def _ledger(settings: Settings, database: _Database, clock: Clock) -> PostgresLedger:
    _prepare(database)
    return PostgresLedger.open(database.app, settings.environment.value, opened_at=clock.now(), revive=database.revive)


def _paper_book(settings: Settings, database: _Database) -> PostgresBook:
    if database.owner is not None:
        engine = engine_for(database.owner)
        try:
            prepare_paper_schema(engine, database.app.username or APP)
        finally:
            engine.dispose()
    return PostgresBook.open(database.app, settings.paper.account, settings.paper.cash, revive=database.revive)
