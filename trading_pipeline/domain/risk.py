"""What the rulebook is asked and what it answers: context, verdicts, judgement.

A verdict carries its measured value and its limit as text, so that the ledger, the approval page and the
command line show the same words. The rules stand in `rules`, their order and who they apply to in
`rulebook`; nothing here decides.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.round_trips import RoundTrip
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.strategies import Mode, StrategyState
from trading_pipeline.domain.volatility import Volatility


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

    @property
    def halts(self) -> tuple[Verdict, ...]:
        """The rules that also ask a person: the strategy pauses."""
        return tuple(verdict for verdict in self.verdicts if verdict.outcome is Outcome.HALT)

    @property
    def reason(self) -> str:
        """The rules that stopped it as `cooldown, buying_power`, hard limits first; empty when it passed."""
        return ", ".join(verdict.rule for verdict in self.denials)

    def as_json(self) -> list[dict[str, str]]:
        """The verdicts for the payload of `risk.evaluated`."""
        return [
            {"rule": v.rule, "outcome": v.outcome.value, "measured": v.measured, "limit": v.limit, "detail": v.detail}
            for v in self.verdicts
        ]


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

    Only where None is a fact of its own does it not deny: `last_*` (never), `open_action`, `unknown_order`,
    `crossing_order` (there is none), `sector` together with `sector_exposure` (no source of sectors), `volatility` where no
    history is required (D30).
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
    """The account, or this strategy, is under an emergency stop."""
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
    """The strategy's last submission or entry fill (D3), slices of the same action left out."""
    last_action_at: datetime | None
    """The last admitted action of (account, strategy, symbol, side), other than this one (D4)."""
    last_account_order_at: datetime | None
    """The account's last submission of any strategy."""
    orders_last_hour: int
    """Submissions of classes E and X in the sliding hour or the clock hour, whichever is more (D15)."""
    open_orders: int
    """Working entries and exits of the account; protective children rest and are not counted."""
    day_notional: Decimal
    """USD of the day's orders that were sent, each at its worst price (D1); what went out with an entry is not counted beside it."""
    consecutive_rejects: int
    open_action: str | None
    """An open action or working entry of the same (strategy, symbol, side), other than this one (D29)."""
    unknown_order: str | None
    """An order of this symbol whose outcome nobody knows, or a quarantine."""
    crossing_order: str | None = None
    """A working order of the account on the other side of the symbol that this one could trade against."""
    volatility: Volatility | None = None
    """The symbol's breaker (D13); None while its history is too short to measure it."""
    account_loss_granted: Decimal = ZERO
    """What a person let the account lose beyond its limit, this session only (D12)."""
    strategy_loss_granted: Decimal = ZERO
    account_open_risk: Decimal | None = None
    """What holdings would lose from their marks to their stops, and entries under way from their worst price (`day_risk.at_stake`)."""
    strategy_open_risk: Decimal | None = None
    """The same of the strategy; both are read only where a limit needs them."""
    round_trips: tuple[RoundTrip, ...] = ()
    """The strategy's of this session, in order of time."""
    last_losing_exit_at: datetime | None = None
    """When the strategy last sold of this symbol at a loss, this session."""
    clock_offset: timedelta | None = None
    """Our clock against the broker's or NTP (invariant 72)."""
    contract_id: str | None = None
    """The broker's own id of the instrument (invariant 39)."""
    leveraged_symbols: frozenset[str] = field(default_factory=frozenset)
    """Leveraged and inverse products beside those the domain lists."""
    at_release: datetime | None = None
    """When a paced action will be released; cooldowns are judged at that instant before the gate."""
