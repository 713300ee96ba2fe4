"""The files of emergency stops, written and found with the standard library alone: `trading stop` latches before it imports the rest.

`stops/ACCOUNT.json` or `stops/strategy-NAME.json`: one file a scope. A reserve, written while there is space, becomes the file when
there is none left. What they mean to the services is in `latch_files`.
"""

import errno
import json
import os
import re
from datetime import datetime
from pathlib import Path

from trading_pipeline.adapters.durable_files import json_object, storage_errors, sync_folder, write_atomically
from trading_pipeline.domain.events import instant_text, storable
from trading_pipeline.errors import UnknownName

ACCOUNT = "ACCOUNT.json"
_STRATEGY = "strategy-"
RECOVERY = "recovery"
"""Who holds the account when its ledger was restored from before: no emergency, so that a person who presses stop is written over it."""
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

    Raises:
        StorageError: It could not be made durable: nothing is confirmed.
        UnknownName: No strategy can have that name.
    """
    path = path_of(folder, strategy)
    text = {"strategy": strategy, "reason": storable(reason, 500), "actor": storable(actor, 200), "at": instant_text(at)}
    content = json.dumps(text, sort_keys=True).encode() + b"\n"
    with storage_errors("The emergency stop", path):
        if path.exists() and (actor == RECOVERY or not _held_only(path)):
            return False
        try:
            write_atomically(path, content)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not path.with_name(_RESERVE).exists():
                raise
            _use_reserve(path, content)
    return True


def keep_reserve(folder: Path) -> None:
    """Have the bytes of one stop on the disk already, for the day it is full; StorageError when it is full now."""
    path = folder / _RESERVE
    with storage_errors("The emergency stop's reserve", path):
        if not path.exists():
            write_atomically(path, b" " * _RESERVED_BYTES)


def _held_only(path: Path) -> bool:
    try:
        return bool(json_object(path.read_bytes())["actor"] == RECOVERY)
    except (OSError, ValueError, KeyError):
        return False


def _use_reserve(path: Path, content: bytes) -> None:
    reserve = path.with_name(_RESERVE)
    with reserve.open("r+b") as file:
        # Blanks after the text are JSON still; blocks that are there need no space.
        file.write(content.ljust(_RESERVED_BYTES))
        file.flush()
        os.fsync(file.fileno())
    reserve.replace(path)
    sync_folder(path.parent)
