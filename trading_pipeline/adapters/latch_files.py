"""Emergency stops as the services see them: files of the home, read inside every submission, good with everything else down.

A file that is there and cannot be read is a stop: whoever wrote it meant one, of the account where its name says of nobody. So is a
folder that cannot be looked into. What the files are called and how they are written is in `stop_files`.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path

from trading_pipeline.adapters.durable_files import json_object, open_lock, storage_errors, sync_folder, take_lock
from trading_pipeline.adapters.stop_files import ACCOUNT, RECOVERY, account_files, latch, path_of, scope_of, stop_files
from trading_pipeline.domain.events import instant_of_file
from trading_pipeline.ports import Stop

_CLEARING = ".clearing"
_CLEARING_SECONDS = 10.0
_STARTED = datetime.now(UTC)


class LatchFiles:
    """A `Latch` in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def stop(self, stop: Stop) -> Stop:
        """Latch; durable on return."""
        if latch(self._folder, stop.strategy, stop.reason, stop.actor, stop.at):
            return stop
        return next((each for each in self.stops() if each.strategy == stop.strategy), stop)

    def stops(self) -> list[Stop]:
        """Every stop in force: each press of the account's, then those of strategies."""
        try:
            paths = stop_files(self._folder)
        except FileNotFoundError:
            return []
        except OSError:
            return [self._unread()]
        strategies = [_read(path) for path in paths if scope_of(path) is not None]
        return [*_presses(path for path in paths if scope_of(path) is None), *(stop for stop in strategies if stop is not None)]

    def standing(self, strategy: str) -> Stop | None:
        """The stop that keeps the strategy from sending anything."""
        try:
            account = _presses(account_files(self._folder))
        except OSError:
            return self._unread()
        return account[0] if account else _read(path_of(self._folder, strategy))

    def clear(self, stops: Collection[Stop]) -> None:
        """Take these presses of the account's stop away, for good on return.

        Nobody writes over a file of the account, and nobody but who holds the lock takes one away: the file that was read is the file
        that goes. Pressing waits for no lock.
        """
        lock = self._folder / _CLEARING
        with storage_errors("The emergency stop", self._folder):
            if not account_files(self._folder):
                return
            with open_lock(lock) as clearing:
                take_lock(clearing, lock, _CLEARING_SECONDS)
                for path in account_files(self._folder):
                    if _read(path) in stops:
                        path.unlink(missing_ok=True)
            sync_folder(self._folder)

    def _unread(self) -> Stop:
        return Stop(None, "the folder of stops cannot be read", "latch", _changed_at(self._folder))


def _presses(paths: Iterable[Path]) -> list[Stop]:
    """Each press once: persons' before what recovery holds, and the first one first."""
    read = [(stop, path.name) for path in paths if (stop := _read(path)) is not None]
    ranked = sorted(read, key=lambda each: (each[0].actor == RECOVERY, each[1] != ACCOUNT, each[0].at))
    return list(dict.fromkeys(stop for stop, _ in ranked))


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
    """The same at every reading, as far as the file lets it be known: each press goes on record once."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return _STARTED
