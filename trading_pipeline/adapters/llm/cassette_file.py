"""The cassette's SQLite file: made whole or not at all, opened as the disk allows, its complaints as StorageError.

Connections are pooled: each is used by one thread at a time, none is used after a fork or after the file was replaced. A file on a disk
that cannot be written is read all the same.
"""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import Final
from urllib.parse import quote

from trading_pipeline.adapters.durable_files import open_lock, storage_errors, sync_folder, take_lock
from trading_pipeline.errors import StorageError

VERSION: Final = 1
BUSY_SECONDS: Final = 30.0
"""How long a writer waits for another; a commit takes milliseconds."""
_SCHEMA: Final = """
CREATE TABLE recordings (
    digest BLOB PRIMARY KEY, provider TEXT NOT NULL, model TEXT NOT NULL, recorded_at TEXT NOT NULL, replays INTEGER NOT NULL DEFAULT 0,
    seal BLOB NOT NULL, reply TEXT NOT NULL, question BLOB NOT NULL
)
"""
_LET_GO: Final = ("is locked", "whoever writes to it lets go in moments", "find who holds it with `fuser`, and let it go on or end it")
_TROUBLES: Final = {
    sqlite3.SQLITE_BUSY: _LET_GO,
    sqlite3.SQLITE_LOCKED: _LET_GO,
    sqlite3.SQLITE_READONLY: (
        "is read-only", "what records can write", 'make it writable, or set cassette = "replay-or-fail" under [model] in trading.toml',
    ),
    sqlite3.SQLITE_FULL: ("has no space left", "the disk has space", "free space and try again"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "the file and its folder can be read and written", "check owner, mode and disk"),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "the disk works", "check the disk"),
}
_DAMAGED: Final = ("is damaged", "a recording comes back as it was kept", "move the file aside, and import an export of it or record anew")


class CassetteFile:
    """Connections to one file. Everything raises StorageError, with a remedy, when it is damaged, locked, read-only or out of space."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet."""
        self.path = path
        self._lock = Lock()
        self._idle: list[sqlite3.Connection] = []
        self._opened: tuple[int, int, int] | None = None
        """Process, device and inode that the idle connections belong to."""
        self._inherited: list[sqlite3.Connection] = []
        """Of the process that forked this one: to be neither used nor closed here (sqlite.org/howtocorrupt.html, 2.6)."""

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection for as long as the block lasts; None while there is no file."""
        with _errors(self.path):
            stands = self._stands()
            if stands is None:
                yield None
                return
            with ExitStack() as unless_well:
                connection = self._take(stands)
                unless_well.callback(connection.close)
                yield connection
                unless_well.pop_all()
            self._give_back(connection, stands)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction beside which nobody writes, committed when the block ends well; makes the file."""
        if not self.path.exists():
            with _errors(self.path):
                self._make()
        with self.reading() as connection:
            if connection is None:
                raise StorageError(
                    f"The cassette {self.path} is gone.", value=str(self.path), rule="nobody removes it while it is written to",
                    remedy="try again",
                )
            # Where the block fails the connection is closed, and that rolls back.
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def size(self) -> int:
        """Bytes on the disk."""
        with _errors(self.path):
            return sum(file.stat().st_size for file in (self.path, self._beside("-wal")) if file.exists())

    def close(self) -> None:
        """Let go of it; whoever comes after that opens it again."""
        with self._lock:
            idle, self._idle, self._opened = self._idle, [], None
        for connection in idle:
            connection.close()

    def damaged(self, what: str) -> StorageError:
        """The error for what SQLite itself cannot notice."""
        said, rule, remedy = _DAMAGED
        return StorageError(f"The cassette {self.path} {said}: {what}.", value=str(self.path), rule=rule, remedy=remedy)

    def _stands(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return os.getpid(), found.st_dev, found.st_ino

    def _take(self, stands: tuple[int, int, int]) -> sqlite3.Connection:
        stale: list[sqlite3.Connection] = []
        with self._lock:
            if self._opened != stands:
                if self._opened is not None and self._opened[0] != stands[0]:
                    self._inherited += self._idle
                else:
                    stale = self._idle
                self._idle, self._opened = [], stands
            idle = self._idle.pop() if self._idle else None
        for connection in stale:
            connection.close()
        return idle or self._open()

    def _give_back(self, connection: sqlite3.Connection, stands: tuple[int, int, int]) -> None:
        with self._lock:
            if self._opened == stands:
                self._idle.append(connection)
                return
        connection.close()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._checked(_connect(self.path, "mode=rw"))
        except sqlite3.OperationalError as error:
            wal = self._beside("-wal")
            if _code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) or (wal.exists() and wal.stat().st_size):
                raise
        # Write-ahead mode wants to write even to read; where nobody can write, the file can be taken as it lies.
        return self._checked(_connect(self.path, "mode=ro&immutable=1"))

    def _checked(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        with ExitStack() as unless_well:
            unless_well.callback(connection.close)
            [version] = connection.execute("PRAGMA user_version").fetchone()
            connection.execute("PRAGMA synchronous = FULL")
            if version != VERSION:
                raise StorageError(
                    f"The cassette {self.path} has format {version}.", value=version, rule=f"this version reads format {VERSION}",
                    remedy="use the version that wrote it, or move the file aside",
                )
            unless_well.pop_all()
        return connection

    def _make(self) -> None:
        """A file with its table, under its name only when it is whole."""
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open_lock(self._beside(".lock")) as lock:
            take_lock(lock, self._beside(".lock"), BUSY_SECONDS)
            if self.path.exists():
                return
            # What a file that was removed has left would be read into the new one.
            for rest in ("-wal", "-shm"):
                self._beside(rest).unlink(missing_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".new-", dir=folder)
            os.close(descriptor)
            made = Path(name)
            try:
                with closing(_connect(made, "mode=rw")) as connection:
                    for statement in ("PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA journal_mode = WAL", _SCHEMA):
                        connection.execute(statement).fetchall()
                    connection.execute(f"PRAGMA user_version = {VERSION}")
                made.replace(self.path)
            finally:
                made.unlink(missing_ok=True)
            sync_folder(folder)

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        with storage_errors("The cassette", path):
            yield
    except sqlite3.Error as error:
        if _code(error) is None:
            # No complaint of SQLite's but a wrong use of it.
            raise
        said, rule, remedy = _TROUBLES.get(_code(error) or 0, _DAMAGED)
        raise StorageError(f"The cassette {path} {said}: {error}.", value=str(path), rule=rule, remedy=remedy) from error


def _code(error: sqlite3.Error) -> int | None:
    """The primary result code (sqlite.org/rescode.html)."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
