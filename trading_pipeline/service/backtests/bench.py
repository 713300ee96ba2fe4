"""What backtests run on: the bars of one plan, and desks over them that can reach nobody.

`trading_pipeline.bootstrap_backtests` makes one. A desk of a bench has its own account, archive and clock, all in memory: no real broker,
latch, anchor or ledger of a home is within its reach.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.sessions import Session, TradingCalendar
from trading_pipeline.errors import InputError
from trading_pipeline.ports import Ledger
from trading_pipeline.service.desk import Desk

BEFORE_THE_OPEN = timedelta(minutes=1)
"""So long before the first session's open a backtest begins: its strategies are created and started then."""


@runtime_checkable
class Stepped(Protocol):
    """A market clock that is moved by whoever runs the backtest."""

    def now(self) -> datetime:
        """The instant it was moved to last."""

    def advance_to(self, instant: datetime) -> None:
        """Move on, or stay; Conflict for an instant in the past."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The bars of a plan and everything else a backtest needs of the world."""

    calendar: TradingCalendar
    tables: Mapping[tuple[str, Interval], BarTable]
    """Unadjusted, as the source has them: what came before the first session, for warm-up, and up to the last session's close."""
    splits: Mapping[str, tuple[Split, ...]]
    """Those that the prices step at, by symbol."""
    source: str
    """Where the bars come from, as people say it."""
    digest: str
    """SHA-256 in hex over bars and splits: with the plan and the version of the code, all that the result of a rules agent depends on."""
    assumptions: tuple[str, ...]
    """On bars, adjustments and survivorship: sentences that every report states."""
    open_ledger: Callable[[datetime], Ledger]
    """An empty one in memory, opened at a market instant."""
    open_desk: Callable[[BacktestPlan, Ledger], Desk]
    """A desk of its own, its clock at the beginning."""
    over: "Callable[[Mapping[tuple[str, Interval], BarTable]], Bench]"
    """The same with these bars in the place of its own, to see whether what comes later changes what was done before."""

    def ledger(self, plan: BacktestPlan) -> Ledger:
        """An empty ledger of environment backtest, in memory, for one run of a plan."""
        return self.open_ledger(begins(self.calendar, plan))

    def desk(self, plan: BacktestPlan, ledger: Ledger | None = None) -> Desk:
        """A fresh desk for one run of a plan: an account with the plan's cash, an empty archive, a `Stepped` clock before the first open.

        Args:
            plan: Any on the bars of this bench, such as one with another stop.
            ledger: An empty one; a new one when None.

        Raises:
            BarsError, UnknownName: The bench has no bars for the plan.
        """
        return self.open_desk(plan, ledger or self.ledger(plan))


def sessions_of(calendar: TradingCalendar, plan: BacktestPlan) -> tuple[Session, ...]:
    """The sessions of a plan; InputError when there is none."""
    value = f"{plan.first}..{plan.last}"
    if plan.last < plan.first:
        raise InputError(
            f"The backtest would end on {plan.last}, before it begins on {plan.first}.", value=value,
            rule="a backtest goes from its first session to its last, both included", remedy="exchange the two dates",
        )
    found = calendar.between(plan.first, plan.last)
    if not found:
        raise InputError(
            f"There is no session from {plan.first} to {plan.last}.", value=value, rule="XNYS is closed on those days",
            remedy=f"include a session such as {calendar.next(plan.last).day}",
        )
    return found


def begins(calendar: TradingCalendar, plan: BacktestPlan) -> datetime:
    """The instant at which a backtest of the plan begins."""
    return sessions_of(calendar, plan)[0].open - BEFORE_THE_OPEN
