"""The exclusive use of a home: one `trading up` or `trading demo` at a time.

It is held from before the home is touched until the last process is gone: a file lock, so that no kill leaves it behind, which
processes that inherit the descriptor hold too. The file says who holds it.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import psutil

from trading_pipeline.adapters.durable_files import try_lock
from trading_pipeline.errors import ServiceError, StorageError

LOCK = "up.lock"
REMAINS_SECONDS = 50.0
"""How long the processes of a killed holder may take to end."""
_TICK_SECONDS = 0.2


class HomeLock:
    """Held from `take` until `release`."""

    def __init__(self, home: Path, holder: str) -> None:
        """Prepare; nothing is locked.

        Args:
            home: The folder; made by `take` when absent.
            holder: Who we are, for those who come second.
        """
        self._home = home
        self._holder = holder
        self._file: TextIO | None = None

    @property
    def descriptor(self) -> int:
        """For child processes to inherit."""
        assert self._file is not None
        return self._file.fileno()

    def take(self) -> None:
        """Lock the home, waiting for what is left of a killed holder.

        Raises:
            ServiceError: Somebody else uses it.
            StorageError: It cannot be written.
        """
        path = self._home / LOCK
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise StorageError(
                f"The home cannot be used: {error.strerror}.", value=str(self._home), rule="the home is writable",
                remedy="check the folder's permissions, or use another with --home",
            ) from error
        deadline = time.monotonic() + REMAINS_SECONDS
        while not try_lock(file):
            holder = _holder(path)
            if holder is None or _lives(holder) or time.monotonic() > deadline:
                file.close()
                raise _in_use(self._home, holder)
            time.sleep(_TICK_SECONDS)
        file.truncate(0)
        file.write(f"{os.getpid()} {psutil.Process().create_time()} {self._holder}")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Let go, unless children still hold it."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def move_on(self) -> None:
        """Lock the home's new folder after the old one was moved aside; the errors are those of `take`."""
        self.release()
        self.take()


@contextmanager
def held(home: Path, holder: str) -> Iterator[HomeLock]:
    """Hold a home's lock; the errors are those of `HomeLock.take`."""
    lock = HomeLock(home, holder)
    lock.take()
    try:
        yield lock
    finally:
        lock.release()


def holder_of(home: Path) -> str | None:
    """Who uses a home, in words; None when nobody does. A look: the lock is what counts."""
    holder = _holder(home / LOCK)
    return _named(holder) if holder is not None and _lives(holder) else None


def require_unused(home: Path) -> None:
    """Look, before anything is read or made, whether somebody uses the home.

    Raises:
        ServiceError: Somebody does.
    """
    if holder_of(home) is not None:
        raise _in_use(home, _holder(home / LOCK))


def _holder(path: Path) -> list[str] | None:
    """Process id, when it began, and its name; None while nobody has said so."""
    try:
        words = path.read_text(encoding="utf-8").split(maxsplit=2)
    except OSError:
        return None
    return words if len(words) == 3 else None


def _lives(holder: list[str]) -> bool:
    try:
        return psutil.Process(int(holder[0])).create_time() == float(holder[1])
    except (psutil.Error, ValueError):
        return False


def _named(holder: list[str]) -> str:
    return f"{holder[2]}, pid {holder[0]}"


def _in_use(home: Path, holder: list[str] | None) -> ServiceError:
    who = _named(holder) if holder is not None else "just starting"
    return ServiceError(
        f"The home {home} is in use already ({who}).", value=str(home), rule="one `trading up` or `trading demo` a home",
        remedy="use that one, stop it, or give another with --home",
    )
