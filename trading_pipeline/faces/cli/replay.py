"""What `trading up` replays: a home's market from where it stands, or a folder of bars in a home of its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trading_pipeline.domain.sessions import NEW_YORK, TradingCalendar
from trading_pipeline.errors import InputError

if TYPE_CHECKING:
    from trading_pipeline.domain.strategies import StrategySpec
    from trading_pipeline.homes import Stage

Say = Callable[[str], None]
REPLAY_HOME = Path(".trading/replay")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for; None is the default or what the home has."""

    bars: Path | None = None
    at: str | None = None
    speed: float | None = None
    session_seconds: float | None = None
    strategies: tuple[Path, ...] = ()

    @property
    def changes_pace(self) -> bool:
        """Whether a replay that stands has to be begun anew."""
        return any(value is not None for value in (self.at, self.speed, self.session_seconds))


@contextmanager
def replaying(home: Path, wish: Wish, say: Say) -> Iterator[Callable[[], None] | None]:
    """Prepare the home's replay; yields what keeps it running, None for a live market. It stands still afterwards.

    Everything that was asked for is read and checked before the home is touched.

    Raises:
        InputError: `at` is no instant, or lies outside the bars.
        BarsError: No file of the folder can be used.
        Conflict: The replay is further already.
    """
    from trading_pipeline import homes
    from trading_pipeline.adapters.calendar import load_calendar
    from trading_pipeline.adapters.clocks import ReplayClock
    from trading_pipeline.adapters.strategy_files import read_strategy
    from trading_pipeline.settings import Environment, Market, Settings

    calendar = load_calendar(home / "cache" if home.is_dir() else None)
    at = instant(wish.at, calendar) if wish.at is not None else None
    if wish.bars is not None:
        market = homes.read_folder(wish.bars, calendar, say)
        specs = [read_strategy(path) for path in wish.strategies]
        homes.move_aside(home, say)
        session = calendar.last_opened(at) if at is not None else None
        stage = homes.stage_folder(home, market, Environment.PAPER, say, session.day if session else None)
        _begin(home, stage, calendar, wish, at)
        _create_strategies(home, specs or list(homes.packaged_strategies(stage)), say)
    settings = Settings.load(home)
    if settings.market.clock is Market.LIVE:
        yield None
        return
    path = home / homes.CLOCK
    if not path.exists() or (wish.bars is None and wish.changes_pace):
        _begin(home, homes.stage_of(settings, calendar), calendar, wish, at)
    clock = ReplayClock.attach(path, calendar)
    pace = f"one session in {clock.session_seconds:g} s" if clock.pace.value == "daily" else f"at speed {clock.speed:g}"
    start, end = clock.now().astimezone(NEW_YORK), clock.end.astimezone(NEW_YORK)
    say(f"REPLAY of {clock.market} from {start:%Y-%m-%d %H:%M} New York, {pace}, to {end.date()}.")
    if clock.now() >= clock.end:
        say("The replay stands at its end: nothing more will happen. Begin another with --bars DIR, or a new demo.")
    try:
        yield clock.keep
    finally:
        clock.pause()


def _begin(home: Path, stage: "Stage", calendar: TradingCalendar, wish: Wish, at: datetime | None) -> None:
    from trading_pipeline import homes
    from trading_pipeline.adapters.clocks import ReplayClock

    if at is not None:
        start = at
    elif (home / homes.CLOCK).exists():
        start = ReplayClock.attach(home / homes.CLOCK, calendar).now()
        session = calendar.at(start)
        if stage.interval.daily and session is not None and start > session.open:
            start = calendar.next(session.day).open
    else:
        start = homes.default_start(stage, calendar)
    homes.begin_replay(home, stage, calendar, start, speed=wish.speed or 1.0, session_seconds=wish.session_seconds or 30.0)


def _create_strategies(home: Path, specs: "Sequence[StrategySpec]", say: Say) -> None:
    from trading_pipeline.bootstrap import open_desk
    from trading_pipeline.service import controls
    from trading_pipeline.service.desk import user_actor
    from trading_pipeline.settings import Settings

    with open_desk(Settings.load(home)) as desk:
        for spec in specs:
            controls.create(desk, spec, actor=user_actor())
            controls.start(desk, spec.name, actor=user_actor())
            say(f"Strategy {spec.name} ({spec.mode}) runs on {', '.join(spec.symbols[:12])}.")


def instant(text: str, calendar: TradingCalendar) -> datetime:
    """`2024-08-28T09:30` in New York, an instant with an offset, or a date: the open of its session."""
    try:
        if len(text) == 10:
            return calendar.session(date.fromisoformat(text)).open
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{text!r} is no instant.", value=text, rule="an instant is a date, or a date and a time in New York",
            remedy="write it as 2024-08-28 or 2024-08-28T09:30",
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=NEW_YORK)
