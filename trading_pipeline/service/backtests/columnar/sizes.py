"""How many shares a lane buys: `sizing.size_entry`, and for a plain fraction of equity the same on whole numbers."""

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.limits import effective_collar
from trading_pipeline.domain.money import price_of
from trading_pipeline.domain.round_trips import recovering
from trading_pipeline.domain.sizing import EntryPlan, NoEntry, size_entry
from trading_pipeline.domain.strategies import FractionSizing, RiskSizing
from trading_pipeline.service.backtests.columnar.lanes import Lane
from trading_pipeline.service.backtests.columnar.units import (
    CENT,
    SCALE,
    Flags,
    Numbers,
    fraction_of,
    peek,
    price_steps,
    priced,
    steps,
    steps_of,
    usd,
)

if TYPE_CHECKING:
    from trading_pipeline.service.backtests.columnar.simulation import Simulation

NO_ENTRY = "sizing"
LEAST_PRICE = 2 * SCALE
"""Below it ticks and limits are sizing's own affair."""
SUPPORT_BARS = 20
"""Of a sizing that does not say how many."""
_SURE = 0.499
"""So near to a cent a float says which it is."""


class Entry(NamedTuple):
    """An entry worth proposing; prices in steps."""

    shares: int
    reference: int
    limit: int
    parts: tuple[tuple[int, int, int | None], ...]
    """(shares, stop, target) of each bracket."""
    worst: int
    """What it may cost, before its commission."""


class Sizer:
    """Sizes one lane's entries."""

    def __init__(self, plan: BacktestPlan, lane: Lane) -> None:
        self._plan, self._lane, self._spec = plan, lane, lane.spec
        self.collar = effective_collar(plan.limits, self._spec.limits, autonomous=True)
        self._reach, self._reach_by = fraction_of((1 + self.collar) * (1 - self._spec.price_band))
        sizing = self._spec.sizing
        self.quick = isinstance(sizing, FractionSizing) and sizing.target is None and sizing.stop is None
        """Whether most entries are sized on whole numbers."""
        if isinstance(sizing, FractionSizing):
            self._fraction, self._fraction_by = fraction_of(sizing.fraction)
            self._atr_stop = None if sizing.atr_stop is None else float(sizing.atr_stop)
        self._opens, self._closes, self._atr = lane.prices.opens, peek(lane.prices.close), peek(lane.columns["atr_14"])
        self._most = lane.prices.share_of_volume(plan.limits.max_volume_share)
        self._recovers = self._spec.limits.recovery_size is not None

    def size(self, sim: "Simulation", bar: int, equity: int) -> Entry | str:
        """The entry, or the name of what forbids it; equity at the prices of the decision, in steps."""
        price = self._opens[bar + 1]
        if not self.quick or price < LEAST_PRICE or (self._recovers and self._recovering(sim)):
            return self._by_the_book(sim, bar, price)
        sized = self.shares(bar, price, equity, sim.cash)
        if sized is None:
            return self._by_the_book(sim, bar, price)
        shares, limit, worst = sized
        if shares < 1:
            return NO_ENTRY
        if self._atr_stop is None:
            return Entry(shares, price, limit, (), shares * worst)
        cents = price_steps(self._closes[bar]) / CENT - self._atr_stop * self._atr[bar] * 100
        if not abs(cents - (nearest := round(cents) if cents == cents else 0)) < _SURE:
            # Too near the middle of two cents, or no number at all.
            return self._by_the_book(sim, bar, price)
        stop = nearest * CENT
        if not LEAST_PRICE < stop < price:
            return self._by_the_book(sim, bar, price)
        return Entry(shares, price, limit, ((shares, stop, None),), shares * worst)

    def shares(self, bar: int, price: int, equity: int, cash: int) -> tuple[int, int, int] | None:
        """A plain fraction of equity: (shares, limit, the worse of price and limit); None where no volume is known."""
        most = self._most(bar)
        if not most:
            return None
        limit = max(price, price * self._reach // self._reach_by) // CENT * CENT
        worst = limit if limit > price else price
        return min(self._fraction * equity // (self._fraction_by * price), cash // worst, most), limit, worst

    def stops(self, sim: "Simulation", bars: Numbers) -> tuple[Numbers, Flags]:
        """The stops of entries decided at some bars as `size` has them, -1 for none; and where they, and their prices, are plain."""
        prices = np.asarray(self._opens)[bars + 1]
        if self._atr_stop is None:
            return np.full(len(bars), -1), prices >= LEAST_PRICE
        cents = steps_of(np.asarray(self._closes)[bars]) / CENT - self._atr_stop * np.asarray(self._atr)[bars] * 100
        nearest = np.rint(np.nan_to_num(cents))
        stops = nearest.astype(np.int64) * CENT
        for row in np.flatnonzero(abs(cents - nearest) >= _SURE).tolist():
            plan = self.planned(sim, bars.item(row), prices.item(row))
            stops[row] = -1 if isinstance(plan, NoEntry) else steps(plan.brackets[0].stop)
        return stops, (stops > LEAST_PRICE) & (stops < prices)

    def _recovering(self, sim: "Simulation") -> bool:
        streak = self._spec.limits.losing_streak
        return sim.tracks[self._spec.name].losses >= streak and recovering(sim.judge.trips(self._spec.name), streak)

    def _by_the_book(self, sim: "Simulation", bar: int, price: int) -> Entry | str:
        plan = self.planned(sim, bar, price)
        if isinstance(plan, NoEntry):
            return NO_ENTRY
        parts = tuple((part.quantity, steps(part.stop), None if part.target is None else steps(part.target)) for part in plan.brackets)
        limit = steps(plan.limit_price)
        return Entry(plan.quantity, price, limit, parts, plan.quantity * max(price, limit))

    def planned(self, sim: "Simulation", bar: int, price: int) -> EntryPlan | NoEntry:
        """What sizing itself says."""
        lane, spec = self._lane, self._spec
        volume = lane.prices.average_volume(bar)
        return size_entry(
            spec.sizing, price=priced(price), equity=usd(sim.equity(bar)), buying_power=usd(sim.cash), held_value=Decimal(0),
            limits=self._plan.limits, strategy_limits=spec.limits, atr=newest(lane.columns["atr_14"], bar), support=self.support(bar),
            sma20=newest(lane.columns["sma_20"], bar), collar=self.collar, price_band=spec.price_band,
            average_day_volume=None if volume is None else volume[0], recovering=self._recovers and self._recovering(sim),
            close=price_of(lane.prices.close[bar]),
        )

    def support(self, bar: int) -> Decimal | None:
        """The lowest low of the strategy's support bars."""
        bars = self._spec.sizing.support_bars if isinstance(self._spec.sizing, RiskSizing) else SUPPORT_BARS
        prices = self._lane.prices
        row = prices.first + bar + 1
        return Decimal(format(float(prices.table.low[row - bars : row].min()), ".10g")) if row >= bars else None


def newest(column: Floats, bar: int = -1) -> Decimal | None:
    """A column's value at a bar, as a verdict tells it; None where there is none."""
    value = column.item(bar)
    return Decimal(format(value, ".10g")) if np.isfinite(value) else None
