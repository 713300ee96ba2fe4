"""Desks for tests: every port real, in memory where there is a choice, time stepped by hand.

Markets are written out in prices, one constant by default, so that a test can say what a fill costs; strategies decide by
expressions, so that a test can say when. The broker's faults and the clock are at hand; a second desk over the same ledger,
book and archive is what a process that starts after a crash has.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from trading_pipeline.adapters.anchor_file import AnchorFile
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.adapters.brokers.paper import PaperBroker
from trading_pipeline.adapters.brokers.paper_book import MemoryBook, PaperSettings
from trading_pipeline.adapters.brokers.paper_faults import FaultPlan
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.chart_png import PngCharts
from trading_pipeline.adapters.clocks import SteppedClock
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.adapters.llm.rules import RulesAgent
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.adapters.market_data.samples import SampleMarket
from trading_pipeline.adapters.market_data.table_market import TableMarket
from trading_pipeline.adapters.objects.local import LocalObjects
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bar_quality import grid
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns
from trading_pipeline.domain.cycles import Cycle, follow_up
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Lifetime, Mode, StrategySpec
from trading_pipeline.ports import Answer, MarketData, Question
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.cycle import run_cycle, run_follow_up
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.record.verification import verify
from trading_pipeline.service.steps import StepResult
from trading_pipeline.service.timetable import newest_cycle

PERSON = "user:anna"
DAY = date(2024, 8, 28)
"""A Wednesday; the session before it is Tuesday's."""
OPEN = datetime(2024, 8, 28, 13, 30, tzinfo=UTC)
CLOSE = datetime(2024, 8, 28, 20, 0, tzinfo=UTC)
ALWAYS, NEVER = "close > 0", "close < 0"


@cache
def calendar() -> TradingCalendar:
    """The real one, built once a run."""
    with tempfile.TemporaryDirectory() as folder:
        return load_calendar(Path(folder))


@cache
def samples() -> SampleMarket:
    """Real daily bars of five stocks."""
    return SampleMarket(calendar())


def at(hours: int, minutes: int = 0, seconds: float = 0, day: date = DAY) -> datetime:
    """An instant of that day on New York's wall clock in summer."""
    return datetime(day.year, day.month, day.day, 4, tzinfo=UTC) + timedelta(hours=hours, minutes=minutes, seconds=seconds)


Prices = tuple[float, float, float, float]
"""Open, high, low, close."""


def bars(
    symbol: str = "AAPL", interval: Interval = Interval.DAY1, first: date = date(2024, 6, 3), last: date = date(2024, 9, 6), *,
    price: float = 100.0, volume: float = 1_000_000, at: Mapping[datetime, Prices] | None = None, without: Sequence[datetime] = (),
    volumes: Mapping[datetime, float] | None = None,
) -> BarTable:
    """Bars at one price on the real calendar; those that start at the given instants have other prices, or are missing."""
    start, end = grid(calendar(), interval, first, last)
    columns = [np.full(len(start), price) for _ in range(4)]
    traded = np.full(len(start), float(volume))
    for instant, prices in (at or {}).items():
        [index] = np.flatnonzero(start == instant_ns(instant))
        for column, value in zip(columns, prices, strict=True):
            column[index] = value
    for instant, many in (volumes or {}).items():
        [index] = np.flatnonzero(start == instant_ns(instant))
        traded[index] = many
    table = BarTable(symbol, interval, start, end, *columns, traded)
    gone = np.array([instant_ns(instant) for instant in without], np.int64)
    return table.where(~np.isin(start, gone)) if len(gone) else table


def market(*tables: BarTable, splits: Sequence[Split] = (), name: str = "by hand") -> TableMarket:
    """The tables as a source."""
    return TableMarket(name, tables, calendar(), splits=splits)


def strategy(name: str = "buyer", **changes: Any) -> StrategySpec:
    """An autonomous strategy on daily bars of AAPL that always wants to own it, a tenth of the equity, without a stop."""
    spec = StrategySpec(
        name=name, symbols=("AAPL",), mode=Mode.AUTONOMOUS, interval=Interval.DAY1, agent=ExpressionAgent(ALWAYS, NEVER),
        lifetime=Lifetime.OPEN, sizing=FractionSizing(fraction=Decimal("0.05")), limits=StrategyLimits(),
    )
    return replace(spec, **changes)


class Asked:
    """The rules agent, remembering what it was asked."""

    provider = "rules"

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self._rules = RulesAgent()
        self.needs = self._rules.needs

    def decide(self, questions: Sequence[Question]) -> list[Answer]:
        self.questions.extend(questions)
        return self._rules.decide(questions)


@dataclass
class Floor:
    """A desk and what stands behind it."""

    desk: Desk
    clock: SteppedClock
    faults: FaultPlan
    book: MemoryBook
    settings: PaperSettings
    asked: Asked = field(default_factory=Asked)

    @property
    def broker(self) -> PaperBroker:
        """The paper broker, as the owner of the account sees it."""
        return PaperBroker(self.book, self.desk.market, self.clock, self.desk.calendar, self.settings, splits=self.desk.splits)

    def restarted(self, **changes: Any) -> "Floor":
        """A fresh process over the same record, book and archive; what `changes` says of the desk is different."""
        source, splits = changes.get("market", self.desk.market), changes.get("splits", self.desk.splits)
        broker = PaperBroker(self.book, source, self.clock, self.desk.calendar, self.settings, self.faults, splits)
        return replace(self, desk=replace(self.desk, **({"broker": broker} | changes)))

    # What happens

    def go(self, instant: datetime) -> "Floor":
        """Let time pass."""
        self.clock.advance_to(instant)
        return self

    def run(self, *specs: StrategySpec) -> "Floor":
        """Create and start strategies."""
        for spec in specs:
            controls.create(self.desk, spec, actor=PERSON)
            controls.start(self.desk, spec.name, actor=PERSON)
        return self

    def due(self, interval: Interval = Interval.DAY1) -> Cycle:
        """The newest cycle of an interval."""
        found = newest_cycle(self.desk, interval)
        assert found is not None
        return found

    def cycle(self, interval: Interval = Interval.DAY1) -> dict[str, StepResult]:
        """Run the newest cycle; its results by step."""
        return {result.step: result for result in run_cycle(self.desk, self.due(interval))}

    def release(self) -> dict[str, StepResult]:
        """A follow-up for what may go out now, as the sensors launch it."""
        due = approvals.due(self.desk)
        approvals.expire(self.desk, due.overdue)
        turn = follow_up(due.released, self.desk.today(), self.desk.now(), "release")
        return {result.step: result for result in run_follow_up(self.desk, turn)}

    # What the ledger says

    def events(self, *types: EventType) -> list[Event]:
        """Facts of these types, or all."""
        return self.desk.ledger.events(types=types)

    def types(self, after: int = 0) -> list[str]:
        """The names of all facts in order."""
        return [event.type.value for event in self.desk.ledger.events(after=after)]

    def rows(self, table: str, **equals: Any) -> list[Row]:
        """Rows of a table."""
        return self.desk.ledger.find(table, **equals)

    def row(self, table: str, **equals: Any) -> Row:
        """The one row."""
        [found] = self.desk.ledger.find(table, **equals)
        return found

    def denials(self, action_id: str | None = None) -> list[str]:
        """The rules that stopped anything, in order."""
        return [
            verdict["rule"]
            for event in self.events(EventType.RISK_EVALUATED)
            if action_id is None or event.payload["action_id"] == action_id
            for verdict in event.payload["verdicts"]
            if verdict["outcome"] in ("deny", "halt")
        ]

    def verifies(self) -> bool:
        """Whether chain and tables verify."""
        report = verify(self.desk.ledger)
        assert report.ok, report.difference
        return report.ok


def floor(
    folder: Path, source: MarketData, now: datetime, *specs: StrategySpec, environment: str = "demo", world: World = World.REPLAY,
    limits: AccountLimits | None = None, settings: PaperSettings | None = None, splits: Mapping[str, tuple[Split, ...]] | None = None,
    **changes: Any,
) -> Floor:
    """A desk in memory, with its archive and objects in a folder, and the strategies running."""
    clock, faults, book = SteppedClock(now), FaultPlan(), MemoryBook("PAPER-1", Decimal(100_000))
    settings = settings or PaperSettings()
    asked, latch = Asked(), LatchFiles(folder / "stops")
    if splits is None:
        splits = {}
        for split in getattr(source, "splits", ()):
            splits[split.symbol] = (*splits.get(split.symbol, ()), split)
    desk = Desk(
        environment=environment, world=world, limits=limits or AccountLimits(), clock=clock, calendar=calendar(),
        ledger=MemoryLedger(environment, opened_at=now), archive=ParquetArchive(folder / "archive"), market=source, splits=splits,
        objects=LocalObjects(folder / "objects"), charts=PngCharts(), deciders={"rules": asked},
        broker=LatchedBroker(PaperBroker(book, source, clock, calendar(), settings, faults, splits), latch), latch=latch,
        anchors=AnchorFile(folder / "anchors.jsonl"),
    )
    return Floor(replace(desk, **changes), clock, faults, book, settings, asked).run(*specs)


@contextmanager
def crashing(target: Any, name: str, on: int = 1) -> Iterator[None]:
    """Make the nth call of a method die before it does anything, as a process that is killed there."""
    original, calls = getattr(target, name), 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == on:
            raise Killed(f"{name}, call {on}")
        return original(*args, **kwargs)

    setattr(target, name, dying)
    try:
        yield
    finally:
        setattr(target, name, original)


class Killed(BaseException):
    """The process is gone: nothing may catch this."""
