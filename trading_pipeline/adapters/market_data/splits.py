"""Split tables: the packaged one of the sample symbols, CSV files of one's own, and what a source knows as by symbol.

A CSV has the columns `symbol,session,ratio` (new shares for one old, such as `2` or `3/2`); lines that begin with `#` are notes.
"""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal, DivisionByZero, InvalidOperation
from importlib.resources import files
from pathlib import Path
from tempfile import NamedTemporaryFile

from trading_pipeline.domain.adjustments import Split
from trading_pipeline.errors import BarsError, StorageError


class SplitsBySymbol(Mapping[str, tuple[Split, ...]]):
    """The splits that a source knows at the moment of asking: one that learns of them has more the next time."""

    def __init__(self, known: Callable[[], Sequence[Split]]) -> None:
        """Ask `known` each time; a table that did not change is the same object."""
        self._known = known
        self._seen: Sequence[Split] = ()
        self._by_symbol: dict[str, tuple[Split, ...]] = {}

    def __getitem__(self, symbol: str) -> tuple[Split, ...]:
        return self._now()[symbol]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def _now(self) -> dict[str, tuple[Split, ...]]:
        known = self._known()
        if known is not self._seen:
            by_symbol: dict[str, tuple[Split, ...]] = {}
            for split in known:
                by_symbol[split.symbol] = (*by_symbol.get(split.symbol, ()), split)
            self._seen, self._by_symbol = known, by_symbol
        return self._by_symbol


def sample_splits() -> tuple[Split, ...]:
    """The splits inside the sample bars, 2000-03-01 to 2013-03-01."""
    text = files("trading_pipeline.adapters.market_data").joinpath("data/splits.csv").read_text("utf-8")
    return _parse(text, "the packaged split table")


def load_splits(path: Path) -> tuple[Split, ...]:
    """Splits from a CSV file, in order of session.

    Raises:
        BarsError: The file cannot be read, or a line is no split; the line is named.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BarsError(
            f"The split table {path} cannot be read: {error}.", value=str(path), rule="a split table is a UTF-8 CSV file",
            remedy="check the path and its permissions",
        ) from error
    return _parse(text, str(path))


def save_splits(path: Path, splits: Iterable[Split]) -> None:
    """Write a split table, whole or not at all.

    Raises:
        StorageError: The disk is full, read-only or not permitted.
    """
    lines = ["symbol,session,ratio", *(f"{each.symbol},{each.session},{each.ratio}" for each in splits)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", encoding="utf-8", delete=False) as stream:
            stream.write("\n".join(lines) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        Path(stream.name).replace(path)
    except OSError as error:
        raise StorageError(
            f"The split table {path} cannot be written: {error.strerror}.", value=str(path), rule="its folder is writable and has room",
            remedy="check free space and permissions",
        ) from error


def _parse(text: str, name: str) -> tuple[Split, ...]:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip() and not line.startswith("#")]
    rule, remedy = "columns are symbol,session,ratio", "write lines such as AAPL,2005-02-28,2"
    if not lines or [cell.strip() for cell in lines[0][1].split(",")] != ["symbol", "session", "ratio"]:
        raise BarsError(f"{name} has no header of a split table.", value=lines[0][1] if lines else "", rule=rule, remedy=remedy)
    found: dict[tuple[str, date], Split] = {}
    for (number, line), row in zip(lines[1:], csv.reader(line for _, line in lines[1:]), strict=True):
        try:
            symbol, session, ratio = (cell.strip() for cell in row)
            new, _, old = ratio.partition("/")
            split = Split(symbol.upper(), date.fromisoformat(session), Decimal(new) / Decimal(old or 1))
        except (ValueError, InvalidOperation, DivisionByZero) as error:
            raise BarsError(f"Line {number} of {name} is no split: {line!r}.", value=line, rule=rule, remedy=remedy) from error
        if (split.symbol, split.session) in found:
            raise BarsError(
                f"Line {number} of {name} repeats {split.symbol} {split.session}.", value=line, rule="a symbol splits once a session",
                remedy="remove one of the lines",
            )
        found[split.symbol, split.session] = split
    return tuple(sorted(found.values(), key=lambda each: (each.session, each.symbol)))
