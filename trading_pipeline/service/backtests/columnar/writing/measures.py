"""What a plain order is judged by and sent with, as whole numbers: measured in a simulation when the order is decided on.

A proposal is plain where one lane decides alone, at a whole minute, and would go out at once. What the rules measure is measured here
a second time, for speed; `figures` puts it into words, which are held to the rulebook's own again and again, see `letters`.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from trading_pipeline.domain.agents import held_long_enough, rule, spoken
from trading_pipeline.domain.bars import Floats, instant_ns, instant_of
from trading_pipeline.domain.cycles import Cycle, CycleKind
from trading_pipeline.domain.expressions import parse
from trading_pipeline.domain.indicators import IndicatorSpec, prepared, price_columns
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.risk import Verdict
from trading_pipeline.domain.round_trips import RoundTrip
from trading_pipeline.domain.rules import discipline
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.sizing import EntryPlan
from trading_pipeline.domain.strategies import ExpressionAgent
from trading_pipeline.domain.volatility import Volatility
from trading_pipeline.service.backtests.columnar.holdings import NEVER, Held
from trading_pipeline.service.backtests.columnar.judging import MOST_EXIT, decided
from trading_pipeline.service.backtests.columnar.sizes import LEAST_PRICE, Entry
from trading_pipeline.service.backtests.columnar.units import CENT, Numbers, fraction_of, usd
from trading_pipeline.service.backtests.columnar.writing import words

if TYPE_CHECKING:
    from trading_pipeline.service.backtests.columnar.simulation import Simulation

_TENTH = 1e-6

Price = TypeVar("Price", int, Numbers)


class Reading(NamedTuple):
    """What the rules say of a bar, and what sizing reads of it."""

    rationale: str
    close: float
    atr: float
    sma20: float
    support: Decimal | None
    confidence: str = "1"
    label: str = ""
    score: str = "null"


class Measures(NamedTuple):
    """One plain order. Money and prices in steps, instants in nanoseconds UTC."""

    now: int
    session: Session
    selling: bool
    price: int
    limit: int
    shares: int
    parts: Sequence[tuple[int, int, int | None]]
    """(shares, stop, target) of an entry's brackets."""
    expires: int
    cash: int
    equity: int
    notional: int
    """Of the session's orders before this one."""
    account_loss: int
    strategy_loss: int
    orders: int
    """Of the strategy within the hour."""
    last_trade: int
    last_order: int
    last_action: int
    """Each `NEVER` where there was none."""
    volume: tuple[Decimal, bool]
    """Shares a session on average, and whether of a short history."""
    volatility: Volatility | None
    marks: Sequence[tuple[str, int]]
    """The prices of what the account holds, by symbol."""
    reading: Reading
    confidence: Decimal = Decimal(1)
    discipline: Sequence[Verdict] = ()
    """Where the strategy forbids itself something after losses."""
    plan: EntryPlan | None = None
    """Where its prices have digits of their own."""


def tenths(close: Any, atr: Any) -> Any:
    """Whether a stop that is measured from these may have fewer digits than a cent: it is rounded, but not filled up with zeros."""
    return _in_tenths(close) & _in_tenths(atr)


def _in_tenths(value: Any) -> Any:
    return abs(10 * value - np.rint(10 * value)) < _TENTH


class _Order(NamedTuple):
    """What the rules of discipline read of an order."""

    value: Decimal


class _AfterLosses(NamedTuple):
    """What they read of a context."""

    now: datetime
    account_limits: AccountLimits
    strategy_limits: StrategyLimits
    round_trips: tuple[RoundTrip, ...]
    last_losing_exit_at: datetime | None
    at_release: datetime | None = None


class Gauge:
    """Measures one lane's orders.

    Args:
        needs: The indicators that live computes of the strategy.
        window: Over how many bars it does.
    """

    def __init__(self, sim: "Simulation", number: int, needs: tuple[IndicatorSpec, ...], window: int) -> None:
        self._sim, self._number, self._lane = sim, number, sim.lanes[number]
        spec = self._lane.spec
        self._compute, self.window, self._agent = prepared(needs), window, spec.agent
        # Cents for cents: an exit's limit by `sizing.marketable_limit`.
        collar, band = sim.sizers[number].collar, spec.price_band
        self.reach = fraction_of((1 - collar) * (1 + band))
        self.reaches = (1 + collar) * (1 - band) > 1
        """Whether limits lie beyond the price; else they are the price, and are written with as many digits as it has."""
        self.fresh = instant_ns(Cycle("", CycleKind.BAR, date.min, instant_of(0), spec.interval).stale_at())
        """For how long a proposal may wait."""
        own = spec.limits
        self._disciplined = any(each is not None for each in (own.cool_off, own.recovery_size, own.revenge_wait))

    def measured(self, bar: int, entry: Entry | None, held: Held | None, session: Session) -> Measures | None:
        """An order as it is judged and sent; None where it is not plain.

        Args:
            held: What an exit sells.
        """
        sim, lane, number = self._sim, self._lane, self._number
        now, price = sim.instant(bar), sim.quote(number, bar)
        limit = self.exit_limit(price) if entry is None else entry.limit
        expires = min(now + self.fresh, instant_ns(session.close))
        volume = lane.prices.average_volume(bar)
        least = price if entry is None or not entry.parts else min(part[1] for part in entry.parts)
        if volume is None or min(least, limit) < LEAST_PRICE or now % words.MINUTE or expires % words.MINUTE:
            return None
        if entry is None and not self.reaches:
            return None
        shares = entry.shares if entry is not None else held.shares if held is not None else 0
        if entry is None and shares * max(price, limit) > MOST_EXIT:
            return None
        name, equity, track = lane.spec.name, sim.equity(bar), sim.tracks[lane.spec.name]
        reading = self._read(bar, held)
        by_the_book = entry is not None and not (sim.sizers[number].quick and self.reaches and not tenths(reading.close, reading.atr))
        return Measures(
            now, session, entry is None, price, limit, shares, () if entry is None else entry.parts, expires, sim.cash, equity,
            sim.notional.get(sim.session(bar), 0), sim.baseline - equity, -sim.strategy_pnl(name, bar),
            sim.judge.orders_last_hour(name, now), track.last_trade, sim.last_order,
            track.last_actions.get((lane.symbol, entry is None), NEVER), volume, lane.prices.volatility(bar, sim.plan.limits),
            [(sim.lanes[other].symbol, sim.quote(other, bar)) for other, each in enumerate(sim.held) if each is not None],
            reading, lane.confidence(bar, entry is None), self._discipline(now, shares * max(price, limit)),
            self._planned(bar, entry) if entry is not None and by_the_book else None,
        )

    def exit_limit(self, price: Price) -> Price:
        """For how much an exit sells at worst, of one price or of a column of them: never above the price, in whole cents."""
        reach, reach_by = self.reach
        return -(-price * min(reach, reach_by) // (reach_by * CENT)) * CENT

    def _planned(self, bar: int, entry: Entry) -> EntryPlan:
        plan = self._sim.sizers[self._number].planned(self._sim, bar, entry.reference)
        assert isinstance(plan, EntryPlan)
        return plan

    def _discipline(self, now: int, value: int) -> Sequence[Verdict]:
        """What the strategy forbids itself after losses, by the rules themselves."""
        if not self._disciplined:
            return ()
        sim, spec = self._sim, self._lane.spec
        lost = sim.tracks[spec.name].losing_exits.get(self._lane.symbol)
        context = _AfterLosses(
            instant_of(now), sim.plan.limits, spec.limits, sim.judge.trips(spec.name), None if lost is None else instant_of(lost),
        )
        rules = discipline.cool_off, discipline.recovery_size, discipline.revenge_entry
        return [each(_Order(usd(value)), context) for each in rules]  # type: ignore[arg-type]  # all that these rules read

    def _read(self, bar: int, held: Held | None) -> Reading:
        since = None if held is None else bar - held.entered + 1
        columns = self.columns(bar)
        newest = columns["close"].item(-1), columns["atr_14"].item(-1), columns["sma_20"].item(-1)
        support = self._sim.sizers[self._number].support(bar)
        if isinstance(self._agent, ExpressionAgent):
            return Reading(self.reason(since, columns), *newest, support)
        prices = self._lane.prices
        row = prices.first + bar + 1
        signal = decided(rule(self._agent, prices.table.rows(max(0, row - self.window), row), columns, since).decision)
        return Reading(signal.rationale, *newest, support, format(signal.confidence, "f"), signal.label, str(signal.score))

    def columns(self, bar: int) -> dict[str, Floats]:
        """Prices and indicators as live has them at a bar's close, computed over as many bars: to the last digit of a sentence."""
        prices = self._lane.prices
        row = prices.first + bar + 1
        bars = prices.table.rows(max(0, row - self.window), row)
        return self._compute(bars) | price_columns(bars)

    def reason(self, since: int | None, columns: Mapping[str, Floats]) -> str:
        """Why rules in the form of expressions buy, or sell what was bought so many bars ago; of columns the newest value is read."""
        agent = self._agent
        assert isinstance(agent, ExpressionAgent)
        if since is not None and agent.max_bars and since >= agent.max_bars:
            return held_long_enough(agent, since)
        which, text = ("enter_when", agent.enter_when) if since is None else ("exit_when", agent.exit_when)
        return spoken(which, True, parse(text), columns)
