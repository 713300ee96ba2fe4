"""The world of the stop drill: a real PostgreSQL, the paper broker in it, and strategies whose orders rest or go out one by one.

Strategies are many and small, so that one cycle has a hundred orders under way: each buys on a pullback that never comes, or at once.
The market clock is shared by forked processes and stands still unless it is moved.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from tests.desks import NEVER, OPEN, PERSON, bars, calendar, market, strategy
from tests.evidence.crashing.house import SharedClock
from tests.evidence.crashing.points import CrashingBook, CrashingBroker, CrashingLedger, Trap
from trading_pipeline.adapters.anchor_file import AnchorFile
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.adapters.brokers.paper import PaperBroker
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.adapters.brokers.paper_faults import FaultPlan
from trading_pipeline.adapters.chart_png import PngCharts
from trading_pipeline.adapters.journal_file import JournalFile
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.adapters.ledger.connecting import engine_for
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.late import LateLedger
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.adapters.llm.rules import RulesAgent
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.adapters.market_data.table_market import TableMarket
from trading_pipeline.adapters.objects.local import LocalObjects
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.orders import OrderState
from trading_pipeline.domain.risk import World as MarketWorld
from trading_pipeline.domain.strategies import Entry, ExpressionAgent, FractionSizing, StrategySpec
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.cycle import run_cycle, run_follow_up
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.orders.adoption import is_ours
from trading_pipeline.service.record.judgement import judge
from trading_pipeline.service.record.verification import verify
from trading_pipeline.service.stopping.stop_orders import OPEN_ORDERS
from trading_pipeline.service.submitter.recovery import resume_stop
from trading_pipeline.service.timetable import newest_cycle

ACCOUNT, ENVIRONMENT = "PAPER-1", "paper"
CASH = Decimal(10_000_000)
LIMITS = AccountLimits(
    max_open_orders=1_000, min_order_gap=timedelta(microseconds=1), max_day_notional=Decimal(100_000_000), max_day_loss=Decimal(1_000_000),
)
BEGINS = OPEN + timedelta(seconds=1)
PULLBACK = datetime(2024, 8, 26, 13, 30, tzinfo=UTC)
"""The bar with the low that resting entries wait for."""


def symbols(many: int) -> list[str]:
    """`A`, `B` ... `AA`: names of the market."""
    letters = "BCDFGHJKMN"
    return [f"{letters[n // 100]}{letters[n // 10 % 10]}{letters[n % 10]}X" for n in range(many)]


def source(many: int) -> TableMarket:
    """So many symbols at one price, with one low of three per cent below."""
    return market(*(bars(symbol, at={PULLBACK: (100, 100, 97, 100)}) for symbol in symbols(many)))


def resting(many: int) -> list[StrategySpec]:
    """Strategies whose one entry rests below the market."""
    return [_spec(symbol, Entry.PULLBACK) for symbol in symbols(many)]


def hurried(many: int) -> list[StrategySpec]:
    """Strategies whose one entry goes out at once, fills, and leaves a stop and a target."""
    return [_spec(symbol, Entry.NOW) for symbol in symbols(many)]


def _spec(symbol: str, entry: Entry) -> StrategySpec:
    protected = {"stop": Decimal("0.02"), "target": Decimal("0.05")} if entry is Entry.NOW else {}
    sizing = FractionSizing(fraction=Decimal("0.0005"), entry=entry, **protected)
    return strategy(f"s-{symbol.lower()}", symbols=(symbol,), agent=ExpressionAgent("close > 0", NEVER), sizing=sizing)


@dataclass
class World:
    """One home with a database of its own; every process opens its own desk on it."""

    server: EmbeddedPostgres
    database: str
    folder: Path
    source: TableMarket
    clock: SharedClock = field(default_factory=lambda: SharedClock(BEGINS))

    @contextmanager
    def desk(self, trap: Trap | None = None, faults: FaultPlan | None = None, *, emergency: bool = False) -> Iterator[Desk]:
        """A process's own desk. The one place that composes ports; a stop opens the ledger when it asks for it, as in `bootstrap`."""
        trap, url = Ticking(self.clock, trap or Trap()), self.server.app_url(self.database)
        with ExitStack() as stack:
            late = LateLedger(lambda: PostgresLedger.open(url, ENVIRONMENT, opened_at=self.clock.now(), revive=self.revive))
            stack.enter_context(closing(late))
            if not emergency:
                late.head()
            book = CrashingBook(engine_for(url, self.revive), ACCOUNT, CASH)
            stack.enter_context(closing(book))
            book.trap = trap
            paper = PaperBroker(book, self.source, self.clock, calendar(), PaperSettings(account=ACCOUNT, cash=CASH), faults)
            latch = LatchFiles(self.stops)
            broker = CrashingBroker(paper, book, trap)
            yield Desk(
                environment=ENVIRONMENT, world=MarketWorld.REPLAY, limits=LIMITS, clock=self.clock, calendar=calendar(),
                ledger=CrashingLedger(late, trap, 30.0),  # type: ignore[arg-type]
                archive=ParquetArchive(self.folder / "archive"), market=self.source, splits={},
                objects=LocalObjects(self.folder / "objects"), charts=PngCharts(), deciders={"rules": RulesAgent()},
                broker=LatchedBroker(broker, latch), latch=latch,  # type: ignore[arg-type]
                anchors=AnchorFile(self.folder / "anchors.jsonl"), journal=JournalFile(self.folder / "journal.jsonl"),
            )

    @property
    def stops(self) -> Path:
        """Where the latches are."""
        return self.folder / "stops"

    def revive(self) -> EmbeddedPostgres:
        """Start the server again after somebody killed it."""
        return EmbeddedPostgres.start(self.server.data_dir)

    def begin(self, specs: list[StrategySpec]) -> None:
        """The strategies run."""
        with self.desk() as desk:
            for spec in specs:
                controls.create(desk, spec, actor=PERSON)
                controls.start(desk, spec.name, actor=PERSON)

    def cycle(self, trap: Trap | None = None, faults: FaultPlan | None = None) -> None:
        """The morning's cycle: every strategy decides and its order goes out."""
        with self.desk(trap, faults) as desk:
            due = newest_cycle(desk, hurried(1)[0].interval)
            assert due is not None
            run_cycle(desk, due)
            self.clock.advance(0.01)
            released = approvals.due(desk).released
            if released:
                run_follow_up(desk, follow_up(released, desk.today(), desk.now(), "release"))

    def wrong(self, pressed: bool = True) -> list[str]:
        """Boot again and again as time passes, as the next processes do; then what is not as a stop leaves it, in words."""
        for seconds in (0, 1, 66, 6, 66, 6):
            self.clock.advance(seconds)
            with self.desk() as desk:
                resume_stop(desk)
                if not desk.ledger.find("orders", state=OPEN_ORDERS):
                    break
        with self.desk() as desk:
            found = [f"{row['client_id']} is {row['state']}" for row in desk.ledger.find("orders", state=OPEN_ORDERS)]
            found += [f"{row['client_id']} was never sent or denied" for row in desk.ledger.find("orders", state=OrderState.INTENT.value)]
            found += [f"the broker still works {order.client_id}" for order in desk.broker.orders(None) if is_ours(order.client_id)]
            if pressed:
                found += [f"{r['name']} is {r['state']}" for r in desk.ledger.find("strategies") if r["state"] != "emergency_stopped"]
                found += after_the_latch(desk.ledger.events())
                latch = desk.ledger.get("latches", f"account:{ACCOUNT}")
                found += [] if latch is not None and latch["state"] == "latched" and desk.latch.standing("any") else ["it is not latched"]
            report = verify(desk.ledger)
            found += [] if report.ok else [str(report.difference)]
            found += [str(violation) for violation in judge(desk.ledger).violations]
        return found


def after_the_latch(events: list[Event]) -> list[str]:
    """What the ledger has after the account's latch and must not have: submissions, questions to a model, decisions of it."""
    barred = (EventType.ORDER_SUBMITTED, EventType.LLM_REQUESTED, EventType.LLM_ACTION_GENERATED, EventType.ACTION_READY)
    latched = next((event.seq for event in events if event.type is EventType.ACCOUNT_LATCHED), None)
    return [f"{event.type} {event.key} after the latch" for event in events if latched and event.seq > latched and event.type in barred]


class Ticking(Trap):
    """Lets a moment pass at every place, so that orders that are paced go out one after the other."""

    def __init__(self, clock: SharedClock, trap: Trap) -> None:
        super().__init__()
        self._clock = clock
        self._trap = trap

    def at(self, place: str) -> None:
        """Come by a place."""
        self._clock.advance(0.0001)
        self._trap.at(place)


class Pressing(Trap):
    """Does something when a process comes by a place for the first time, and lets it go on."""

    def __init__(self, place: str, press: Callable[[], object]) -> None:
        super().__init__(place)
        self._press = press
        self.pressed = False

    def at(self, place: str) -> None:
        """Come by a place."""
        if place == self.place and not self.pressed:
            self.pressed = True
            self._press()
