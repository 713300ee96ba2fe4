"""Forms: the text of facts with blanks for what differs from one to the next.

A form is learnt from facts that the pipeline's own code wrote; nobody writes one by hand. It is told which values stand where, and
must give the very text that it was learnt from before it is used. Filling in a form takes a hundredth of the time of making its facts.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from trading_pipeline.domain.events import Event, EventType, canonical_payload, text_of

Path = tuple[str | int, ...]
"""Where a value stands in a payload."""
Values = dict[str, str]
"""What a form is filled in with, as it is written."""
_BLANK = re.compile(r"<<(\w+)>>")
_BARE = re.compile(r'"<<#(\w+)>>"')
_OWN = re.compile(r"[A-Z2-7]{12,20}|\d{4}-\d\d-\d\dT.*Z")
"""Names of actions and orders, and instants: what is nobody else's."""
_JUDGED = (EventType.LLM_ACTION_GENERATED, EventType.RISK_EVALUATED)
_NEXT = "\x1e"
"""Between the facts of a form: no JSON text has it."""


class Misfit(Exception):
    """The values that a form was told do not give the facts that it was to be learnt from."""


@dataclass(frozen=True, slots=True)
class Blanks:
    """What differs in one kind of fact.

    Args:
        key: The fact's key, with `<<name>>` for what differs.
        payload: By path, the text with `<<name>>` for what differs; `<<#name>>` alone for a value that is no string.
        cause: The name of the value that is its cause, where that is none of the facts of the form.
    """

    key: str
    payload: Mapping[Path, str]
    cause: str = ""


class Template:
    """Text with blanks, `<<name>>`."""

    def __init__(self, text: str) -> None:
        """With `"<<#name>>"` for a value that brings no quotes of its own."""
        self._parts = _BLANK.split(_BARE.sub(r"<<\1>>", text))
        """Every other one is the name of a blank."""
        self._read = itemgetter(*self._parts[1::2])
        self.text = text

    def fill(self, values: Values) -> str:
        """The text; KeyError for a name that has no value."""
        parts = self._parts.copy()
        parts[1::2] = self._read(values)
        return "".join(parts)

    def says(self, words: str) -> bool:
        """Whether the text says something outside of its blanks."""
        return any(words in part for part in self._parts[::2])


class Form:
    """Several facts that are always written together."""

    def __init__(self, facts: Sequence[Event], blanks: Sequence[Blanks], values: Values) -> None:
        """Learn from facts that came one after another, and from the values that they were written with.

        Raises:
            Misfit: The form would not give these facts.
        """
        self.streams = tuple(fact.stream for fact in facts)
        self.judged = [number for number, fact in enumerate(facts) if fact.type in _JUDGED]
        """Which of the facts are decisions and verdicts."""
        self._seqs = tuple(f"seq_{number}" for number in range(len(facts)))
        self._places = tuple(f"place_{number}" for number in range(len(facts)))
        first = facts[0].seq
        numbers = {fact.seq: name for fact, name in zip(facts, self._seqs, strict=True)}
        texts = [
            _form_of(fact, each, self._seqs[number], self._places[number], numbers)
            for number, (fact, each) in enumerate(zip(facts, blanks, strict=True))
        ]
        self._text = Template(_NEXT.join(texts))
        try:
            found = self.fill(values, first, [fact.stream_seq for fact in facts])
        except LookupError as unknown:
            raise Misfit(f"nothing is known of {unknown}") from unknown
        for text, fact in zip(found, facts, strict=True):
            if wrong := first_difference(text_of(fact), text):
                raise Misfit(f"{fact.type.value}: {wrong}")
        left = [name for name, value in values.items() if _OWN.fullmatch(value) and self._text.says(value)]
        if left:
            raise Misfit(f"{left[0]} is not left blank everywhere")

    @property
    def text(self) -> str:
        """With its blanks."""
        return self._text.text

    def fill(self, values: Values, first: int, places: Iterable[int]) -> list[str]:
        """The texts of the facts.

        Args:
            values: By name; the form adds its own.
            first: The seq of the first fact.
            places: The stream_seq of each.
        """
        values.update(zip(self._seqs, map(str, range(first, first + len(self._seqs))), strict=True))
        values.update(zip(self._places, map(str, places), strict=True))
        return self._text.fill(values).split(_NEXT)


def first_difference(told: str, formed: str) -> str:
    """Where two texts part, in words; empty when they are the same."""
    if told == formed:
        return ""
    place = next((at for at, (one, other) in enumerate(zip(told, formed, strict=False)) if one != other), 0)
    around = slice(max(0, place - 60), place + 40)
    return f"{told[around]!r}, by form {formed[around]!r}"


def _form_of(fact: Event, blanks: Blanks, seq: str, place: str, numbers: Mapping[int, str]) -> str:
    cause: Any = fact.cause
    if blanks.cause:
        cause = f"<<#{blanks.cause}>>"
    elif fact.cause is not None and fact.cause in numbers:
        cause = f"<<#{numbers[fact.cause]}>>"
    told = [f"<<#{seq}>>", fact.stream, f"<<#{place}>>", blanks.key, fact.type.value, fact.schema, cause, fact.actor, "<<instant>>"]
    envelope = json.dumps(told, separators=(",", ":"))
    return f"{envelope}\n{blanked(fact.payload, blanks.payload)}"


def blanked(payload: Mapping[str, Any], blanks: Mapping[Path, str]) -> str:
    """A payload's canonical text as that of a `Template`.

    Raises:
        KeyError, IndexError: It lacks something that is to be left blank.
    """
    copy = json.loads(canonical_payload(payload))
    for path, text in blanks.items():
        place = copy
        for step in path[:-1]:
            place = place[step]
        place[path[-1]]  # what is not there cannot differ
        place[path[-1]] = text
    return canonical_payload(copy)
