"""Shadow trades (E7): what a proposal that never became an order would have earned or cost, had it been sent at once.

Filled by the paper broker's rules (D28): an order that takes pays half the spread and the slippage, stops come before targets within
one bar, a gap fills at the open, an entry rests until its session's close. What is still held at the horizon is sold at that close.
Each proposal stands alone: whole quantities whatever the bar's volume, and cash for every one. A property test holds this to
the paper broker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum

from trading_pipeline.domain.bars import Bar
from trading_pipeline.domain.money import PRICE_STEP, ZERO
from trading_pipeline.domain.orders import Bracket, OrderIntent, OrderType, Side


@dataclass(frozen=True, slots=True)
class FillCosts:
    """What trading costs: `spread` and `slippage` as fractions of the price, commissions in USD. Defaults as the paper broker's."""

    spread: Decimal = Decimal("0.0002")
    slippage: Decimal = Decimal("0.0002")
    commission_per_share: Decimal = Decimal("0.005")
    commission_minimum: Decimal = Decimal(1)
    commission_rate: Decimal = ZERO
    """Of the value that filled, beside what is charged a share."""
    volume_share: Decimal = Decimal("0.10")
    """Most that one order takes in a bar, of the volume of the bar before it."""

    @property
    def round_trip(self) -> Decimal:
        """Of taking twice, as a fraction of the price, without commissions."""
        return self.spread + 2 * self.slippage

    def taken(self, side: Side, price: Decimal) -> Decimal:
        """What an order that takes pays or gets where the market is at `price`."""
        cost = self.spread / 2 + self.slippage
        if side is Side.BUY:
            return (price * (1 + cost)).quantize(PRICE_STEP, ROUND_CEILING)
        return max(PRICE_STEP, (price * (1 - cost)).quantize(PRICE_STEP, ROUND_FLOOR))

    def commission(self, quantity: int, price: Decimal) -> Decimal:
        """USD for one order that filled at one price."""
        by_share = max(self.commission_minimum, self.commission_per_share * quantity).quantize(PRICE_STEP)
        return by_share + (self.commission_rate * quantity * price).quantize(PRICE_STEP)


class Leg(StrEnum):
    """How shares came or went."""

    ENTRY = "entry"
    STOP = "stop"
    TARGET = "target"
    HORIZON = "horizon"
    """Neither stop nor target was reached: sold, or valued, at the horizon's close."""


@dataclass(frozen=True, slots=True)
class ShadowFill:
    """One fill that never was; `price` in USD a share."""

    leg: Leg
    at: datetime
    price: Decimal
    quantity: int


@dataclass(frozen=True, slots=True)
class ShadowTrade:
    """What would have been; `result` is USD after commissions, signed, and zero when nothing would have filled."""

    fills: tuple[ShadowFill, ...]
    result: Decimal
    closed_at: datetime


def shadow_trade(intent: OrderIntent, bars: Sequence[Bar], closes: datetime, horizon: int, costs: FillCosts) -> ShadowTrade | None:
    """Follow a proposal through the bars after its decision; None while they do not tell yet.

    Args:
        intent: As it was sized and, for an entry, bracketed. A SELL is worth what its shares brought more than at the horizon.
        bars: Closed ones, from the first after the decision on, on the share scale of the decision.
        closes: When the entry's session closes and an entry that rests expires.
        horizon: Bars after which whatever is held is sold.
    """
    seen = bars[:horizon]
    if not seen:
        return None
    if not intent.quantity:
        # Sized to nothing, as a SELL of what is not held: no broker fills it, and none charges for it.
        return ShadowTrade((), ZERO, seen[-1].end) if len(seen) >= horizon else None
    if intent.side is Side.SELL:
        return _exit(intent, seen, horizon, costs)
    entered = _entry(intent, seen, closes, costs)
    if entered is None:
        expired = seen[-1].end >= closes or len(seen) >= horizon
        return ShadowTrade((), ZERO, min(closes, seen[-1].end)) if expired else None
    index, entry = entered
    found = [_child(bracket, entry, seen[index:], costs) for bracket in intent.brackets]
    done = [fill for fill in found if fill is not None]
    held = intent.quantity - sum(fill.quantity for fill in done)
    if held:
        if len(seen) < horizon:
            return None
        last = seen[-1]
        done.append(ShadowFill(Leg.HORIZON, last.end, costs.taken(Side.SELL, last.close), held))
    paid = intent.quantity * entry.price + costs.commission(intent.quantity, entry.price)
    got = sum((fill.quantity * fill.price - costs.commission(fill.quantity, fill.price) for fill in done), ZERO)
    return ShadowTrade((entry, *done), got - paid, max(fill.at for fill in done))


def _entry(intent: OrderIntent, bars: Sequence[Bar], closes: datetime, costs: FillCosts) -> tuple[int, ShadowFill] | None:
    """The fill of a day order that came as the first bar opened, and in which bar."""
    limit = intent.limit_price
    assert limit is not None, "every proposal has a limit"
    for index, bar in enumerate(bars):
        if bar.start >= closes:
            return None
        crossing = index == 0 or intent.order_type is OrderType.MARKETABLE
        price = costs.taken(Side.BUY, bar.open) if crossing else bar.open
        if price <= limit:
            return index, ShadowFill(Leg.ENTRY, bar.start, price, intent.quantity)
        if bar.low <= limit:
            return index, ShadowFill(Leg.ENTRY, bar.end, limit, intent.quantity)
    return None


def _child(bracket: Bracket, entry: ShadowFill, bars: Sequence[Bar], costs: FillCosts) -> ShadowFill | None:
    """Where a bracket ends its shares, from the entry's bar on, the stop looked at first; None while neither is reached."""
    for index, bar in enumerate(bars):
        inside = index == 0 and entry.at == bar.end
        found = None if inside else _at_open(bracket, bar, entry.at >= bar.start, costs)
        found = found or _in_range(bracket, bar, inside, costs)
        if found is not None:
            leg, price, at = found
            return ShadowFill(leg, at, price, bracket.quantity)
    return None


def _at_open(bracket: Bracket, bar: Bar, arrives: bool, costs: FillCosts) -> tuple[Leg, Decimal, datetime] | None:
    """A gap through stop or target fills at the open; a target that arrives with it takes, and pays for it."""
    taken = costs.taken(Side.SELL, bar.open)
    if bar.open <= bracket.stop:
        return Leg.STOP, taken, bar.start
    price = taken if arrives else bar.open
    return (Leg.TARGET, price, bar.start) if bracket.target is not None and price >= bracket.target else None


def _in_range(bracket: Bracket, bar: Bar, inside: bool, costs: FillCosts) -> tuple[Leg, Decimal, datetime] | None:
    """Inside the bar of an entry that rested, a high may have come before it: its target counts only at the close."""
    if bar.low <= bracket.stop:
        return Leg.STOP, max(bar.low, costs.taken(Side.SELL, bracket.stop)), bar.end
    reached = bar.close if inside else bar.high
    return (Leg.TARGET, bracket.target, bar.end) if bracket.target is not None and reached >= bracket.target else None


def _exit(intent: OrderIntent, bars: Sequence[Bar], horizon: int, costs: FillCosts) -> ShadowTrade | None:
    """Selling at the first open, against keeping the shares to the horizon's close."""
    if len(bars) < horizon:
        return None
    first, last = bars[0], bars[-1]
    sold = ShadowFill(Leg.ENTRY, first.start, costs.taken(Side.SELL, first.open), intent.quantity)
    kept = ShadowFill(Leg.HORIZON, last.end, last.close, intent.quantity)
    result = intent.quantity * (sold.price - kept.price) - costs.commission(intent.quantity, sold.price)
    return ShadowTrade((sold, kept), result, last.end)
