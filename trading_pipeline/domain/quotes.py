"""Quotes made from bars (D30): what recorded markets, which know one price at a time, say of bid and ask."""

from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from trading_pipeline.domain.money import tick
from trading_pipeline.domain.risk import Quote


def quote_around(symbol: str, middle: Decimal, spread: Decimal, at: datetime) -> Quote | None:
    """A quote of the given spread (fraction of the middle, at least one tick); None when there is no room for a bid above zero."""
    step = tick(middle)
    half = max(middle * spread, step) / 2
    bid = ((middle - half) / step).to_integral_value(ROUND_FLOOR) * step
    ask = ((middle + half) / step).to_integral_value(ROUND_CEILING) * step
    return Quote(symbol, bid, ask, middle, at) if bid > 0 else None
