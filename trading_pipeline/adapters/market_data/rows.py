"""Reading a bars file into named columns of text: CSV in the usual layouts, and Parquet.

Columns are recognised by the names vendors use; two columns for one role are refused, since either could be meant. Text stays
text here: what a stamp or a number means is decided where a wrong one can be counted.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trading_pipeline.adapters.market_data.cleaning import Account, Note
from trading_pipeline.domain.bars import Floats, Instants
from trading_pipeline.errors import BarsError

SUFFIXES = (".csv.gz", ".csv", ".parquet")
TIME_NAMES = ("timestamp", "datetime", "date_time", "date", "time", "session", "t", "ts")
NAMES = {
    "open": ("open", "o", "open_price"),
    "high": ("high", "h", "high_price"),
    "low": ("low", "l", "low_price"),
    "close": ("close", "c", "last", "close_price"),
    "volume": ("volume", "vol", "v"),
}
MOST_BYTES = 512 << 20
"""Of a CSV file, unpacked: minutes of thirty years, and about 5 GB of memory while it is read. A packed megabyte may hold a thousand."""
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2})?(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Rows:
    """Cells by role and time columns by name, all of one length, with each row's line in the file."""

    columns: Mapping[str, Sequence[str]]
    times: Mapping[str, Sequence[str]]
    lines: Instants


def read_rows(file: Path, account: Account, mapping: Mapping[str, str]) -> Rows:
    """Read a file and find its columns.

    Args:
        mapping: Column by role for columns that are not recognised.

    Raises:
        BarsError: Unreadable, empty, or without exactly one column for each role.
    """
    header, cells, lines = _parquet(file) if file.name.endswith(".parquet") else _csv(file, account)
    account.read = len(lines) + sum(note.rows for note in account.dropped)
    if not len(lines):
        raise BarsError(f"{file.name} has no rows.", value=file.name, rule="a bars file has rows", remedy="get the file again")
    wrong = sorted(set(mapping) - {*NAMES, "time"}) + [name for name in mapping.values() if name not in header]
    if wrong:
        raise BarsError(
            f"{wrong[0]!r} of the column mapping is not there.", value=wrong[0],
            rule=f"roles are time, {', '.join(NAMES)}; columns of {file.name} are {', '.join(header)}", remedy="correct --column",
        )
    known = [name.strip().lower().replace(" ", "_") for name in header]
    columns = {role: cells[_column(role, header, known, mapping, file)] for role in NAMES}
    times = _time_columns(header, known, cells, mapping)
    if not times:
        raise BarsError(
            f"{file.name} has no time column among {', '.join(header)}.", value=",".join(header),
            rule=f"time is one of {', '.join(TIME_NAMES)}", remedy="name it: `trading bars import --column time=NAME`",
        )
    _check_symbol(known, cells, account)
    return Rows(columns, times, lines)


def numbers(values: Sequence[str]) -> Floats:
    """Cells as float64, NaN for what is no number."""
    try:
        return np.array(values, np.float64)
    except ValueError:
        return np.array([_number(value) for value in values], np.float64)


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")


def _column(role: str, header: Sequence[str], known: Sequence[str], mapping: Mapping[str, str], file: Path) -> int:
    if role in mapping:
        return header.index(mapping[role])
    found = [index for index, name in enumerate(known) if name in NAMES[role]]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(header[index] for index in found)
        raise BarsError(
            f"{file.name} has {len(found)} columns for {role}: {names}.", value=names, rule="one column has each role",
            remedy=f"say which: `trading bars import --column {role}={header[found[0]]}`; or bring the file into one set of columns",
        )
    raise BarsError(
        f"{file.name} has no column for {role} among {', '.join(header)}.", value=",".join(header),
        rule="bars have open, high, low, close and volume",
        remedy=f"name it: `trading bars import --column {role}=NAME`; or use a file that has it",
    )


def _time_columns(
    header: Sequence[str], known: Sequence[str], cells: Sequence[Sequence[str]], mapping: Mapping[str, str]
) -> dict[str, Sequence[str]]:
    if "time" in mapping:
        return {mapping["time"]: cells[header.index(mapping["time"])]}
    found = {name: index for index, name in enumerate(known) if name in TIME_NAMES}
    if {"date", "time"} <= found.keys() and all(_CLOCK.fullmatch(value) for value in cells[found["time"]]):
        together = [f"{day} {clock}" for day, clock in zip(cells[found["date"]], cells[found["time"]], strict=True)]
        return {f"{header[found['date']]} {header[found['time']]}": together}
    return {header[found[name]]: cells[found[name]] for name in TIME_NAMES if name in found}


def _check_symbol(known: Sequence[str], cells: Sequence[Sequence[str]], account: Account) -> None:
    for index, name in enumerate(known):
        if name in ("symbol", "ticker"):
            others = {value.strip().upper() for value in cells[index]} - {account.symbol, ""}
            if others:
                raise BarsError(
                    f"{account.file} holds rows of {min(others)}.", value=min(others),
                    rule=f"a file of that name holds {account.symbol} only", remedy="write one file a symbol, named after it",
                )


def _csv(file: Path, account: Account) -> tuple[list[str], list[Sequence[str]], Instants]:
    try:
        with gzip.open(file) if file.name.endswith(".gz") else file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise BarsError(
                f"{file.name} is too large.", value=str(file), rule=f"a CSV file has at most {MOST_BYTES >> 20} MiB, unpacked",
                remedy="split it by year, or save it as Parquet",
            )
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _unreadable(file, error) from error
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    try:
        numbered = [(reader.line_num, row) for row in reader if row and (row[0].strip() or any(cell.strip() for cell in row))]
    except csv.Error as error:
        raise _unreadable(file, error) from error
    if not numbered:
        raise BarsError(f"{file.name} is empty.", value=file.name, rule="a bars file has a header and rows", remedy="get the file again")
    header, body = [cell.strip() for cell in numbered[0][1]], numbered[1:]
    header, body = _without_ticker_rows(header, body, account)
    ragged = [number for number, row in body if len(row) != len(header)]
    if ragged:
        account.dropped.append(Note("wrong number of cells", len(ragged), tuple(f"line {number}" for number in ragged[:3])))
        account.broken += len(ragged)
        body = [(number, row) for number, row in body if len(row) == len(header)]
    cells: list[Sequence[str]] = list(zip(*(row for _, row in body), strict=True)) if body else [() for _ in header]
    return header, cells, np.array([number for number, _ in body], np.int64)


def _without_ticker_rows(
    header: list[str], body: list[tuple[int, list[str]]], account: Account
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Undo the three header rows that pandas writes for yfinance's two-level columns: Price, Ticker, then the index's name."""
    if len(body) < 2 or header[0] != "Price" or body[0][1][0] != "Ticker":
        return header, body
    tickers = {cell.strip().upper() for cell in body[0][1][1:]}
    if tickers != {account.symbol}:
        raise BarsError(
            f"{account.file} has columns of {', '.join(sorted(tickers))}.", value=",".join(sorted(tickers)),
            rule=f"a file of that name holds {account.symbol} only", remedy="write one file a symbol, named after it",
        )
    account.repaired.append(Note("three header rows read as one", 2, tuple(f"line {number}" for number, _ in body[:2])))
    return [body[1][1][0].strip(), *header[1:]], body[2:]


def _parquet(file: Path) -> tuple[list[str], list[Sequence[str]], Instants]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file).read()
        cells: list[Sequence[str]] = [
            ["" if value is None else value for value in column.cast(pa.string()).to_pylist()] for column in table.columns
        ]
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error
    return list(table.column_names), cells, np.arange(1, table.num_rows + 1, dtype=np.int64)


def _unreadable(file: Path, error: Exception) -> BarsError:
    return BarsError(
        f"{file} cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}.", value=str(file),
        rule="a bars file is UTF-8 CSV (may be gzipped) or Parquet, and whole", remedy="get the file again, or save it in such a format",
    )
