"""What a long sweep has played, in a file of JSON lines: after an interruption it goes on where it was.

A run begins with a line that names its commit, and adds one line a round. A file belongs to one commit, since figures of two would
say nothing about either, and to one run at a time. A line that was being written when its run was killed is cut off; its round is
played again, as is every round that had not ended.
"""

import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.evidence.crashing.rounds import Sweep
from tests.evidence.crashing.workers import Played
from trading_pipeline.errors import SettingsError


@dataclass
class Kept:
    """Rounds played by this run and by those before it."""

    told: Sweep = field(default_factory=Sweep)
    played: dict[int, list[str]] = field(default_factory=dict)
    """Seeds, with what was found wrong."""
    runs: int = 0
    earlier: float = 0.0
    """Seconds of the runs before this one, each until the end of its last round."""
    began: float = field(default_factory=time.monotonic)
    file: IO[str] | None = None

    @property
    def seconds(self) -> float:
        """Of all runs."""
        return self.earlier + time.monotonic() - self.began

    def add(self, played: Played) -> None:
        """Count a round, and write it down."""
        self._count(played)
        tally = {name: value for name, value in vars(played.tally).items() if value}
        self._write({"seed": played.seed, "at": round(time.monotonic() - self.began, 1), "wrong": played.wrong, "tally": tally})

    def _count(self, played: Played) -> None:
        self.told.add(played.tally)
        self.played[played.seed] = played.wrong

    def _write(self, line: dict[str, Any]) -> None:
        if self.file is not None:
            self.file.write(f"{json.dumps(line)}\n")
            self.file.flush()

    def _read(self, path: Path, commit: str) -> None:
        last = 0.0
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if "commit" in line:
                if line["commit"] != commit:
                    raise SettingsError(
                        f"{path} was kept by another commit ({line['commit'] or 'unknown'}, this is {commit or 'unknown'}).", value=path,
                        rule="figures are those of one commit", remedy="check that commit out, or keep another file",
                    )
                self.earlier, last, self.runs = self.earlier + last, 0.0, self.runs + 1
            else:
                last = line["at"]
                self._count(Played(line["seed"], _tally(line["tally"]), line["wrong"]))
        self.earlier += last


@contextmanager
def kept(path: Path | None, commit: str) -> Iterator[Kept]:
    """What the file has, and room for more; without one, what is played is kept nowhere.

    Raises:
        SettingsError: The file is another commit's, or another run writes it.
    """
    rounds = Kept()
    with ExitStack() as stack:
        if path is not None:
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
            _have_alone(file, path)
            _cut_off_half_a_line(path)
            rounds._read(path, commit)
            rounds.file = file
            rounds._write({"commit": commit})
        rounds.runs += 1
        yield rounds


def _tally(values: dict[str, Any]) -> Sweep:
    fields: dict[str, Any] = {name: Counter(value) if isinstance(value, dict) else value for name, value in values.items()}
    return Sweep(**fields)


def _have_alone(file: IO[str], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SettingsError(
            f"Another run keeps {path}.", value=path, rule="one run at a time", remedy="let it end, stop it, or keep another file",
        ) from None


def _cut_off_half_a_line(path: Path) -> None:
    os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
