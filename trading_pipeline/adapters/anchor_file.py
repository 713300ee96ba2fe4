"""Anchors: heads of the chain in a file beside the database, so that what is cut off or rewritten there is found here.

One line an anchor in `anchors.jsonl`, appended and fsynced. A last line that was not written to its end is left out: the anchor
before it stands.
"""

import json
import os
from pathlib import Path

from trading_pipeline.adapters.durable_files import storage_errors
from trading_pipeline.domain.events import instant_from, instant_text
from trading_pipeline.ports import Anchor


class AnchorFile:
    """`Anchors` in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def record(self, anchor: Anchor) -> None:
        """Append it durably, unless nothing has been added since the newest."""
        newest = self.newest()
        if newest is not None and anchor.seq <= newest.seq:
            return
        text = json.dumps({"seq": anchor.seq, "hash": anchor.hash.hex(), "at": instant_text(anchor.at)}) + "\n"
        with storage_errors("The anchor", self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab+") as file:
                file.seek(0, os.SEEK_END)
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    text = text if file.read(1) == b"\n" else "\n" + text
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())

    def all(self) -> list[Anchor]:
        """All of them, oldest first."""
        with storage_errors("The anchor", self._path):
            if not self._path.exists():
                return []
            lines = self._path.read_bytes().splitlines()
        return [anchor for line in lines if (anchor := _read(line)) is not None]

    def newest(self) -> Anchor | None:
        """The last one."""
        found = self.all()
        return found[-1] if found else None


def _read(line: bytes) -> Anchor | None:
    try:
        text = json.loads(line)
        return Anchor(int(text["seq"]), bytes.fromhex(text["hash"]), instant_from(text["at"]))
    except (ValueError, KeyError, TypeError):
        return None
