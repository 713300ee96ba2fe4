"""The forms of one backtest, by shape.

The first facts of a shape are the scribe's, and a form is learnt of them that must give the very same. From then on the form writes;
now and then, more often at first, what it says is compared with the rulebook, and another word ends the backtest.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol, runtime_checkable

from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.errors import ServiceError
from trading_pipeline.service.backtests.columnar.writing.blanks import ticket_blanks
from trading_pipeline.service.backtests.columnar.writing.figures import Shape
from trading_pipeline.service.backtests.columnar.writing.forms import Blanks, Form, Misfit, Template, Values, blanked, first_difference


class Use(Enum):
    """How the next facts of a shape are written."""

    HAND = auto()
    """By the scribe: there is no form, or none yet."""
    FORM = auto()
    AUDIT = auto()
    """By form, and compared: the second of a shape, and those whose number is a power of four."""


@runtime_checkable
class Quick(Protocol):
    """A ledger that takes facts as text."""

    def take_down(self, texts: Iterable[str]) -> None:
        """See `MemoryLedger.take_down`."""

    def keep(self, digest: Callable[[], bytes], write_out: Callable[[], None], many: int) -> None:
        """See `MemoryLedger.keep`."""

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
    ticket: Template | None = None
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

    def use(self, shape: Shape) -> Use:
        """How the next of that shape is written; asking counts."""
        letter = self._letters.get(shape)
        if letter is None or letter.form is None:
            return Use.HAND
        letter.uses += 1
        # 2, 4, 16, 64 and so on.
        audited = letter.uses == 2 or (not letter.uses & (letter.uses - 1) and letter.uses.bit_length() % 2)
        return Use.AUDIT if audited else Use.FORM

    def size(self, shape: Shape) -> int:
        """Of how many facts the form of that shape is made; 0 where there is none."""
        letter = self._letters.get(shape)
        return 0 if letter is None or letter.form is None else len(letter.form.streams)

    def digest(self) -> bytes:
        """SHA-256 over all forms."""
        texts = [repr((shape, letter.form and letter.form.text)) for shape, letter in self._letters.items()]
        return hashlib.sha256("".join(texts).encode()).digest()

    def hold(self, shape: Shape, values: Values, expected: Sequence[str]) -> None:
        """Hold what a form would write to what the rulebook says; ServiceError where it is something else.

        Args:
            values: Those that decisions and verdicts are written with; others may be missing.
        """
        form = self._letters[shape].form
        assert form is not None
        self._compare(form, form.fill(defaultdict(str, values), 1, [0] * len(form.streams)), expected)

    def write(self, shape: Shape, values: Values, expected: Sequence[str] = ()) -> dict[str, int]:
        """Write facts by form; by leg, the seq of its newest fact.

        Args:
            expected: What the rulebook says: the payloads of the form's decisions and verdicts.

        Raises:
            ServiceError: One is not.
        """
        letter = self._letters[shape]
        assert letter.form is not None
        seq, _ = self._ledger.head()
        if seq != self._seq:
            self._places.clear()
        texts = self._filled(letter, letter.form, values, seq + 1, self._take_places(letter.form.streams))
        if expected:
            self._compare(letter.form, texts, expected)
        self._ledger.take_down(texts)
        self._seq = seq + len(letter.form.streams)
        return {leg: seq + 1 + number for leg, number in letter.newest.items()}

    @staticmethod
    def _compare(form: Form, texts: Sequence[str], expected: Sequence[str]) -> None:
        for number, payload in zip(form.judged, expected, strict=True):
            wrong = first_difference(payload, texts[number].split("\n", 1)[1])
            if wrong:
                raise ServiceError(
                    f"A form of the backtest's facts says something else than the rulebook: {wrong}.", value=wrong[:200],
                    rule="what is written by form is what would have been written", remedy="run it with --engine stepped, and report it",
                )

    def learn(
        self, shape: Shape, values: Values, after: int, legs: Mapping[str, str], blanks: Callable[[Sequence[Event]], list[Blanks]],
    ) -> dict[str, int]:
        """Learn a form from what the scribe has written since a seq; by leg, the seq of its newest fact."""
        facts = self._ledger.events(after=after)
        newest = {legs[name]: number for number, fact in enumerate(facts) if (name := fact.payload.get("client_id", "")) in legs}
        if shape not in self._letters:
            self._letters[shape] = _learnt(facts, values, legs, newest, blanks)
        return {leg: facts[number].seq for leg, number in newest.items()}

    @staticmethod
    def _filled(letter: _Letter, form: Form, values: Values, first: int, places: Iterable[int]) -> list[str]:
        if letter.ticket is not None:
            values["digest"] = _digest(letter.ticket, values)
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
        ticket = None if submitted is None else Template(blanked(submitted["ticket"], ticket_blanks(submitted["ticket"], legs)))
        if ticket is not None:
            values["digest"] = _digest(ticket, values)
        return _Letter(Form(facts, blanks(facts), values), ticket, newest)
    except (Misfit, KeyError):
        return _Letter(None)


def _digest(ticket: Template, values: Values) -> str:
    """See `ports.ticket_digest`."""
    return hashlib.sha256(ticket.fill(values).encode()).hexdigest()
