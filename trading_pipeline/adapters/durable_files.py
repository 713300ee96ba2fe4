"""Files that appear whole or not at all, and what the operating system says about them as our errors."""

import errno
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from trading_pipeline.errors import StorageError

_RULES = {
    errno.ENOSPC: ("the disk has space", "free space and try again"),
    errno.EDQUOT: ("the disk has space", "free space and try again"),
    errno.EROFS: ("the file system is writable", "mount it writable"),
    errno.EACCES: ("the folder belongs to the user", "correct its owner or mode"),
    errno.EPERM: ("the folder belongs to the user", "correct its owner or mode"),
    errno.ENOENT: ("the file is there", "restore it from a backup, or check the home"),
}

_LOCK_TICK_SECONDS = 0.01


def write_atomically(path: Path, content: bytes, *, new: bool = False) -> None:
    """Write a file beside its place, fsync it, put it there, and fsync every folder that changed; makes missing folders.

    Args:
        new: Nothing is written over: FileExistsError when somebody has that file, however shortly before.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        move(Path(name), path, new=new)
    except OSError:
        with suppress(OSError):
            Path(name).unlink()
        raise
    for folder in dict.fromkeys([path.parent, *(each.parent for each in made)]):
        sync_folder(folder)


def move(source: Path, path: Path, *, new: bool) -> None:
    """Rename a file; a `new` one writes nothing over, which a rename does."""
    if new:
        path.hardlink_to(source)
        source.unlink()
    else:
        source.replace(path)


def append_line(path: Path, text: str) -> None:
    """Append one line and fsync it; one that was cut off before it keeps its own. Makes the folder."""
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        line = f"{text}\n".encode()
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)


def json_object(content: bytes) -> dict[str, Any]:
    """The object in a file or line that may have been cut off, or touched by hand; ValueError for anything else."""
    try:
        found = json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__}, not an object")
    return found


def open_lock(path: Path) -> TextIO:
    """A file to lock, made when absent, for its owner alone: whoever can read a file can lock it, and keep everybody waiting."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+")


def take_lock(file: TextIO, path: Path, seconds: float) -> None:
    """Lock a file for as long as it is open, waiting for whoever has it, but not for ever: they may be stopped.

    Raises:
        StorageError: Somebody has held it for so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not try_lock(file):
        if time.monotonic() >= deadline:
            raise StorageError(
                f"{path} has been locked for {seconds:g} s.", value=str(path), rule="who changes a file lets go of it in moments",
                remedy=f"find the process that holds it, such as a stopped one, with `fuser {path}`, and let it go on or end it",
            )
        time.sleep(_LOCK_TICK_SECONDS)


def try_lock(file: TextIO) -> bool:
    """Lock a file for as long as it is open, if nobody else has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def storage_errors(what: str, where: Path) -> Iterator[None]:
    """Raise an OSError as StorageError; `what` begins the message, as in `The object store`."""
    try:
        yield
    except OSError as error:
        rule, remedy = _RULES.get(error.errno or 0, (f"{what.lower()} can be read and written", "check the disk"))
        place = str(error.filename or where)
        raise StorageError(f"{what} failed at {place}: {error.strerror}.", value=place, rule=rule, remedy=remedy) from error


def sync_folder(folder: Path) -> None:
    """Make what was made, renamed or removed in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
