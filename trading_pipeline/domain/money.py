"""Money and quantity. Decimal everywhere on the decision path; floats end here.

Prices are USD a share, quantities are whole shares (int), fractions are 0..1 (never "per cent").
"""

import math
from decimal import ROUND_HALF_EVEN, Decimal

from trading_pipeline.errors import InputError

CENT = Decimal("0.01")
PRICE_STEP = Decimal("0.0001")
ZERO = Decimal(0)


def price_of(value: float) -> Decimal:
    """A float price from a bar column as Decimal, rounded to 0.0001 USD.

    Raises:
        InputError: NaN, infinite, zero or negative: there is no neutral price.
    """
    if not math.isfinite(value) or value <= 0:
        raise InputError(
            f"{value} is no price.", value=value, rule="a price is finite and above zero", remedy="check the bars of this symbol"
        )
    return Decimal(repr(float(value))).quantize(PRICE_STEP, rounding=ROUND_HALF_EVEN).normalize() + ZERO


def tick(price: Decimal) -> Decimal:
    """The smallest price step of a US equity: a cent from $1 up, 0.0001 below. Source: SEC Rule 612."""
    return CENT if price >= 1 else PRICE_STEP


def to_cents(amount: Decimal) -> Decimal:
    """An amount of money rounded half-even to whole cents; nothing is never below zero."""
    return amount.quantize(CENT, rounding=ROUND_HALF_EVEN) + ZERO


def usd(amount: Decimal) -> str:
    """An amount as people read it: `$1,234.50`, `-$3.00`."""
    cents = to_cents(amount)
    return f"-${-cents:,.2f}" if cents < 0 else f"${cents:,.2f}"
