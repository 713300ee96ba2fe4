"""What happened in a simulated account, in order: fills and denials, as plain tuples' worth of facts."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from trading_pipeline.domain.backtests import ExitReason
from trading_pipeline.domain.bars import instant_of
from trading_pipeline.domain.orders import Side
from trading_pipeline.service.backtests.columnar.lanes import Lane
from trading_pipeline.service.backtests.columnar.units import usd


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

    def told(self, lane: Lane) -> tuple[str, str, str, int, Decimal, Decimal, datetime]:
        """As a row of `fills` has it: strategy, symbol, side, quantity, price, commission, at."""
        side = Side.SELL if self.shares < 0 else Side.BUY
        return (
            lane.spec.name, lane.symbol, side.value, abs(self.shares), usd(self.price), usd(self.commission), instant_of(self.at),
        )


class Denied(NamedTuple):
    """A proposal that the rulebook, or the sizing, stopped."""

    lane: int
    bar: int
    sale: bool
    reason: str


@dataclass(slots=True)
class Account:
    """What a simulation leaves behind."""

    fills: list[Filled] = field(default_factory=list)
    denials: list[Denied] = field(default_factory=list)
    decisions: list[tuple[int, int, bool]] = field(default_factory=list)
    """(lane, bar, whether it is a sale) of every decision to trade."""
