"""A source with one's own bars beside it: symbols and intervals that were imported into the archive and the source does not have.

The source speaks for what it has. What only the archive has is served from there, quotes included (D30), so that an imported
symbol can be traded on paper in any home whose market clock reaches its bars. Bars are read when a symbol is first asked for.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from trading_pipeline.adapters.market_data.table_market import SPREAD, TableMarket
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.risk import Quote
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.ports import BarArchive, MarketData


class WithImports:
    """Both behind the MarketData port."""

    def __init__(self, source: MarketData, archive: BarArchive, calendar: TradingCalendar, *, spread: Decimal = SPREAD) -> None:
        """Put an archive beside a source.

        Args:
            spread: Of quotes made from imported bars, as a fraction of their middle.
        """
        self._source = source
        self._archive = archive
        self._calendar = calendar
        self._spread = spread
        self._archived: dict[Interval, frozenset[str]] | None = None
        self._imported: dict[str, TableMarket] = {}

    @property
    def name(self) -> str:
        """The source's."""
        return self._source.name

    @property
    def symbols(self) -> tuple[str, ...]:
        """What the source lists, sorted; a source that is asked symbol by symbol lists none."""
        return self._source.symbols if isinstance(self._source, TableMarket) else ()

    def intervals(self, symbol: str) -> tuple[Interval, ...]:
        """What either has, finest first."""
        both = {*self._source.intervals(symbol), *self._beside(symbol).intervals(symbol)}
        return tuple(sorted(both, key=lambda interval: interval.minutes))

    def closed_bars(
        self, symbols: Sequence[str], interval: Interval, after: datetime | None, until: datetime,
    ) -> Mapping[str, BarTable]:
        """Unadjusted bars with `after < end <= until`."""
        own = {symbol for symbol in symbols if interval in self._beside(symbol).intervals(symbol)}
        found = dict(self._source.closed_bars([symbol for symbol in symbols if symbol not in own], interval, after, until))
        for symbol in own:
            found.update(self._beside(symbol).closed_bars([symbol], interval, after, until))
        return found

    def opening_bar(self, symbol: str, interval: Interval, at: datetime) -> tuple[datetime, Decimal] | None:
        """(start, open) of the bar with start <= at < end."""
        beside = self._beside(symbol)
        market: MarketData = beside if interval in beside.intervals(symbol) else self._source
        return market.opening_bar(symbol, interval, at)

    def quotes(self, symbols: Sequence[str], at: datetime) -> Mapping[str, Quote]:
        """Quotes as of `at`, from whichever has the finer bars, or from the other where it has none."""
        found: dict[str, Quote] = {}
        for symbol in symbols:
            own, known = self._beside(symbol).intervals(symbol), self._source.intervals(symbol)
            if own and (not known or own[0].minutes < known[0].minutes):
                found.update(self._beside(symbol).quotes([symbol], at))
        left = [symbol for symbol in symbols if symbol not in found]
        return {**self._source.quotes(left, at), **found}

    def _beside(self, symbol: str) -> TableMarket:
        """What only the archive has of a symbol; maybe nothing."""
        found = self._imported.get(symbol)
        if found is None:
            if self._archived is None:
                self._archived = {interval: frozenset(self._archive.symbols(interval)) for interval in Interval}
            known = self._source.intervals(symbol)
            lacking = [interval for interval, symbols in self._archived.items() if symbol in symbols and interval not in known]
            tables = [self._archive.read(symbol, interval, until=self._calendar.horizon.close) for interval in lacking]
            found = TableMarket("archive", [table for table in tables if len(table)], self._calendar, spread=self._spread)
            self._imported[symbol] = found
        return found
