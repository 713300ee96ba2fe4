"""Every port on one page: what the services need of the world, and nothing of how it is done.

Each port has one contract test class that every adapter, fakes included, inherits.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from trading_pipeline.domain.bars import BarTable, Floats, Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.derivation import Difference
from trading_pipeline.domain.events import Event, EventType, NewEvent, canonical_payload
from trading_pipeline.domain.indicators import IndicatorSpec
from trading_pipeline.domain.orders import OrderType, Side, TimeInForce
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.risk import Quote
from trading_pipeline.domain.signals import Decision
from trading_pipeline.domain.strategies import Agent


class Clock(Protocol):
    """The market clock (D28): the only source of `now` on any decision path."""

    def now(self) -> datetime:
        """The present instant of the market, aware UTC, never going back within a process."""


# The record

LEASE_SECONDS = 30.0
"""How long a lease outlives its last renewal."""


class Reader(Protocol):
    """Reading the ledger: committed facts and the tables kept from them."""

    def get(self, table: str, *key: Any) -> Row | None:
        """One row by key."""

    def find(
        self, table: str, *, since: tuple[str, datetime] | None = None, order_by: str | None = None, descending: bool = False,
        limit: int | None = None, **equals: Any,
    ) -> list[Row]:
        """Rows whose columns equal the given values (a collection: any of them).

        Args:
            since: (instant column, earliest value included).
            order_by: A column; by key when None.
        """

    def event(self, seq: int) -> Event | None:
        """One event by seq."""

    def event_by_key(self, key: str) -> Event | None:
        """One event by its key."""

    def events(
        self, *, after: int = 0, types: Collection[EventType] = (), stream: str | None = None, limit: int | None = None,
    ) -> list[Event]:
        """Events in order of seq, after a seq, optionally of some types or one stream."""

    def head(self) -> tuple[int, bytes]:
        """The newest seq and its hash; (0, GENESIS) when empty."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The number under which a lease was taken: each new holder's is higher, and so is the one after a revocation (invariant 22)."""

    name: str
    token: int


@dataclass(frozen=True, slots=True)
class Health:
    """What a long-running process last said of itself."""

    name: str
    age: float
    """Seconds since, by the ledger's own clock."""
    content: Mapping[str, Any]


class Transaction(Reader, Protocol):
    """A serialised write: the head is locked from entering to leaving, all or nothing is written."""

    def append(self, *events: NewEvent) -> list[Event]:
        """Append facts and change the tables; a key that exists returns the stored event and changes nothing.

        Raises:
            IllegalTransition: An event does not follow from its row; the transaction is lost.
        """

    def is_new(self, event: Event) -> bool:
        """Whether this transaction appended the event (it did not exist before)."""

    def require(self, fence: Fence) -> None:
        """Make sure that the lease is still held under this fence, until the transaction ends.

        Raises:
            Fenced: Somebody else has taken the lease, or it was revoked.
        """


class Ledger(Reader, Protocol):
    """The one record."""

    @property
    def environment(self) -> str:
        """live, paper, backtest or demo: stamped at creation."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin a serialised write; commits on leaving, rolls back on an exception."""

    def lease(self, name: str, wait_seconds: float = 10.0, life_seconds: float = LEASE_SECONDS) -> AbstractContextManager[Fence]:
        """Hold a named lock among all processes on this ledger, under a new fence.

        A holder that has not renewed it for `life_seconds` (a stopped process) loses it to whoever asks.

        Raises:
            LedgerUnavailable: Not had in time.
        """

    def renew(self, fence: Fence) -> None:
        """Say that the holder is alive; Fenced when the lease is no longer held under this fence."""

    def revoke(self, name: str) -> None:
        """Raise the fence of a lease without taking it: what its holder has not submitted yet it can no longer submit."""

    def beat(self, name: str, content: Mapping[str, Any]) -> None:
        """Renew a process's health row; JSON values."""

    def health(self, name: str) -> Health | None:
        """The health row, if there ever was one."""

    def scan(self, first: int = 1, last: int | None = None) -> Iterator[Event]:
        """All events in order of seq, streamed, bounded in memory."""

    def dump(self, table: str) -> Iterator[Row]:
        """All rows of a table in key order."""

    def rebuild(self) -> int:
        """Write the tables anew from the events; returns how many events were folded."""

    def close(self) -> None:
        """Let go of connections."""


class Past(Reader, Protocol):
    """The ledger as it was right after one of its events, worked out from the events up to there."""

    def add(self, event: Event) -> Difference | None:
        """Go on by the next event; a difference says that it does not follow, and ends it."""

    def dump(self, table: str) -> Iterator[Row]:
        """All rows of a table in key order."""


# Market data


@dataclass(frozen=True, slots=True)
class Appended:
    """What an archive did with bars offered to it."""

    added: int
    replaced: int
    unchanged: int


class MarketData(Protocol):
    """A source of bars and quotes, seen as of an instant: never a bar that has not closed."""

    @property
    def name(self) -> str:
        """What people call it: `samples`, `files`, `synthetic`, `yfinance`."""

    def intervals(self, symbol: str) -> tuple[Interval, ...]:
        """What it has of a symbol, finest first; empty when the symbol is unknown."""

    def closed_bars(
        self, symbols: Sequence[str], interval: Interval, after: datetime | None, until: datetime,
    ) -> Mapping[str, BarTable]:
        """Unadjusted bars with `end > after` (all when None) and `end <= until`, one table a symbol, maybe empty."""

    def opening_bar(self, symbol: str, interval: Interval, at: datetime) -> tuple[datetime, Decimal] | None:
        """(start, open) of the bar with start <= at < end: published at its start, nothing else of it is known."""

    def quotes(self, symbols: Sequence[str], at: datetime) -> Mapping[str, Quote]:
        """Best prices as of `at`; a symbol without one is left out."""


class BarArchive(Protocol):
    """Unadjusted closed bars, kept for good as columnar files."""

    def append(self, table: BarTable) -> Appended:
        """Add bars; a bar that is there already is unchanged if equal and replaced if not."""

    def append_many(self, tables: Sequence[BarTable]) -> list[Appended]:
        """`append` for many tables at once."""

    def read(self, symbol: str, interval: Interval, *, until: datetime, count: int | None = None) -> BarTable:
        """The newest `count` bars that have closed by `until`."""

    def read_many(
        self, symbols: Sequence[str], interval: Interval, *, until: datetime, count: int | None = None,
    ) -> dict[str, BarTable]:
        """`read` for many symbols at once."""

    def symbols(self, interval: Interval | None = None) -> tuple[str, ...]:
        """What it holds, sorted."""

    def sessions(self, symbol: str, interval: Interval) -> tuple[date, ...]:
        """The sessions it holds bars of."""


class ObjectStore(Protocol):
    """Immutable bytes by their SHA-256."""

    def put(self, content: bytes, suffix: str) -> str:
        """Store bytes (idempotent) and return the digest in hex; `suffix` is such as `.png`."""

    def get(self, digest: str) -> bytes:
        """The bytes; StorageError when absent or when they no longer have that digest."""

    def locate(self, digest: str) -> str:
        """Where a person finds them: a path or an URL without secrets."""


class ChartRenderer(Protocol):
    """Makes the picture of a chart."""

    def render(self, spec: ChartSpec, bars: BarTable, columns: Mapping[str, Floats]) -> bytes:
        """A PNG of the newest `spec.bars` bars; `columns` are aligned with `bars`."""


# Decisions


@dataclass(frozen=True, slots=True)
class Question:
    """What a decision maker is asked about one symbol, as of the newest bar in `bars`.

    `bars` and `columns` are split-adjusted and aligned; `bars_held` counts closed bars since the
    position was opened (None when flat).
    """

    strategy: str
    agent: Agent
    symbol: str
    bars: BarTable
    columns: Mapping[str, Floats]
    bars_held: int | None
    chart: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision with what it cost: tokens and USD; `raw` is the reply as it came."""

    decision: Decision
    provider: str
    model: str
    raw: str
    tokens_in: int = 0
    tokens_out: int = 0
    cost: Decimal = Decimal(0)


class DecisionMaker(Protocol):
    """A model, or the rules agent in its place. No tool it can reach places an order."""

    @property
    def provider(self) -> str:
        """`rules`, later `anthropic`, `openai`, `claude-code`."""

    def needs(self, agent: Agent) -> tuple[IndicatorSpec, ...]:
        """The indicators the agent looks at, so that they are computed before it is asked."""

    def decide(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer a question, in order; anything imperfect is an Abstain, never an exception."""


# Broker


class BrokerStatus(StrEnum):
    """What a broker says of an order."""

    HELD = "held"
    """A bracket's child, waiting for its parent's fill."""
    WORKING = "working"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Ticket:
    """The bytes of one order as the broker gets them. Children become active with their parent's fills."""

    client_id: str
    symbol: str
    side: Side
    quantity: int
    order_type: OrderType
    limit_price: Decimal | None
    stop_price: Decimal | None
    time_in_force: TimeInForce
    children: tuple["Ticket", ...] = ()
    oco: str | None = None
    """Tickets of one group cancel each other."""


def ticket_digest(ticket: Ticket) -> str:
    """SHA-256 in hex over the canonical JSON of every field, children included: what a permit is good for (invariant 24)."""
    return hashlib.sha256(canonical_payload(encode(ticket)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class BrokerOrder:
    """An order as the broker knows it."""

    client_id: str
    broker_order_id: str
    ticket: Ticket
    status: BrokerStatus
    filled_quantity: int
    reason: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class BrokerAccount:
    """Balances as the broker states them, USD."""

    account: str
    cash: Decimal
    equity: Decimal
    buying_power: Decimal


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to submit one ticket, made by the gate alone and good for a few seconds (invariants 23, 32)."""

    client_id: str
    digest: str
    granted_at: datetime
    submitted_seq: int
    strategy: str
    good_until: float
    """By this process's monotonic clock, seconds: a submission that was held up is not sent."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a broker can do, declared by its adapter and held to it by the conformance suite."""

    visibility: timedelta
    """How long after its submission an order may still not show in queries (invariant 15)."""
    deduplicates: bool
    """A client id is accepted once, ever."""
    brackets: bool
    """It holds an entry's stops and targets itself, one cancelling the other."""
    in_place: bool
    """Whoever holds the lease may submit; otherwise only the desk's process, which has the session."""


class Broker(Protocol):
    """A broker's account. Reads may be repeated; `submit` is called once an order, ever."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    @property
    def name(self) -> str:
        """`paper`, later `ibkr`, `etrade`, `robinhood`."""

    @property
    def account_id(self) -> str:
        """The account that orders go to."""

    def submit(self, ticket: Ticket, permit: Permit) -> BrokerOrder:
        """Place an order with its children.

        Raises:
            BrokerRefused: Definitely not placed.
            BrokerNotReady: Nothing was sent.
            OutcomeUnknown: It may have been placed; only a query can tell.
        """

    def cancel(self, client_id: str) -> None:
        """Ask to cancel; idempotent. The order's status says what became of it."""

    def orders(self, client_ids: Collection[str] | None = None) -> list[BrokerOrder]:
        """The named orders, or all open ones when None; unknown names are left out."""

    def executions(self, since: datetime) -> list[tuple[str, Fill]]:
        """(client id, fill) of every execution at or after an instant, in order of time."""

    def positions(self) -> dict[str, int]:
        """Shares a symbol, zero left out."""

    def account(self) -> BrokerAccount:
        """Balances now."""

    def paid_in_lieu_at(self, symbol: str, split_at: datetime) -> Decimal | None:
        """USD an old share at which fractions were paid at the split that counts from an instant; None where it states none."""


# What stands outside the database


@dataclass(frozen=True, slots=True)
class Stop:
    """An emergency stop in force: of one strategy, for ever, or of the account until a person clears the latch."""

    strategy: str | None
    """None: the whole account."""
    reason: str
    actor: str
    at: datetime


class Latch(Protocol):
    """Emergency stops as files: readable and writable with everything else down (invariants 51, 52, 55)."""

    def stop(self, stop: Stop) -> Stop:
        """Latch; durable on return. What is latched already stays as it was and is returned.

        Raises:
            StorageError: It could not be made durable: nothing is confirmed.
        """

    def stops(self) -> list[Stop]:
        """Every stop in force, read anew; one that cannot be read stops the whole account."""

    def standing(self, strategy: str) -> Stop | None:
        """The stop that keeps the strategy from sending anything, if there is one."""

    def clear(self) -> None:
        """Take the account's latch away; those of strategies stay."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The chain's head as it was once."""

    seq: int
    hash: bytes
    at: datetime


class Anchors(Protocol):
    """Heads of the chain outside the database, so that truncation, rewriting and an old backup are found (invariant 4)."""

    def record(self, anchor: Anchor) -> None:
        """Write it down for good; one that is no later than the newest changes nothing."""

    def restart(self, anchor: Anchor) -> None:
        """Begin anew from this head: a person has accepted a ledger that is older than the anchors, which no longer count."""

    def all(self) -> list[Anchor]:
        """Those that count, oldest first."""

    def newest(self) -> Anchor | None:
        """The last one."""


# Composition


@dataclass(frozen=True, slots=True)
class Home:
    """Folders of one installation; see `settings`."""

    root: Path

    @property
    def archive(self) -> Path:
        """Parquet bars."""
        return self.root / "archive"

    @property
    def objects(self) -> Path:
        """Charts by digest."""
        return self.root / "objects"

    @property
    def database(self) -> Path:
        """The embedded PostgreSQL's data folder."""
        return self.root / "postgres"

    @property
    def stops(self) -> Path:
        """Emergency stops in force."""
        return self.root / "stops"

    @property
    def anchors(self) -> Path:
        """Heads of the chain, outside the database."""
        return self.root / "anchors.jsonl"

    @property
    def journal(self) -> Path:
        """What happened while the ledger could not be written."""
        return self.root / "journal.jsonl"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME."""
        return self.root / "dagster"


Events = Iterable[NewEvent]
