"""Preparing a home for a replayed market: its settings, its stored bars, its clock, and the strategies that come along.

Used by `trading demo` and `trading up`. A home's market is written once; a new one gets a new home, and the old one is
moved aside, never deleted.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import numpy as np

from trading_pipeline.adapters.clocks import ReplayClock
from trading_pipeline.adapters.home_lock import LOCK
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.market_data.files import FileMarket
from trading_pipeline.adapters.market_data.stored import StoredMarket, store_market
from trading_pipeline.adapters.replay_file import Pace
from trading_pipeline.adapters.strategy_files import parse_strategy
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.sessions import NEW_YORK, TradingCalendar
from trading_pipeline.domain.strategies import Lifetime, StrategySpec
from trading_pipeline.errors import Conflict, InputError, StorageError
from trading_pipeline.ports import Home, Reader
from trading_pipeline.service.steps import spec_of
from trading_pipeline.settings import Environment, Settings, Source

Say = Callable[[str], None]
FIRST_SAMPLE_SESSION = date(2012, 10, 15)
LAST_SAMPLE_SESSION = date(2013, 3, 1)
CLOCK = "clock.json"


@dataclass(frozen=True, slots=True)
class Stage:
    """The market of a home: which bars of which symbols, and from when to when there are any."""

    source: Source
    interval: Interval
    symbols: tuple[str, ...]
    first: date
    end: datetime
    best: date
    """The newest session of those in which most symbols have bars."""

    @property
    def pace(self) -> Pace:
        """Daily bars are replayed a session at a time."""
        return Pace.DAILY if self.interval.daily else Pace.INTRADAY


def stage_samples(calendar: TradingCalendar) -> Stage:
    """The sample market: real daily bars of five stocks."""
    from trading_pipeline.adapters.market_data.samples import SYMBOLS

    end = calendar.session(LAST_SAMPLE_SESSION).close
    return Stage(Source.SAMPLES, Interval.DAY1, SYMBOLS, date(2000, 3, 1), end, FIRST_SAMPLE_SESSION)


def read_folder(folder: Path, calendar: TradingCalendar, say: Say) -> FileMarket:
    """A folder of one's own bars, checked file by file and said what became of each; nothing is written.

    Raises:
        BarsError: No file of the folder can be used.
    """
    market = FileMarket(folder, calendar, skip_refused=True)
    for report in market.reports:
        for line in report.lines():
            say(line)
    for note in market.notes:
        say(note)
    return market


def stage_folder(market: FileMarket, say: Say, session: date | None = None) -> Stage:
    """Bars of one's own: the finest interval there is, and of symbols from different years only those that have bars in one session.

    Args:
        session: That session; None for the newest of those in which most symbols have bars.

    Raises:
        InputError: No symbol has bars in that session.
    """
    interval = min((each for symbol in market.symbols for each in market.intervals(symbol)), key=lambda each: each.minutes)
    tables = _tables(market, market.symbols, interval)
    best = session or _best_session(tables)
    chosen = [table for table in tables if best in _sessions_of(table)]
    if not chosen:
        raise InputError(
            f"No symbol has {interval} bars on {best}.", value=best, rule="a replay needs bars in its first session",
            remedy=f"choose a session such as {_best_session(tables)}",
        )
    left = sorted({table.symbol for table in tables} - {table.symbol for table in chosen})
    if left:
        say(f"Left out, without bars on {best}: {', '.join(left)}.")
    return _stage_of_tables(chosen, interval, best)


def furnish(home: Path, stage: Stage, environment: Environment, market: FileMarket | None = None) -> None:
    """Write a home's settings, and with a market of one's own the bars that its stage has."""
    if market is not None:
        splits = [split for split in market.splits if split.symbol in stage.symbols]
        store_market(home / "market", _tables(market, stage.symbols, stage.interval), splits)
    write_settings(home, environment, stage.source)


def _tables(market: FileMarket | StoredMarket, symbols: Sequence[str], interval: Interval) -> list[BarTable]:
    span = market.span
    assert span is not None
    return [table for table in market.closed_bars(symbols, interval, None, span[1]).values() if len(table)]


def _sessions_of(table: BarTable) -> set[date]:
    return {day.item() for day in np.unique(table.session_days)}


def _best_session(tables: Sequence[BarTable]) -> date:
    covered = Counter(day for table in tables for day in _sessions_of(table))
    return max(covered, key=lambda day: (covered[day], day))


def _stage_of_tables(tables: Sequence[BarTable], interval: Interval, best: date) -> Stage:
    first = min(table.bar(0).start for table in tables).astimezone(NEW_YORK).date()
    end = max(table.last_end for table in tables)
    return Stage(Source.FILES, interval, tuple(sorted(table.symbol for table in tables)), first, end, best)


def stage_of(settings: Settings, calendar: TradingCalendar) -> Stage:
    """The stage that a home has already."""
    source = settings.market.source
    if source is Source.FILES:
        market = StoredMarket(settings.home / "market", calendar)
        interval = market.intervals(market.symbols[0])[0]
        tables = _tables(market, market.symbols, interval)
        return _stage_of_tables(tables, interval, _best_session(tables))
    if source is Source.SYNTHETIC and settings.market.first is not None and settings.market.last is not None:
        sessions = calendar.between(settings.market.first, settings.market.last)
        return Stage(source, settings.market.interval, settings.market.symbols, sessions[0].day, sessions[-1].close, sessions[-1].day)
    return stage_samples(calendar)


def default_start(stage: Stage, calendar: TradingCalendar) -> datetime:
    """Where a replay begins when nobody says."""
    return calendar.session(stage.best).open


def write_settings(home: Path, environment: Environment, source: Source) -> None:
    """The home's trading.toml, unless it has one."""
    path = home / "trading.toml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(
                "# Settings of this home; `trading doctor` lists all there are.\n"
                f'environment = "{environment.value}"\n\n[market]\nclock = "replay"\nsource = "{source.value}"\n',
                encoding="utf-8",
            )
            path.chmod(0o600)
    except OSError as error:
        raise StorageError(
            f"The home {home} cannot be written: {error.strerror}.", value=str(home), rule="a home is writable",
            remedy="check the folder's permissions, or use another with --home",
        ) from error


def check_start(stage: Stage, start: datetime) -> None:
    """Refuse a replay that would have nothing to show; InputError."""
    if start >= stage.end:
        raise InputError(
            f"There is nothing to replay from {start:%Y-%m-%d %H:%M} UTC.", value=start,
            rule=f"the bars end at {stage.end:%Y-%m-%d %H:%M} UTC", remedy="start earlier",
        )


def check_not_back(home: Path, calendar: TradingCalendar, start: datetime) -> None:
    """Refuse to turn a home's market clock back; Conflict."""
    stands = ReplayClock.attach(home / CLOCK, calendar).now() if (home / CLOCK).exists() else start
    if stands > start:
        raise Conflict(
            f"The replay of {home} stands at {stands:%Y-%m-%d %H:%M:%S} UTC.", value=start,
            rule="the market clock of a home never goes back", remedy="go on with it, or begin another with --home",
        )


def begin_replay(
    home: Path, stage: Stage, calendar: TradingCalendar, start: datetime, *, speed: float = 1.0, session_seconds: float = 30.0,
) -> ReplayClock:
    """A replay that stands at `start` until somebody keeps it running; one that stands there already is begun anew.

    Raises:
        InputError: The bars end before `start`.
        Conflict: The home's replay is further than `start`.
    """
    check_start(stage, start)
    check_not_back(home, calendar, start)
    path = home / CLOCK
    path.unlink(missing_ok=True)
    return ReplayClock.create(
        path, market=stage.source.value, pace=stage.pace, start=start, end=stage.end, calendar=calendar, speed=speed,
        session_seconds=session_seconds, running=False,
    )


def leave_replay(home: Path, stage: Stage, calendar: TradingCalendar, after: date) -> None:
    """Leave a replay at the open of the session after a date, or at the end of the bars, for `trading up` to go on with."""
    start = min(calendar.next(after).open, stage.end - timedelta(seconds=1))
    begin_replay(home, stage, calendar, start)


def packaged_strategies(stage: Stage | None = None) -> tuple[StrategySpec, ...]:
    """The two strategies that come with the product, one trades alone, one asks; on a stage's own symbols and interval if given."""
    folder = files("trading_pipeline") / "strategies"
    specs = [parse_strategy((folder / name).read_text("utf-8"), name) for name in ("trend.toml", "dips.toml")]
    if stage is None or stage.source is Source.SAMPLES:
        return tuple(specs)
    lifetime = Lifetime.OPEN if stage.interval.daily else Lifetime.SESSION
    return tuple(replace(spec, symbols=stage.symbols, interval=stage.interval, lifetime=lifetime) for spec in specs)


def known_strategies(reader: Reader | None = None) -> dict[str, StrategySpec]:
    """What can be backtested, by name: the strategies of a home, running or not, and of the package's those it has none of the name of."""
    rows = [] if reader is None else reader.find("strategies")
    return {spec.name: spec for spec in packaged_strategies()} | {row["name"]: spec_of(row) for row in rows}


def move_aside(home: Path, say: Say) -> Path | None:
    """Give an earlier home another name, its database stopped; nothing is deleted. A folder with nothing but its lock stays.

    Returns:
        Where it is now; None when there was nothing to keep.

    Raises:
        Conflict: Something uses it at this moment.
        StorageError: It cannot be moved.
    """
    if not home.exists() or all(entry.name == LOCK for entry in home.iterdir()):
        return None
    database = Home(home).database
    aside = home.with_name(f"{home.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    if database.exists() and EmbeddedPostgres.start(database).leave():
        raise Conflict(
            f"The home {home} is in use.", value=str(home), rule="a home that is in use is not moved",
            remedy="wait for the command that uses it, or choose another with --home",
        )
    try:
        shutil.move(home, aside)
    except OSError as error:
        raise StorageError(
            f"The home {home} cannot be moved aside: {error.strerror}.", value=str(home), rule="an earlier home is kept under another name",
            remedy="check the folder's permissions, or choose another with --home",
        ) from error
    say(f"The earlier home is kept as {aside}.")
    return aside
