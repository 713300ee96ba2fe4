"""Exact money as whole numbers: prices and USD in steps of 0.0001, what the paper broker counts in.

Whole numbers are ten times as fast as Decimal and just as exact; every function here equals its namesake on Decimals, which a
property test holds it to.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.money import ZERO, price_of, tick
from trading_pipeline.domain.shadow import FillCosts

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

SCALE = 10_000
"""Steps in a dollar."""
CENT = 100
"""Steps in a cent."""
_BLOCK = 8_192
_SURE = 0.49
"""So near to a step both roundings agree; nearer to the middle between two the decimal text decides."""


def steps(amount: Decimal) -> int:
    """USD as steps; what lies between two steps is cut off, and there should be none."""
    return int(amount * SCALE)


def usd(amount: int) -> Decimal:
    """Steps as USD."""
    return Decimal(amount).scaleb(-4)


def priced(amount: int) -> Decimal:
    """A price as `money.price_of` writes it: without zeros at its end."""
    return usd(amount).normalize() + ZERO


def ticked(amount: int) -> Decimal:
    """A price on the exchange's grid as sizing writes it: with the grid's digits."""
    return usd(amount).quantize(tick(usd(amount)))


def price_steps(value: float) -> int:
    """A bar's price as steps, rounded as `money.price_of` rounds it."""
    scaled = value * SCALE
    nearest = round(scaled)
    return nearest if abs(scaled - nearest) < _SURE else steps(price_of(value))


def steps_of(values: Floats) -> Numbers:
    """Bars' prices as steps, each as `price_steps` has it."""
    found = np.empty(len(values), np.int64)
    for rows in blocks(len(values)):
        scaled = values[rows] * SCALE
        nearest = np.rint(scaled)
        found[rows] = nearest
        for place in np.flatnonzero(np.abs(scaled - nearest) >= _SURE).tolist():
            found[rows.start + place] = price_steps(values.item(rows.start + place))
    return found


def blocks(length: int) -> Iterator[slice]:
    """Rows in blocks: what is computed in between stays in the processor's cache, and asks the system for no memory."""
    return (slice(begin, min(begin + _BLOCK, length)) for begin in range(0, length, _BLOCK))


@overload
def peek(values: Numbers) -> Sequence[int]: ...
@overload
def peek(values: Floats) -> Sequence[float]: ...
def peek(values: Any) -> Any:
    """The same numbers, to be looked at one by one: as plain ones, and twice as quick as in an array."""
    return memoryview(values)


def fraction_of(value: Decimal) -> tuple[int, int]:
    """A decimal as numerator and denominator."""
    return value.as_integer_ratio()


def half_even(numerator: int, denominator: int) -> int:
    """The quotient rounded half to even."""
    quotient, rest = divmod(2 * numerator + denominator, 2 * denominator)
    return quotient if rest or not quotient & 1 else quotient - 1


def cents(amounts: Numbers) -> Numbers:
    """Steps as cents, rounded half to even."""
    found, rest = np.divmod(amounts, CENT)
    found += (2 * rest > CENT) | ((2 * rest == CENT) & (found & 1 == 1))
    return found


def floor_to_tick(price: int, below: int, denominator: int = 1) -> int:
    """The next price on the exchange's grid at or below `price / denominator`, a cent from $1 up.

    Args:
        below: The grid's step in steps where the price is under a dollar.
    """
    grid = CENT if price >= SCALE * denominator else below
    return price // (denominator * grid) * grid


@dataclass(frozen=True, slots=True)
class Charges:
    """`FillCosts` on whole numbers."""

    taken_buy: Callable[[int], int]
    taken_sell: Callable[[int], int]
    commission: Callable[[int, int], int]
    """(shares, price) of an order that fills at once."""


def charges(costs: FillCosts) -> Charges:
    """The same costs, ready to be asked."""
    reach = costs.spread / 2 + costs.slippage
    up, up_by = fraction_of(1 + reach)
    down, down_by = fraction_of(1 - reach)
    share, share_by = fraction_of(costs.commission_per_share * SCALE)
    least = half_even(*fraction_of(costs.commission_minimum * SCALE))
    rate, rate_by = fraction_of(costs.commission_rate)

    def taken_buy(price: int) -> int:
        return -(-price * up // up_by)

    def taken_sell(price: int) -> int:
        return max(1, price * down // down_by)

    def commission(shares: int, price: int) -> int:
        by_share = max(least, half_even(share * shares, share_by)) if share else least
        return by_share + (half_even(rate * shares * price, rate_by) if rate else 0)

    return Charges(taken_buy, taken_sell, commission)
