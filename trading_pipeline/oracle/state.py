"""What the oracle knows after each fact: its own fold of the ledger, kept as small as the checks need it.

The transition tables are typed in from INVARIANTS 3.1 to 3.3. A fact that the tables forbid is folded all the same, so that one
violation does not become a hundred.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from trading_pipeline.oracle.fact import GENESIS, ZERO

WORKING = frozenset({"submitted", "unknown", "accepted", "partial", "cancel_pending", "late_found"})
FILLS = frozenset({"order.filled", "order.partially_filled"})
EXTERNAL = "EXTERNAL"

ORDER_MOVES: dict[str, dict[str, str]] = {
    "intent": {"order.submitted": "submitted", "order.denied": "denied"},
    "submitted": {"order.accepted": "accepted", "order.rejected": "rejected", "order.unknown": "unknown"},
    "unknown": {
        "order.accepted": "accepted", "order.canceled": "canceled", "order.rejected": "rejected", "order.expired": "expired",
        "order.not_placed": "not_placed", "order.unknown": "unknown", "order.cancel_requested": "cancel_pending",
        "order.released": "canceled",
    },
    "not_placed": {"order.late_found": "late_found", "order.not_placed": "not_placed"},
    "accepted": {
        "order.canceled": "canceled", "order.expired": "expired", "order.rejected": "rejected", "order.cancel_requested": "cancel_pending",
        "order.unknown": "unknown",
    },
    "partial": {
        "order.canceled": "canceled", "order.expired": "expired", "order.rejected": "rejected", "order.cancel_requested": "cancel_pending",
        "order.unknown": "unknown",
    },
    "late_found": {"order.cancel_requested": "cancel_pending"},
    "cancel_pending": {
        "order.canceled": "canceled", "order.cancel_requested": "cancel_pending", "order.unknown": "unknown", "order.accepted": "before",
    },
    "canceled": {"order.late_found": "late_found"}, "expired": {}, "denied": {}, "rejected": {}, "filled": {},
    "quarantined": {"order.released": "canceled"},
}
"""3.2, fills aside: an execution is booked in every state (invariant 19). `before`: a cancel was refused. Any state may be quarantined."""

ACTION_MOVES: dict[str, frozenset[str]] = {
    "proposed": frozenset({"denied", "ready", "pending"}),
    "pending": frozenset({"approved", "rejected", "expired", "voided"}),
    "approved": frozenset({"consumed", "expired", "voided"}),
    "ready": frozenset({"consumed", "expired", "voided"}),
}
"""3.1; every other state is an end."""

STRATEGY_MOVES: dict[str, frozenset[str]] = {
    "draft": frozenset({"starting", "emergency_stopped"}),
    "starting": frozenset({"running", "not_ready", "emergency_stopped"}),
    "running": frozenset({"paused_user", "paused_risk", "not_ready", "finished", "emergency_stopped"}),
    "paused_user": frozenset({"running", "finished", "emergency_stopped"}),
    "paused_risk": frozenset({"running", "paused_user", "paused_risk", "finished", "emergency_stopped"}),
    "not_ready": frozenset({"running", "starting", "paused_user", "paused_risk", "finished", "emergency_stopped"}),
}
"""3.3; FINISHED and EMERGENCY_STOPPED are ends."""


@dataclass(slots=True)
class Order:
    """An order from its intent on. Prices in USD a share."""

    client_id: str
    action_id: str
    part: str
    parent: str | None
    oco: str | None
    account: str
    strategy: str
    symbol: str
    side: str
    kind: str
    """E, X or P."""
    order_type: str
    time_in_force: str
    quantity: int
    reference: Decimal
    limit: Decimal | None
    stop: Decimal | None
    session: str
    intent_at: datetime
    intent_actor: str
    state: str = "intent"
    before_cancel: str = ""
    filled: int = 0
    submitted_at: datetime | None = None
    broker_id: str = ""
    pair_filled: int = 0
    """Shares that its OCO group had filled before it joined."""
    verdict_seq: int | None = None
    digest: str = ""
    looks: list[datetime] = field(default_factory=list)
    """When it was looked for and not found, since it was last seen."""

    @property
    def worst(self) -> Decimal:
        """The price its value is measured at (D1)."""
        return max(self.reference, self.limit or ZERO, self.stop or ZERO)

    @property
    def left(self) -> int:
        """Shares that may still fill."""
        return max(0, self.quantity - self.filled)

    @property
    def head(self) -> bool:
        """Whether it was sent for itself, not as another one's child."""
        return self.parent is None


@dataclass(slots=True)
class Action:
    """A proposal, and the approval asked for it if there was one."""

    action_id: str
    strategy: str
    symbol: str
    side: str
    generated_at: datetime
    session: str
    state: str = "proposed"
    passed: bool = False
    verdict_hash: str = ""
    not_before: datetime | None = None
    expires_at: datetime | None = None
    shown: dict[str, Any] | None = None
    hash: str = ""
    nonce: str = ""
    asked_until: datetime | None = None
    approved: bool = False
    heads: list[str] = field(default_factory=list)
    """Orders sent for it, children aside."""


@dataclass(slots=True)
class Strategy:
    """A strategy with its definition in force and what its pace is judged by."""

    name: str
    spec: dict[str, Any]
    state: str = "draft"
    version: int = 1
    reason: str = ""
    started_at: datetime | None = None
    """When it was last told to start."""
    submissions: deque[tuple[datetime, str]] = field(default_factory=deque)
    """(instant, action) of entries and exits of the last hour."""
    last_entry_fill: tuple[datetime, str] | None = None
    recent: deque[Order] = field(default_factory=lambda: deque(maxlen=32))
    """Its newest orders, children aside, for counting rejections in a row."""


@dataclass(slots=True)
class Execution:
    """A fill as booked."""

    execution_id: str
    strategy: str
    account: str
    symbol: str
    side: str
    quantity: int
    price: Decimal
    commission: Decimal
    at: datetime


@dataclass(slots=True)
class Position:
    """Shares of one strategy in one symbol at average cost, with what made it, so that a correction can be folded anew."""

    quantity: int = 0
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    made_of: list[Any] = field(default_factory=list)
    """Executions, and splits as (ratio, quantity after, USD in lieu)."""


@dataclass(frozen=True, slots=True)
class Session:
    """A day's beginning or, once it is closed, its end: equity, and what had been deposited by then."""

    open: bool
    equity: Decimal
    deposited: Decimal
    made: Mapping[str, Decimal] = field(default_factory=dict)
    """USD that each strategy had made when it began."""


@dataclass(slots=True)
class Verdict:
    """What the gate said."""

    seq: int
    stage: str
    action_id: str
    client_id: str
    passed: bool
    at: datetime
    losses: dict[str, Decimal]
    """What it measured as the day's losses, USD by rule."""


@dataclass(slots=True)
class Talk:
    """A question to a model. `bounded`: it cannot cost more than was reserved."""

    day: str
    reserved: Decimal
    bounded: bool
    ended: str = ""
    """The type of the fact that settled it."""


@dataclass(slots=True)
class State:
    """Everything that follows from the facts so far."""

    seq: int = 0
    hash: bytes = GENESIS
    streams: dict[str, int] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    environment: str = ""
    orders: dict[str, Order] = field(default_factory=dict)
    open: dict[str, Order] = field(default_factory=dict)
    """Those that count in full: submitted, unknown or working."""
    quarantined: dict[str, Order] = field(default_factory=dict)
    children: dict[str, list[Order]] = field(default_factory=dict)
    broker_ids: dict[str, str] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    """The number of the lease under which an account's newest order was sent."""
    oco_filled: dict[str, int] = field(default_factory=dict)
    actions: dict[str, Action] = field(default_factory=dict)
    unfinished: dict[str, Action] = field(default_factory=dict)
    """Actions that are pending, approved or ready."""
    admitted: dict[tuple[str, str, str], deque[Action]] = field(default_factory=dict)
    """The newest admitted actions by strategy, symbol and side."""
    strategies: dict[str, Strategy] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    positions: dict[tuple[str, str], Position] = field(default_factory=dict)
    cash: dict[str, Decimal] = field(default_factory=dict)
    limits: dict[str, dict[str, Any]] = field(default_factory=dict)
    limits_version: dict[str, int] = field(default_factory=dict)
    granted: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    """USD that a person let a day's loss grow by, by scope (a strategy, or `account`) and session."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """The newest of the gate by client id."""
    latched: dict[str, str] = field(default_factory=dict)
    """Accounts under an emergency stop, and why."""
    last_heads: deque[tuple[datetime, str]] = field(default_factory=lambda: deque(maxlen=64))
    """(instant, action) of the account's newest orders, children aside."""
    notional: dict[str, Decimal] = field(default_factory=dict)
    """USD of the entries and exits sent, by session."""
    sessions: dict[str, Session] = field(default_factory=dict)
    last_closed: str = ""
    deposited: Decimal = ZERO
    """USD paid in less paid out."""
    prices: dict[str, Decimal] = field(default_factory=dict)
    """The newest price of each symbol that the record tells."""
    last_bar: dict[tuple[str, str, str], datetime] = field(default_factory=dict)
    """End of the newest bar by cycle, symbol and interval; of the present cycle only."""
    bar_cycle: str = ""
    talks: dict[int, Talk] = field(default_factory=dict)
    """Questions to models, by the seq of their requests."""
    model_spend: dict[str, Decimal] = field(default_factory=dict)
    """USD spent and reserved, by day."""
    model_replies: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """The newest, by seq."""
    words: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    """By strategy and prompt: the digests of the words it may be asked with, those of its last request and what was let go on since."""
    checks: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """Outcomes of the golden set, by seq."""
    indicator_values: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """By cycle and symbol; of the present cycle only."""
    indicator_cycle: str = ""

    def held(self, strategy: str, symbol: str) -> int:
        """Shares of a strategy."""
        position = self.positions.get((strategy, symbol))
        return position.quantity if position is not None else 0

    def spec_limit(self, strategy: str, name: str) -> Decimal:
        """A limit of a strategy, as a number."""
        return Decimal(str(self.strategies[strategy].spec["limits"][name]))

    def limit(self, account: str, name: str) -> Decimal:
        """A limit of an account, as a number; durations in seconds."""
        return Decimal(str(self.limits[account][name]))

    def session_of(self, order: Order) -> date:
        """The session an order belongs to."""
        return date.fromisoformat(order.session)
