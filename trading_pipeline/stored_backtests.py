"""Backtests that are stored: run into a database of their own, and opened again by whatever reads a ledger.

A desk of a stored backtest reads: its ledger is sealed, nobody stands behind its broker, and its bars are those it ran on, as long as
they are where they were. What a ledger says without bars it says still when they are gone.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from trading_pipeline.adapters.backtest_ports import NoAnchors, NoLatch
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.chart_png import PngCharts
from trading_pipeline.adapters.clocks import SteppedClock
from trading_pipeline.adapters.code_version import code_version
from trading_pipeline.adapters.ledger.backtests import Stored, Writer, about
from trading_pipeline.adapters.ledger.past import PastLedger
from trading_pipeline.adapters.llm.rules import RulesAgent
from trading_pipeline.adapters.market_data.memory_archive import MemoryArchive
from trading_pipeline.adapters.market_data.table_market import TableMarket
from trading_pipeline.adapters.objects.local import LocalObjects
from trading_pipeline.backtest_bars import NO_BARS, Bars, Tables, bars_of, digest_of, seen
from trading_pipeline.bootstrap import open_backtests
from trading_pipeline.bootstrap_backtests import ACCOUNT
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns
from trading_pipeline.domain.events import EventType, instant_from
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.errors import BarsError, InputError, MarketDataError, StorageError
from trading_pipeline.ports import Broker, Home, Ledger
from trading_pipeline.service.backtests.bench import Bench, sessions_of
from trading_pipeline.service.backtests.engines import Backtest, Engine, asks_models, assumptions, choose, run
from trading_pipeline.service.backtests.results import marks_of
from trading_pipeline.service.backtests.stepping import Progress
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.market import LONE_RULE
from trading_pipeline.service.record.past_desk import Nobody, Record
from trading_pipeline.settings import Settings

STORED_EVERY_SECONDS = 10.0
"""What a kill costs of a run at most, besides the session it is in."""


def run_stored(
    bench: Bench, plan: BacktestPlan, writer: Writer, *, engine: Engine | str = Engine.AUTO, progress: Progress | None = None,
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
    ledger, (chosen, why) = bench.ledger(plan), choose(bench, plan, engine)
    sessions, stored_at = sessions_of(bench.calendar, plan), time.monotonic()
    folders = tuple(str(folder.absolute()) for folder in data)

    def words(run: Backtest, over: int, until: datetime | None = None) -> dict[str, Any]:
        return about(
            plan, engine=run.engine.value, why=run.why, digest=bench.digest, data=folders, assumptions=run.assumptions, sessions=over,
            marks=marks_of(bench, until), complete=until is None, at=datetime.now(UTC),
        )

    def on_session(done: int, of: int, session: date) -> None:
        nonlocal stored_at
        # What is kept in columns is in the ledger at once: it is stored with its last session.
        if time.monotonic() - stored_at >= every_seconds and (done == of or ledger.get("sessions", sessions[done].day.isoformat()) is None):
            so_far = Backtest(plan, ledger, chosen, why, assumptions(bench, plan))
            writer.append(ledger, words(so_far, done, bench.calendar.session(session).close))
            stored_at = time.monotonic()
        if progress is not None:
            progress(done, of, session)

    backtest = run(bench, plan, engine=engine, progress=on_session, ledger=ledger)
    writer.append(ledger, words(backtest, len(sessions)), whole=True)
    return backtest


def is_done(stored: Stored | None, bench: Bench, plan: BacktestPlan, engine: Engine | str = Engine.AUTO) -> bool:
    """Whether a run of the plan would store what is stored already: the same bars and code, and no model that may say something else."""
    if stored is None or not stored.complete or asks_models(plan):
        return False
    if (stored.plan, stored.digest, stored.version) != (plan, bench.digest, code_version()):
        return False
    return Engine(engine) in (Engine.AUTO, Engine(stored.engine))


@contextmanager
def open_stored(settings: Settings, name: str) -> Iterator[Desk]:
    """The desk of a stored backtest as it stood at its end, to be read: sealed ledger, no broker, the bars it ran on if they are there.

    Args:
        name: Or a beginning of it.

    Raises:
        UnknownName: There is no such backtest.
        LedgerError, StorageError: The server cannot be reached.
    """
    with _reading(settings, name) as (stored, ledger):
        newest = ledger.event(ledger.head()[0])
        clock = SteppedClock(newest.at if newest is not None else stored.stored_at)
        calendar, home = load_calendar(settings.home / "cache"), Home(settings.home)
        costs, known = stored.plan.costs, _keptbars_of(settings, stored, calendar)
        market = TableMarket(known.source, known.tables.values() or _last_closes(stored, calendar), calendar, spread=costs.spread)
        yield Desk(
            environment="backtest", world=World.BACKTEST, limits=stored.plan.limits, clock=clock, calendar=calendar, ledger=ledger,
            archive=_archive(known.tables, ledger), market=market, splits=known.splits, objects=LocalObjects(home.objects),
            charts=PngCharts(), deciders={"rules": RulesAgent()}, latch=NoLatch(), anchors=NoAnchors(), costs=costs,
            broker=cast(Broker, Nobody("broker", account_id=ACCOUNT)),
        )


@contextmanager
def open_stored_record(settings: Settings, name: str) -> Iterator[Record]:
    """What a replay of a stored backtest reads; the errors are those of `open_stored`.

    Raises:
        BarsError: The bars it ran on are gone, or are others now.
    """
    with _reading(settings, name) as (stored, ledger):
        calendar = load_calendar(settings.home / "cache")
        bars = bars_of(settings, stored.plan, calendar, [Path(folder) for folder in stored.data])
        tables = seen(bars, stored.plan, sessions_of(calendar, stored.plan))
        if digest_of(tables, bars.splits) != stored.digest:
            raise BarsError(
                f"The bars that {stored.name} ran on are others now.", value=stored.name, rule="a replay sees what was seen then",
                remedy="run the backtest again, or put the bars back",
            )
        yield Record(ledger, PastLedger(ledger), calendar, _archive(tables, ledger), bars.splits, {"rules": RulesAgent()})


@contextmanager
def _reading(settings: Settings, name: str) -> Iterator[tuple[Stored, Ledger]]:
    with open_backtests(settings) as databases:
        stored = databases.get(name)
        with databases.reading(stored) as ledger:
            yield stored, ledger


def _keptbars_of(settings: Settings, stored: Stored, calendar: TradingCalendar) -> Bars:
    """The bars that a stored backtest ran on; none where they are gone, or others now."""
    try:
        bars = bars_of(settings, stored.plan, calendar, [Path(folder) for folder in stored.data])
    except (InputError, StorageError, MarketDataError):
        return NO_BARS
    return bars if digest_of(seen(bars, stored.plan, sessions_of(calendar, stored.plan)), bars.splits) == stored.digest else NO_BARS


def _last_closes(stored: Stored, calendar: TradingCalendar) -> list[BarTable]:
    """What is still held can be valued without the bars: each symbol's last close as one bar of the last session."""
    last = sessions_of(calendar, stored.plan)[stored.sessions - 1]
    start, end = (np.array([instant_ns(at)], np.int64) for at in (last.open, last.close))
    closes = {symbol: np.array([float(mark)]) for symbol, mark in stored.marks.items()}
    return [BarTable(symbol, Interval.DAY1, start, end, at, at, at, at, np.zeros(1)) for symbol, at in closes.items()]


def _archive(tables: Tables, ledger: Ledger) -> MemoryArchive:
    """The bars as they were received: without those that were dropped then."""
    dropped: dict[tuple[str, str], list[int]] = {}
    for event in ledger.events(types=(EventType.BAR_DROPPED,)):
        if event.payload["reason"] != LONE_RULE:
            start = instant_ns(instant_from(event.payload["start"]))
            dropped.setdefault((event.payload["symbol"], event.payload["interval"]), []).append(start)
    archive = MemoryArchive()
    for (symbol, interval), table in tables.items():
        gone = dropped.get((symbol, interval.value), [])
        archive.append(table.where(~np.isin(table.start, gone)) if gone else table)
    return archive
