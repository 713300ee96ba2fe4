"""Anchors: heads of the chain in a file beside the database, so that what is cut off or rewritten there is found here.

One line an anchor in `anchors.jsonl`, appended and fsynced. A last line that was not written to its end is left out: the anchor
before it stands. The newest one is read from the file's end: it is asked for at every opening, and the file grows for years.
"""

import json
import os
from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path

from trading_pipeline.adapters.durable_files import append_line, json_object, storage_errors
from trading_pipeline.domain.events import instant_of_file, instant_text
from trading_pipeline.ports import Anchor

_TAIL = 4096
"""Bytes: some twenty lines."""


class AnchorFile:
    """`Anchors` in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last_read: tuple[tuple[int, int, int], Anchor | None] | None = None
        """The newest, of the file as it was then: it is asked for every two seconds, and once an order."""

    def record(self, anchor: Anchor) -> None:
        """Append it durably, unless nothing has been added since the newest."""
        newest = self.newest()
        if newest is None or anchor.seq > newest.seq:
            self._append(anchor)

    def restart(self, anchor: Anchor) -> None:
        """Go on from here: a person has accepted a ledger that was restored from before, or rewritten. Nothing is deleted."""
        self._append(anchor, restart=True)

    def all(self) -> list[Anchor]:
        """All that hold, oldest first: since the newest restart."""
        with storage_errors("The anchor", self._path):
            lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        return _since_restart(lines)

    def newest(self) -> Anchor | None:
        """The one that has seen most, among the last: two processes may have written theirs the other way round."""
        with storage_errors("The anchor", self._path):
            if not self._path.exists():
                return None
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                as_it_is, size = (stat.st_ino, stat.st_size, stat.st_mtime_ns), stat.st_size
                if self._last_read is not None and self._last_read[0] == as_it_is:
                    return self._last_read[1]
                file.seek(max(0, size - _TAIL))
                lines = file.read().splitlines()
        # The first line of a tail may have lost its beginning.
        whole = lines if size <= _TAIL else lines[1:]
        held = _since_restart(whole) or self.all()
        newest = max(held, key=attrgetter("seq"), default=None)
        self._last_read = as_it_is, newest
        return newest

    def _append(self, anchor: Anchor, **more: bool) -> None:
        text = {"seq": anchor.seq, "hash": anchor.hash.hex(), "at": instant_text(anchor.at)} | more
        with storage_errors("The anchor", self._path):
            append_line(self._path, json.dumps(text))


def _since_restart(lines: Iterable[bytes]) -> list[Anchor]:
    found: list[Anchor] = []
    for anchor, restart in _parsed(lines):
        if restart:
            found.clear()
        found.append(anchor)
    return found


def _parsed(lines: Iterable[bytes]) -> Iterable[tuple[Anchor, bool]]:
    """The anchors of the lines that were written whole, each with whether it begins anew."""
    for line in lines:
        try:
            text = json_object(line)
            anchor = Anchor(int(text["seq"]), bytes.fromhex(text["hash"]), instant_of_file(text["at"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            continue
        if anchor.seq >= 0:
            yield anchor, bool(text.get("restart"))
