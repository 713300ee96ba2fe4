"""What a backtest is asked to do, and what came of it: plain values that engines, reports and tests share.

A plan says everything that a result depends on beside the bars; its digest is the backtest's name. A result is read from
the backtest's ledger (`service.backtests.results`), so a live ledger can be reported in the same words. How a backtest runs is
not here.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property

from trading_pipeline.domain.bars import Floats, Interval
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.events import canonical_payload
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.shadow import FillCosts
from trading_pipeline.domain.strategies import StrategySpec


class Replies(StrEnum):
    """Where the replies of models come from; the rules agent answers for itself."""

    CASSETTE = "cassette"
    """Recorded ones only: a question that was never asked is an Abstain, and nothing is paid."""
    RECORD = "record"
    """Recorded ones, and the model itself where there is none, which costs money."""


@dataclass(frozen=True)
class BacktestPlan:
    """Strategies over sessions, from `first` to `last`, both included, in one account of `cash` USD."""

    strategies: tuple[StrategySpec, ...]
    first: date
    last: date
    cash: Decimal = Decimal(100_000)
    limits: AccountLimits = field(default_factory=AccountLimits)
    costs: FillCosts = field(default_factory=FillCosts)
    replies: Replies = Replies.CASSETTE

    @property
    def interval(self) -> Interval:
        """The finest that a strategy decides on."""
        return min((spec.interval for spec in self.strategies), key=lambda each: each.minutes)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Of all strategies, sorted."""
        return tuple(sorted({symbol for spec in self.strategies for symbol in spec.symbols}))

    @cached_property
    def name(self) -> str:
        """`bt-` and ten hex digits: equal plans have equal names."""
        return f"bt-{hashlib.sha256(canonical_payload(encode(self)).encode()).hexdigest()[:10]}"


class ExitReason(StrEnum):
    """Why shares were sold."""

    SIGNAL = "signal"
    STOP = "stop"
    TARGET = "target"
    OPEN = "open"
    """They were not: valued at the last session's close."""
    OTHER = "other"
    """Somebody else's sale, a split's fraction, an emergency."""


@dataclass(frozen=True, slots=True)
class Trade:
    """From flat to flat in one symbol; prices are averages in USD a share, `result` is USD after all commissions, signed.

    `shares` is the most that was held. Of an open one `exit_at` and `exit_price` are the last close, and `result` is unrealised.
    """

    strategy: str
    symbol: str
    shares: int
    entry_at: datetime
    entry_price: Decimal
    exit_at: datetime
    exit_price: Decimal
    result: Decimal
    commissions: Decimal
    exit_reason: ExitReason
    sessions: int
    """From the first to the last it was held in, both counted."""

    @property
    def invested(self) -> Decimal:
        """USD paid for the shares."""
        return self.shares * self.entry_price

    @property
    def gain(self) -> float:
        """The result as a fraction of what was invested."""
        return float(self.result / self.invested) if self.invested else 0.0


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """What came of it. Columns have one value a session, in order; USD."""

    sessions: tuple[date, ...]
    equity: Floats
    """At the close."""
    invested: Floats
    """Market value of what is held at the close."""
    traded: Floats
    """Value of all fills of the session, both sides."""
    commissions: Floats
    trades: tuple[Trade, ...]
    """In order of entry; open ones last."""
    cash: float
    """What the account began with."""
    decisions: Mapping[str, int] = field(default_factory=dict)
    """How often which action or abstention was decided."""
    denials: Mapping[str, int] = field(default_factory=dict)
    """How often which rule stopped a proposal."""
    assumptions: tuple[str, ...] = ()
    """Source of the bars, adjustments, survivorship, fills, costs: sentences that every report states."""
