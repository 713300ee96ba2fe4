"""What a judgement takes from outside the ledger, gathered in one place: prices, bars, and what the broker states.

Everything else a verdict depends on is in the ledger. With a recorded `Outside` in hand, `Book.read` is what it was then, so
a replay re-derives the verdict without asking anybody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from trading_pipeline.domain.adjustments import split_adjusted
from trading_pipeline.domain.bar_quality import average_day_volume
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.risk import Quote, World
from trading_pipeline.ports import Reader
from trading_pipeline.service.accounting import CASH, marks
from trading_pipeline.service.desk import Desk

VOLUME_BARS = 25
"""Sessions of daily bars read for the average volume; intraday reads as many bars as make so many sessions."""


@dataclass(frozen=True, slots=True)
class Outside:
    """All of it at one instant, by symbol; a symbol that a mapping lacks has none of it."""

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
    stopped: frozenset[str] = frozenset()
    """Strategies under an emergency stop by its file, whatever the ledger says; `*`: the account."""

    world: World | None = None
    """Which inputs must be there (D30)."""

    def only(self, symbol: str) -> "Outside":
        """What a verdict on one symbol looks at: its own, and the marks of everything held."""
        quotes = {name: quote for name, quote in self.quotes.items() if name == symbol}
        bar_ends = {name: end for name, end in self.bar_ends.items() if name == symbol}
        volumes = {name: volume for name, volume in self.volumes.items() if name == symbol}
        told = {name: words for name, words in self.mismatched.items() if name in (symbol, "*", CASH)}
        return replace(self, quotes=quotes, bar_ends=bar_ends, volumes=volumes, mismatched=told)


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
    if interval is None:
        return Outside(now, quotes, prices, mismatched or {}, world=desk.world)
    per_session = max(1, -(-390 // interval.minutes))
    tables = desk.archive.read_many(wanted, interval, until=now, count=VOLUME_BARS * per_session)
    if bar_ends is None:
        bar_ends = {symbol: table.last_end for symbol, table in tables.items() if len(table)}
    today = desk.today()
    adjusted = {symbol: split_adjusted(table, desk.splits.get(symbol, ()), today) for symbol, table in tables.items()}
    volumes = {symbol: volume for symbol, table in adjusted.items() if (volume := average_day_volume(table, today)) is not None}
    return Outside(now, quotes, prices, mismatched or {}, bar_ends, volumes, desk.world)
