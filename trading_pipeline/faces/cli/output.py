"""What people and scripts see: aligned text for the one, JSON for the other, progress for a terminal only.

Text that came from a model, a broker or a file is foreign: it is stripped of control and bidirectional characters and is
never read as markup. Times are New York's and say so once an answer, money is USD with separators. A narrow terminal wraps
sentences and leaves out columns that can be spared; a cell is never cut. Nothing here asks the ledger anything.
"""

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trading_pipeline.domain.money import to_cents, usd
from trading_pipeline.domain.words import names, state_words
from trading_pipeline.errors import TradingError

NEW_YORK = ZoneInfo("America/New_York")
"""Not `domain.sessions`': importing that brings numpy, which `trading --help` does not need."""
PIPE_WIDTH = 1000
"""Columns when nobody looks: tables are as wide as their content and nothing is wrapped or cut."""
MOST_PADDED = 60
"""Columns that a remark is filled up to on a pipe."""
LEAST_WRAPPED = 14
"""Columns that a wrapped cell has at least, before columns that can be spared are left out."""

_GOOD, _BAD, _WARN, _FAINT = "green", "red", "yellow", "dim"
_STYLES = {
    "running": _GOOD, "filled": _GOOD, "approved": _GOOD, "allow": _GOOD, "ok": _GOOD, "buy": _GOOD, "passed": _GOOD,
    "paused_user": _WARN, "paused_risk": _WARN, "not_ready": _WARN, "pending": _WARN, "unknown": _WARN, "exempt": _FAINT, "warn": _WARN,
    "not_applicable": _FAINT, "draft": _FAINT, "finished": _FAINT, "expired": _FAINT, "voided": _FAINT, "consumed": _FAINT,
    "emergency_stopped": _BAD, "denied": _BAD, "deny": _BAD, "halt": _BAD, "rejected": _BAD, "fail": _BAD, "failed": _BAD, "sell": _BAD,
}

_PEOPLE = ("user:", "demo:", "backtest:")


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


_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(?:\.\d+)?(?:Z| UTC|\+00:00)")
_SAID_ZONE = re.compile(r"(\d\d:\d\d(?::\d\d(?:\.\d+)?)?) New York")


def in_new_york(text: str, *, said: bool = True) -> str:
    """A sentence with its UTC instants on New York's wall clock.

    Args:
        said: The answer names the zone elsewhere, so the sentence does not.
    """

    def local(found: re.Match[str]) -> str:
        at = datetime.fromisoformat(f"{found[1]}T{found[2]}{found[3] or ''}").replace(tzinfo=UTC).astimezone(NEW_YORK)
        return f"{at:%Y-%m-%d %H:%M:%S}" if found[3] else f"{at:%Y-%m-%d %H:%M}"

    if said:
        return _SAID_ZONE.sub(r"\1", _INSTANT.sub(local, text))
    return _INSTANT.sub(lambda found: f"{local(found)} New York", text)


_CODE = re.compile(r"\s*\((?:D\d+|T\d+|invariants? [\d, ]+|INVARIANT_\d+)\)|\bINVARIANT_\d+: ", re.IGNORECASE)


def uncoded(text: str) -> str:
    """A sentence without the ids of decisions and rules that stand in brackets, which only --json keeps."""
    return _CODE.sub("", text)


def money(amount: Decimal | str) -> str:
    """`$1,234.50`."""
    return usd(Decimal(amount))


def gain(amount: Decimal | str) -> Text:
    """`+$12.00` in green, `-$3.00` in red."""
    value = to_cents(Decimal(amount))
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


def countdown(seconds: float) -> str:
    """`00:04:12`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest:02}"


def counted(many: int, what: str) -> str:
    """`1 fill`, `2 fills`."""
    return f"{many:,} {what}{'' if many == 1 else 's'}"


def word(value: str) -> Text:
    """A state or outcome as people read it, in its colour: `paused_user` as `paused by a user`, `buy` as `BUY`."""
    shown = state_words(plain(value))
    return Text(shown.upper() if value in ("buy", "sell") else shown, _STYLES.get(value, ""))


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table; one of remarks (`wrap`) that has none is not shown.

    On a narrow terminal `wrap` columns give way, then the spare ones go, highest first; the others stay whole.
    """

    title: str
    right: bool = False
    wrap: bool = False
    spare: int = 0
    name: bool = False
    """It is what the row is about: on a pipe the rest stands aligned behind it, and where it wraps it is not said again below itself."""


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
        self.out.print(_flowed(self.out, _joined(parts, style)), soft_wrap=True)

    def verbatim(self, text: str) -> None:
        """A line that is never broken, such as a path to be copied."""
        self.out.print(Text(plain(text)), soft_wrap=True)

    def note(self, *parts: object, style: str = "") -> None:
        """A remark on stderr: what to do next, what is going on."""
        if not self.quiet and not self.as_json:
            self.err.print(_flowed(self.err, _joined(parts, style)), soft_wrap=True)

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
        cells = [[_cell(value) for value in row] for row in rows]
        filled = [max(cell_len(row[index].plain) for row in cells) for index in range(len(columns))]
        natural = {
            index: max(cell_len(column.title), filled[index])
            for index, column in enumerate(columns) if filled[index] or not column.wrap
        }
        if self.out.width >= PIPE_WIDTH:
            self._print_plainly(columns, natural, cells)
            return
        widths = _fitting(columns, natural, self.out.width)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", width=sum(widths.values()) + 2 * len(widths) - 2)
        for index, width in widths.items():
            column = columns[index]
            table.add_column(
                column.title, justify="right" if column.right else "left", no_wrap=not column.wrap, overflow="fold", width=width
            )
        wrapped = {index for index, width in widths.items() if columns[index].name and width < natural[index]}
        for above, row in zip([[], *cells], cells, strict=False):
            again = {index for index in wrapped if above and all(row[name].plain == above[name].plain for name in wrapped if name <= index)}
            table.add_row(*(Text() if index in again else row[index] for index in widths))
        self._print(table)

    def _print_plainly(self, columns: Sequence[Column], natural: Mapping[int, int], cells: Sequence[Sequence[Text]]) -> None:
        """A table for a pipe: aligned, but after a remark nothing is padded to the longest one."""
        heads = [Text(column.title, "bold") for column in columns]
        for row in (heads, *cells):
            line = Text()
            for index, width in natural.items():
                wide = min(width, MOST_PADDED) if columns[index].wrap and not columns[index].name else width
                space = " " * (wide - cell_len(row[index].plain))
                line.append(space if columns[index].right else "").append_text(row[index])
                line.append("  " if columns[index].right else f"{space}  ")
            line.rstrip()
            self.out.print(line, soft_wrap=True)

    def hanging(self, lead: str, body: Text) -> None:
        """A line whose text goes on under itself, beside its lead."""
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, width=cell_len(lead), style=_FAINT)
        grid.add_column(overflow="fold")
        grid.add_row(lead, body)
        self._print(grid)

    def _print(self, table: Table) -> None:
        """A table without the spaces that fill up its lines."""
        with self.out.capture() as captured:
            self.out.print(table, crop=False)
        self.out.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
        self.out.file.flush()

    def error(self, error: TradingError) -> None:
        """Three short lines: what, rule, remedy; under the first the place in an expression, if it is about one."""
        if self.as_json:
            sys.stderr.write(json.dumps(error.as_json() | {"exit_code": error.exit_code}, ensure_ascii=True) + "\n")
            return
        shown, _, place = error.message.partition("\n")
        if error.value not in (None, "") and not place and not names(shown, error.value):
            shown = f"{shown} (value: {error.value})"
        for name, style, said in (("error   ", "bold red", shown), ("rule    ", _FAINT, error.rule), ("remedy  ", _FAINT, error.remedy)):
            if said:
                line = _joined((Text(name, style), in_new_york(uncoded(said), said=False)), "")
                self.err.print(_flowed(self.err, line, len(name)), soft_wrap=True)
            if said is shown and place:
                self.err.print(Text("\n".join(_pointed(place.splitlines(), self.err.width))), soft_wrap=True)

    @property
    def interactive(self) -> bool:
        """Whether a person can be asked: input and error output are terminals."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def attended(self) -> bool:
        """Whether somebody is there: input is a terminal, wherever error output goes."""
        return sys.stdin.isatty()

    def ask(self, question: str, about: Sequence[str] = ()) -> str:
        """What the person types, without surrounding space; `about` is what they must see first, with --quiet and --json as well."""
        for told in about:
            self.err.print(_flowed(self.err, Text(plain(told))), soft_wrap=True)
        self.err.print(Text(f"{plain(question)} ", "bold"), end="", soft_wrap=True)
        sys.stderr.flush()
        with suppress(EOFError):
            return input().strip()
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


class Journal:
    """Facts in order of time: under their day and wrapped beside their time on a terminal, whole lines on a pipe."""

    def __init__(self, output: Output) -> None:
        """Write to an output; the first day says whose clock it is."""
        self._output = output
        self._day = ""

    def write(self, seq: int, at: datetime | str, fact: str, says: str, by: str = "", booked: datetime | str | None = None) -> None:
        """One fact, by the seq that `trading why` takes; `by` is said of people, `booked` where it is another time than `at`."""
        stamp, later = new_york(at), new_york(booked or at)
        who = (f"  by {plain(by)}", _FAINT) if by.startswith(_PEOPLE) else ""
        when = (f"  booked {later if later[:10] != stamp[:10] else later[11:]}", _FAINT) if later != stamp else ""
        body = Text.assemble((f"{fact:<21}", "bold"), f"  {plain(in_new_york(uncoded(says)))}", when, who)
        if self._output.out.width >= PIPE_WIDTH:
            self._output.line(f"{seq:>7}  {stamp}  ", body)
            return
        day, clock = stamp.split()
        if day != self._day:
            self._output.line(Text.assemble((day, "bold"), "" if self._day else "  New York time"))
            self._day = day
        self._output.hanging(f"{seq:>7}  {clock}", body)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    wide = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=wide)


def _flowed(console: Console, text: Text, indent: int = 0) -> Text:
    """Text broken between words for a terminal; a word longer than a line, such as a path, is left whole to be copied."""
    if console.width >= PIPE_WIDTH:
        return text
    breaks, begin, room = [], 0, console.width
    for each in re.finditer(r"\S+", text.plain):
        if each.start() > begin and cell_len(text.plain[begin : each.end()]) > room:
            breaks.append(each.start())
            begin, room = each.start(), console.width - indent
    lines = text.divide(breaks)
    for line in lines:
        line.rstrip()
    return Text("\n" + " " * indent).join(lines)


def _fitting(columns: Sequence[Column], natural: Mapping[int, int], room: int) -> dict[int, int]:
    """The width of each column that is shown, by its index, of those that have something to show."""
    kept = list(natural)

    def least(index: int) -> int:
        return min(natural[index], LEAST_WRAPPED) if columns[index].wrap else natural[index]

    while sum(map(least, kept)) + 2 * (len(kept) - 1) > room and any(columns[index].spare for index in kept):
        kept.remove(max(kept, key=lambda index: columns[index].spare))
    widths = {index: natural[index] for index in kept}
    wrapped = sorted((index for index in kept if columns[index].wrap), key=lambda index: natural[index])
    left = room - 2 * (len(kept) - 1) - sum(natural[index] for index in kept if not columns[index].wrap)
    for done, index in enumerate(wrapped):
        widths[index] = max(least(index), min(natural[index], left // (len(wrapped) - done)))
        left -= widths[index]
    return widths


def _pointed(lines: Sequence[str], width: int) -> list[str]:
    """An expression and the caret under its place, as much of both as fits on one line each."""
    if len(lines) != 2:
        return [plain(line) for line in lines]
    text, caret = plain(lines[0]), lines[1].index("^")
    begin = max(0, min(caret - width // 2, max(len(text), caret + 1) - width))
    return [text[begin : begin + width], " " * (caret - begin) + "^"]


def _cell(value: object) -> Text:
    return value if isinstance(value, Text) else Text(plain(value))


def _joined(parts: Sequence[object], style: str) -> Text:
    line = Text(style=style)
    for part in parts:
        line.append_text(_cell(part))
    return line
