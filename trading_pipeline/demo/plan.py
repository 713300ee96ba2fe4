"""What the demo plays: the home it lives in, the market, the sessions and the two strategies."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path

from trading_pipeline.adapters.clocks import Pace, ReplayClock
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.market_data.files import FileMarket
from trading_pipeline.adapters.market_data.stored import store_market
from trading_pipeline.adapters.strategy_files import parse_strategy
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.sessions import NEW_YORK, Session, TradingCalendar
from trading_pipeline.domain.strategies import StrategySpec
from trading_pipeline.errors import Conflict, InputError, StorageError
from trading_pipeline.ports import Home

Say = Callable[[str], None]
FIRST_SESSION = date(2012, 10, 15)
LAST_SAMPLE = date(2013, 3, 1)
DAILY_SESSIONS = 20
INTRADAY_SESSIONS = 1
WARM_UP_BARS = 250
"""History that a folder's replay leaves before its first session, where there is so much."""


@dataclass(frozen=True, slots=True)
class Play:
    """A prepared home: what will be traded, when, and where the bars end."""

    source: str
    interval: Interval
    strategies: tuple[StrategySpec, ...]
    sessions: tuple[Session, ...]
    data_end: datetime


def prepare_samples(home: Path, calendar: TradingCalendar, first: date | None, many: int | None) -> Play:
    """The sample market: real daily bars of five stocks."""
    _write_settings(home, "samples")
    sessions = _sessions(calendar, first or FIRST_SESSION, many or DAILY_SESSIONS, LAST_SAMPLE)
    return Play("samples", Interval.DAY1, packaged_strategies(), sessions, calendar.session(LAST_SAMPLE).close)


def prepare_folder(home: Path, folder: Path, calendar: TradingCalendar, first: date | None, many: int | None, say: Say) -> Play:
    """A folder of one's own bars, checked file by file and stored in the home.

    Raises:
        BarsError: No file of the folder can be used.
    """
    market = FileMarket(folder, calendar, skip_refused=True)
    for report in market.reports:
        for line in report.lines():
            say(line)
    for note in market.notes:
        say(note)
    finest = {symbol: market.intervals(symbol)[0] for symbol in market.symbols}
    interval = min(finest.values(), key=lambda each: each.minutes)
    symbols = tuple(symbol for symbol, each in finest.items() if each is interval)
    end = max(span[1] for symbol in symbols if (span := market.span) is not None)
    tables = list(market.closed_bars(symbols, interval, None, end).values())
    store_market(home / "market", tables, [split for split in market.splits if split.symbol in symbols])
    _write_settings(home, "files")
    many = many or (DAILY_SESSIONS if interval.daily else INTRADAY_SESSIONS)
    last = end.astimezone(NEW_YORK).date()
    sessions = _sessions(calendar, first or _first_session(calendar, tables, interval, many), many, last)
    strategies = tuple(replace(spec, symbols=symbols, interval=interval) for spec in packaged_strategies())
    return Play("files", interval, strategies, sessions, end)


def packaged_strategies() -> tuple[StrategySpec, ...]:
    """The two strategies that come with the product: one trades alone, one asks."""
    folder = files("trading_pipeline") / "strategies"
    return tuple(parse_strategy((folder / name).read_text("utf-8"), name) for name in ("trend.toml", "dips.toml"))


def move_aside(home: Path, say: Say) -> None:
    """Give an earlier demo's home another name, its database stopped; nothing is deleted.

    Raises:
        Conflict: Something uses it at this moment.
    """
    if not home.exists():
        return
    database = Home(home).database
    try:
        if database.exists():
            server = EmbeddedPostgres.start(database)
            if server.clients():
                raise Conflict(
                    f"The home {home} is in use.", value=str(home), rule="a home that is in use is not moved",
                    remedy="stop `trading up` on it first, or choose another with --home",
                )
            server.stop()
        aside = home.with_name(f"{home.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
        shutil.move(home, aside)
        for beside in home.parent.glob(f"{home.name}/*.lock"):
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"The home {home} cannot be moved aside: {error.strerror}.", value=str(home), rule="an earlier demo is kept under another name",
            remedy="check the folder's permissions, or choose another with --home",
        ) from error
    say(f"The earlier demo is kept as {aside}.")


def leave_clock(home: Path, calendar: TradingCalendar, play: Play) -> None:
    """Leave a replay that stands at the next session's open, for `trading up` to go on from."""
    after = calendar.next(play.sessions[-1].day)
    pace = Pace.DAILY if play.interval.daily else Pace.INTRADAY
    end = max(play.data_end, play.sessions[-1].close + timedelta(seconds=1))
    start = min(after.open, end - timedelta(microseconds=1))
    ReplayClock.create(home / "clock.json", market=play.source, pace=pace, start=start, end=end, calendar=calendar, running=False)


def _write_settings(home: Path, source: str) -> None:
    (home / "trading.toml").write_text(
        f'# Settings of this home; `trading doctor` lists all there are.\nenvironment = "demo"\n\n[market]\nclock = "replay"\nsource = "{source}"\n',
        encoding="utf-8",
    )


def _sessions(calendar: TradingCalendar, first: date, many: int, last: date) -> tuple[Session, ...]:
    found = calendar.between(first, last)[:many] if first <= last else ()
    if not found:
        raise InputError(f"There is no session from {first}.", value=first, rule=f"the bars end on {last}", remedy="choose an earlier --from")
    return found


def _first_session(calendar: TradingCalendar, tables: Sequence[BarTable], interval: Interval, many: int) -> date:
    """The last `many` sessions of the bars, but for one that a later `trading up` can go on with."""
    begins = min(table.bar(0).start for table in tables if len(table)).astimezone(NEW_YORK).date()
    ends = max(table.last_end for table in tables if len(table)).astimezone(NEW_YORK).date()
    sessions = calendar.between(begins, ends)
    per_session = 1 if interval.daily else 390 // interval.minutes
    earliest = min(len(sessions) - 1, -(-WARM_UP_BARS // per_session))
    return sessions[max(earliest, len(sessions) - many - 1, 0)].day if len(sessions) > many else sessions[0].day
