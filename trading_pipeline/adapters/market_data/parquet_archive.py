"""The bar archive: unadjusted closed bars as Parquet files, kept for good.

    <root>/<interval>/<SYMBOL>/<session>.parquet    intraday, one file a session
    <root>/1d/<SYMBOL>/<year>.parquet               daily, one file a year: 500 bars are two or three files, and an
                                                    append rewrites at most 253 rows

A file is replaced whole (temporary file, fsync, rename), so a reader sees the old or the new one and needs no lock; writers of one
symbol and interval take turns on a lock file. Files read are remembered by size and time of change. Without pandas.
"""

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from trading_pipeline.adapters.durable_files import take_lock
from trading_pipeline.domain.bar_quality import faults, findings
from trading_pipeline.domain.bars import COLUMNS, SYMBOL, BarTable, Interval, session_key
from trading_pipeline.errors import BarsError, StorageError
from trading_pipeline.ports import Appended

_SUFFIX = ".parquet"
_REMEMBERED_ROWS = 1_500_000
"""Some 84 MB of columns."""
_FORMAT = b"1"
_WRITERS = 8
LOCK_SECONDS = 60.0
"""An import of years of sessions holds a symbol's lock for as long as its files take to reach the disk."""

_Stamp = tuple[int, int, int]


class ParquetArchive:
    """Bars on disk behind the BarArchive port; safe for several threads and processes."""

    def __init__(self, root: Path) -> None:
        """Use a folder; it is made with the first append."""
        self.root = root
        self._remembered: OrderedDict[Path, tuple[_Stamp, BarTable]] = OrderedDict()
        self._rows = 0
        self._guard = threading.Lock()

    def append(self, table: BarTable) -> Appended:
        """Add bars; a bar that is there already is unchanged if equal and replaced if not.

        Raises:
            BarsError: A bar breaks a rule of `bar_quality`, or the symbol cannot name a folder; nothing was written.
            StorageError: The disk is full, read-only or not permitted, or another writer does not let go; files of earlier sessions may
                have been written.
        """
        folder = self._folder(table.symbol, table.interval)
        wrong = findings(table, faults(table))
        if wrong:
            raise BarsError(
                f"Bars of {table.symbol} {table.interval} cannot be archived; {wrong[0].sentence}.", value=wrong[0].rule,
                rule="the archive holds sane bars only", remedy="import them with `trading bars import`, which reports and drops bad bars",
            )
        if not len(table):
            return Appended(0, 0, 0)
        added = replaced = unchanged = 0
        keys = table.session_days.astype("datetime64[Y]") if table.interval.daily else table.session_days
        edges = [0, *(np.flatnonzero(keys[1:] != keys[:-1]) + 1).tolist(), len(table)]
        with _storage(folder, "written"):
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / ".lock"):
                for first, last in pairwise(edges):
                    path = folder / f"{keys[first]}{_SUFFIX}"
                    offered = table.rows(first, last)
                    held = self._load(path, table.symbol, table.interval) if path.exists() else table.rows(0, 0)
                    merged, new, other = _merge(held, offered)
                    added, replaced, unchanged = added + new, replaced + other, unchanged + len(offered) - new - other
                    if new or other:
                        write_table(path, merged)
                        self._remember(path, _stamp(path), merged)
        return Appended(added, replaced, unchanged)

    def append_many(self, tables: Sequence[BarTable]) -> list[Appended]:
        """`append` for many tables at once: a cycle of 500 symbols waits for 500 files to reach the disk, which threads do together."""
        if len(tables) < _WRITERS:
            return [self.append(table) for table in tables]
        with ThreadPoolExecutor(_WRITERS) as pool:
            return list(pool.map(self.append, tables))

    def read(self, symbol: str, interval: Interval, *, until: datetime, count: int | None = None) -> BarTable:
        """The newest `count` bars (all when None) that have closed by `until`; empty when there are none."""
        folder = self._folder(symbol, interval)
        limit = until.astimezone(UTC).date()
        newest = str(limit.year) if interval.daily else session_key(limit)
        parts: list[BarTable] = []
        rows = 0
        with _storage(folder, "read"):
            for name in reversed(_names(folder)):
                if name > newest:
                    continue
                part = self._load(folder / f"{name}{_SUFFIX}", symbol, interval)
                if name == newest:
                    part = part.until(until)
                parts.append(part)
                rows += len(part)
                if count is not None and rows >= count:
                    break
        if not parts:
            return BarTable.empty(symbol, interval)
        whole = parts[0] if len(parts) == 1 else _concatenated(parts[::-1])
        return whole if count is None else whole.tail(count)

    def read_many(
        self, symbols: Sequence[str], interval: Interval, *, until: datetime, count: int | None = None,
    ) -> dict[str, BarTable]:
        """`read` for many symbols at once."""
        return {symbol: self.read(symbol, interval, until=until, count=count) for symbol in symbols}

    def symbols(self, interval: Interval | None = None) -> tuple[str, ...]:
        """What it holds, sorted."""
        found: set[str] = set()
        with _storage(self.root, "read"):
            for each in Interval if interval is None else (interval,):
                folder = self.root / each.value
                if folder.is_dir():
                    found.update(entry.name for entry in folder.iterdir() if entry.is_dir() and _names(entry))
        return tuple(sorted(found))

    def sessions(self, symbol: str, interval: Interval) -> tuple[date, ...]:
        """The sessions it holds bars of, in order."""
        folder = self._folder(symbol, interval)
        with _storage(folder, "read"):
            names = _names(folder)
            if not interval.daily:
                return tuple(date.fromisoformat(name) for name in names)
            tables = [self._load(folder / f"{name}{_SUFFIX}", symbol, interval) for name in names]
        return tuple(day for table in tables for day in table.session_days.astype(object))

    def _folder(self, symbol: str, interval: Interval) -> Path:
        if not SYMBOL.fullmatch(symbol):
            raise BarsError(
                f"{symbol!r} is no symbol.", value=symbol, rule="a symbol is 1 to 16 of A-Z, 0-9, dot and hyphen",
                remedy="write it as the exchange does, such as BRK.B",
            )
        return self.root / interval.value / symbol

    def _load(self, path: Path, symbol: str, interval: Interval) -> BarTable:
        stamp = _stamp(path)
        with self._guard:
            known = self._remembered.get(path)
            if known is not None and known[0] == stamp:
                self._remembered.move_to_end(path)
                return known[1]
        table = read_table(path, symbol, interval)
        self._remember(path, stamp, table)
        return table

    def _remember(self, path: Path, stamp: _Stamp, table: BarTable) -> None:
        with self._guard:
            before = self._remembered.pop(path, None)
            self._rows += len(table) - (len(before[1]) if before else 0)
            self._remembered[path] = (stamp, table)
            while self._rows > _REMEMBERED_ROWS and len(self._remembered) > 1:
                _, (_, oldest) = self._remembered.popitem(last=False)
                self._rows -= len(oldest)


def _stamp(path: Path) -> _Stamp:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _names(folder: Path) -> list[str]:
    """Sessions or years with a file, sorted."""
    try:
        entries = os.listdir(folder)  # noqa: PTH208 -- several times faster than iterdir, and read_many does it 500 times
    except FileNotFoundError:
        return []
    return sorted(name.removesuffix(_SUFFIX) for name in entries if name.endswith(_SUFFIX) and not name.startswith("."))


def _merge(held: BarTable, offered: BarTable) -> tuple[BarTable, int, int]:
    """The union in order of start, how many bars are new, and how many had other values."""
    if not len(held):
        return offered, len(offered), 0
    at = np.minimum(np.searchsorted(held.start, offered.start), len(held) - 1)
    known = held.start[at] == offered.start
    same = known.copy()
    for name in COLUMNS:
        same &= getattr(held, name)[at] == getattr(offered, name)
    new, other = int((~known).sum()), int((known & ~same).sum())
    if not new and not other:
        return held, 0, 0
    kept = np.ones(len(held), np.bool_)
    kept[at[known]] = False
    union = _concatenated([held.where(kept), offered])
    return union.where(np.argsort(union.start, kind="stable")), new, other


def _concatenated(parts: Sequence[BarTable]) -> BarTable:
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    return BarTable(parts[0].symbol, parts[0].interval, **columns)


def write_table(path: Path, table: BarTable) -> None:
    """Write bars as one Parquet file: whole and on the disk, or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stamps = pa.timestamp("ns", tz="UTC")
    columns = {name: pa.array(getattr(table, name)) for name in COLUMNS}
    columns.update({name: columns[name].cast(stamps) for name in ("start", "end")})
    rows = pa.table(columns).replace_schema_metadata({"symbol": table.symbol, "interval": table.interval.value, "format": _FORMAT})
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            pq.write_table(rows, stream, compression="zstd", use_dictionary=False, store_schema=True)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_table(path: Path, symbol: str, interval: Interval) -> BarTable:
    """The bars of one Parquet file; BarsError if it is not whole, not sane or another symbol's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = path.read_bytes()
    try:
        rows = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
        metadata = rows.schema.metadata or {}
        said = (metadata.get(b"symbol"), metadata.get(b"interval"), metadata.get(b"format"))
        if said != (symbol.encode(), interval.value.encode(), _FORMAT):
            raise _broken(path, f"it says that it holds {said}")
        columns: dict[str, Any] = {name: _numbers(rows[name], instants=name in ("start", "end")) for name in COLUMNS}
    except (pa.ArrowException, KeyError, OSError) as error:
        raise _broken(path, str(error).splitlines()[0]) from error
    table = BarTable(symbol, interval, **columns)
    wrong = findings(table, faults(table))
    if wrong:
        raise _broken(path, wrong[0].sentence)
    return table


def _numbers(column: Any, *, instants: bool) -> Any:
    """A column's own memory as numpy sees it, where the file is as we write it: a tenth of the time of a conversion."""
    import pyarrow as pa

    if column.num_chunks == 1 and not column.null_count and column.type == (pa.timestamp("ns", "UTC") if instants else pa.float64()):
        values = column.chunk(0)
        return np.frombuffer(values.buffers()[1], np.int64 if instants else np.float64, len(values), 8 * values.offset)
    return column.cast(pa.int64() if instants else pa.float64()).to_numpy()


def _broken(path: Path, why: str) -> BarsError:
    return BarsError(
        f"The archive file {path} cannot be used: {why}.", value=str(path),
        rule="an archive file holds sane bars of its symbol and interval",
        remedy="move the file away and fetch or import its bars again; no other file is affected",
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as stream:
        take_lock(stream, path, LOCK_SECONDS)
        yield


@contextmanager
def _storage(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise StorageError(
            f"The bar archive cannot be {done} at {where}: {error.strerror or error}.", value=str(where),
            rule="the archive folder is readable and writable and its disk has room",
            remedy="check free space and permissions, then try again",
        ) from error
