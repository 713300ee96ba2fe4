"""The forms of one backtest, by shape: learnt, checked, used, and checked again."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.errors import ServiceError
from trading_pipeline.service.backtests.columnar.blanks import ticket_blanks
from trading_pipeline.service.backtests.columnar.figures import Shape
from trading_pipeline.service.backtests.columnar.forms import Blanks, Form, Misfit, Values, blanked

AUDIT = 64
"""Of so many uses of a form one is written by the scribe, and compared."""
PROBATION = 2
"""So many times the scribe writes at first: a form is learnt from one and checked against the other."""


@runtime_checkable
class Quick(Protocol):
    """A ledger that takes facts as text."""

    def take_down(self, texts: Iterable[str]) -> None:
        """See `MemoryLedger.take_down`."""

    def stream_heads(self, streams: Collection[str]) -> dict[str, int]:
        """The newest stream_seq of each stream that has any event."""

    def head(self) -> tuple[int, bytes]:
        """The newest seq and its hash."""

    def events(self, *, after: int = 0) -> list[Event]:
        """Events in order of seq."""


@dataclass(slots=True)
class _Letter:
    form: Form | None
    """None: it was found not to fit; the scribe writes all of that shape."""
    ticket: str = ""
    """What the digest of a submission is made from."""
    newest: Mapping[str, int] = field(default_factory=dict)
    """By leg, which of the facts is its newest."""
    uses: int = 1


class Letters:
    """Writes facts by form."""

    def __init__(self, ledger: Quick) -> None:
        """Of one backtest's ledger."""
        self._ledger = ledger
        self._letters: dict[Shape, _Letter] = {}
        self._seq = 0
        self._places: dict[str, int] = {}

    def ready(self, shape: Shape) -> bool:
        """Whether the next of that shape is written by form; asking counts as a use."""
        letter = self._letters.get(shape)
        if letter is None or letter.form is None:
            return False
        letter.uses += 1
        return letter.uses > PROBATION and letter.uses % AUDIT > 0

    def write(self, shape: Shape, values: Values) -> dict[str, int]:
        """Write facts by form; by leg, the seq of its newest fact."""
        letter = self._letters[shape]
        assert letter.form is not None
        seq, _ = self._ledger.head()
        if seq != self._seq:
            self._places.clear()
        self._ledger.take_down(self._filled(letter, letter.form, values, seq + 1, self._take_places(letter.form.streams)))
        self._seq = seq + len(letter.form.streams)
        return {leg: seq + 1 + number for leg, number in letter.newest.items()}

    def learn(
        self, shape: Shape, values: Values, after: int, legs: Mapping[str, str], blanks: Callable[[Sequence[Event]], list[Blanks]],
    ) -> dict[str, int]:
        """Learn a form from what the scribe has written since a seq, or hold the one there is to it; by leg, the seq of its newest fact.

        Raises:
            ServiceError: A form that was used gives something else.
        """
        facts = self._ledger.events(after=after)
        newest = {legs[name]: number for number, fact in enumerate(facts) if (name := fact.payload.get("client_id", "")) in legs}
        letter = self._letters.get(shape)
        if letter is None:
            self._letters[shape] = _learnt(facts, values, legs, newest, blanks)
        elif letter.form is not None:
            self._check(letter, letter.form, values, facts)
        return {leg: facts[number].seq for leg, number in newest.items()}

    def _check(self, letter: _Letter, form: Form, values: Values, facts: Sequence[Event]) -> None:
        if len(facts) == len(form.streams):
            found = self._filled(letter, form, values, facts[0].seq, [fact.stream_seq for fact in facts])
            wrong = form.difference(found, facts)
        else:
            wrong = f"{len(facts)} facts, and {len(form.streams)} by form"
        if wrong and letter.uses > PROBATION:
            raise ServiceError(
                f"A form of the backtest's facts gives others than the rulebook: {wrong}.", value=wrong[:200],
                rule="what is written by form is what would have been written", remedy="run it with --engine stepped, and report it",
            )
        if wrong:
            letter.form = None

    @staticmethod
    def _filled(letter: _Letter, form: Form, values: Values, first: int, places: Iterable[int]) -> list[str]:
        if letter.ticket:
            values["digest"] = hashlib.sha256((letter.ticket % values).encode()).hexdigest()
        return form.fill(values, first, places)

    def _take_places(self, streams: Sequence[str]) -> list[int]:
        found = []
        for stream in streams:
            if stream not in self._places:
                self._places[stream] = self._ledger.stream_heads((stream,)).get(stream, 0)
            self._places[stream] += 1
            found.append(self._places[stream])
        return found


def _learnt(
    facts: Sequence[Event], values: Values, legs: Mapping[str, str], newest: Mapping[str, int],
    blanks: Callable[[Sequence[Event]], list[Blanks]],
) -> _Letter:
    submitted = next((fact.payload for fact in facts if fact.type is EventType.ORDER_SUBMITTED), None)
    try:
        ticket = "" if submitted is None else blanked(submitted["ticket"], ticket_blanks(submitted["ticket"], legs))
        if submitted is not None:
            values["digest"] = hashlib.sha256((ticket % values).encode()).hexdigest()
        return _Letter(Form(facts, blanks(facts), values), ticket, newest)
    except (Misfit, KeyError):
        return _Letter(None)
