"""What lanes hold, and when a bar reaches their stops and targets; what rules remember of a strategy. Money in steps, instants in ns."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trading_pipeline.service.backtests.columnar.ground import Prices

NEVER = -(1 << 62)
_NEAR, _LOOK = 40, 512
"""Bars that are looked through for a stop or target one by one, and then at once."""


@dataclass(slots=True)
class Part:
    """Shares behind one stop and target."""

    shares: int
    stop: int
    target: int | None
    number: int = 1
    """Which bracket of its entry it is."""


@dataclass(slots=True)
class Held:
    """What a lane holds."""

    shares: int
    entered: int
    """The bar it was bought in."""
    parts: list[Part]
    cost: int
    result: int = 0
    """Of what was sold of it so far."""
    targets: bool = False
    """Whether a part has one."""


@dataclass(slots=True)
class Track:
    """What the rules remember of a strategy."""

    session: int = -1
    trips: list[tuple[int, str, int]] = field(default_factory=list)
    """(closed at, symbol, result) of this session."""
    losses: int = 0
    """How many of them did not win."""
    losing_exits: dict[str, int] = field(default_factory=dict)
    """By symbol, when it was last sold at a loss, this session."""
    last_actions: dict[tuple[str, bool], int] = field(default_factory=dict)
    """By symbol and whether it was a sale."""
    submitted: list[int] = field(default_factory=list)
    last_trade: int = NEVER
    flow: int = 0
    """Got less paid, since it began."""
    opening: int = 0
    """What it had made before this session."""


def first_reached(prices: Prices, held: Held, first: int, last: int) -> tuple[int, bool] | None:
    """The first bar from `first` to `last` that reaches a stop or target, and whether its open does."""
    stop, target = held.parts[0].stop, held.parts[0].target
    if len(held.parts) > 1:
        stop = max(part.stop for part in held.parts)
        target = min((part.target for part in held.parts if part.target is not None), default=None)
    near = last if last < first + _NEAR else first + _NEAR
    bar = _below(prices.lows, stop, first, near) if target is None else _outside(prices.lows, prices.highs, stop, target, first, near)
    if bar is None and last > near:
        bar = _far(prices, stop, target, near + 1, last)
    if bar is None:
        return None
    opened = prices.opens[bar]
    return bar, bar > held.entered and (opened <= stop or (target is not None and opened >= target))


def _below(lows: Sequence[int], stop: int, first: int, last: int) -> int | None:
    for bar in range(first, last + 1):
        if lows[bar] <= stop:
            return bar
    return None


def _outside(lows: Sequence[int], highs: Sequence[int], stop: int, target: int, first: int, last: int) -> int | None:
    for bar in range(first, last + 1):
        if lows[bar] <= stop or highs[bar] >= target:
            return bar
    return None


def _far(prices: Prices, stop: int, target: int | None, first: int, last: int) -> int | None:
    lows, highs = np.asarray(prices.lows), None if target is None else np.asarray(prices.highs)
    while first <= last:
        until = min(first + _LOOK, last + 1)
        found = lows[first:until] <= stop
        if highs is not None:
            found |= highs[first:until] >= target
        place = int(found.argmax())
        if found[place]:
            return first + place
        first = until
    return None
