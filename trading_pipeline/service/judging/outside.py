"""What a judgement takes from outside the ledger, gathered in one place: prices, bars, stops, and what the broker states.

Everything else a verdict depends on is in the ledger. With a recorded `Outside` in hand, `Book.read` is what it was then, so
a replay re-derives the verdict without asking anybody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from trading_pipeline.domain.adjustments import split_adjusted
from trading_pipeline.domain.bar_quality import average_day_volume, lone_prints
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.risk import Quote, World
from trading_pipeline.domain.volatility import BARS_NEEDED, Volatility, breaker
from trading_pipeline.ports import Reader
from trading_pipeline.service.account_limits import standing
from trading_pipeline.service.accounting import CASH, marks
from trading_pipeline.service.desk import Desk

T = TypeVar("T")

VOLUME_SESSIONS = 25
"""Sessions of bars read for the average volume."""


@dataclass(frozen=True, slots=True)
class Outside:
    """All of it at one instant, by symbol where nothing else is said; what a mapping lacks, there is none of."""

    now: datetime
    quotes: Mapping[str, Quote]
    marks: Mapping[str, Decimal]
    """USD a share as the book counts them, for every held symbol."""
    mismatched: Mapping[str, str] = field(default_factory=dict)
    """Where book and broker disagree, see `accounting.mismatches`."""
    bar_ends: Mapping[str, datetime] = field(default_factory=dict)
    """When the newest bar of the symbol closed: at the proposal the bar decided on, at the gate the newest archived one."""
    volumes: Mapping[str, tuple[Decimal, bool]] = field(default_factory=dict)
    """Shares a session on average, and whether that comes from a short history (invariant 38)."""
    volatility: Mapping[str, Volatility] = field(default_factory=dict)
    """Breakers on the strategy's own bars; a symbol with too few of them has none (D13)."""
    stopped: frozenset[str] = frozenset()
    """Strategies under an emergency stop by its file, whatever the ledger says; `*`: the account."""
    world: World | None = None
    """Which inputs must be there (D30)."""

    def only(self, symbol: str) -> "Outside":
        """What a verdict on one symbol looks at: its own, and the marks of everything held."""
        told = {name: words for name, words in self.mismatched.items() if name in (symbol, "*", CASH)}
        return replace(
            self, quotes=_only(self.quotes, symbol), bar_ends=_only(self.bar_ends, symbol), volumes=_only(self.volumes, symbol),
            volatility=_only(self.volatility, symbol), mismatched=told,
        )


def look(
    desk: Desk, reader: Reader, symbols: Iterable[str], interval: Interval | None = None, *, mismatched: Mapping[str, str] | None = None,
    bar_ends: Mapping[str, datetime] | None = None,
) -> Outside:
    """Look now.

    Args:
        symbols: Those to be judged; what is held is priced in any case.
        interval: Of the bars to look at; None where no verdict is wanted: then no bar is read.
        bar_ends: The bars decided on; the newest archived ones when None.
    """
    now, wanted = desk.now(), sorted(set(symbols))
    stopped = frozenset(stop.strategy or "*" for stop in desk.latch.stops())
    held = sorted({row["symbol"] for row in reader.find("positions") if row["quantity"]})
    quotes, prices = dict(desk.market.quotes(wanted, now)), marks(desk, held, reader)
    seen = Outside(now, quotes, prices, mismatched or {}, stopped=stopped, world=desk.world)
    if interval is None:
        return seen
    limits, today = standing(desk, reader).effective, desk.today()
    count = max(VOLUME_SESSIONS * -(-390 // interval.minutes), BARS_NEEDED[interval])
    tables = desk.archive.read_many(wanted, interval, until=now, count=count)
    adjusted = {symbol: split_adjusted(table, desk.splits.get(symbol, ()), today) for symbol, table in tables.items()}
    if bar_ends is None:
        bar_ends = {symbol: table.last_end for symbol, table in tables.items() if len(table)}
    volumes = {symbol: volume for symbol, table in adjusted.items() if (volume := average_day_volume(table, today)) is not None}
    breakers = {symbol: state for symbol, table in adjusted.items() if (state := _breaker(table, limits)) is not None}
    return replace(seen, bar_ends=bar_ends, volumes=volumes, volatility=breakers)


def _breaker(table: BarTable, limits: AccountLimits) -> Volatility | None:
    believed = table.where(~lone_prints(table.close, limits.max_bar_gap)) if len(table) else table
    return breaker(believed, limits.volatility_trip, limits.volatility_clear)


def _only(of: Mapping[str, T], symbol: str) -> dict[str, T]:
    return {name: value for name, value in of.items() if name == symbol}
