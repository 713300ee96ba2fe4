"""The recordings of a home by their requests' digests, used by many processes and threads at once.

A commit is there whole or not at all, whatever kills the process. Every reply is sealed, and the seal verified at each read, because
SQLite does not notice a flipped bit. The question is kept with the reply, compressed and with pictures by digest only, so that an export
explains itself and its digests can be checked. There is no history: a newer reply to the same request replaces the older one, and every
reply that was acted on is in the ledger.
"""

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Any, Final

from trading_pipeline.adapters.llm.cassette_file import CassetteFile
from trading_pipeline.adapters.llm.recordings import Recording, reply_from, reply_text, request_data, request_from, seal_of
from trading_pipeline.domain.events import instant_from, instant_text
from trading_pipeline.domain.models import ModelReply, ModelRequest, Provider, Usage
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.errors import InputError, StorageError

COUNTED: Final = 1_000
"""Replays that are counted in memory before they are written down."""
PAGE: Final = 200
"""Recordings read or deleted at a time, so that nobody else waits long."""
_KEEP: Final = (
    "INSERT INTO recordings (digest, provider, model, recorded_at, seal, reply, question) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (digest) DO UPDATE SET recorded_at = excluded.recorded_at, seal = excluded.seal, reply = excluded.reply"
)


class Taken(StrEnum):
    """What became of a recording that came from elsewhere."""

    ADDED = "added"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    LEFT = "left"
    """Another reply to the same request is recorded, and stays."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What is recorded of one model in one month of New York, and what replaying it saved. USD."""

    provider: Provider
    model: str
    month: str
    """As `2026-11`."""
    recordings: int = 0
    replays: int = 0
    cost: Decimal = Decimal(0)
    saved: Decimal = Decimal(0)
    unpriced: int = 0
    """Recordings whose cost nobody knows; it is missing in `cost` and `saved`."""


class CassetteStore:
    """One file, made when the first reply is kept.

    Every method raises StorageError, with a remedy, when the file is damaged, locked, read-only or out of space.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet."""
        self._file = CassetteFile(path)
        self._lock = Lock()
        self._replays: Counter[str] = Counter()

    def find(self, digest: str) -> ModelReply | None:
        """The reply recorded for a request, verified."""
        with self._file.reading() as connection:
            if connection is None:
                return None
            query = "SELECT recorded_at, seal, reply FROM recordings WHERE digest = ?"
            row = connection.execute(query, (bytes.fromhex(digest),)).fetchone()
        return None if row is None else self._reply(digest, *row)

    def keep(self, *recordings: Recording) -> None:
        """Keep replies in one commit; each replaces what was recorded for the same request."""
        rows = [_row(recording) for recording in recordings]
        with self._file.writing() as connection:
            connection.executemany(_KEEP, rows)

    def take(self, recordings: Sequence[Recording], *, replace: bool) -> Counter[Taken]:
        """Keep replies from elsewhere in one commit; where another reply is recorded only if they are to replace it."""
        rows = [_row(recording) for recording in recordings]
        outcome: Counter[Taken] = Counter()
        with self._file.writing() as connection:
            for row in rows:
                found = connection.execute("SELECT seal FROM recordings WHERE digest = ?", (row[0],)).fetchone()
                if found is None:
                    taken = Taken.ADDED
                elif found[0] == row[4]:
                    taken = Taken.UNCHANGED
                else:
                    taken = Taken.REPLACED if replace else Taken.LEFT
                if taken in (Taken.ADDED, Taken.REPLACED):
                    connection.execute(_KEEP, row)
                outcome[taken] += 1
        return outcome

    def require_writable(self) -> None:
        """Raise StorageError where nothing can be kept: to be known before a reply is paid for."""
        with self._file.writing():
            pass

    def count_replay(self, digest: str) -> None:
        """Remember that a reply was replayed. Written down now and then and on closing: a kill loses some of the count, nothing else."""
        with self._lock:
            self._replays[digest] += 1
            full = self._replays.total() >= COUNTED
        if full:
            self._write_replays()

    def recordings(self) -> Iterator[Recording]:
        """All of them in the order of their digests, each verified; what is recorded meanwhile may be among them or not."""
        after = b""
        while True:
            with self._file.reading() as connection:
                if connection is None:
                    return
                query = "SELECT digest, recorded_at, seal, reply, question FROM recordings WHERE digest > ? ORDER BY digest LIMIT ?"
                rows = connection.execute(query, (after, PAGE)).fetchall()
            if not rows:
                return
            for digest, at, seal, text, question in rows:
                reply = self._reply(digest.hex(), at, seal, text)
                yield Recording(self._question(digest.hex(), question), reply, instant_from(at))
            after = rows[-1][0]

    def count(self, *, before: datetime | None = None, model: str | None = None) -> int:
        """How many there are: of those recorded before an instant, of a model's."""
        where, values = _where(before, model)
        with self._file.reading() as connection:
            return 0 if connection is None else int(connection.execute(f"SELECT count(*) FROM recordings {where}", values).fetchone()[0])

    def prune(self, *, before: datetime | None = None, model: str | None = None) -> Iterator[int]:
        """Delete those, some at a time, and give their room back to the disk; yields how many each time."""
        where, values = _where(before, model)
        some = f"DELETE FROM recordings WHERE rowid IN (SELECT rowid FROM recordings {where} LIMIT ?)"
        while True:
            with self._file.writing() as connection:
                gone = connection.execute(some, (*values, PAGE)).rowcount
            if not gone:
                break
            yield gone
        with self._file.reading() as connection:
            if connection is not None:
                # As a script: `execute` would free a single page.
                connection.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")

    def tallies(self, priced: Callable[[Provider, str, Usage, date], Decimal | None]) -> list[Tally]:
        """By provider, model and month.

        Args:
            priced: USD of tokens on a day, for what was recorded without the provider's own word on its cost.
        """
        self._write_replays()
        tallies: dict[tuple[str, str, str], Tally] = {}
        with self._file.reading() as connection:
            query = "SELECT provider, model, replays, digest, recorded_at, seal, reply FROM recordings"
            for provider, model, replays, digest, at, seal, text in connection.execute(query) if connection is not None else ():
                reply = self._reply(digest.hex(), at, seal, text)
                day = instant_from(at).astimezone(NEW_YORK).date()
                cost = reply.cost if reply.cost is not None else priced(Provider(provider), model, reply.usage, day)
                key = (provider, model, f"{day:%Y-%m}")
                tally = tallies.get(key) or Tally(Provider(provider), *key[1:])
                tallies[key] = replace(
                    tally, recordings=tally.recordings + 1, replays=tally.replays + replays, cost=tally.cost + (cost or 0),
                    saved=tally.saved + (cost or 0) * replays, unpriced=tally.unpriced + (cost is None),
                )
        return [tallies[key] for key in sorted(tallies)]

    @property
    def path(self) -> Path:
        """Of the file."""
        return self._file.path

    def size(self) -> int:
        """Bytes on the disk."""
        return self._file.size()

    def close(self) -> None:
        """Write down what was counted and let go of the file; whoever comes after that opens it again."""
        self._write_replays()
        self._file.close()

    def _write_replays(self) -> None:
        with self._lock:
            counted, self._replays = self._replays, Counter()
        if counted and self.path.exists():
            # A count is nothing that a replay from a read-only disk should fail for.
            rows = [(many, bytes.fromhex(digest)) for digest, many in counted.items()]
            with suppress(StorageError), self._file.writing() as connection:
                connection.executemany("UPDATE recordings SET replays = replays + ? WHERE digest = ?", rows)

    # What is read back

    def _reply(self, digest: str, at: str, seal: bytes, text: str) -> ModelReply:
        if seal != seal_of(digest, at, text):
            raise self._file.damaged(f"the reply to {digest} is not what was kept")
        try:
            return reply_from(json.loads(text))
        except (InputError, ValueError) as error:
            raise self._file.damaged(f"the reply to {digest} cannot be read: {error}") from error

    def _question(self, digest: str, packed: bytes) -> ModelRequest:
        try:
            request = request_from(json.loads(zlib.decompress(packed)))
        except (InputError, ValueError, zlib.error) as error:
            raise self._file.damaged(f"the question of {digest} cannot be read") from error
        if request.digest != digest:
            raise self._file.damaged(f"the question of {digest} is another one's")
        return request


def _row(recording: Recording) -> tuple[Any, ...]:
    digest, at, text = recording.request.digest, instant_text(recording.at), reply_text(recording.reply)
    question = zlib.compress(json.dumps(request_data(recording.request)).encode())
    request = recording.request
    return bytes.fromhex(digest), request.provider.value, request.model, at, seal_of(digest, at, text), text, question


def _where(before: datetime | None, model: str | None) -> tuple[str, tuple[str, ...]]:
    wanted = [("recorded_at < ?", None if before is None else instant_text(before)), ("model = ?", model)]
    chosen = [(clause, value) for clause, value in wanted if value is not None]
    return f"WHERE {' AND '.join(clause for clause, _ in chosen)}" if chosen else "", tuple(value for _, value in chosen)


