"""The files of emergency stops, written and found with the standard library alone: `trading stop` latches before it imports the rest.

`stops/ACCOUNT.json` or `stops/strategy-NAME.json`. Who presses the account's stop while a file of it stands writes another one,
`stops/ACCOUNT-0123456789abcdef.json`: none is written over, so that whoever clears one takes away what they have looked at and no more.
A file that is no strategy's is the account's, whatever it is called, such as the copy that a backup has left.
A reserve, written while there is space, becomes the file when there is none left. What they mean to the services is in `latch_files`.
"""

import errno
import json
import os
import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from trading_pipeline.adapters.durable_files import json_object, move, storage_errors, sync_folder, write_atomically
from trading_pipeline.domain.events import instant_text, storable
from trading_pipeline.errors import UnknownName

ACCOUNT = "ACCOUNT.json"
_STRATEGY = "strategy-"
RECOVERY = "recovery"
"""Who holds the account when its ledger was restored from before: no emergency, and nothing to add where a stop stands."""
_RESERVE = ".reserve"
_RESERVED_BYTES = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def path_of(folder: Path, strategy: str | None) -> Path:
    """Where the stop of a strategy, or of the account, stands.

    Raises:
        UnknownName: No strategy can have that name.
    """
    if strategy is None:
        return folder / ACCOUNT
    if _NAME.fullmatch(strategy) is None:
        raise UnknownName(
            f"{strategy!r} is no strategy's name.", value=strategy, rule="names are letters, digits and dashes",
            remedy="stop everything with `trading stop`, or name the strategy as `trading strategy list` does",
        )
    return folder / f"{_STRATEGY}{strategy}.json"


def scope_of(path: Path) -> str | None:
    """Whose stop a file is: a strategy's name, or None for the account: it also stops where nobody can tell whose a file is."""
    name = path.stem.removeprefix(_STRATEGY)
    return name if path.stem.startswith(_STRATEGY) and _NAME.fullmatch(name) else None


def latch(folder: Path, strategy: str | None, reason: str, actor: str, at: datetime) -> bool:
    """Write a stop down, durable on return; False when one of this scope stood already, which stays as it was.

    Every press of the account's stop has a file of its own all the same: clearing another one leaves it.

    Raises:
        StorageError: It could not be made durable: nothing is confirmed.
        UnknownName: No strategy can have that name.
    """
    path = path_of(folder, strategy)
    text = {"strategy": strategy, "reason": storable(reason, 500), "actor": storable(actor, 200), "at": instant_text(at)}
    content = json.dumps(text, sort_keys=True).encode() + b"\n"
    with storage_errors("The emergency stop", path):
        if strategy is not None:
            if path.exists():
                return False
            _write(path, content, new=False)
            return True
        presses = [_press(each) for each in account_files(folder)]
        if (presses and actor == RECOVERY) or (text["actor"], text["at"]) in presses:
            return False
        stood = any(press is None or press[0] != RECOVERY for press in presses)
        try:
            _write_press(path, content)
        except OSError:
            # Nothing is sent as it is: a disk that takes no second file does not make that unsaid.
            if not stood:
                raise
    return not stood


def stop_files(folder: Path) -> list[Path]:
    """All there are; FileNotFoundError where there is no folder."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".json")


def account_files(folder: Path) -> list[Path]:
    """Those of all presses of the account's stop."""
    try:
        return [path for path in stop_files(folder) if scope_of(path) is None]
    except FileNotFoundError:
        return []


def keep_reserve(folder: Path) -> None:
    """Have the bytes of one stop on the disk already, for the day it is full; StorageError when it is full now."""
    path = folder / _RESERVE
    with storage_errors("The emergency stop's reserve", path):
        if not path.exists():
            write_atomically(path, b" " * _RESERVED_BYTES)


def _press(path: Path) -> tuple[object, object] | None:
    """Who pressed, and when: no two presses have both in common. None where the file does not say."""
    try:
        text = json_object(path.read_bytes())
        return text["actor"], text["at"]
    except (OSError, ValueError, KeyError):
        return None


def _write_press(path: Path, content: bytes) -> None:
    """At this path if nobody is there, else under a name that nobody ever had: what stands is not written over, and what comes stays."""
    if not path.exists():
        # It fails where somebody has come before, and where the file system makes no links, by which a file comes to a free place alone.
        with suppress(OSError):
            _write(path, content, new=True)
            return
    _write(path.with_name(f"{path.stem}-{_unheard_of()}{path.suffix}"), content, new=False)


def _write(path: Path, content: bytes, *, new: bool) -> None:
    try:
        write_atomically(path, content, new=new)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not path.with_name(_RESERVE).exists():
            raise
        _use_reserve(path, content, new=new)


def _use_reserve(path: Path, content: bytes, *, new: bool) -> None:
    reserve, own = path.with_name(_RESERVE), path.with_name(f".new-{_unheard_of()}")
    # Nobody else writes into it from here on.
    reserve.replace(own)
    try:
        with own.open("r+b") as file:
            # Blanks after the text are JSON still; blocks that are there need no space.
            file.write(content.ljust(_RESERVED_BYTES))
            file.flush()
            os.fsync(file.fileno())
        move(own, path, new=new)
    except OSError:
        own.replace(reserve)
        raise
    sync_folder(path.parent)


def _unheard_of() -> str:
    return os.urandom(8).hex()
