"""What people and scripts see: aligned text for the one, JSON for the other, progress for a terminal only.

Text that came from a model, a broker or a file is foreign: it is stripped of control and bidirectional characters and is
never read as markup. Times are New York's, money is USD with separators. Nothing here asks the ledger anything.
"""

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trading_pipeline.domain.money import usd
from trading_pipeline.errors import TradingError

NEW_YORK = ZoneInfo("America/New_York")
"""Not `domain.sessions`': importing that brings numpy, which `trading --help` does not need."""
PIPE_WIDTH = 1000
"""Columns when nobody looks: tables are as wide as their content and nothing is wrapped or cut."""

_GOOD, _BAD, _WARN, _FAINT = "green", "red", "yellow", "dim"
_STYLES = {
    "running": _GOOD, "filled": _GOOD, "approved": _GOOD, "allow": _GOOD, "ok": _GOOD, "buy": _GOOD,
    "paused_user": _WARN, "paused_risk": _WARN, "not_ready": _WARN, "pending": _WARN, "unknown": _WARN, "exempt": _FAINT, "warn": _WARN,
    "not_applicable": _FAINT, "draft": _FAINT, "finished": _FAINT, "expired": _FAINT, "voided": _FAINT, "consumed": _FAINT,
    "emergency_stopped": _BAD, "denied": _BAD, "deny": _BAD, "halt": _BAD, "rejected": _BAD, "fail": _BAD, "sell": _BAD,
}

_WORDS = {"consumed": "acted on"}


def plain(text: object) -> str:
    """Foreign text as one harmless line: no control, bidirectional, or other invisible characters."""
    kept = []
    for character in str(text):
        category = unicodedata.category(character)
        if character in "\t\n\r\v\f" or category in ("Zl", "Zp"):
            kept.append(" ")
        elif not category.startswith("C"):
            kept.append(character)
    return "".join(kept)


def new_york(at: datetime | str, *, date: bool = True) -> str:
    """An instant on New York's wall clock: `2012-10-15 09:30:00`, or only the time."""
    instant = datetime.fromisoformat(at) if isinstance(at, str) else at
    return instant.astimezone(NEW_YORK).strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S")


def money(amount: Decimal | str) -> str:
    """`$1,234.50`."""
    return usd(Decimal(amount))


def gain(amount: Decimal | str) -> Text:
    """`+$12.00` in green, `-$3.00` in red."""
    value = Decimal(amount)
    return Text(f"+{usd(value)}" if value > 0 else usd(value), _GOOD if value > 0 else _BAD if value < 0 else "")


def price(amount: Decimal | str | None) -> str:
    """A price a share, to the cent or as finely as it is given: `$65.1025`; empty for None."""
    if amount is None:
        return ""
    value = Decimal(amount).normalize()
    digits = max(2, -int(value.as_tuple().exponent))
    return f"${value:,.{digits}f}"


def duration(seconds: float) -> str:
    """`4 min 12 s`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def counted(many: int, what: str) -> str:
    """`1 fill`, `2 fills`."""
    return f"{many:,} {what}{'' if many == 1 else 's'}"


def word(value: str) -> Text:
    """A state or outcome as people read it, in its colour: `paused_user` as `paused user`, `buy` as `BUY`."""
    shown = _WORDS.get(value) or plain(value).replace("_", " ")
    return Text(shown.upper() if value in ("buy", "sell") else shown, _STYLES.get(value, ""))


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table; only `wrap` columns give way on a narrow terminal."""

    title: str
    right: bool = False
    wrap: bool = False


class Output:
    """Where one command writes: answers to stdout, everything else to stderr."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        """Write JSON instead of text when `as_json`; leave notes and progress out when `quiet`."""
        self.as_json = as_json
        self.quiet = quiet
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    def answer(self, data: Any, text: Callable[[], None]) -> None:
        """Give the command's result: the data for scripts, or whatever `text` writes for people."""
        if self.as_json:
            self.json(data)
        else:
            text()

    def json(self, data: Any, *, compact: bool = False) -> None:
        """One JSON document, or one line of a stream of them."""
        rendered = json.dumps(data, indent=None if compact else 2, default=str, ensure_ascii=True)
        sys.stdout.write(rendered + "\n")
        sys.stdout.flush()

    def line(self, *parts: object, style: str = "") -> None:
        """One line; a Text keeps its style, anything else is foreign text."""
        self.out.print(_joined(parts, style), soft_wrap=True)

    def note(self, *parts: object, style: str = "") -> None:
        """A remark on stderr: what to do next, what is going on."""
        if not self.quiet and not self.as_json:
            self.err.print(_joined(parts, style), soft_wrap=True)

    def heading(self, text: str) -> None:
        """A line that stands out, after an empty one."""
        self.out.print()
        self.out.print(Text(plain(text), "bold"))

    def pairs(self, values: Mapping[str, object]) -> None:
        """Names and values, aligned; None is left out."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style=_FAINT, no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in values.items():
            if value is not None:
                grid.add_row(f"  {plain(name)}", _cell(value))
        self._print(grid)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[object]], *, empty: str = "None.") -> None:
        """Rows under headings; `empty` when there are none."""
        if not rows:
            self.line(empty)
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            table.add_column(column.title, justify="right" if column.right else "left", no_wrap=not column.wrap, overflow="fold")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        self._print(table)

    def _print(self, table: Table) -> None:
        """A table without the spaces that fill up its lines."""
        with self.out.capture() as captured:
            self.out.print(table)
        self.out.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def error(self, error: TradingError) -> None:
        """Three short lines: what, rule, remedy."""
        if self.as_json:
            sys.stderr.write(json.dumps(error.as_json() | {"exit_code": error.exit_code}, ensure_ascii=True) + "\n")
            return
        shown = error.message
        if error.value not in (None, "") and str(error.value) not in shown:
            shown = f"{shown} (value: {error.value})"
        self.err.print(_joined((Text("error   ", "bold red"), shown), ""), soft_wrap=True)
        for name, said in (("rule    ", error.rule), ("remedy  ", error.remedy)):
            if said:
                self.err.print(_joined((Text(name, _FAINT), said), ""), soft_wrap=True)

    @property
    def interactive(self) -> bool:
        """Whether a person can be asked: input and error output are terminals."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def ask(self, question: str) -> str:
        """What the person types, without surrounding space."""
        self.err.print(Text(f"{plain(question)} ", "bold"), end="", soft_wrap=True)
        sys.stderr.flush()
        try:
            return input().strip()
        except EOFError:
            return ""

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """A spinner on a terminal while something takes long; nothing on a pipe."""
        if self.quiet or self.as_json or not self.err.is_terminal:
            yield
            return
        with self.err.status(Text(plain(what))):
            yield

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar on a terminal, moved by calling what it yields; nothing on a pipe."""
        if self.quiet or self.as_json or not self.err.is_terminal:
            yield lambda: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        with Progress(TextColumn(plain(what)), BarColumn(), MofNCompleteColumn(), console=self.err, transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda: progress.advance(task)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    wide = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=wide)


def _cell(value: object) -> Text:
    return value if isinstance(value, Text) else Text(plain(value))


def _joined(parts: Sequence[object], style: str) -> Text:
    line = Text(style=style)
    for part in parts:
        line.append_text(_cell(part))
    return line
