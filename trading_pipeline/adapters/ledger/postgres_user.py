"""Who the embedded PostgreSQL runs as: ourselves, or, as PostgreSQL refuses root, a system user of its own.

Only what that user needs is granted: the data folder is given to it, and folders on the way to it and to the
binaries may be passed through (search permission, not reading). Nothing happens here for an ordinary user.
"""

import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from trading_pipeline.errors import StorageError

log = logging.getLogger(__name__)

NAME = "trading-postgres"


def uid() -> int:
    """The user id that the server runs as."""
    return _ids()[0]


def credentials() -> dict[str, Any]:
    """Arguments to `subprocess.run` that run a command as that user; none for an ordinary user."""
    if os.geteuid() != 0:
        return {}
    user, group = _ids()
    return {"user": user, "group": group, "extra_groups": [], "umask": 0o077}


def give(path: Path) -> None:
    """Make that user the owner of a file or folder."""
    if os.geteuid() == 0:
        os.chown(path, *_ids())


def open_way_to(path: Path) -> None:
    """Let that user pass through the folders above a path."""
    if os.geteuid() != 0:
        return
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            log.info("Running as root: %s may now be passed through (not read) by other users, for PostgreSQL", folder)
            folder.chmod(mode & 0o7777 | 0o001)


def _ids() -> tuple[int, int]:
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    import pwd

    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        _create()
        entry = pwd.getpwnam(NAME)
    return entry.pw_uid, entry.pw_gid


def _create() -> None:
    useradd = shutil.which("useradd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    command = [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/false", NAME]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if useradd else None  # type: ignore[arg-type]
    # 9: another process was faster.
    if done is None or done.returncode not in (0, 9):
        raise StorageError(
            "The embedded PostgreSQL cannot run as root, and no system user could be made for it"
            + (f": {done.stderr.strip()}." if done else ": useradd is missing."),
            value=NAME, rule="PostgreSQL runs as an unprivileged user", remedy="run as an ordinary user, or give a database URL",
        )
    log.info("Running as root: made the system user %s for PostgreSQL", NAME)
