"""A synthetic market: seeded random bars on the real calendar, for load tests and for trying things out.

Nothing in it happened; its name, `synthetic`, travels with every report. Each symbol has its own generator, seeded with the market's
seed and the symbol's name, so that neither the order nor the number of symbols changes anybody's bars. Opens gap, ranges follow
volatility, volume peaks at open and close and rises with the move. There are no splits, dividends, halts or missing bars.
"""

import hashlib
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

import numpy as np

from trading_pipeline.adapters.market_data.table_market import SPREAD, TableMarket
from trading_pipeline.domain.bar_quality import grid
from trading_pipeline.domain.bars import SYMBOL, BarTable, Floats, Instants, Interval
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.errors import BarsError

LEAST_PRICE = 2.0
"""Walks are reflected here, so that no symbol falls below the dollar that entries need."""


class SyntheticMarket(TableMarket):
    """Random bars behind the MarketData port; the same arguments give the same bars."""

    def __init__(
        self, seed: int, symbols: Sequence[str], interval: Interval, first: date, last: date, calendar: TradingCalendar, *,
        spread: Decimal = SPREAD,
    ) -> None:
        """Make bars of every session from `first` to `last`, both included.

        Raises:
            BarsError: There is no session in that time, or a name is no symbol.
            CalendarError: A date lies outside the calendar.
        """
        calendar.between(first, last)
        start, end = grid(calendar, interval, first, last)
        if not len(start):
            raise BarsError(
                f"There is no session from {first} to {last}.", value=f"{first}..{last}", rule="bars are made for sessions",
                remedy="give a longer time",
            )
        wrong = [symbol for symbol in symbols if not SYMBOL.fullmatch(symbol)]
        if wrong:
            raise BarsError(
                f"{wrong[0]!r} is no symbol.", value=wrong[0], rule="a symbol is 1 to 16 of A-Z, 0-9, dot and hyphen",
                remedy="write it in capitals",
            )
        super().__init__("synthetic", (_table(seed, symbol, interval, start, end) for symbol in symbols), calendar, spread=spread)


def _table(seed: int, symbol: str, interval: Interval, start: Instants, end: Instants) -> BarTable:
    digest = hashlib.sha256(f"{seed}:{symbol}".encode()).digest()
    random = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
    count = len(start)
    bars_a_session = -(-Interval.DAY1.minutes // interval.minutes)
    day_volatility, day_volume, price = random.uniform(0.01, 0.03), 10 ** random.uniform(5.5, 7.5), 10 ** random.uniform(1.2, 2.5)
    volatility = day_volatility / bars_a_session**0.5
    normal = random.standard_normal((4, count))

    first_of_session = np.ones(count, np.bool_)
    first_of_session[1:] = start[1:] != end[:-1]
    gap = np.where(first_of_session, 0.3 * day_volatility, 0.02 * volatility) * normal[0]
    move = volatility * normal[1]
    floor = np.log(LEAST_PRICE)
    # A reflected walk stays above the floor without bending the moves near it.
    close = floor + np.abs(np.log(price) - floor + np.cumsum(gap + move))
    opened = floor + np.abs(close - move - floor)
    reach = volatility * 0.5 * np.abs(normal[2:])
    columns = [np.exp(opened), np.exp(np.maximum(opened, close) + reach[0]), np.exp(np.minimum(opened, close) - reach[1]), np.exp(close)]
    cents: list[Floats] = [np.round(column, 2) for column in columns]

    place = np.arange(count) - np.maximum.accumulate(np.where(first_of_session, np.arange(count), 0))
    edge = 1 if interval.daily else 0.6 + 1.6 * (2 * place / bars_a_session - 1) ** 2
    volume = np.round(day_volume / bars_a_session * edge * np.exp(0.3 * normal[2]) * (1 + np.abs(normal[1]) / 2))
    return BarTable(symbol, interval, start, end, cents[0], cents[1], cents[2], cents[3], volume)
