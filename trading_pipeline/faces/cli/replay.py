"""What `trading up` replays: a home's market from where it stands, or a folder of bars in a home of its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trading_pipeline.adapters.home_lock import HomeLock
from trading_pipeline.domain.sessions import NEW_YORK, TradingCalendar
from trading_pipeline.errors import InputError, UnknownName

if TYPE_CHECKING:
    from trading_pipeline.adapters.clocks import ReplayClock
    from trading_pipeline.adapters.market_data.files import FileMarket
    from trading_pipeline.domain.strategies import StrategySpec
    from trading_pipeline.homes import Stage
    from trading_pipeline.settings import Settings

Say = Callable[[str], None]
REPLAY_HOME = Path(".trading/replay")
RUN_SECONDS = {"warm": 6.0, "default": 8.0}
"""What a cycle costs from its close to its last fact, by the launcher: the sensors' loop of 5 s and a run."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for; None is the default or what the home has."""

    bars: Path | None = None
    at: str | None = None
    speed: float | None = None
    session_seconds: float | None = None
    strategies: tuple[Path, ...] = ()
    own: Path | None = None
    """With `bars`: the home that the person works in, whose prompts, texts, prices and models come along into the new one."""

    @property
    def changes_pace(self) -> bool:
        """Whether a replay that stands has to be begun anew."""
        return any(value is not None for value in (self.at, self.speed, self.session_seconds))


@dataclass(frozen=True, slots=True)
class Plan:
    """A wish that was read and checked: what `replaying` will do to the home."""

    home: Path
    wish: Wish
    settings: "Settings"
    calendar: TradingCalendar
    stage: "Stage | None" = None
    """Of a replay that is begun; None when one is joined, or the market is live."""
    start: datetime | None = None
    market: "FileMarket | None" = None
    specs: "tuple[StrategySpec, ...]" = ()


def plan(home: Path, wish: Wish, say: Say) -> Plan:
    """Read and check everything that was asked for; the home is not touched.

    Raises:
        InputError: `at` is no instant, or lies outside the bars; a strategy wants bars that are not there.
        BarsError: No file of the folder can be used.
        Conflict: The replay is further already.
    """
    from trading_pipeline import homes
    from trading_pipeline.adapters.calendar import load_calendar
    from trading_pipeline.adapters.strategy_files import read_strategy
    from trading_pipeline.settings import Market, Settings

    calendar = load_calendar(home / "cache" if home.is_dir() else None)
    at = instant(wish.at, calendar) if wish.at is not None else None
    settings = Settings.load(home)
    if wish.bars is not None:
        specs = tuple(read_strategy(path) for path in wish.strategies)
        market = homes.read_folder(wish.bars, calendar, say)
        session = calendar.last_opened(at) if at is not None else None
        stage = homes.stage_folder(market, say, session.day if session else None)
        _check_strategies(specs, stage)
        start = at if at is not None else homes.default_start(stage, calendar)
        homes.check_start(stage, start)
        return Plan(home, wish, settings, calendar, stage, start, market, specs or homes.packaged_strategies(stage))
    if settings.market.clock is Market.LIVE or ((home / homes.CLOCK).exists() and not wish.changes_pace):
        return Plan(home, wish, settings, calendar)
    stage = homes.stage_of(settings, calendar)
    start = at if at is not None else _start(home, stage, calendar)
    homes.check_start(stage, start)
    homes.check_not_back(home, calendar, start)
    return Plan(home, wish, settings, calendar, stage, start)


@contextmanager
def replaying(plan: Plan, lock: HomeLock, say: Say) -> Iterator[Callable[[], None] | None]:
    """Carry a plan out; yields what keeps the replay running, None for a live market. It stands still afterwards.

    Args:
        plan: For this home.
        lock: Held on it; a folder of bars gets a new home, and the lock goes with it.
        say: Told what happens.
    """
    from trading_pipeline import homes
    from trading_pipeline.adapters.clocks import ReplayClock
    from trading_pipeline.belongings import take_along
    from trading_pipeline.bootstrap import open_desk
    from trading_pipeline.faces.cli.keeping import keeping, speed_warning, time_to_decide
    from trading_pipeline.settings import Environment, Market, Settings, Source

    home, wish, aside = plan.home, plan.wish, None
    if plan.market is not None:
        aside = homes.move_aside(home, say)
        lock.move_on()
    if plan.stage is not None and plan.start is not None:
        if plan.market is not None or plan.stage.source is Source.SAMPLES:
            homes.furnish(home, plan.stage, Environment.PAPER if plan.market is not None else plan.settings.environment, plan.market)
        homes.begin_replay(
            home, plan.stage, plan.calendar, plan.start, speed=wish.speed or 1.0, session_seconds=wish.session_seconds or 30.0
        )
    if plan.market is not None:
        for source in (aside, wish.own if wish.own != home else None):
            if source is not None:
                take_along(source, home, say)
    _create_strategies(home, plan.specs, say)
    settings = Settings.load(home)
    if settings.market.clock is Market.LIVE:
        yield None
        return
    clock = ReplayClock.attach(home / homes.CLOCK, plan.calendar)
    _introduce(clock, say)
    warning = speed_warning(clock, homes.stage_of(settings, plan.calendar).interval.minutes, RUN_SECONDS[settings.launcher])
    if warning:
        say(warning)
    told = time_to_decide(clock, settings.market.decision_seconds)
    if told:
        say(told)
    with keeping(clock, lambda: open_desk(settings), say, settings.market.decision_seconds) as keep:
        yield keep


def _introduce(clock: "ReplayClock", say: Say) -> None:
    pace = f"one session in {clock.session_seconds:g} s" if clock.pace.value == "daily" else f"at speed {clock.speed:g}"
    start, end = clock.now().astimezone(NEW_YORK), clock.end.astimezone(NEW_YORK)
    say(f"REPLAY of {clock.market} from {start:%Y-%m-%d %H:%M} New York, {pace}, to {end.date()}.")
    if clock.now() >= clock.end:
        say("The replay stands at its end: nothing more will happen. Begin another with --bars DIR, or a new demo.")


def _start(home: Path, stage: "Stage", calendar: TradingCalendar) -> datetime:
    """Where a replay whose pace changes goes on: daily bars at an open, the next one when the session has begun."""
    from trading_pipeline import homes
    from trading_pipeline.adapters.clocks import ReplayClock

    if not (home / homes.CLOCK).exists():
        return homes.default_start(stage, calendar)
    start = ReplayClock.attach(home / homes.CLOCK, calendar).now()
    session = calendar.at(start)
    if stage.interval.daily and session is not None and start > session.open:
        return calendar.next(session.day).open
    return start


def _check_strategies(specs: "Sequence[StrategySpec]", stage: "Stage") -> None:
    for spec in specs:
        missing = sorted(set(spec.symbols) - set(stage.symbols))
        if missing or spec.interval is not stage.interval:
            raise UnknownName(
                f"{spec.name} wants {spec.interval} bars of {', '.join(missing or spec.symbols)}, which this replay does not have.",
                value=spec.name, rule=f"the replay has {stage.interval} bars of {', '.join(stage.symbols)}",
                remedy="correct the strategy's symbols and interval",
            )


def _create_strategies(home: Path, specs: "Sequence[StrategySpec]", say: Say) -> None:
    from trading_pipeline.bootstrap import open_desk
    from trading_pipeline.service import controls
    from trading_pipeline.service.desk import user_actor
    from trading_pipeline.settings import Settings

    if not specs:
        return
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
