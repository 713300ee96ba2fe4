"""What every kind of decision is derived with: the desk, the book and the cycle of then, and the comparison with what is stored."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import Cycle, CycleKind
from trading_pipeline.domain.derivation import Difference
from trading_pipeline.domain.events import Event, canonical_payload
from trading_pipeline.domain.partings import parting
from trading_pipeline.domain.risk import World
from trading_pipeline.ports import DecisionMaker, Past
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.book import Book
from trading_pipeline.service.judging.outside import Outside
from trading_pipeline.service.record.past_desk import Record, desk_at

RULE = "a decision follows from the ledger before it and from what it recorded from outside"
UNRECORDED = "recorded before its inputs were"


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one decision; with neither a difference nor a reason it is derived as it is stored."""

    kind: str
    difference: Difference | None = None
    underivable: str = ""


class Then:
    """The state before the event in hand."""

    def __init__(self, record: Record) -> None:
        """Nothing is read yet."""
        self._record = record

    @property
    def past(self) -> Past:
        """The ledger up to the event before."""
        return self._record.past

    @property
    def deciders(self) -> Mapping[str, DecisionMaker]:
        """Those whose answer follows from the question."""
        return self._record.deciders

    def desk(self, at: datetime, world: World | None = None) -> Desk:
        """The desk at an instant; in which world plays no part where none was recorded."""
        return desk_at(self._record, at, world or World.REPLAY)

    def book(self, outside: Outside) -> Book:
        """The book as it was read, with what had been looked at."""
        return Book.read(self.desk(outside.now, outside.world), self.past, outside)

    def cycle(self, name: str, at: datetime, session: str | None = None) -> Cycle | None:
        """The turn by its name, as `cycles.bar_cycle` gives it; None for a backfill."""
        interval, _, end = name.partition("@")
        if interval not in tuple(Interval):
            return None
        runs_in = self._record.calendar.last_opened(at) if session is None else self._record.calendar.session(date.fromisoformat(session))
        assert runs_in is not None
        bar_end = datetime.fromisoformat(end)
        due_at = runs_in.open if Interval(interval).daily else bar_end
        return Cycle(name, CycleKind.BAR, runs_in.day, due_at, Interval(interval), bar_end)


def place(data: Mapping[str, Any]) -> str:
    """Of a question and what follows from it: `strategy:symbol`."""
    return f"{data['strategy']}:{data['symbol']}"


def compared(kind: str, event: Event, derived: Mapping[str, Any]) -> Finding:
    """The payload that is derived against the one that is stored."""
    text = canonical_payload(derived)
    if text == event.payload_text:
        return Finding(kind)
    found = parting(event.payload, json.loads(text))
    return Finding(kind, None if found is None else Difference(RULE, found[1], found[2], event.seq, column=found[0]))
