"""Emergency stops as files of the home: written first, read inside every submission, good with everything else down.

One file a scope, `stops/ACCOUNT.json` or `stops/strategy-NAME.json`, written whole and fsynced before it counts. A file that is
there and cannot be read is a stop: whoever wrote it meant one.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

from trading_pipeline.adapters.durable_files import storage_errors, write_atomically
from trading_pipeline.domain.events import instant_from, instant_text
from trading_pipeline.ports import Stop

ACCOUNT = "ACCOUNT.json"
_UNREADABLE = "its file cannot be read"


class LatchFiles:
    """A `Latch` in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def stop(self, stop: Stop) -> Stop:
        """Latch; durable on return."""
        path = self._folder / (ACCOUNT if stop.strategy is None else f"strategy-{stop.strategy}.json")
        with storage_errors("The emergency stop", path):
            if path.exists():
                return self._read(path)
            text = {"strategy": stop.strategy, "reason": stop.reason, "actor": stop.actor, "at": instant_text(stop.at)}
            write_atomically(path, json.dumps(text, sort_keys=True).encode() + b"\n")
        return stop

    def stops(self) -> list[Stop]:
        """Every stop in force."""
        try:
            return [self._read(path) for path in sorted(self._folder.glob("*.json"))]
        except OSError:
            return [Stop(None, _UNREADABLE, "latch", datetime.now(UTC))]

    def standing(self, strategy: str) -> Stop | None:
        """The stop that keeps the strategy from sending anything."""
        return next((stop for stop in self.stops() if stop.strategy in (None, strategy)), None)

    def clear(self) -> None:
        """Take the account's latch away."""
        path = self._folder / ACCOUNT
        with storage_errors("The emergency stop", path):
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> Stop:
        try:
            text = json.loads(path.read_bytes())
            return Stop(text["strategy"], str(text["reason"]), str(text["actor"]), instant_from(text["at"]))
        except (OSError, ValueError, KeyError, TypeError):
            name = None if path.name == ACCOUNT else path.stem.removeprefix("strategy-")
            return Stop(name, _UNREADABLE, "latch", datetime.now(UTC))
