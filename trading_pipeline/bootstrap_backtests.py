"""The composition root of backtests: settings and a plan in, a bench out.

It knows one broker, the paper one over a book in memory, and there is no setting that would name another: whatever the home trades with
is out of reach. Models answer from the cassette; only a plan that says RECORD may ask one. Bars come from the home or from folders of
files, never from a network. What it stores, it stores under its own name.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from trading_pipeline import __version__
from trading_pipeline.adapters.backtest_ports import NoAnchors, NoLatch
from trading_pipeline.adapters.brokers.paper import PaperBroker
from trading_pipeline.adapters.brokers.paper_book import MemoryBook, PaperSettings
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.chart_png import PngCharts
from trading_pipeline.adapters.clocks import SteppedClock
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.adapters.llm.rules import RulesAgent
from trading_pipeline.adapters.market_data.memory_archive import MemoryArchive
from trading_pipeline.adapters.market_data.table_market import TableMarket
from trading_pipeline.adapters.objects.local import LocalObjects
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.backtests import BacktestPlan, Replies
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.models import CassetteMode, ModelBudget
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.sessions import Session, TradingCalendar
from trading_pipeline.errors import BarsError, UnknownName
from trading_pipeline.ports import BarArchive, Home, Ledger
from trading_pipeline.service.backtests.bench import Bench, begins, sessions_of
from trading_pipeline.service.backtests.engines import Backtest, Engine, asks_models, assumptions, choose, run
from trading_pipeline.service.backtests.stepping import Progress
from trading_pipeline.service.desk import Desk, Models
from trading_pipeline.settings import Settings, Source

if TYPE_CHECKING:
    from trading_pipeline.adapters.ledger.backtests import Stored, Writer

ACCOUNT = "BACKTEST"
STORED_EVERY_SECONDS = 10.0
"""What a kill costs of a run at most, besides the session it is in."""
_UNPAID = ModelBudget(per_day=Decimal(1_000_000), calls_per_hour=1_000_000_000, concurrency=1)
"""Recordings cost nothing, and one after the other they come in the same order each time."""
_NAMED = 5
"""So many sessions without bars are named; of more the first."""

Tables = Mapping[tuple[str, Interval], BarTable]


@contextmanager
def open_bench(settings: Settings, plan: BacktestPlan, *, data: Path | Sequence[Path] | None = None) -> Iterator[Bench]:
    """Read the bars that a plan needs, and set a bench up around them; models that it asks are let go of on leaving.

    Args:
        data: Folders of bars files instead of the home's market; of a symbol the first that has it counts. Their `splits.csv` count too.

    Raises:
        InputError: No session, no bars of a symbol in the wanted interval over all of the sessions, a file that cannot be used.
    """
    calendar = load_calendar(settings.home / "cache")
    sessions = sessions_of(calendar, plan)
    folders = (data,) if isinstance(data, Path) else tuple(data or ())
    found = _of_folders(folders, plan, calendar) if folders else _of_home(settings, plan, calendar)
    _require(found, plan, sessions)
    seen = {place: found.tables[place].until(sessions[-1].close) for place in _wanted(plan)}
    with ExitStack() as stack:
        models = _models(settings, plan, stack) if asks_models(plan) else None

        def open_desk(wanted: BacktestPlan, ledger: Ledger) -> Desk:
            _require(found, wanted, sessions_of(calendar, wanted))
            return _desk(found, settings, calendar, wanted, ledger, models)

        yield Bench(
            calendar=calendar, tables=seen, splits=found.splits, source=found.source, digest=_digest(seen, found.splits),
            assumptions=_assumptions(found, plan, sessions), open_ledger=_open_ledger, open_desk=open_desk,
        )


def run_stored(
    bench: Bench, plan: BacktestPlan, writer: "Writer", *, engine: Engine | str = Engine.AUTO, progress: Progress | None = None,
    data: Sequence[Path] = (), every_seconds: float = STORED_EVERY_SECONDS,
) -> Backtest:
    """Run a plan and store its ledger on the way, whole sessions at a time; goes on from what an earlier run has stored.

    Args:
        writer: Of the name it is stored under.
        data: The folders its bars came from, for who opens it again.
        every_seconds: Real time between two writes.

    Raises:
        StorageError, LedgerError: It cannot be stored; what is stored is a prefix of it.
    """
    from trading_pipeline.adapters.ledger.backtests import about

    ledger, (chosen, why) = bench.ledger(plan), choose(bench, plan, engine)
    many, stored_at = len(sessions_of(bench.calendar, plan)), time.monotonic()
    folders = tuple(str(folder.absolute()) for folder in data)

    def words(sessions: int, said: tuple[str, ...], *, complete: bool) -> dict[str, Any]:
        return about(
            plan, engine=chosen.value, why=why, digest=bench.digest, data=folders, assumptions=said, sessions=sessions, complete=complete,
            at=datetime.now(UTC),
        )

    def on_session(done: int, of: int, session: date) -> None:
        nonlocal stored_at
        if time.monotonic() - stored_at >= every_seconds:
            writer.append(ledger, words(done, assumptions(bench, plan), complete=False))
            stored_at = time.monotonic()
        if progress is not None:
            progress(done, of, session)

    backtest = run(bench, plan, engine=engine, progress=on_session, ledger=ledger)
    writer.append(ledger, words(many, backtest.assumptions, complete=True), whole=True)
    return backtest


def is_done(stored: "Stored | None", bench: Bench, plan: BacktestPlan, engine: Engine | str = Engine.AUTO) -> bool:
    """Whether a run of the plan would store what is stored already: the same bars and version, and no model that may say something else."""
    if stored is None or not stored.complete or stored.plan != plan or stored.digest != bench.digest or asks_models(plan):
        return False
    return stored.engine == choose(bench, plan, engine)[0].value


@dataclass(frozen=True, slots=True)
class _Bars:
    """What a source has of a plan's symbols, all of it."""

    tables: Tables
    splits: Mapping[str, tuple[Split, ...]]
    source: str
    there: Callable[[], Mapping[str, Sequence[Interval]]]
    """What the source has, for who asked for something else: intervals by symbol."""
    remedy: str


def _open_ledger(opened_at: datetime) -> Ledger:
    return MemoryLedger("backtest", opened_at=opened_at)


def _desk(
    bars: _Bars, settings: Settings, calendar: TradingCalendar, plan: BacktestPlan, ledger: Ledger, models: Models | None,
) -> Desk:
    clock = SteppedClock(begins(calendar, plan))
    splits = tuple(split for symbol in plan.symbols for split in bars.splits.get(symbol, ()))
    tables = [bars.tables[place] for place in _wanted(plan)]
    market = TableMarket(bars.source, tables, calendar, splits=splits, spread=plan.costs.spread)
    costs, numbers = plan.costs, count(1)
    paper = PaperSettings(
        account=ACCOUNT, cash=plan.cash, spread=costs.spread, slippage=costs.slippage, commission_per_share=costs.commission_per_share,
        commission_minimum=costs.commission_minimum, commission_rate=costs.commission_rate, volume_share=costs.volume_share,
        max_bar_gap=plan.limits.max_bar_gap,
    )
    if models is not None and plan.replies is Replies.CASSETTE:
        models = replace(models, wall=clock.now)
    return Desk(
        environment="backtest", world=World.BACKTEST, limits=plan.limits, clock=clock, calendar=calendar, ledger=ledger,
        archive=MemoryArchive(), market=market, splits=bars.splits, objects=LocalObjects(Home(settings.home).objects), charts=PngCharts(),
        deciders={"rules": RulesAgent()}, latch=NoLatch(), anchors=NoAnchors(), models=models, costs=costs,
        broker=PaperBroker(MemoryBook(ACCOUNT, plan.cash), market, clock, calendar, paper, splits=bars.splits),
        nonce=lambda: f"{next(numbers):016x}",
    )


def _models(settings: Settings, plan: BacktestPlan, stack: ExitStack) -> Models:
    """Recordings, and nobody behind them unless the plan says so."""
    from trading_pipeline.adapters.llm.providers import open_providers
    from trading_pipeline.adapters.prices import load_prices
    from trading_pipeline.adapters.prompt_files import PromptFiles
    from trading_pipeline.adapters.text_files import TextFiles

    home, recorded = Home(settings.home), plan.replies is Replies.CASSETTE
    mode = CassetteMode.REPLAY_OR_FAIL if recorded else CassetteMode.REPLAY
    llms = open_providers(settings.model_copy(update={"model": settings.model.model_copy(update={"cassette": mode})}), home)
    for llm in llms.values():
        stack.callback(llm.close)
    prices = load_prices(home.root, settings.model.claude_code.max_cost_per_call)
    budget = _UNPAID if recorded else settings.model.budget()
    return Models(llms, PromptFiles(home.prompts), prices.timeless() if recorded else prices, TextFiles(home.texts), budget)


# Bars


def _wanted(plan: BacktestPlan) -> list[tuple[str, Interval]]:
    return sorted({(symbol, spec.interval) for spec in plan.strategies for symbol in spec.symbols})


def _of_home(settings: Settings, plan: BacktestPlan, calendar: TradingCalendar) -> _Bars:
    """The home's source with what was imported beside it. Yahoo is not asked: of it there is what the archive has."""
    from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
    from trading_pipeline.adapters.market_data.with_imports import WithImports
    from trading_pipeline.bootstrap import kept_splits, open_market

    archive, until = ParquetArchive(Home(settings.home).archive), calendar.horizon.close
    tables: dict[tuple[str, Interval], BarTable] = {}
    there: Callable[[], Mapping[str, Sequence[Interval]]]
    if settings.market.source is Source.YFINANCE:
        splits, source = kept_splits(settings), "the archive"
        for symbol, interval in _wanted(plan):
            tables[symbol, interval] = archive.read(symbol, interval, until=until)
        there = partial(_archived, archive)
        remedy = "fetch or import bars with `trading bars`, or name a folder of files with --data"
    else:
        market, splits = open_market(settings, calendar, archive)
        source, remedy = market.name, "import bars with `trading bars import`, or name a folder of files with --data"
        for symbol, interval in _wanted(plan):
            tables[symbol, interval] = market.closed_bars([symbol], interval, None, until)[symbol]

        def there() -> Mapping[str, Sequence[Interval]]:
            of_source = market.symbols if isinstance(market, WithImports) else ()
            return _archived(archive) | {symbol: market.intervals(symbol) for symbol in of_source}

    known = {symbol: splits[symbol] for symbol in plan.symbols if symbol in splits}
    return _Bars(tables, MappingProxyType(known), source, there, remedy)


def _archived(archive: BarArchive) -> dict[str, Sequence[Interval]]:
    found: dict[str, Sequence[Interval]] = {}
    for interval in Interval:
        for symbol in archive.symbols(interval):
            found[symbol] = (*found.get(symbol, ()), interval)
    return found


def _of_folders(folders: Sequence[Path], plan: BacktestPlan, calendar: TradingCalendar) -> _Bars:
    """Files, each read once and checked like an import; those of other symbols are not opened."""
    from trading_pipeline.adapters.market_data.files import FileMarket, bars_files, symbol_of

    tables: dict[tuple[str, Interval], BarTable] = {}
    splits: dict[str, tuple[Split, ...]] = {}
    wanted, there = _wanted(plan), dict[str, Sequence[Interval]]()
    for folder in folders:
        missing = {symbol for symbol, interval in wanted if (symbol, interval) not in tables}
        there |= {symbol_of(file): () for file in bars_files(folder) if symbol_of(file) not in there}
        market = FileMarket(folder, calendar, symbols=missing)
        for symbol, interval in wanted:
            if (symbol, interval) in tables or symbol not in market.symbols:
                continue
            there[symbol] = market.intervals(symbol)
            if interval in market.intervals(symbol):
                tables[symbol, interval] = market.closed_bars([symbol], interval, None, calendar.horizon.close)[symbol]
                splits[symbol] = tuple(split for split in market.splits if split.symbol == symbol)
    source = f"files of {', '.join(folder.name for folder in folders)}"
    known = {symbol: found for symbol, found in splits.items() if found}
    remedy = "put a file of these bars into the folder, or name another with --data"
    return _Bars(tables, MappingProxyType(known), source, lambda: there, remedy)


def _told(there: Mapping[str, Sequence[Interval]]) -> str:
    """What there is, in words."""
    named = [f"{symbol} ({', '.join(intervals)})" if intervals else symbol for symbol, intervals in sorted(there.items())]
    some = ", ".join(named[:12])
    return (some + (f" and {len(named) - 12} more" if len(named) > 12 else "")) or "nothing"


def _require(bars: _Bars, plan: BacktestPlan, sessions: Sequence[Session]) -> None:
    """Refuse a plan whose sessions the bars do not span."""
    first, last = sessions[0].day, sessions[-1].day
    for symbol, interval in _wanted(plan):
        table = bars.tables.get((symbol, interval))
        if table is None or not len(table):
            raise UnknownName(
                f"There are no {interval} bars of {symbol}.", value=f"{symbol} {interval}",
                rule=f"a backtest runs on bars that are there; {bars.source} has {_told(bars.there())}", remedy=bars.remedy,
            )
        begin, end = _day(table, 0), _day(table, -1)
        if begin > first or end < last:
            inside = max(begin, first), min(end, last)
            shorter = f"choose --from {inside[0]} --to {inside[1]}, or " if inside[0] <= inside[1] else ""
            raise BarsError(
                f"The {interval} bars of {symbol} go from {begin} to {end}, and the backtest from {first} to {last}.",
                value=f"{symbol} {interval}", rule="every symbol has bars from the first session to the last",
                remedy=f"{shorter}{bars.remedy}",
            )


def _day(table: BarTable, index: int) -> date:
    found: date = table.session_days[index].astype(object)
    return found


def _digest(tables: Tables, splits: Mapping[str, Sequence[Split]]) -> str:
    content = hashlib.sha256(__version__.encode())
    for place in sorted(tables):
        content.update(tables[place].digest().encode())
    for split in (each for symbol in sorted(splits) for each in splits[symbol]):
        content.update(f"{split.symbol} {split.session} {split.ratio}\n".encode())
    return content.hexdigest()


def _assumptions(bars: _Bars, plan: BacktestPlan, sessions: Sequence[Session]) -> tuple[str, ...]:
    first, last = sessions[0].day, sessions[-1].day
    split = [each for symbol in plan.symbols for each in bars.splits.get(symbol, ()) if first <= each.session <= last]
    counted = ", ".join(f"{each.symbol} {each.ratio.normalize():f} for 1 on {each.session}" for each in split)
    return (
        f"Bars: {bars.source}; {'; '.join(_covers(bars.tables[place], sessions) for place in _wanted(plan))}.",
        "Prices are traded as the source has them. "
        + (f"Splits are applied as facts, when they happened: {counted}." if split else "No split is known inside the sessions."),
        "Dividends are not paid: a series adjusted for them has them in its prices, one that is not leaves them out.",
        "The symbols were chosen knowing that they still trade: those that were delisted are missing, which flatters (survivorship).",
    )


def _covers(table: BarTable, sessions: Sequence[Session]) -> str:
    """What there is of a symbol, and which sessions have none."""
    have = np.unique(table.session_days)
    missing = [session.day for session in sessions if not _among(session.day, have)]
    told = f"{table.symbol} {table.interval} from {_day(table, 0)}"
    if not missing:
        return told
    named = ", ".join(str(day) for day in missing[:_NAMED]) + (" and more" if len(missing) > _NAMED else "")
    return f"{told}, none in {len(missing)} of {len(sessions)} sessions ({named})"


def _among(day: date, days: "np.ndarray[tuple[int], np.dtype[np.datetime64]]") -> bool:
    at = int(np.searchsorted(days, np.datetime64(day)))
    return at < len(days) and bool(days[at] == np.datetime64(day))
