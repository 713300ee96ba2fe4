"""The purse: what may still be spent on models, reckoned within the transaction that reserves it (D4, D18, invariant 63).

Transactions are serialised and a reservation is a fact, so that every budget holds over all threads, processes and restarts. Days are
New York's by the wall clock, also where the market clock replays history at sixty times the pace: money is real. The day stands in the
fact, so that the tables can be derived again whenever. What a recorded reply saves is not here: it reserves nothing and is not counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Final

from trading_pipeline.domain.models import MAX_CALLS, ModelBudget, Provider
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.projections.models import CALLS, OF_A_BUDGET, SPEND, CallState
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.domain.strategies import StrategySpec
from trading_pipeline.ports import Reader
from trading_pipeline.service.desk import Desk

HOUR: Final = timedelta(minutes=60)
LOOK_BACK: Final = 2 * HOUR
"""How long a question is looked at for the calls it may make; it is over long before."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a model is not asked: a reason of `llm.skipped`, and the figures."""

    reason: str
    detail: str


def budget_day(now: datetime | None = None) -> date:
    """The day of New York that money is spent on now, by the wall clock."""
    return (now or datetime.now(UTC)).astimezone(NEW_YORK).date()


class Purse:
    """What is left of today's budgets, as a reader sees them; nothing is read before somebody wants to pay."""

    def __init__(self, reader: Reader, budget: ModelBudget, now: datetime) -> None:
        self.day = budget_day(now)
        self._reader = reader
        self._budget = budget
        self._now = now
        self._committed: dict[tuple[str, str], Decimal] | None = None
        self._spent: dict[tuple[str, str], Decimal] = {}
        self._wanted: dict[tuple[str, str], Decimal] = {}
        self._calls: int | None = None

    @classmethod
    def open(cls, desk: Desk, reader: Reader, now: datetime | None = None) -> "Purse":
        """The desk's purse; whoever takes from it reads by the transaction that the reservation is appended in.

        Args:
            now: The wall clock.
        """
        models = desk.models
        if models is None:
            return cls(reader, ModelBudget(), now or datetime.now(UTC))
        return cls(reader, models.budget, now or models.wall())

    def refusal(
        self, spec: StrategySpec, provider: Provider, model: str, worst: Decimal | None, *, recorded: bool = False, calls: int = MAX_CALLS,
        settled: bool = False,
    ) -> Refusal | None:
        """Why a strategy may not ask a model, or None.

        Args:
            worst: What one call can cost at most, USD; None where nobody knows.
            recorded: The reply is at hand and costs nothing.
            calls: How many calls the question may make.
            settled: By what is spent alone, as if all that is reserved came back.
        """
        if recorded:
            return None
        if worst is None:
            return Refusal("unknown_price", f"what {model} of {provider.value} costs on {self.day} is not known; prices.toml can say it")
        needed = calls * worst
        for reason, whose, spent, most in self._budgets(spec, provider, settled):
            if most is not None and spent + needed > most:
                told = f"{whose} has ${spent:f} of ${most:f} spent or reserved on {self.day}; this question may cost ${needed:f}"
                return Refusal(reason, told)
        if self.calls_last_hour() + calls > self._budget.calls_per_hour:
            told = f"{self.calls_last_hour()} calls within 60 minutes, of at most {self._budget.calls_per_hour}"
            return Refusal("rate", f"{told}; this question may make {calls}")
        return None

    def unaffordable(self, spec: StrategySpec, provider: Provider, model: str) -> Refusal | None:
        """Why a strategy could not pay today for the cheapest question that it had no money for; None while it had money for all."""
        self._read()
        wanted = self._wanted.get((spec.name, provider.value))
        refusal = None if wanted is None else self.refusal(spec, provider, model, wanted, settled=True)
        return refusal if refusal is not None and refusal.reason in OF_A_BUDGET else None

    def take(self, strategy: str, provider: Provider, amount: Decimal, *, recorded: bool = False, calls: int = MAX_CALLS) -> None:
        """Count what is reserved for a question, for those that follow in the same transaction."""
        if recorded:
            return
        committed = self._read()
        committed[strategy, provider.value] = committed.get((strategy, provider.value), ZERO) + amount
        self._calls = self.calls_last_hour() + calls

    def committed(self, strategy: str | None = None, provider: Provider | None = None, *, settled: bool = False) -> Decimal:
        """USD spent and reserved today, or spent alone: of everybody, or of one strategy, or provider."""
        amounts = (self._read() if not settled else self._spent).items()
        return sum((usd for (who, whose), usd in amounts if strategy in (None, who) and provider in (None, whose)), ZERO)

    @property
    def most(self) -> Decimal:
        """USD a day over all strategies and providers."""
        return self._budget.per_day

    def left(self) -> Decimal:
        """USD of the day's budget that nobody has spent or reserved; not below zero."""
        return max(ZERO, self._budget.per_day - self.committed())

    def calls_last_hour(self) -> int:
        """Calls made within 60 minutes or that may yet be made, over all strategies and providers."""
        if self._calls is None:
            asked = self._reader.find(CALLS, since=("asked_at", self._now - LOOK_BACK), replayed=(None, False))
            self._calls = sum(self._calls_of(row) for row in asked)
        return self._calls

    def _budgets(self, spec: StrategySpec, provider: Provider, settled: bool) -> Iterable[tuple[str, str, Decimal, Decimal | None]]:
        """Reason, whose budget, what is gone of it, and what it is, the widest first."""
        gone = partial(self.committed, settled=settled)
        yield "budget", "the account", gone(), self._budget.per_day
        yield "provider_budget", provider.value, gone(provider=provider), dict(self._budget.per_provider).get(provider)
        yield "strategy_budget", spec.name, gone(spec.name), spec.limits.max_day_model_cost

    def _read(self) -> dict[tuple[str, str], Decimal]:
        if self._committed is None:
            rows = self._reader.find(SPEND, day=self.day.isoformat())
            self._committed = {(row["strategy"], row["provider"]): row["spent"] + row["reserved"] for row in rows}
            self._spent = {(row["strategy"], row["provider"]): row["spent"] for row in rows}
            self._wanted = {(row["strategy"], row["provider"]): row["wanted"] for row in rows if row["wanted"] is not None}
        return self._committed

    def _calls_of(self, row: Row) -> int:
        """What a question counts for: all it may make until it is answered, and when its process was lost nobody knows how many it made."""
        if row["state"] == CallState.ASKED.value or row["answered_at"] is None:
            return MAX_CALLS
        return int(row["calls"]) if row["answered_at"] >= self._now - HOUR else 0
