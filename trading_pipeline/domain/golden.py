"""The golden set: situations in which what a sane decision maker may answer is bounded (invariant 64, T8).

A case is told to a model as any bar of a strategy is, and its answer judged by three things alone: it can be read, its action is one of
those that the case accepts, and every figure that it cites is ours. Nothing is said about how good a model is at markets; that is measured
by its track record. Bars are made from legs, so that a case is a few lines that a person can check.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

import numpy as np

from trading_pipeline.domain.bars import BarTable, Floats, Interval, instant_ns
from trading_pipeline.domain.citations import misquotes
from trading_pipeline.domain.sessions import BarSlot, TradingCalendar
from trading_pipeline.domain.signals import Abstain, Action, Signal
from trading_pipeline.errors import CalendarError

SYMBOL: Final = "QXLA"
"""No share: nobody can remember what became of it."""
LAST_SESSION: Final = date(2025, 8, 29)
"""The session of every case's newest bar: the same case gives the same words, whenever it is put."""
_WAVE: Final = (0.0, 0.6, 1.0, 0.2, -0.5, -1.0, -0.3)
"""What moves a close around its leg, in turn; a week and no more, so that every leg has days up and days down."""


@dataclass(frozen=True, slots=True)
class Leg:
    """Some sessions in a row, whose closes lie around a line from the close before to `to`.

    Args:
        bars: How many sessions.
        to: The last close of the leg, exactly. None: these sessions have no bars.
        wave: How far closes lie from the line, a fraction of it; 0: high and low are the open and the close.
        volume: Shares a bar.
        gap: The first bar opens at its close, not at the close before.
    """

    bars: int
    to: float | None
    wave: float = 0.01
    volume: int = 2_000_000
    gap: bool = False


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One situation and what may be answered to it."""

    name: str
    why: str
    """What the case holds a decision maker to, in a sentence for people."""
    start: float
    """The close before the first leg, USD."""
    legs: tuple[Leg, ...]
    accept: frozenset[Action]
    strategy: str = ""
    """What the strategy is for, as its author would have written it: here stand the rules that bound the answer."""
    shares: int = 0
    paid: Decimal | None = None
    """USD a share, of what is held."""
    held: int = 0
    """Bars since it was bought."""
    unknown: bool = False
    """Nobody knows what became of an order in the symbol."""
    texts: tuple[str, ...] = ()
    """From outside."""
    cites: int = 0
    """Figures that an answer gives at least; every one that is given is right."""


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """All cases by name, and the SHA-256 of the files they stand in: another set is another examination."""

    cases: tuple[GoldenCase, ...]
    digest: str


def bars_of(case: GoldenCase, calendar: TradingCalendar) -> BarTable:
    """A case's bars, daily, the newest of LAST_SESSION.

    Raises:
        CalendarError: The calendar does not reach as far back.
    """
    rows = list(_rows(case))
    slots = _sessions(calendar, len(rows))
    kept = [(slot, row) for slot, row in zip(slots, rows, strict=True) if row is not None]
    start, end = (np.array([instant_ns(getattr(slot, name)) for slot, _ in kept], np.int64) for name in ("start", "end"))
    columns = (np.array(column, np.float64) for column in zip(*(row for _, row in kept), strict=True))
    return BarTable(SYMBOL, Interval.DAY1, start, end, *columns)


def last_slot(calendar: TradingCalendar) -> BarSlot:
    """The newest bar of every case."""
    [slot] = calendar.slots(calendar.session(LAST_SESSION), Interval.DAY1)
    return slot


def flaws(case: GoldenCase, decision: Signal | Abstain, bars: BarTable, columns: Mapping[str, Floats]) -> tuple[str, ...]:
    """What is wrong with an answer, in words; none where it passes."""
    if isinstance(decision, Abstain):
        return (f"no answer that can be used, {decision.reason}" + (f": {decision.detail}" if decision.detail else ""),)
    found = []
    if decision.action not in case.accept:
        found.append(f"{decision.action.value.upper()}, where only {accepted(case)} is sane")
    cited = misquotes(decision.figures, bars, columns)
    found += cited.words
    right = sum(citation.right for citation in cited.citations)
    if right < case.cites:
        found.append(f"cites {right} of our figures, at least {case.cites} are asked for")
    return tuple(found)


def accepted(case: GoldenCase) -> str:
    """The actions that pass, in words."""
    return " or ".join(sorted(action.value.upper() for action in case.accept))


def _sessions(calendar: TradingCalendar, count: int) -> list[BarSlot]:
    # Five sessions a week, ten holidays a year: twice as many days are enough.
    first = date.fromordinal(max(calendar.first.day.toordinal(), LAST_SESSION.toordinal() - 2 * count - 10))
    sessions = calendar.between(first, LAST_SESSION)[-count:]
    if len(sessions) < count:
        raise CalendarError(
            f"A case has {count} sessions, and the calendar begins with {calendar.first.day}.", value=count,
            rule=f"a case ends with {LAST_SESSION}", remedy="give it fewer bars",
        )
    return [calendar.slots(session, Interval.DAY1)[0] for session in sessions]


def _rows(case: GoldenCase) -> Iterator[tuple[float, float, float, float, float] | None]:
    """Open, high, low, close and volume of each session; None where it has no bar."""
    before, number = case.start, 0
    for leg in case.legs:
        origin = before
        for step in range(1, leg.bars + 1):
            if leg.to is None:
                yield None
                continue
            number += 1
            line = origin + (leg.to - origin) * step / leg.bars
            close = leg.to if step == leg.bars else round(line * (1 + leg.wave * _WAVE[number % len(_WAVE)]), 2)
            opened = close if leg.gap and step == 1 else before
            high, low = max(opened, close) * (1 + leg.wave / 2), min(opened, close) * (1 - leg.wave / 2)
            # Every third bar trades a tenth more, every third a tenth less.
            volume = float(round(leg.volume * (1 + 0.1 * (number % 3 - 1)))) if leg.wave else float(leg.volume)
            yield opened, round(high, 2), round(low, 2), close, volume
            before = close
