"""What tells that a home is no longer what a process opened: its settings, its market and its split table.

Looked at by size and time of change, which a process can afford each second. Used by whoever keeps something opened: the
desk of the sensors, and the launcher's parent, which watches its code beside this.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

Stamps = Mapping[str, tuple[int, int]]


def home_state(home: Path) -> Stamps:
    """(time of change, size) of each file that is there; a home that has changed has another state."""
    settings = (Path(".env").absolute(), home / "trading.toml", home / "splits.csv")
    return stamps((*settings, *(home / "market").rglob("*")))


def stamps(paths: tuple[Path, ...]) -> Stamps:
    """(time of change, size) of those paths that exist."""
    found: dict[str, tuple[int, int]] = {}
    for path in paths:
        with suppress(FileNotFoundError):
            stat = path.stat()
            found[str(path)] = stat.st_mtime_ns, stat.st_size
    return found
