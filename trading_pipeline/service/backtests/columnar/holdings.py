"""What lanes hold, and when a bar reaches their stops and targets; what rules remember of a strategy. Money in steps, instants in ns."""

from dataclasses import dataclass, field

from trading_pipeline.service.backtests.columnar.lanes import Prices
from trading_pipeline.service.backtests.columnar.units import SCALE

NEVER = -(1 << 62)
_NEAR, _LOOK = 40, 512
"""Bars that are looked through for a stop or target one by one, and then at once."""
_CLOSE = 1e-9


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


@dataclass(slots=True)
class Track:
    """What the rules remember of a strategy."""

    session: int = -1
    trips: list[tuple[int, str, int]] = field(default_factory=list)
    """(closed at, symbol, result) of this session."""
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
    stop = max(part.stop for part in held.parts) / SCALE + _CLOSE
    target = min((part.target for part in held.parts if part.target is not None), default=None)
    high = None if target is None else target / SCALE - _CLOSE
    bar = _near(prices, stop, high, first, min(last, first + _NEAR))
    if bar is None and last > first + _NEAR:
        bar = _far(prices, stop, high, first + _NEAR + 1, last)
    if bar is None:
        return None
    opened = prices.open.item(bar)
    by_open = bar > held.entered and (opened <= stop or (high is not None and opened >= high))
    return bar, by_open


def _near(prices: Prices, stop: float, high: float | None, first: int, last: int) -> int | None:
    lows = prices.lows
    if high is None:
        for bar in range(first, last + 1):
            if lows[bar] <= stop:
                return bar
        return None
    highs = prices.highs
    for bar in range(first, last + 1):
        if lows[bar] <= stop or highs[bar] >= high:
            return bar
    return None


def _far(prices: Prices, stop: float, high: float | None, first: int, last: int) -> int | None:
    while first <= last:
        until = min(first + _LOOK, last + 1)
        found = prices.low[first:until] <= stop
        if high is not None:
            found |= prices.high[first:until] >= high
        place = int(found.argmax())
        if found[place]:
            return first + place
        first = until
    return None
