"""Limits: the hard ones that no setting can lift, and those of the account and of a strategy.

The hard limits are the invariants 65-69 of the founding documents. Effective limits are the tightest of
hard, account and strategy (D1, D2): a level can only tighten.
"""

from dataclasses import dataclass, fields
from datetime import time, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, get_args

from trading_pipeline.errors import SettingsError

MAX_ORDER_VALUE: Final = Decimal(100_000)
"""Invariant 65: USD an order at its worst price; exactly this much passes."""
MIN_PRICE: Final = Decimal(1)
"""Invariant 66: USD a share; an entry below is denied, exactly $1.00 passes."""
ORDERS_FROM: Final = time(9, 30)
"""Invariant 67: New York wall clock, included."""
ORDERS_UNTIL: Final = time(16, 0)
"""Invariant 67: New York wall clock, excluded; an early close is earlier (D7)."""
COOLDOWN: Final = timedelta(seconds=30)
"""Invariant 68: between trades of one strategy; exactly this long passes (D3)."""
DUPLICATE_WINDOW: Final = timedelta(seconds=60)
"""Invariant 69: for (account, strategy, symbol, side); exactly this long passes (D4)."""
MAX_APPROVAL_TIMEOUT: Final = timedelta(minutes=10)
"""A proposal may not wait longer (D20)."""
APPROVED_TTL: Final = timedelta(seconds=30)
"""An approved action is submitted within this of its release, or expires (INVARIANTS 3.1)."""
SIGNAL_TTL: Final = timedelta(minutes=10)
"""A signal is acted on within this, and within two bars if intraday (D20, D27)."""

AUTONOMOUS_COLLAR: Final = Decimal("0.03")
"""Invariant 38: how far from the market an order of a Mode 2 strategy may reach at most."""
PROTECTIVE_COLLAR_FACTOR: Final = 2
"""A protective order may reach this many times as far: getting out matters more than the price (class matrix)."""
MAX_CLOCK_OFFSET: Final = timedelta(seconds=2)
"""Invariant 72: exactly this much passes."""

HARD_LIMITS: Final = MappingProxyType(
    {65: MAX_ORDER_VALUE, 66: MIN_PRICE, 67: (ORDERS_FROM, ORDERS_UNTIL), 68: COOLDOWN, 69: DUPLICATE_WINDOW}
)


def unless_off(value: object) -> object:
    """None for "off", the word by which files switch off a limit that may be; anything else as it is."""
    return None if value == "off" else value


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """What the account allows over all strategies. Money in USD, shares of equity as fractions."""

    max_order_value: Decimal = MAX_ORDER_VALUE
    max_position_value: Decimal = Decimal(50_000)
    max_concentration: Decimal = Decimal("0.20")
    position_target: Decimal = Decimal("0.15")
    sector_target: Decimal = Decimal("0.30")
    max_day_loss: Decimal = Decimal(1_000)
    """USD lost today that stop entries (D12); what is held may fall further."""
    max_day_risk: Decimal | None = None
    """USD lost today and at stake down to the stops, together at most; None: off. See `day_risk`."""
    max_day_notional: Decimal = Decimal(1_000_000)
    max_open_orders: int = 10
    min_order_gap: timedelta = timedelta(seconds=1)
    max_consecutive_rejects: int = 5
    max_volume_share: Decimal = Decimal("0.01")
    max_spread: Decimal = Decimal("0.02")
    max_quote_age: timedelta = timedelta(seconds=5)
    price_collar: Decimal = Decimal("0.05")
    max_bar_gap: Decimal = Decimal("0.5")
    """Newest close against the quote, as a fraction of the lower: further apart, one of them is a bad print and nothing is decided.

    The largest real gap over a night in twenty years of large companies was 0.44 (NVDA, 2004-08-06).
    """
    volatility_trip: Decimal = Decimal(3)
    """How many times the usual range blocks entries in a symbol (D13), see `volatility.breaker`."""
    volatility_clear: Decimal = Decimal(2)
    """Below so many times the block ends; at most `volatility_trip`, whatever it says."""
    forbidden_symbols: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check_positive(self, "account limits")
        if self.max_order_value > MAX_ORDER_VALUE:
            raise over_hard_limit("max_order_value", self.max_order_value)

    def tightened_by(self, other: "AccountLimits") -> "AccountLimits":
        """The tighter of the two, limit by limit; this one's own where they are equal."""
        tighter: dict[str, Any] = {field.name: _lower(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        # Two that are no most: orders lie at least this far apart, and a longer list forbids more.
        tighter["min_order_gap"] = max(self.min_order_gap, other.min_order_gap)
        tighter["forbidden_symbols"] = self.forbidden_symbols | other.forbidden_symbols
        return AccountLimits(**tighter)


@dataclass(frozen=True, slots=True)
class StrategyLimits:
    """What one strategy allows itself. Money in USD; None switches a limit off."""

    max_order_value: Decimal = Decimal(10_000)
    max_position_value: Decimal = Decimal(10_000)
    max_day_loss: Decimal = Decimal(1_000)
    max_day_risk: Decimal | None = None
    """As the account's, of what the strategy lost, holds and has under way."""
    max_orders_per_hour: int = 10
    price_collar: Decimal = Decimal("0.05")
    losing_streak: int = 3
    """Losing round trips in a row, within a session, that call for `cool_off` and `recovery_size`."""
    cool_off: timedelta | None = timedelta(minutes=30)
    """No entry for so long after such a streak, or after a loss that makes it longer."""
    recovery_size: Decimal | None = Decimal("0.5")
    """The fraction of its size that an entry has after such a streak, until a round trip wins or the session ends."""
    revenge_wait: timedelta | None = timedelta(minutes=30)
    """No entry in a symbol for so long after it was sold at a loss."""
    max_day_model_cost: Decimal | None = None
    """USD that models may cost in a day of New York, for this strategy; None: only the budgets of the settings hold."""

    def __post_init__(self) -> None:
        check_positive(self, "strategy limits")
        if self.recovery_size is not None and self.recovery_size > 1:
            raise SettingsError(
                f"recovery_size = {self.recovery_size} would enlarge an entry after losses.", value=self.recovery_size,
                rule="it is a fraction of the size, at most 1", remedy="set recovery_size to 1 or less, or to \"off\"",
            )
        if self.max_order_value > MAX_ORDER_VALUE:
            raise over_hard_limit("max_order_value", self.max_order_value)


def _lower(one: Any, other: Any) -> Any:
    """The lower of two; None is off and allows most."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


LONGER_IS_TIGHTER: Final = frozenset({"cool_off", "revenge_wait"})
"""Of a strategy's limits, those that allow less the higher they are."""


def looser(name: str, before: Any, after: Any) -> bool:
    """Whether a strategy's limit of this name would allow more than before; None is off and allows most."""
    if before is None or after is None:
        return before is not None and after is None
    return bool(after < before if name in LONGER_IS_TIGHTER else after > before)


def effective_collar(account: AccountLimits, strategy: StrategyLimits, *, autonomous: bool) -> Decimal:
    """How far above (buy) or below (sell) the market a limit price may lie, as a fraction: the tightest level (D1)."""
    collar = min(account.price_collar, strategy.price_collar)
    return min(collar, AUTONOMOUS_COLLAR) if autonomous else collar


def check_positive(limits: Any, where: str) -> None:
    """Refuse a limit that is zero, negative or not finite: it would mean nothing or everything."""
    for field in fields(limits):
        value = getattr(limits, field.name)
        match value:
            case Decimal():
                sane = value.is_finite() and value > 0
            case bool():
                sane = False
            case int():
                sane = value > 0
            case timedelta():
                sane = value > timedelta(0)
            case _:
                sane = True
        if not sane:
            or_off = ' or to "off"' if type(None) in get_args(field.type) else ""
            raise SettingsError(
                f"{field.name} = {value} in the {where} is no limit.", value=value,
                rule="a limit is a finite number above zero", remedy=f"set {field.name} to a positive value{or_off}",
            )


def over_hard_limit(name: str, value: Decimal) -> SettingsError:
    """The refusal of a setting above a hard limit."""
    return SettingsError(
        f"{name} = ${value:,.2f} is above the hard limit.", value=value,
        rule=f"INVARIANT_65: no order above ${MAX_ORDER_VALUE:,.2f}, and no setting lifts it",
        remedy=f"set {name} to ${MAX_ORDER_VALUE:,.2f} or less",
    )
