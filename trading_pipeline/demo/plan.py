"""Which sessions the demo plays."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from trading_pipeline.domain.sessions import NEW_YORK, Session, TradingCalendar
from trading_pipeline.errors import InputError
from trading_pipeline.homes import Stage
from trading_pipeline.settings import Source

DAILY_SESSIONS = 20
INTRADAY_SESSIONS = 1
WARM_UP_BARS = 250
"""Daily bars that are left before the first session, where there are so many."""


@dataclass(frozen=True, slots=True)
class Play:
    """What is played, and where."""

    stage: Stage
    sessions: tuple[Session, ...]


def plan(stage: Stage, calendar: TradingCalendar, first: date | None, many: int | None) -> Play:
    """The sessions to play: those asked for, or as many as are worth a look.

    Raises:
        InputError: There is no session there.
    """
    many = many or (DAILY_SESSIONS if stage.interval.daily else INTRADAY_SESSIONS)
    last = stage.end.astimezone(NEW_YORK).date()
    if first is None and (stage.source is Source.SAMPLES or not stage.interval.daily):
        first = stage.best
    first = first or _first_session(calendar.between(stage.first, last), many)
    found = calendar.between(first, last)[:many] if first <= last else ()
    if not found:
        raise InputError(
            f"There is no session from {first}.", value=first, rule=f"the bars end on {last}", remedy="choose an earlier --from"
        )
    return Play(stage, found)


def _first_session(sessions: Sequence[Session], many: int) -> date:
    """The last `many` sessions but one, which a later `trading up` can go on with; after the warm-up if that can be."""
    warm = min(WARM_UP_BARS, max(0, len(sessions) - many))
    return sessions[max(warm, len(sessions) - many - 1, 0)].day if len(sessions) > many else sessions[0].day
