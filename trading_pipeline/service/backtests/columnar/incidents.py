"""What happened in a simulated account, in order: fills and denials, as plain tuples' worth of facts."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from trading_pipeline.domain.backtests import ExitReason
from trading_pipeline.service.backtests.columnar.lanes import Lane
from trading_pipeline.service.backtests.columnar.units import price_steps, priced, ticked, usd


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


@dataclass(slots=True)
class Account:
    """What a simulation leaves behind."""

    fills: list[Filled] = field(default_factory=list)
    denials: list[Denied] = field(default_factory=list)
    decisions: list[tuple[int, int, bool]] = field(default_factory=list)
    """(lane, bar, whether it is a sale) of every decision to trade."""
