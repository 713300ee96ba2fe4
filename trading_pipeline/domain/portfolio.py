"""Positions, what a fill does to them, and what the whole is worth. Average cost; long only."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.split_holdings import exact_shares

EXTERNAL = "EXTERNAL"
"""Whose the shares are that somebody else bought or sold in the account: no strategy can have this name (invariant 28)."""


_FINE = Decimal("0.00000001")


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution, as the broker reported it. Price in USD a share, commission in USD."""

    execution_id: str
    client_id: str
    symbol: str
    side: Side
    quantity: int
    price: Decimal
    commission: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Position:
    """What one strategy holds of one symbol.

    `cost` is what the held shares cost, commissions of entries included; `realised` is USD earned on
    shares sold, commissions of exits deducted; `opened_at` is the first fill since the position was flat.
    Below zero (an overfill, a sale told before its purchase, what somebody else sold) `cost` is what was
    received for the shares owed, negative, and purchases earn the difference.
    """

    strategy: str
    symbol: str
    quantity: int = 0
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    opened_at: datetime | None = None

    def after(self, fill: Fill) -> "Position":
        """This position once the fill is booked, at average cost."""
        change = fill.quantity if fill.side is Side.BUY else -fill.quantity
        quantity = self.quantity + change
        opened_at = self._opened(quantity, fill.at)
        flow = -change * fill.price - fill.commission
        if self.quantity * change >= 0:
            return replace(self, quantity=quantity, cost=self.cost - flow, opened_at=opened_at)
        # What closes the position realises its part of both; what goes beyond opens the other one.
        closes = min(fill.quantity, abs(self.quantity))
        closing = flow if closes == fill.quantity else (flow * closes / fill.quantity).quantize(_FINE)
        gone = self.cost if closes == abs(self.quantity) else (self.cost * closes / abs(self.quantity)).quantize(_FINE)
        return replace(
            self, quantity=quantity, cost=self.cost - gone - (flow - closing), realised=self.realised + closing - gone, opened_at=opened_at,
        )

    def _opened(self, quantity: int, at: datetime) -> datetime | None:
        """Since when it is held, once a fill has made it `quantity` shares; below zero too, as when somebody else sold what others hold."""
        if quantity == 0:
            return None
        return self.opened_at if self.quantity * quantity > 0 else at

    def after_split(self, ratio: Decimal, quantity: int, paid: Decimal) -> "Position":
        """This position in new shares: its cost goes on, what was paid in lieu of a fraction is a sale of that fraction.

        Args:
            quantity: Whole new shares, see `split_holdings.shared_out`.
            paid: USD for the fraction; negative where the position got a share for it, or owed it: then it adds to its cost, or closes.
        """
        exact, gone, added = exact_shares(self.quantity, ratio), ZERO, ZERO
        if abs(quantity) < abs(exact):
            gone = (self.cost * (exact - quantity) / exact).quantize(_FINE) if quantity else self.cost
        elif abs(quantity) > abs(exact):
            added = -paid
        return replace(
            self, quantity=quantity, cost=self.cost - gone + added, realised=self.realised + paid + added - gone,
            opened_at=self.opened_at if quantity else None,
        )

    def unrealised(self, mark: Decimal) -> Decimal:
        """USD gained or lost on the held shares at the given price."""
        return self.quantity * mark - self.cost


@dataclass(frozen=True, slots=True)
class Portfolio:
    """An account at one instant. `marks` are the prices used, one for every held symbol."""

    account: str
    at: datetime
    cash: Decimal
    positions: tuple[Position, ...]
    marks: dict[str, Decimal]

    @property
    def market_value(self) -> Decimal:
        """USD of all held shares; KeyError on a held symbol without a price: there is no neutral mark."""
        return sum((p.quantity * self.marks[p.symbol] for p in self.positions if p.quantity), ZERO)

    @property
    def equity(self) -> Decimal:
        """Cash and holdings, USD."""
        return self.cash + self.market_value

    @property
    def realised(self) -> Decimal:
        """USD realised since the account began."""
        return sum((p.realised for p in self.positions), ZERO)

    @property
    def unrealised(self) -> Decimal:
        """USD open on all held shares."""
        return sum((p.unrealised(self.marks[p.symbol]) for p in self.positions if p.quantity), ZERO)
