"""Emergency stops as the services see them: files of the home, read inside every submission, good with everything else down.

A file that is there and cannot be read is a stop: whoever wrote it meant one, of the account where its name says of nobody. So is a
folder that cannot be looked into. What the files are called and how they are written is in `stop_files`.
"""

from datetime import UTC, datetime
from pathlib import Path

from trading_pipeline.adapters.durable_files import json_object, storage_errors, sync_folder
from trading_pipeline.adapters.stop_files import ACCOUNT, latch, path_of, scope_of
from trading_pipeline.domain.events import instant_of_file
from trading_pipeline.ports import Stop


class LatchFiles:
    """A `Latch` in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def stop(self, stop: Stop) -> Stop:
        """Latch; durable on return."""
        if latch(self._folder, stop.strategy, stop.reason, stop.actor, stop.at):
            return stop
        return _read(path_of(self._folder, stop.strategy)) or stop

    def stops(self) -> list[Stop]:
        """Every stop in force, the account's first, and once."""
        try:
            # ACCOUNT.json counts before a file that only cannot be told whose it is.
            paths = sorted(self._folder.iterdir(), key=lambda path: (scope_of(path) is not None, path.name != ACCOUNT, path.name))
            found = {scope_of(path): _read(path) for path in reversed(paths) if path.suffix == ".json"}
        except FileNotFoundError:
            return []
        except OSError:
            return [Stop(None, "the folder of stops cannot be read", "latch", datetime.now(UTC))]
        return [stop for stop in reversed(found.values()) if stop is not None]

    def standing(self, strategy: str) -> Stop | None:
        """The stop that keeps the strategy from sending anything."""
        return _read(path_of(self._folder, None)) or _read(path_of(self._folder, strategy))

    def clear(self) -> None:
        """Take the account's latch away, for good on return."""
        path = path_of(self._folder, None)
        with storage_errors("The emergency stop", path):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            sync_folder(self._folder)


def _read(path: Path) -> Stop | None:
    try:
        text = json_object(path.read_bytes())
        return Stop(scope_of(path), str(text["reason"]), str(text["actor"]), instant_of_file(text["at"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        why = f"its file {path.name} cannot be read: remove it once you know why it is there"
        return Stop(scope_of(path), why, "latch", _changed_at(path))


def _changed_at(path: Path) -> datetime:
    """The same at every reading, as far as the file lets it be known."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return datetime.now(UTC)
