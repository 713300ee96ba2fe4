"""The roles of the embedded PostgreSQL and their passwords, made once with the data folder and kept beside it."""

import json
import os
import secrets
from pathlib import Path

from trading_pipeline.errors import StorageError

SUPERUSER, OWNER, APP, DAGSTER = "postgres", "trading_owner", "trading_app", "dagster"


def passwords_file(data_dir: Path) -> Path:
    """Beside the data folder, mode 0600."""
    return data_dir.with_name(f"{data_dir.name}.passwords")


def read_passwords(data_dir: Path) -> dict[str, str]:
    """By role; StorageError when the file is gone or damaged."""
    path = passwords_file(data_dir)
    try:
        found = json.loads(path.read_text())
        return {role: str(found[role]) for role in (SUPERUSER, OWNER, APP, DAGSTER)}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise StorageError(
            f"The passwords of the embedded PostgreSQL cannot be read from {path}.", value=path,
            rule="they are written once, with the data folder", remedy=f"restore that file from a backup, or move {data_dir} aside",
        ) from None


def require_new(data_dir: Path, making: Path) -> None:
    """Refuse to make a database where there was one, or where something else is.

    Passwords stand beside a data folder from before it is made: where they do and nothing is being made, there was one. An empty one in
    its place would say that nothing is held and nothing works, and new passwords would lock the old one out.

    Args:
        data_dir: Without a database.
        making: The folder of a first start that is not done.

    Raises:
        StorageError: It is not new.
    """
    file = passwords_file(data_dir)
    was_made = file.exists() and not making.exists()
    if data_dir.exists() and any(data_dir.iterdir()):
        raise StorageError(
            f"{data_dir} holds files that are no PostgreSQL data folder.", value=data_dir, rule="the data folder is new or ours",
            remedy="put back what is missing of it, PG_VERSION first" if was_made else "move it aside or use another home",
        )
    if was_made:
        raise StorageError(
            f"The database in {data_dir} is gone: {file.name} says that there was one.", value=data_dir,
            rule="a home that has had a database gets no new one", remedy="put the folder back, or use another home",
        )
    # Before the folder is made anew: a kill in between must not look like a database that is gone.
    file.unlink(missing_ok=True)


def write_passwords(data_dir: Path) -> dict[str, str]:
    """New ones, on disk before the server has them."""
    passwords = {role: secrets.token_urlsafe(32) for role in (SUPERUSER, OWNER, APP, DAGSTER)}
    path = passwords_file(data_dir)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(passwords, file)
        file.flush()
        os.fsync(file.fileno())
    return passwords
