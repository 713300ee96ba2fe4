"""The fallback journal: facts of an emergency that the ledger could not take, one JSON line each, until a boot merges them.

Lines are only ever added, fsynced. A line `{"merged": N}` says that the first N lines are in the ledger: nothing is truncated, so
nothing that another process writes meanwhile is lost. A line that was cut off counts and says nothing; so does one touched by hand.
"""

import json
from pathlib import Path

from trading_pipeline.adapters.durable_files import append_line, json_object, storage_errors
from trading_pipeline.domain.events import EventType, NewEvent, canonical_payload, instant_of_file, instant_text


class JournalFile:
    """A `Journal` in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, event: NewEvent) -> None:
        """Keep a fact, durable on return."""
        fields = {
            "type": event.type.value, "stream": event.stream, "key": event.key, "payload": event.payload, "actor": event.actor,
            "at": instant_text(event.at),
        }
        self._append(canonical_payload(fields))

    def waiting(self) -> tuple[list[NewEvent], int]:
        """The facts that are not in the ledger yet, oldest first, and how many lines that makes with those before."""
        with storage_errors("The journal", self._path):
            try:
                lines = self._path.read_bytes().splitlines()
            except FileNotFoundError:
                return [], 0
        parsed = [_parsed(line) for line in lines]
        merged = max((min(each, before) for before, each in enumerate(parsed) if isinstance(each, int)), default=0)
        return [each for each in parsed[merged:] if isinstance(each, NewEvent)], len(lines)

    def merged(self, lines: int) -> None:
        """Say that so many lines are in the ledger."""
        self._append(json.dumps({"merged": lines}))

    def _append(self, text: str) -> None:
        with storage_errors("The journal", self._path):
            append_line(self._path, text)


def _parsed(line: bytes) -> NewEvent | int | None:
    try:
        text = json_object(line)
        if "merged" in text:
            return max(0, int(text["merged"]))
        names = stream, key, actor = text["stream"], text["key"], text["actor"]
        if all(isinstance(name, str) for name in names) and isinstance(text["payload"], dict):
            return NewEvent(EventType(text["type"]), stream, key, text["payload"], instant_of_file(text["at"]), actor)
    except (ValueError, KeyError, TypeError, OverflowError):
        pass
    return None


