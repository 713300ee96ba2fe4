"""Where `trading up` takes its replay from: the one that the home has, or a new one on the samples or on bars of one's own."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from trading_pipeline.errors import Conflict, InputError, SettingsError
from trading_pipeline.faces.cli.invocation import Invocation
from trading_pipeline.faces.cli.output import NEW_YORK

if TYPE_CHECKING:
    from trading_pipeline.adapters.clocks import ReplayClock
    from trading_pipeline.adapters.market_data.table_market import TableMarket
    from trading_pipeline.domain.sessions import TradingCalendar
    from trading_pipeline.settings import Settings

SAMPLES_START = "2012-10-15T09:30"
"""The first session of the demo: two unscheduled closures lie ahead."""
REPLAYED_SHARE = 0.2
"""Of the bars' sessions, the newest part that is replayed when nobody says from where; the rest is history."""
SETTINGS = '# Settings of this home; `trading doctor` lists all there are.\n\n[market]\nclock = "replay"\nsource = "files"\n'


@dataclass(frozen=True, slots=True)
class Wish:
    """What the person says about a new replay; None is the default."""

    bars: Path | None
    at: str | None
    speed: float | None
    session_seconds: float | None
    keep_going: bool

    @property
    def empty(self) -> bool:
        """Whether nothing was said."""
        return (self.bars, self.at, self.speed, self.session_seconds) == (None, None, None, None)


def join_or_begin(call: Invocation, settings: "Settings", wish: Wish) -> "ReplayClock | None":
    """The home's replay, begun as wished when there is none; None when the market clock is live.

    Raises:
        Conflict: Something is wished of a replay that has begun already.
        InputError, BarsError, CalendarError: The wish cannot be had; nothing was written.
    """
    from trading_pipeline.adapters.calendar import load_calendar
    from trading_pipeline.adapters.clocks import ReplayClock
    from trading_pipeline.settings import Market

    path = call.home / "clock.json"
    if settings.market.clock is Market.LIVE:
        if not wish.empty:
            raise InputError(
                "The market clock of this home is live.", value="live", rule="bars, start and speed belong to a replay",
                remedy="leave them out, or name another home with --home",
            )
        return None
    calendar = load_calendar(call.home / "cache" if call.home.is_dir() else None)
    if path.exists():
        if not wish.empty:
            raise Conflict(
                f"A replay has begun in {call.home} already.", value=str(call.home), rule="the market clock of a home never goes back",
                remedy="go on with it without these options, or name a new home with --home",
            )
        return ReplayClock.attach(path, calendar)
    return _begin(call, settings, wish, calendar)


def _begin(call: Invocation, settings: "Settings", wish: Wish, calendar: "TradingCalendar") -> "ReplayClock":
    from trading_pipeline.adapters.clocks import Pace, ReplayClock
    from trading_pipeline.adapters.durable_files import storage_errors, write_atomically
    from trading_pipeline.adapters.market_data.stored import store_market

    market = _files(call, settings, wish, calendar) if wish.bars is not None else _source(call, settings, calendar)
    span = market.span
    if span is None:
        raise InputError("There are no bars to replay.", value=market.name, rule="a replay needs bars", remedy="import some")
    finest = {market.intervals(symbol)[0] for symbol in market.symbols}
    pace = Pace.DAILY if all(interval.daily for interval in finest) else Pace.INTRADAY
    start = _start(wish.at, market.name, span, calendar)
    if wish.bars is not None:
        held = [(symbol, interval) for symbol in market.symbols for interval in market.intervals(symbol)]
        with storage_errors("The home", call.home):
            call.home.mkdir(parents=True, exist_ok=True)
            store_market(call.home / "market", [market.closed_bars([s], i, None, span[1])[s] for s, i in held], market.splits)
            if not (call.home / "trading.toml").exists():
                write_atomically(call.home / "trading.toml", SETTINGS.encode())
    return ReplayClock.create(
        call.home / "clock.json", market=market.name, pace=pace, start=start, end=span[1] + timedelta(seconds=1), calendar=calendar,
        speed=1.0 if wish.speed is None else wish.speed, session_seconds=30.0 if wish.session_seconds is None else wish.session_seconds,
        running=False,
    )


def _files(call: Invocation, settings: "Settings", wish: Wish, calendar: "TradingCalendar") -> "TableMarket":
    from trading_pipeline.adapters.market_data.files import FileMarket
    from trading_pipeline.settings import Source

    assert wish.bars is not None
    if (call.home / "trading.toml").exists() and settings.market.source is not Source.FILES:
        raise SettingsError(
            f"The home {call.home} takes its bars from {settings.market.source}.", value=settings.market.source.value,
            rule="a home has one source of bars",
            remedy="name a new home with --home, or set market.source = \"files\" in its trading.toml",
        )
    with call.output.working(f"Reading {wish.bars}"):
        market = FileMarket(wish.bars, calendar, skip_refused=wish.keep_going, spread=settings.paper.spread)
    for report in market.reports:
        for line in report.lines():
            call.output.note(line)
    for note in market.notes:
        call.output.note(note)
    return market


def _source(call: Invocation, settings: "Settings", calendar: "TradingCalendar") -> "TableMarket":
    from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
    from trading_pipeline.adapters.market_data.table_market import TableMarket
    from trading_pipeline.bootstrap import open_market
    from trading_pipeline.ports import Home

    market, _ = open_market(settings, calendar, ParquetArchive(Home(call.home).archive))
    if not isinstance(market, TableMarket) or market.span is None:
        raise SettingsError(
            f"{market.name} cannot be replayed.", value=market.name, rule="a replay needs a source that has its history at hand",
            remedy="set market.clock = \"live\" in trading.toml, or replay samples or files",
        )
    return market


def _start(at: str | None, source: str, span: tuple[datetime, datetime], calendar: "TradingCalendar") -> datetime:
    """The first instant of the replay: as wished, or where the newest part of the data begins."""
    first, end = span
    if at is None and source == "samples":
        at = SAMPLES_START
    if at is None:
        sessions = calendar.between(first.astimezone(NEW_YORK).date(), end.astimezone(NEW_YORK).date())
        return sessions[int(len(sessions) * (1 - REPLAYED_SHARE))].open
    try:
        parsed = datetime.fromisoformat(at)
    except ValueError:
        raise InputError(
            f"{at!r} is no instant.", value=at, rule="an instant is written as 2024-08-28T09:30, New York", remedy="correct --at"
        ) from None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=NEW_YORK)
    calendar.last_opened(parsed)
    if len(at) == len("2024-08-28"):
        parsed = calendar.session(parsed.date()).open
    if not first < parsed < end:
        raise InputError(
            f"There are no bars to replay from {at}.", value=at, rule=f"the bars lie between {first:%Y-%m-%d} and {end:%Y-%m-%d}",
            remedy="start between them, with --at",
        )
    return parsed
