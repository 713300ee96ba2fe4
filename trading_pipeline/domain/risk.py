"""The rulebook: (OrderIntent, RiskContext) -> one verdict per rule, all always evaluated, no bypass.

Total and fail-closed: what is missing, not finite or stale is a DENY, and an exception inside a rule is a
DENY of that rule. What the class matrix exempts shows as EXEMPT, what a world cannot supply as
NOT_APPLICABLE (D30), never silently passed.
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import OrderIntent
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.strategies import Mode, StrategyState


class World(StrEnum):
    """Where the inputs come from; decides which of them must be there (D30)."""

    LIVE = "live"
    REPLAY = "replay"
    BACKTEST = "backtest"


class Outcome(StrEnum):
    """What one rule says. Only DENY and HALT stop an order; HALT also asks a person."""

    ALLOW = "allow"
    DENY = "deny"
    HALT = "halt"
    EXEMPT = "exempt"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One rule's answer with the measured value and the limit, as text a person can read."""

    rule: str
    outcome: Outcome
    measured: str
    limit: str
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether this rule lets the order go."""
        return self.outcome not in (Outcome.DENY, Outcome.HALT)


@dataclass(frozen=True, slots=True)
class Judgement:
    """All verdicts on one intent, in the rulebook's order."""

    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every rule lets it go."""
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def denials(self) -> tuple[Verdict, ...]:
        """The rules that stopped it."""
        return tuple(verdict for verdict in self.verdicts if not verdict.passed)


@dataclass(frozen=True, slots=True)
class Quote:
    """Best prices of one symbol in USD, stamped with the market clock."""

    symbol: str
    bid: Decimal
    ask: Decimal
    last: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class RiskContext:
    """Everything a rule may look at; None means unknown, and unknown denies where the rule applies.

    Money in USD. Exposures are worst-case: held shares at the mark plus working, unknown and admitted
    (READY, APPROVED) entries at their worst price, the judged action excluded.
    """

    now: datetime
    world: World
    session: Session | None
    """The session whose regular hours contain `now`."""
    mode: Mode
    strategy_state: StrategyState
    latched: bool
    """The account is under an emergency stop."""
    account_limits: AccountLimits
    strategy_limits: StrategyLimits
    universe: frozenset[str]
    """Symbols the strategy may touch."""

    equity: Decimal | None
    buying_power: Decimal | None
    account_day_pnl: Decimal | None
    strategy_day_pnl: Decimal | None

    quote: Quote | None
    interval: Interval
    bar_end: datetime | None
    """When the newest closed bar of the symbol ended."""
    bar_expected_end: datetime | None
    """When the newest bar that ought to exist ended, by the calendar."""
    average_day_volume: Decimal | None
    """Shares a session over up to 20 prior sessions, or derived from short history (invariant 38)."""
    short_history: bool
    halted: bool | None

    position: int
    """Shares of the symbol the strategy holds."""
    open_exit_quantity: int
    """Shares in working exits, OCO pairs counted once."""
    symbol_exposure: Decimal | None
    """Account-wide in this symbol."""
    strategy_symbol_exposure: Decimal | None
    sector: str | None
    sector_exposure: Decimal | None

    last_trade_at: datetime | None
    """The strategy's last submission or entry fill (D3)."""
    last_action_at: datetime | None
    """The last admitted action of (account, strategy, symbol, side), other than this one (D4)."""
    last_account_order_at: datetime | None
    orders_last_hour: int
    """Submissions of classes E and X in the sliding hour or the clock hour, whichever is more (D15)."""
    open_orders: int
    day_notional: Decimal
    consecutive_rejects: int
    open_action: str | None
    """An open action or working entry of the same (strategy, symbol, side), other than this one (D29)."""
    unknown_order: str | None
    """An order of this symbol whose outcome nobody knows, or a quarantine."""
    leveraged_symbols: frozenset[str] = field(default_factory=frozenset)
    at_release: datetime | None = None
    """When a paced action will be released; cooldowns are judged at that instant before the gate."""


def judge(intent: OrderIntent, context: RiskContext) -> Judgement:
    """Evaluate every rule on one intent."""
    raise NotImplementedError
