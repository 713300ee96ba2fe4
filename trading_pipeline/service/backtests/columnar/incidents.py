"""What happened in a simulated account, in order: fills and denials, as plain tuples' worth of facts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain.backtests import ExitReason
from trading_pipeline.service.backtests.columnar.lanes import Lane
from trading_pipeline.service.backtests.columnar.units import Numbers, price_steps, priced, ticked, usd


class Filled(NamedTuple):
    """Shares that changed hands; whole numbers as in `units`, `at` in nanoseconds UTC."""

    lane: int
    step: int
    """The bar after whose close it is booked."""
    bar: int
    """Whose open or range filled it."""
    at: int
    shares: int
    """Below zero: sold."""
    price: int
    commission: int
    reason: ExitReason | None
    """Of a sale."""

    def quoted(self, lane: Lane) -> Decimal:
        """The price as the paper broker writes it: what was taken to four digits, what a bar or an order said as it said it."""
        by_open = self.bar > self.step
        if self.reason is ExitReason.TARGET:
            return priced(self.price) if by_open else ticked(self.price)
        if self.reason is ExitReason.STOP and not by_open and self.price == price_steps(lane.prices.low.item(self.bar)):
            return priced(self.price)
        return usd(self.price)


class Denied(NamedTuple):
    """A proposal that the rulebook, or the sizing, stopped."""

    lane: int
    bar: int
    sale: bool
    reason: str


class Fills(NamedTuple):
    """Fills as columns, in order."""

    lane: Numbers
    bar: Numbers
    at: Numbers
    shares: Numbers
    price: Numbers
    commission: Numbers
    reason: npt.NDArray[Any]
    """Reasons of sales."""

    def of(self, lane: int) -> "Fills":
        """Those of one lane."""
        own = np.flatnonzero(self.lane == lane)
        return Fills(self.lane[own], self.bar[own], self.at[own], self.shares[own], self.price[own], self.commission[own], self.reason[own])


class Told(NamedTuple):
    """What an account's result is made of."""

    fills: Fills
    buys: int
    sells: int
    """Decisions, admitted or not."""
    denials: Sequence[Denied] = ()


@dataclass(slots=True)
class Account:
    """What a simulation leaves behind."""

    fills: list[Filled] = field(default_factory=list)
    denials: list[Denied] = field(default_factory=list)
    decisions: list[tuple[int, int, bool]] = field(default_factory=list)
    """(lane, bar, whether it is a sale) of every decision to trade."""

    def told(self) -> Told:
        """As columns."""
        lane, _, bar, at, shares, price, commission, reason = zip(*self.fills, strict=True) if self.fills else ((),) * 8
        whole = [np.array(each, np.int64) for each in (lane, bar, at, shares, price, commission)]
        fills = Fills._make((*whole, np.array(reason, np.object_)))
        sells = sum(sale for _, _, sale in self.decisions)
        return Told(fills, len(self.decisions) - sells, sells, self.denials)
