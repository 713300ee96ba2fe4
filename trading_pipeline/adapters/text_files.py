"""Words from outside as files: `<home>/texts/SYMBOL/2026-03-05T1430-title.txt`, or `.md`, the time New York's.

The name says when a text was known; a date alone means the end of that day. What has no date is never told, nor anything dated after
the instant asked for: that would be a look ahead. Links are not followed, and number and size are bounded; what is left out for that,
`left_out` says. Whose words they are and what they want is no matter here: they are data.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final

from trading_pipeline.domain.bars import SYMBOL
from trading_pipeline.domain.outside_text import one_line
from trading_pipeline.domain.sessions import NEW_YORK

MAX_BYTES: Final = 16_384
"""Of one text; a longer one is told as far as that."""
MAX_FILES: Final = 20_000
"""Of one symbol's folder; whoever has more is told nothing rather than some of it."""
_NAME = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d)(\d\d))?(?:-(.*))?\.(?:txt|md)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Text:
    when: datetime
    title: str
    name: str


class TextFiles:
    """The texts of a home; a folder that is not there holds none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def about(self, symbol: str, until: datetime, most: int) -> list[tuple[str, datetime, str]]:
        """The newest `most` texts known by then, newest first: title, when, words."""
        known, _ = self._texts(symbol)
        told: list[tuple[str, datetime, str]] = []
        for text in sorted(known, key=lambda text: (text.when, text.name), reverse=True):
            if text.when <= until and len(told) < most and (words := _words(self._folder / symbol / text.name)) is not None:
                told.append((text.title, text.when, words))
        return told

    def left_out(self, symbol: str) -> list[str]:
        """Why files of a symbol's folder are never told, each in words."""
        known, why = self._texts(symbol)
        unreadable = [text.name for text in known if _words(self._folder / symbol / text.name) is None]
        return [*why, *(f"{one_line(name, 100)} is no plain file that can be read" for name in sorted(unreadable))]

    def _texts(self, symbol: str) -> tuple[list[_Text], list[str]]:
        """The dated files, and why the others are left out."""
        folder = self._folder / symbol
        if not SYMBOL.fullmatch(symbol) or folder.is_symlink() or not folder.is_dir():
            return [], [f"{folder} is a link"] if SYMBOL.fullmatch(symbol) and folder.is_symlink() else []
        texts: list[_Text] = []
        why: list[str] = []
        for count, name in enumerate(_names(folder)):
            if count >= MAX_FILES:
                return [], [f"{folder} has more than {MAX_FILES:,} files"]
            if (text := _dated(name)) is not None:
                texts.append(text)
            elif not name.startswith("."):
                why.append(f"{one_line(name, 100)} has no date in its name, such as 2026-03-05T1430-title.txt")
        return texts, sorted(why)


def _names(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.name
    except OSError:
        return


def _dated(name: str) -> _Text | None:
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    day, hour, minute, title = found.groups()
    try:
        on = date.fromisoformat(day)
        local = datetime.combine(on, time(int(hour), int(minute))) if hour else datetime.combine(on + timedelta(days=1), time())
        when = _in_new_york(local)
    except (ValueError, OverflowError):
        return None
    return _Text(when, one_line((title or "").replace("-", " ").replace("_", " "), 200), name)


def _in_new_york(local: datetime) -> datetime:
    """A wall clock's time as an instant; of an hour that comes twice, or never, the later reading: nothing is known too early."""
    return max(local.replace(tzinfo=NEW_YORK, fold=fold).astimezone(UTC) for fold in (0, 1))


def _words(path: Path) -> str | None:
    """The beginning of a plain file as text, what is no UTF-8 replaced; None for a link, a pipe or what cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return content.decode("utf-8", errors="replace")
