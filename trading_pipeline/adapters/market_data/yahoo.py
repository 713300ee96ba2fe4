"""Yahoo Finance by yfinance: unofficial, delayed, and good for learning and for history, never for the price of an order.

Its quotes are made from bars like those of a file and only ever meet the paper broker; a real broker quotes for itself. Yahoo
adjusts prices and volumes for every split up to today; that is undone here, with the splits it names, so that what is archived is
what was traded. Bars come into the archive as they are fetched; a bar that the archive has is not fetched again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trading_pipeline.adapters.market_data.cleaning import Account, ImportReport, RawBars, clean
from trading_pipeline.adapters.market_data.splits import load_splits, save_splits
from trading_pipeline.adapters.market_data.stamps import Stamps, session_midnights
from trading_pipeline.adapters.market_data.table_market import SPREAD, TableMarket
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.risk import Quote
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.errors import BarsError, MarketDataError
from trading_pipeline.ports import BarArchive

if TYPE_CHECKING:
    import pandas as pd

    Fetch = Callable[[str, Interval, date], pd.DataFrame]

REACH = {
    Interval.MIN1: timedelta(days=7),
    Interval.MIN5: timedelta(days=59),
    Interval.MIN15: timedelta(days=59),
    Interval.HOUR1: timedelta(days=729),
    Interval.DAY1: timedelta(days=5 * 365),
}
"""How far back is asked for what is not archived yet; below a day it is as far as Yahoo goes."""
PAUSE_SECONDS = 15.0
"""A symbol and interval is asked for at most this often: Yahoo refuses those who ask too much."""

_NAMES = {Interval.MIN1: "1m", Interval.MIN5: "5m", Interval.MIN15: "15m", Interval.HOUR1: "60m", Interval.DAY1: "1d"}


class YahooMarket(TableMarket):
    """Yahoo Finance behind the MarketData port; `reports` has the account of each fetch, the newest last."""

    def __init__(
        self, archive: BarArchive, calendar: TradingCalendar, *, splits_file: Path | None = None, fetch: "Fetch | None" = None,
        spread: Decimal = SPREAD,
    ) -> None:
        """Use an archive; nothing is fetched yet.

        Args:
            splits_file: Where the splits that Yahoo names are kept; without it they are known to this object only.
            fetch: Gives the history of a symbol since a date, in the shape of yfinance; `fetch_history` when None.
        """
        super().__init__("yfinance", (), calendar, spread=spread)
        self._splits_file = splits_file
        self._splits_stamp: tuple[int, int] | None = None
        self.reports: list[ImportReport] = []
        self._archive = archive
        self._fetch = fetch or fetch_history
        self._asked: dict[tuple[str, Interval], float] = {}

    def intervals(self, symbol: str) -> tuple[Interval, ...]:  # noqa: ARG002 -- the port's name
        """Every interval: whether Yahoo knows the symbol shows when it is asked."""
        return tuple(sorted(Interval, key=lambda interval: interval.minutes))

    def closed_bars(
        self, symbols: Sequence[str], interval: Interval, after: datetime | None, until: datetime,
    ) -> Mapping[str, BarTable]:
        """Unadjusted bars with `after < end <= until`, fetched where the archive lacks the newest of them.

        Raises:
            MarketDataError: Yahoo does not answer, limits the rate, or does not know a symbol.
        """
        slot = self.calendar.last_closed_slot(until, interval)
        for symbol in symbols:
            self._refresh(symbol, interval, None if slot is None else slot.start)
        return super().closed_bars(symbols, interval, after, until)

    def opening_bar(self, symbol: str, interval: Interval, at: datetime) -> tuple[datetime, Decimal] | None:
        """(start, open) of the bar with start <= at < end, which Yahoo shows some seconds to minutes late."""
        slot = self.calendar.slot_at(at, interval)
        if slot is None:
            return None
        self._refresh(symbol, interval, slot.start)
        return super().opening_bar(symbol, interval, at)

    def quotes(self, symbols: Sequence[str], at: datetime) -> Mapping[str, Quote]:
        """Quotes from minute bars in regular hours and from daily closes otherwise; see the module's warning."""
        interval = Interval.DAY1 if self.calendar.at(at) is None else Interval.MIN1
        slot = self.calendar.last_closed_slot(at, interval) if interval.daily else self.calendar.slot_at(at, interval)
        for symbol in symbols:
            self._refresh(symbol, interval, None if slot is None else slot.start)
        return super().quotes(symbols, at)

    def _refresh(self, symbol: str, interval: Interval, wanted: datetime | None) -> None:
        """Have the bar that starts at `wanted`, if Yahoo has it."""
        held = self._tables.setdefault(symbol, {})
        if interval not in held:
            held[interval] = self._archive.read(symbol, interval, until=self.calendar.horizon.close)
        table = held[interval]
        if wanted is None or len(table.since(wanted)):
            return
        now = time.monotonic()
        if now - self._asked.get((symbol, interval), -PAUSE_SECONDS) < PAUSE_SECONDS:
            return
        self._asked[symbol, interval] = now
        now_utc = datetime.now(UTC)
        first = max((now_utc - REACH[interval]).date(), table.last_end.date() if len(table) else date.min)
        frame = self._fetch(symbol, interval, first)
        if not len(frame):
            return
        fetched, report, splits = table_of_frame(frame, symbol, interval, self.calendar)
        self.reports.append(report)
        self._learn(splits)
        self._archive.append(fetched.until(now_utc))
        held[interval] = self._archive.read(symbol, interval, until=self.calendar.horizon.close).joined(fetched)

    @property
    def splits(self) -> tuple[Split, ...]:
        """What Yahoo has named so far, to this process or another one with the same file, and what a person wrote into it."""
        if self._splits_file is not None and self._splits_file.exists():
            stat = self._splits_file.stat()
            if self._splits_stamp != (stat.st_mtime_ns, stat.st_size):
                self._splits, self._splits_stamp = load_splits(self._splits_file), (stat.st_mtime_ns, stat.st_size)
        return self._splits

    def _learn(self, splits: Sequence[Split]) -> None:
        known = {(each.symbol, each.session): each for each in self.splits}
        fresh = {(each.symbol, each.session): each for each in splits if (each.symbol, each.session) not in known}
        if fresh:
            self._splits = tuple(sorted({**known, **fresh}.values(), key=lambda each: (each.session, each.symbol)))
            if self._splits_file is not None:
                save_splits(self._splits_file, self._splits)


def table_of_frame(
    frame: "pd.DataFrame", symbol: str, interval: Interval, calendar: TradingCalendar
) -> tuple[BarTable, ImportReport, tuple[Split, ...]]:
    """A history of yfinance, reaching to today, as unadjusted bars, with its report and the splits inside it.

    Args:
        frame: Indexed by aware instants of bar starts (midnights for daily bars), with the columns Open, High, Low, Close, Volume and
            Stock Splits (new shares for one old, 0 for none), prices split-adjusted as of today (`auto_adjust=False`).

    Raises:
        MarketDataError: The frame has another shape, or its bars cannot be used.
    """
    wanted = ("Open", "High", "Low", "Close", "Volume", "Stock Splits")
    lacking = [name for name in wanted if name not in frame.columns]
    import pandas as pd

    if lacking or not isinstance(frame.index, pd.DatetimeIndex) or frame.index.tz is None:
        raise MarketDataError(
            f"Yahoo's answer for {symbol} has another shape: {', '.join(map(str, frame.columns))}.", value=symbol,
            rule=f"a history has aware instants and the columns {', '.join(wanted)}",
            remedy="install the yfinance that requirements.lock names",
        )
    instants = frame.index.tz_convert("UTC").as_unit("ns").asi8
    midnights = session_midnights(Stamps(instants, True, np.ones(len(instants), np.bool_), ()))
    days = midnights.astype("datetime64[ns]").astype("datetime64[D]")
    opened, high, low, close, volume, ratios = (frame[name].to_numpy(np.float64) for name in wanted)
    splits = tuple(
        Split(symbol, days[index].astype(object), Decimal(repr(float(ratios[index]))))
        for index in np.flatnonzero((ratios > 0) & (ratios != 1))
    )
    factor = np.ones(len(days))
    for split in splits:
        factor[days < np.datetime64(split.session)] *= float(split.ratio)
    # Yahoo carries prices in single precision; four decimals are what it means.
    prices = [np.round(column * factor, 4) for column in (opened, high, low, close)]
    rows = RawBars(
        midnights if interval.daily else instants, prices[0], prices[1], prices[2], prices[3], np.round(volume / factor),
        np.arange(1, len(days) + 1, dtype=np.int64),
    )
    account = Account("yfinance", symbol, read=len(rows))
    try:
        table = clean(rows, interval, calendar, account)
    except BarsError as error:
        raise MarketDataError(
            f"Yahoo's bars of {symbol} cannot be used: {error.message}", value=error.value, rule=error.rule,
            remedy="try again later, or take the bars from files or a broker",
        ) from error
    return table, account.close(table, calendar), splits


def fetch_history(symbol: str, interval: Interval, first: date) -> "pd.DataFrame":
    """A symbol's bars since a date from Yahoo Finance; empty when it has none in that time.

    Raises:
        MarketDataError: No network, rate limited, symbol unknown, or an answer that makes no sense.
    """
    import pandas as pd
    import yfinance
    from yfinance.exceptions import YFException, YFPricesMissingError, YFRateLimitError, YFTzMissingError

    yfinance.config.debug.hide_exceptions = False
    rule, remedy = "Yahoo Finance answers", "check the network and try again; bars in the archive stay usable"
    cause: Exception
    try:
        ticker = yfinance.Ticker(symbol.replace(".", "-"))
        history: pd.DataFrame = ticker.history(
            start=first.isoformat(), interval=_NAMES[interval], auto_adjust=False, actions=True, prepost=False
        )
        return history
    except YFPricesMissingError:
        return pd.DataFrame()
    except YFRateLimitError as error:
        rule, remedy, cause = "Yahoo Finance limits how often it is asked", "wait some minutes, or ask for fewer symbols", error
    except YFTzMissingError as error:
        rule, remedy, cause = "the symbol is listed at Yahoo Finance", "check the symbol; it may be unknown or delisted", error
    except (YFException, OSError, ValueError, KeyError, TypeError) as error:
        cause = error
    raise MarketDataError(f"Yahoo Finance gave no bars of {symbol}: {cause}.", value=symbol, rule=rule, remedy=remedy) from cause
