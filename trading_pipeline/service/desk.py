"""The desk: every port in one frozen object. What each face, asset and sensor holds."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.models import ModelBudget, Provider
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.sessions import NEW_YORK, TradingCalendar
from trading_pipeline.domain.shadow import FillCosts
from trading_pipeline.ports import (
    LLM,
    Anchors,
    BarArchive,
    Broker,
    ChartRenderer,
    Clock,
    DecisionMaker,
    Golden,
    Latch,
    Ledger,
    MarketData,
    ObjectStore,
    OutsideTexts,
    Prices,
    Prompts,
)
from trading_pipeline.service.actors import is_person as is_person
from trading_pipeline.service.actors import user_actor as user_actor
from trading_pipeline.service.real_time import wall_now
from trading_pipeline.service.record.journal import Journal, NoJournal


def random_nonce() -> str:
    """Sixteen hex digits that nobody can guess."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Models:
    """What it takes to ask models: who, in which words, for how much."""

    llms: Mapping[Provider, LLM]
    prompts: Prompts
    prices: Prices
    texts: OutsideTexts
    budget: ModelBudget = field(default_factory=ModelBudget)
    wall: Callable[[], datetime] = wall_now
    """By which budgets and prices go: real time, but for a desk that can pay nothing."""
    golden: Golden | None = None
    """What another model, or other words, are held to. None: nothing can pass here, so nothing that changed goes on unseen."""


@dataclass(frozen=True, slots=True)
class Desk:
    """The ports of one world, handed in by `bootstrap`. Nothing that holds a desk asks which mode it is in."""

    environment: str
    world: World
    limits: AccountLimits
    """Those that the settings of this process give; which are in force, `account_limits` knows."""
    clock: Clock
    calendar: TradingCalendar
    ledger: Ledger
    archive: BarArchive
    market: MarketData
    splits: Mapping[str, tuple[Split, ...]]
    objects: ObjectStore
    charts: ChartRenderer
    deciders: Mapping[str, DecisionMaker]
    broker: Broker
    latch: Latch
    anchors: Anchors
    journal: Journal = field(default_factory=NoJournal)
    """Takes the facts of an emergency while the ledger takes none."""
    models: Models | None = None
    """None: nobody is asked but the rules agent."""
    costs: FillCosts = field(default_factory=FillCosts)
    """What trades that were never made would have cost (E7)."""
    keep_protective_stops: bool = False
    """An emergency stop leaves working orders that protect a position where they are (D9)."""
    draws: bool = True
    """Whether charts are drawn and kept; not where nobody will look at them, as in a backtest of rules."""
    nonce: Callable[[], str] = random_nonce
    """Makes each proposal one of its kind (invariant 45); a backtest counts, so that it says the same when it is run again."""

    def now(self) -> datetime:
        """The market clock."""
        return self.clock.now()

    def today(self) -> date:
        """The session that is open or opened last: where facts of this instant belong."""
        session = self.calendar.last_opened(self.now())
        return session.day if session is not None else self.now().astimezone(NEW_YORK).date()
