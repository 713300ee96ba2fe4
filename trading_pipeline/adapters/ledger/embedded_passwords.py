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
