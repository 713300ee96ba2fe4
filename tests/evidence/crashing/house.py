"""The world of the crash sweep: a home with a real PostgreSQL, a market and a clock that every process of a round shares.

What a process plays is what the pipeline's runs do all day: bar cycles, approvals, releases, follow-ups for open orders, pauses.
The market clock is eight bytes of shared memory, so that a kill stops no time and a new process goes on at the instant that the
dead one had reached. Chance is drawn from the seed and from what it is about, never from the order of things: a process that is
started again meets the same market and the same broker.
"""

import mmap
import random
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from tests.desks import ALWAYS, DAY, PERSON, at, bars, calendar, market, strategy
from tests.evidence.crashing.controls import Control
from tests.evidence.crashing.points import CrashingBook, CrashingBroker, CrashingLedger, Trap
from tests.evidence.crashing.processes import Child
from trading_pipeline.adapters.anchor_file import AnchorFile
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.adapters.brokers.paper import PaperBroker
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.adapters.brokers.paper_faults import DropReply, FaultPlan, LoseRequest, ShowLate, SubmitFault
from trading_pipeline.adapters.chart_png import PngCharts
from trading_pipeline.adapters.journal_file import JournalFile
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.adapters.ledger.connecting import engine_for
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.adapters.llm.rules import RulesAgent
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.adapters.market_data.table_market import TableMarket
from trading_pipeline.adapters.objects.local import LocalObjects
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import Event
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode, StrategySpec, StrategyState
from trading_pipeline.errors import Conflict, StrategyError
from trading_pipeline.oracle import check
from trading_pipeline.ports import LEASE_SECONDS, Broker
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.cycle import FOLLOW_UP_STEPS, STEPS
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.orders.protection import is_exposed
from trading_pipeline.service.orders.settlement import news
from trading_pipeline.service.record.verification import verify
from trading_pipeline.service.steps import Step
from trading_pipeline.service.submitter import desk_process, handover, pulse
from trading_pipeline.service.submitter.recovery import resume_stop
from trading_pipeline.service.timetable import due_cycles

ACCOUNT, ENVIRONMENT = "PAPER-1", "paper"
CASH = Decimal(100_000)
SYMBOLS = ("AAPL", "IBM", "MSFT", "NVDA")
PROFILES = ("deduplicates", "loses replies", "shows late")
LOST_REPLIES = 0.30
LATEST = timedelta(seconds=400)
"""The longest that a broker of the profile `shows late` hides an order: nearly seven times the visibility window."""


class SharedClock:
    """A market clock in memory that forked processes share."""

    def __init__(self, start: datetime) -> None:
        self._memory = mmap.mmap(-1, 8)
        self._write(start)

    def now(self) -> datetime:
        """The instant that any of them moved it to last."""
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=struct.unpack("<q", self._memory[:8])[0])

    def advance_to(self, instant: datetime) -> None:
        """Move on, or stay."""
        if instant > self.now():
            self._write(instant)

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.advance_to(self.now() + timedelta(seconds=seconds))

    def _write(self, instant: datetime) -> None:
        since = instant - datetime.fromtimestamp(0, UTC)
        self._memory[:8] = struct.pack("<q", since // timedelta(microseconds=1))


class SeededFaults(FaultPlan):
    """A broker's way of working by profile: what happens to an order hangs on the seed and its client id, in every process alike."""

    def __init__(self, seed: int, profile: str) -> None:
        super().__init__()
        self._seed = seed
        self._profile = profile

    def of_submit(self, client_id: str) -> tuple[SubmitFault, ...]:
        """The faults of an order."""
        chance = random.Random(f"{self._seed}/{client_id}")
        draw = chance.random()
        if self._profile == "loses replies":
            return (DropReply(),) if draw < LOST_REPLIES else (LoseRequest(),) if draw < LOST_REPLIES + 0.05 else ()
        if self._profile == "shows late" and draw < 0.5:
            late = ShowLate(timedelta(seconds=round(chance.choice((5, 30, 90, LATEST.total_seconds())) * chance.random(), 1)))
            return (late, DropReply()) if chance.random() < 0.6 else (late,)
        return ()


def walk(seed: int) -> TableMarket:
    """Three sessions of minute bars that wander, with thin minutes in which an order fills in parts and jumps that reach stops."""
    return market(*(_wandering(seed, symbol) for symbol in SYMBOLS), name="wandering")


def _wandering(seed: int, symbol: str) -> BarTable:
    table = bars(symbol, Interval.MIN1, date(2024, 8, 27), DAY)
    chance = np.random.default_rng([seed, SYMBOLS.index(symbol)])
    many = len(table)
    steps = chance.normal(0, 0.0004, many) + np.where(chance.random(many) < 0.01, chance.choice([-0.03, 0.03], many), 0)
    close = np.round(100 * np.exp(np.cumsum(steps)), 2)
    opening = np.concatenate([[100.0], close[:-1]])
    high, low = np.maximum(opening, close) + 0.01, np.minimum(opening, close) - 0.01
    volume = np.where(chance.random(many) < 0.4, chance.integers(50, 400, many), chance.integers(2_000, 9_000, many)).astype(float)
    return BarTable(symbol, Interval.MIN1, table.start, table.end, opening, high, low, close, volume)


def strategies(seed: int) -> tuple[StrategySpec, ...]:
    """One on each stock, in and out all the time under stops and targets; the last one asks a person."""
    chance = random.Random(f"{seed}/strategies")
    specs = []
    for symbol in SYMBOLS:
        target = chance.choice((None, Decimal("0.02")))
        specs.append(
            strategy(
                symbol.lower(), symbols=(symbol,), interval=Interval.MIN1, agent=ExpressionAgent(ALWAYS, "", max_bars=chance.randint(1, 3)),
                mode=Mode.APPROVAL if symbol == SYMBOLS[-1] else Mode.AUTONOMOUS,
                sizing=FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.02"), target=target),
                limits=StrategyLimits(max_orders_per_hour=1_000), price_band=Decimal("0.04"),
            )
        )
    return tuple(specs)


@dataclass
class House:
    """One round's world: a database of its own, a folder, a clock, a market; made before the fork, opened by each process."""

    server: EmbeddedPostgres
    database: str
    folder: Path
    seed: int
    profile: str
    control: Control | None = None
    """A wrong order path in the place of the real one."""
    lease_seconds: float = LEASE_SECONDS
    clock: SharedClock = field(init=False)
    source: TableMarket = field(init=False)

    def __post_init__(self) -> None:
        minutes = random.Random(f"{self.seed}/start").randint(0, 150)
        self.clock = SharedClock(at(9, 31 + minutes, 0.5))
        self.source = walk(self.seed)

    @contextmanager
    def desk(self, trap: Trap | None = None) -> Iterator[Desk]:
        """A process's own desk over the shared world. The one place that composes ports."""
        trap = trap or Trap()
        settings = PaperSettings(account=ACCOUNT, cash=CASH, deduplicates=self.profile != "loses replies")
        url = self.server.app_url(self.database)
        with ExitStack() as stack:
            ledger = PostgresLedger.open(url, ENVIRONMENT, opened_at=self.clock.now(), revive=self.revive)
            stack.enter_context(closing(ledger))
            book = CrashingBook(engine_for(url, self.revive), ACCOUNT, CASH)
            stack.enter_context(closing(book))
            book.trap = trap
            paper = PaperBroker(book, self.source, self.clock, calendar(), settings, SeededFaults(self.seed, self.profile))
            latch = LatchFiles(self.folder / "stops")
            broker: Broker = CrashingBroker(paper, book, trap)  # type: ignore[assignment]
            if self.control is not None and self.control.sending is not None:
                broker = self.control.sending(broker)
            yield Desk(
                environment=ENVIRONMENT, world=World.REPLAY, limits=AccountLimits(max_open_orders=40, max_day_loss=Decimal(50_000)),
                clock=self.clock, calendar=calendar(), ledger=CrashingLedger(ledger, trap, self.lease_seconds),  # type: ignore[arg-type]
                archive=ParquetArchive(self.folder / "archive"), market=self.source, splits={},
                objects=LocalObjects(self.folder / "objects"), charts=PngCharts(), deciders={"rules": RulesAgent()},
                broker=LatchedBroker(broker, latch), latch=latch, anchors=AnchorFile(self.folder / "anchors.jsonl"),
                journal=JournalFile(self.folder / "journal.jsonl"),
            )

    def step(self, name: str) -> Step:
        """A step of the cycle; of a control, its own step `orders`."""
        wrong = self.control.orders if self.control is not None else None
        if name != "orders" or wrong is None:
            return STEPS[name]
        return lambda desk, cycle: wrong(desk, cycle, self.server.superuser_url(self.database))

    def revive(self) -> EmbeddedPostgres:
        """Start the server again after somebody killed it."""
        return EmbeddedPostgres.start(self.server.data_dir)


# What a process does


def begin(house: House) -> None:
    """The first process of a round: the strategies begin."""
    with house.desk() as desk:
        for spec in strategies(house.seed):
            controls.create(desk, spec, actor=PERSON)
            controls.start(desk, spec.name, actor=PERSON)


def play(house: House, trap: Trap, life: int, turns: int) -> None:
    """A process's life: what was left is taken up first, then some minutes of trading; it may end anywhere."""
    _quick()
    chance = random.Random(f"{house.seed}/{life}")
    with house.desk(trap) as desk:
        # As every process does that opens a home.
        resume_stop(desk)
        follow(house, desk, "start")
        for _ in range(turns):
            minute(house, desk, chance)


def keep(house: House, trap: Trap) -> None:
    """The desk's process: it alone places orders, for whoever asks, until somebody kills it."""
    _quick()
    with house.desk(trap) as desk:
        desk_process.attend(desk, lambda: False, lambda _: None)


def ask_the_desk(house: House, keeper: Child, life: int, turns: int) -> None:
    """Trade through the desk's process once it is there, and without it when it has gone."""
    _quick()
    with house.desk() as desk:
        until = time.monotonic() + 5
        while not handover.attended(desk) and not keeper.is_gone() and time.monotonic() < until:
            time.sleep(0.01)
    play(house, Trap(), life, turns)


def _quick() -> None:
    """A desk whose death is known in a second, to whoever takes up what it left as well."""
    handover.SILENT_SECONDS, pulse.BEAT_SECONDS, desk_process.SETTLE_SECONDS, desk_process.TURN_SECONDS = 0.8, 0.1, 0.1, 0.01


def minute(house: House, desk: Desk, chance: random.Random) -> None:
    """A minute of trading: what is due, what a person decides, what is released, and the look at open orders."""
    for cycle in due_cycles(desk):
        for name in STEPS:
            house.step(name)(desk, cycle)
    for row in desk.ledger.find("approvals", state="pending"):
        decide = approvals.approve if chance.random() < 0.8 else approvals.reject
        # Somebody decided, or time did, between the look and the word.
        with suppress(Conflict):
            decide(desk, row["action_id"], actor=PERSON)
    for _ in range(4):
        instant = approvals.next_instant(desk)
        if instant is None or instant > desk.now() + timedelta(seconds=45):
            break
        house.clock.advance_to(instant)
        follow(house, desk, "release")
    _interfere(desk, chance)
    house.clock.advance_to(desk.now().replace(second=0, microsecond=500_000) + timedelta(minutes=1))
    follow(house, desk, "orders")


def _interfere(desk: Desk, chance: random.Random) -> None:
    """Now and then a person pauses a strategy, and resumes it soon."""
    for row in desk.ledger.find("strategies"):
        if row["state"] in (StrategyState.PAUSED_USER.value, StrategyState.PAUSED_RISK.value):
            # Refused while book and broker disagree, or while the account is latched: the person tries again in a minute.
            with suppress(StrategyError, Conflict):
                controls.resume(desk, row["name"], actor=PERSON)
        elif row["state"] == StrategyState.RUNNING.value and chance.random() < 0.08:
            controls.pause(desk, row["name"], actor=PERSON)


def follow(house: House, desk: Desk, what: str) -> None:
    """A run for what may go out now and for open orders, as the sensors launch it; never twice under one name."""
    house.clock.advance(0.001)
    due = approvals.due(desk)
    approvals.expire(desk, due.overdue)
    cycle = follow_up(due.released, desk.today(), desk.now(), what)
    for name in FOLLOW_UP_STEPS:
        house.step(name)(desk, cycle)


UNSETTLED = ("intent", "submitted", "unknown", "cancel_pending", "late_found")


def settle_to_quiet(house: House) -> list[str]:
    """Let time pass until there is nothing left to ask about any order; what is left after all.

    One bar cycle comes first: it is what takes up the decisions that killed ones have left behind.
    """
    _quick()
    with house.desk() as desk:
        house.clock.advance(150)
        minute(house, desk, random.Random(house.seed))
    with house.desk() as desk:
        # What is sent while it settles may be hidden as long as what was sent before.
        for seconds in (1, 31, *(66, 6, 6, LATEST.total_seconds(), 6) * 4):
            house.clock.advance(seconds)
            follow(house, desk, "quiet")
            if house.clock.now() > _shown_by(house, desk) and not _unsettled(desk) and not is_exposed(desk):
                break
        return _unsettled(desk)


def _shown_by(house: House, desk: Desk) -> datetime:
    """When the broker shows whatever was sent to it."""
    sent = [row["submitted_at"] for row in desk.ledger.find("orders") if row["submitted_at"] is not None]
    return max(sent, default=house.clock.now()) + (LATEST if house.profile == "shows late" else timedelta(0))


def _unsettled(desk: Desk) -> list[str]:
    left = [f"{row['client_id']} is {row['state']}" for row in desk.ledger.find("orders", state=UNSETTLED)]
    left += [f"{row['action_id']} is {row['state']}" for row in desk.ledger.find("actions", state=("proposed", "ready", "approved"))]
    heard = "" if left else news(desk)
    return [*left, *([f"news: {heard}"] if heard else [])]


def unverified(house: House) -> list[str]:
    """What stored rows and hashes do not have from the events."""
    with house.desk() as desk:
        difference = verify(desk.ledger).difference
        return [] if difference is None else [str(difference)]


def broken_rules(house: House) -> list[str]:
    """Which invariants the record breaks, by the oracle that shares no code with the system."""
    with house.desk() as desk:
        return [str(violation) for violation in check(exported(event) for event in desk.ledger.scan())]


def exported(event: Event) -> dict[str, Any]:
    """An event as the export writes it."""
    return {
        "seq": event.seq, "stream": event.stream, "stream_seq": event.stream_seq, "key": event.key, "type": event.type.value,
        "schema": event.schema, "cause": event.cause, "actor": event.actor, "at": event.at.isoformat(),
        "recorded_at": event.recorded_at.isoformat(), "payload": event.payload, "hash": event.hash.hex(),
    }
