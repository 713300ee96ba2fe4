"""Recordings out of a home and into another: a file of JSON lines.

An export appears whole or not at all, for its owner alone: prompts tell of positions. An import reads its file twice, so that nothing is
taken from one with a line that is refused.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trading_pipeline.adapters.durable_files import storage_errors, sync_folder
from trading_pipeline.adapters.llm.cassette_store import PAGE, CassetteStore, Taken
from trading_pipeline.adapters.llm.recordings import MAX_LINE, Recording, line_of, recording_of
from trading_pipeline.errors import InputError

Step = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that is no recording; counted from 1."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What a file of recordings holds."""

    recordings: int
    refused: tuple[Refused, ...]


def export_recordings(store: CassetteStore, file: Path, step: Step = lambda: None) -> int:
    """Write every recording, in the order of digests, and return how many; StorageError for a damaged one or a full disk."""
    many = 0
    with storage_errors("The export", file):
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=file.absolute().parent)
        made = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as out:
                for recording in store.recordings():
                    out.write(line_of(recording) + "\n")
                    many += 1
                    step()
                out.flush()
                os.fsync(out.fileno())
            made.replace(file)
        finally:
            made.unlink(missing_ok=True)
        sync_folder(file.absolute().parent)
    return many


def check_recordings(file: Path) -> Checked:
    """Read a file of recordings, and nothing else; StorageError when it cannot be read."""
    seen: dict[str, int] = {}
    refused = []
    for number, line in _lines(file):
        try:
            digest = recording_of(line).request.digest
        except InputError as error:
            refused.append(Refused(number, error.message))
            continue
        first = seen.setdefault(digest, number)
        if first != number:
            refused.append(Refused(number, f"The same request as in line {first}."))
    return Checked(len(seen), tuple(refused))


def import_recordings(store: CassetteStore, file: Path, *, replace: bool = False, step: Step = lambda: None) -> "Counter[Taken]":
    """Take over the recordings of a file that `check_recordings` found nothing to refuse in.

    Args:
        replace: Also those of requests that are recorded already, with another reply.

    Raises:
        InputError: A line that is refused after all; those before it may have been taken.
        StorageError: The file or the cassette does not play along.
    """
    outcome: Counter[Taken] = Counter()
    page: list[Recording] = []
    for _, line in _lines(file):
        page.append(recording_of(line))
        step()
        if len(page) == PAGE:
            outcome += store.take(page, replace=replace)
            page = []
    return outcome + store.take(page, replace=replace)


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers, none longer than can be refused for it."""
    with storage_errors("The export", file), file.open("rb") as lines:
        number = 0
        while line := lines.readline(MAX_LINE + 1):
            number += 1
            yield number, line.rstrip(b"\r\n")
            while len(line) > MAX_LINE and not line.endswith(b"\n"):
                line = lines.readline(MAX_LINE + 1)
