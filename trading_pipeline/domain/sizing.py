"""How many shares, at which limit, with which stop and targets: decided by code, never by a model (F3).

An entry is the smallest of what the risk, the capital and the buying power allow; every size is kept so
that a person sees which one bound. Rounding always errs to the careful side: shares down, stops down (so
that the risk a share is not understated), targets up, limits into the collar. The rulebook judges the
result like any other order; sizing only tries not to be denied.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from trading_pipeline.domain.limits import MAX_ORDER_VALUE, AccountLimits, StrategyLimits
from trading_pipeline.domain.money import tick, usd
from trading_pipeline.domain.orders import Bracket, OrderType, Side
from trading_pipeline.domain.strategies import DEFAULT_PRICE_BAND, MOST_PRICE_BAND, Entry, FractionSizing, RiskSizing, Sizing
from trading_pipeline.errors import InputError


@dataclass(frozen=True, slots=True)
class Size:
    """What one consideration allows, in shares, and how it was reckoned."""

    name: str
    shares: int
    because: str


@dataclass(frozen=True, slots=True)
class EntryPlan:
    """An entry worth proposing.

    `entry` is the price expected, `limit_price` the worst one allowed. `binding` names the smallest of `sizes`.
    """

    quantity: int
    order_type: OrderType
    entry: Decimal
    limit_price: Decimal
    stop: Decimal | None
    targets: tuple[Decimal, ...]
    brackets: tuple[Bracket, ...]
    sizes: tuple[Size, ...]
    binding: str


@dataclass(frozen=True, slots=True)
class NoEntry:
    """Why there is nothing to propose: a word and a sentence."""

    reason: str
    detail: str


def floor_to_tick(price: Decimal) -> Decimal:
    """The next price on the grid at or below."""
    return _to_tick(price, ROUND_FLOOR)


def ceil_to_tick(price: Decimal) -> Decimal:
    """The next price on the grid at or above."""
    return _to_tick(price, ROUND_CEILING)


def marketable_limit(side: Side, price: Decimal, collar: Decimal, price_band: Decimal = DEFAULT_PRICE_BAND) -> Decimal:
    """The limit of an order that shall fill at the market or not at all, rounded into the collar.

    The collar is measured from the last price at the gate, not from the price decided at; while the market
    stays within `price_band` of `price`, the limit stays within `collar` of the market.

    Args:
        side: Which way the limit reaches: above for a buy, below for a sell.
        price: USD a share the decision was made at.
        collar: Fraction, see `limits.effective_collar`.
        price_band: Fraction; beyond it a proposal is void anyway.
    """
    if side is Side.BUY:
        return floor_to_tick(max(price, price * (1 + collar) * (1 - price_band)))
    return ceil_to_tick(min(price, price * (1 - collar) * (1 + price_band)))


def split_exit(quantity: int, price: Decimal) -> list[int]:
    """Slices of an exit, each of at most $100,000 at the price (D1), the last one the rest.

    A single share above $100,000 is a slice of its own: the rulebook shows and denies it.

    Raises:
        InputError: A quantity below one or a price that is none.
    """
    if quantity < 1 or not price.is_finite() or price <= 0:
        raise InputError(
            f"{quantity} shares at {price} cannot be sliced.", value=(quantity, str(price)),
            rule="an exit has at least one share and a price above zero", remedy="reconcile the position and fetch a quote",
        )
    most = max(1, int(MAX_ORDER_VALUE // price))
    full, rest = divmod(quantity, most)
    return [most] * full + ([rest] if rest else [])


def exit_slices(quantity: int, price: Decimal) -> list[int]:
    """Slices of an exit decided at the price, with room for how far the market may rise until they go out; errors as `split_exit`."""
    return split_exit(quantity, price * (1 + MOST_PRICE_BAND))


def size_entry(
    sizing: Sizing, *, price: Decimal, equity: Decimal, buying_power: Decimal, held_value: Decimal, limits: AccountLimits,
    strategy_limits: StrategyLimits, atr: Decimal | None, support: Decimal | None, sma20: Decimal | None, collar: Decimal,
    price_band: Decimal = DEFAULT_PRICE_BAND, average_day_volume: Decimal | None = None, recovering: bool = False,
    day_risk_left: Decimal | None = None, close: Decimal | None = None,
) -> EntryPlan | NoEntry:
    """Plan an entry, or say why there is none.

    Args:
        sizing: The strategy's rule.
        price: USD a share now.
        equity: Net liquidation, USD.
        buying_power: USD left after reservations.
        held_value: USD held and reserved in the symbol already.
        limits: The account's.
        strategy_limits: The strategy's.
        atr: ATR14, USD; None in warm-up.
        support: Lowest low of the strategy's support bars, USD; None in warm-up.
        sma20: USD; None in warm-up.
        collar: Fraction, see `limits.effective_collar`.
        price_band: Fraction, see `marketable_limit`.
        average_day_volume: Shares; where given, `max_volume_share` of it is one of the sizes.
        recovering: After a losing streak: the entry is `recovery_size` of what it would have been (F5).
        day_risk_left: USD that the entry may lose from its worst price to its stop, see `day_risk.risk_left`; None: the limit is off.
        close: USD a share at the bar that was decided on; read only where the stop is measured from it.
    """
    if not (price.is_finite() and price > 0):
        return NoEntry("no_price", f"{price} is no price")
    if not (equity.is_finite() and equity > 0 and buying_power.is_finite() and held_value.is_finite() and held_value >= 0):
        return NoEntry("no_equity", f"equity {equity}, buying power {buying_power} and holding {held_value} are not all usable")
    if day_risk_left is not None and not (day_risk_left.is_finite() and day_risk_left > 0):
        return NoEntry("no_day_risk", f"{day_risk_left:,.2f} USD of the day's risk are left beside its loss and what is at stake")
    if sizing.entry is Entry.PULLBACK:
        level = _nearest_below(price, sma20, support)
        if level is None:
            return NoEntry("no_pullback_level", f"neither SMA20 ({sma20}) nor support ({support}) lies below {price}")
        order_type, limit_price = OrderType.LIMIT, floor_to_tick(level)
        entry = limit_price
        if entry <= 0:
            return NoEntry("no_pullback_level", f"the level {level} is below one tick")
    else:
        order_type, limit_price, entry = OrderType.MARKETABLE, marketable_limit(Side.BUY, price, collar, price_band), price
    worst = max(price, limit_price)

    match sizing:
        case RiskSizing():
            stop: Decimal | None = _stop(sizing, entry, atr, support)
            if stop is None:
                return NoEntry("no_stop", f"no stop above zero fits below {entry}")
            risk = entry - stop
            targets = tuple(ceil_to_tick(entry + multiple * risk) for multiple in sizing.targets)
            sizes = _risk_sizes(sizing, equity, held_value, risk, worst, limits, strategy_limits, targets)
        case FractionSizing():
            stop = _fraction_stop(sizing, entry, atr, close)
            if stop is None and (sizing.stop is not None or sizing.atr_stop is not None):
                return NoEntry("no_stop", f"no stop above zero fits below {entry}")
            targets = () if sizing.target is None else (ceil_to_tick(entry * (1 + sizing.target)),)
            share = f"{sizing.fraction:.2%} of {usd(equity)} at {usd(price)}"
            sizes = [Size("fraction", _shares(sizing.fraction * equity, price), share)]
    sizes.append(Size("buying_power", _shares(buying_power, worst), f"{usd(buying_power)} at {usd(worst)}"))
    if average_day_volume is not None and average_day_volume.is_finite():
        most = average_day_volume * limits.max_volume_share
        because = f"{limits.max_volume_share:.2%} of {average_day_volume:,.0f} shares a day"
        sizes.append(Size("volume", _shares(most, Decimal(1)), because))
    if day_risk_left is not None:
        lost = worst if stop is None else worst - stop
        sizes.append(Size("day_risk", _shares(day_risk_left, lost), f"{usd(day_risk_left)} left of the day's risk, at {usd(lost)} a share"))

    binding = min(sizes, key=lambda size: size.shares)
    quantity = binding.shares
    if isinstance(sizing, RiskSizing):
        quantity = _multiplied(sizes, sizing.exposure_multiplier)
    smaller = strategy_limits.recovery_size
    if recovering and smaller is not None:
        binding = Size("recovery", int(quantity * smaller), f"{smaller:.2%} of {quantity} shares after a losing streak")
        quantity = binding.shares
        sizes.append(binding)
    if quantity < 1:
        return NoEntry("below_one_share", f"{binding.name} allows {binding.shares} shares: {binding.because}")
    return EntryPlan(
        quantity, order_type, entry, limit_price, stop, targets, () if stop is None else _brackets(quantity, stop, targets),
        tuple(sizes), binding.name,
    )


def _to_tick(price: Decimal, rounding: str) -> Decimal:
    step = tick(price)
    return (price / step).to_integral_value(rounding) * step


def _shares(money: Decimal, each: Decimal) -> int:
    return max(0, int(money // each))


def _usable(value: Decimal | None) -> bool:
    return value is not None and value.is_finite() and value > 0


def _nearest_below(price: Decimal, *levels: Decimal | None) -> Decimal | None:
    return max((level for level in levels if level is not None and _usable(level) and level < price), default=None)


def _stop(sizing: RiskSizing, entry: Decimal, atr: Decimal | None, support: Decimal | None) -> Decimal | None:
    """The highest of support, ATR and the greatest stop; an input still in warm-up is left out, the greatest stop never is."""
    by_atr = None if atr is None else entry - sizing.atr_multiple * atr
    highest = _nearest_below(entry, support, by_atr, entry * (1 - sizing.max_stop))
    stop = None if highest is None else floor_to_tick(highest)
    return stop if _usable(stop) else None


def _fraction_stop(sizing: FractionSizing, entry: Decimal, atr: Decimal | None, close: Decimal | None) -> Decimal | None:
    """The stop that the sizing asks for; None where it asks for none, or none fits between zero and the entry."""
    if sizing.atr_stop is not None:
        by_atr = None if atr is None or close is None else _to_tick(close - sizing.atr_stop * atr, ROUND_HALF_EVEN)
        return by_atr if by_atr is not None and 0 < by_atr < entry else None
    by_fraction = None if sizing.stop is None else floor_to_tick(entry * (1 - sizing.stop))
    return by_fraction if _usable(by_fraction) else None


def _risk_sizes(
    sizing: RiskSizing, equity: Decimal, held: Decimal, risk: Decimal, worst: Decimal, limits: AccountLimits,
    strategy_limits: StrategyLimits, targets: tuple[Decimal, ...],
) -> list[Size]:
    """Risk-based, and every cap on capital by its own name."""
    risked, target = sizing.risk_per_trade * equity, min(limits.position_target, limits.max_concentration)
    per_order = min(limits.max_order_value, strategy_limits.max_order_value)
    per_position = min(limits.max_position_value, strategy_limits.max_position_value)
    dearest = max((worst, *targets))
    return [
        Size("risk", _shares(risked, risk), f"{sizing.risk_per_trade:.2%} of {usd(equity)} at {usd(risk)} a share"),
        Size("capital", _shares(target * equity - held, worst), f"{target:.2%} of {usd(equity)} less {usd(held)} held, at {usd(worst)}"),
        Size("position_limit", _shares(per_position - held, worst), f"{usd(per_position)} less {usd(held)} held, at {usd(worst)}"),
        Size("order_limit", _shares(per_order, worst), f"{usd(per_order)} at {usd(worst)}"),
        Size("hard_limit", _shares(MAX_ORDER_VALUE, dearest), f"{usd(MAX_ORDER_VALUE)} at {usd(dearest)}"),
    ]


def _multiplied(sizes: list[Size], multiplier: Decimal) -> int:
    """The smallest size times the exposure multiplier; a multiplier above one enlarges the risk taken, never a cap."""
    scaled = int(min(size.shares for size in sizes) * multiplier)
    return max(0, min([scaled, *(size.shares for size in sizes if size.name != "risk")]))


def _brackets(quantity: int, stop: Decimal, targets: tuple[Decimal, ...]) -> tuple[Bracket, ...]:
    """The shares spread over the targets, the nearer ones taking what does not divide; no bracket without a share."""
    if not targets:
        return (Bracket(quantity, stop, None),)
    each, rest = divmod(quantity, len(targets))
    parts = [each + (1 if index < rest else 0) for index in range(len(targets))]
    return tuple(Bracket(part, stop, target) for part, target in zip(parts, targets, strict=True) if part)
