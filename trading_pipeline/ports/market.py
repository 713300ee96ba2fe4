"""Market data: the clock, sources of bars and quotes, the archive, pictures and where they are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from trading_pipeline.domain.bars import BarTable, Floats, Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.risk import Quote


class Clock(Protocol):
    """The market clock (D28): the only source of `now` on any decision path."""

    def now(self) -> datetime:
        """The present instant of the market, aware UTC, never going back within a process."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What an archive did with bars offered to it."""

    added: int
    replaced: int
    unchanged: int


class MarketData(Protocol):
    """A source of bars and quotes, seen as of an instant: never a bar that has not closed."""

    @property
    def name(self) -> str:
        """What people call it: `samples`, `files`, `synthetic`, `yfinance`."""

    def intervals(self, symbol: str) -> tuple[Interval, ...]:
        """What it has of a symbol, finest first; empty when the symbol is unknown."""

    def closed_bars(
        self, symbols: Sequence[str], interval: Interval, after: datetime | None, until: datetime,
    ) -> Mapping[str, BarTable]:
        """Unadjusted bars with `end > after` (all when None) and `end <= until`, one table a symbol, maybe empty."""

    def opening_bar(self, symbol: str, interval: Interval, at: datetime) -> tuple[datetime, Decimal] | None:
        """(start, open) of the bar with start <= at < end: published at its start, nothing else of it is known."""

    def quotes(self, symbols: Sequence[str], at: datetime) -> Mapping[str, Quote]:
        """Best prices as of `at`; a symbol without one is left out."""


class BarArchive(Protocol):
    """Unadjusted closed bars, kept for good as columnar files."""

    def append(self, table: BarTable) -> Appended:
        """Add bars; a bar that is there already is unchanged if equal and replaced if not."""

    def append_many(self, tables: Sequence[BarTable]) -> list[Appended]:
        """`append` for many tables at once."""

    def read(self, symbol: str, interval: Interval, *, until: datetime, count: int | None = None) -> BarTable:
        """The newest `count` bars that have closed by `until`."""

    def read_many(
        self, symbols: Sequence[str], interval: Interval, *, until: datetime, count: int | None = None,
    ) -> dict[str, BarTable]:
        """`read` for many symbols at once."""

    def symbols(self, interval: Interval | None = None) -> tuple[str, ...]:
        """What it holds, sorted."""

    def sessions(self, symbol: str, interval: Interval) -> tuple[date, ...]:
        """The sessions it holds bars of."""


class ObjectStore(Protocol):
    """Immutable bytes by their SHA-256."""

    def put(self, content: bytes, suffix: str) -> str:
        """Store bytes (idempotent) and return the digest in hex; `suffix` is such as `.png`."""

    def get(self, digest: str) -> bytes:
        """The bytes; StorageError when absent or when they no longer have that digest."""

    def locate(self, digest: str) -> str:
        """Where a person finds them: a path or an URL without secrets."""


class ChartRenderer(Protocol):
    """Makes the picture of a chart."""

    def render(self, spec: ChartSpec, bars: BarTable, columns: Mapping[str, Floats], *, dated: bool = True) -> bytes:
        """A PNG of the newest `spec.bars` bars; `columns` are aligned with `bars`. Not `dated`: bars are counted back, no date is drawn."""
