"""Bars files of one's own: a folder of CSV, CSV.gz or Parquet files, read, cut to regular hours, checked, and told of.

The symbol is the file's name up to the first underscore (`NVDA_2024-08.csv.gz`); several files of one symbol and interval are
merged session by session. A file is used, used with repairs that its report names, or refused; it is never used in silence.
Prices are taken as the file has them: files that hold splits say so in a `splits.csv` beside them (see `splits`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from trading_pipeline.adapters.market_data import stamps
from trading_pipeline.adapters.market_data.cleaning import Account, ImportReport, RawBars, clean, merge
from trading_pipeline.adapters.market_data.rows import SUFFIXES, Rows, numbers, read_rows
from trading_pipeline.adapters.market_data.splits import load_splits
from trading_pipeline.adapters.market_data.stamps import DateOrder, Stamp, Stamps
from trading_pipeline.adapters.market_data.table_market import SPREAD, TableMarket
from trading_pipeline.domain.bars import SYMBOL, BarTable, Floats, Instants, Interval
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.errors import BarsError

SPLITS = "splits.csv"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a person says about files whose rows do not tell; None is to be inferred, and refused where it cannot be."""

    interval: Interval | None = None
    timezone: str | None = None
    """IANA zone of stamps without an offset."""
    stamp: Stamp | None = None
    date_order: DateOrder | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column of the file by role: time, open, high, low, close, volume."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What a folder gave: one table a symbol and interval, one report a file, refused ones included."""

    tables: tuple[BarTable, ...]
    reports: tuple[ImportReport, ...]
    notes: tuple[str, ...]

    @property
    def refused(self) -> tuple[ImportReport, ...]:
        """Reports of files that were not used."""
        return tuple(report for report in self.reports if report.refused)


class FileMarket(TableMarket):
    """A folder of bars files behind the MarketData port; `reports` and `notes` say what became of every file."""

    def __init__(
        self, folder: Path, calendar: TradingCalendar, interval: Interval | None = None, *, options: ImportOptions | None = None,
        skip_refused: bool = False, spread: Decimal = SPREAD, symbols: Collection[str] | None = None,
        instead: str = "take the file out of the folder",
    ) -> None:
        """Read the folder.

        Args:
            folder: A folder, or one file.
            interval: Short for `options.interval`.
            skip_refused: Go on with the other files when some are refused.
            symbols: Read the files of these alone; None reads all.
            instead: What else can be done about a refused file, after what mends the file itself.

        Raises:
            BarsError: No bars file, none usable, or one refused without `skip_refused`.
        """
        options = options or ImportOptions()
        imported = import_files(folder, calendar, options if interval is None else replace(options, interval=interval), symbols)
        refused = imported.refused
        if refused and (not skip_refused or not imported.tables):
            first = refused[0].error
            assert first is not None
            others = f" {len(refused) - 1} more of {len(imported.reports)} files are refused." if len(refused) > 1 else ""
            remedy = f"{first.remedy}; or {instead}"
            raise BarsError(f"{first.message}{others}", value=first.value, rule=first.rule, remedy=remedy) from first
        beside = (folder if folder.is_dir() else folder.parent) / SPLITS
        super().__init__(
            "files", imported.tables, calendar, splits=load_splits(beside) if beside.exists() else (), spread=spread
        )
        self.reports = imported.reports
        self.notes = imported.notes


def import_files(
    path: Path, calendar: TradingCalendar, options: ImportOptions, symbols: Collection[str] | None = None,
) -> Imported:
    """Read a folder's bars files (not those of its folders), or one file; of some symbols or, when None, of all.

    Raises:
        BarsError: There is no bars file. A file that cannot be used is a refused report, not an exception.
    """
    found: dict[tuple[str, Interval], list[tuple[str, BarTable]]] = {}
    reports: list[ImportReport] = []
    notes: list[str] = []
    for file in bars_files(path):
        if symbols is not None and symbol_of(file) not in symbols:
            continue
        table, report = import_file(file, calendar, options)
        reports.append(report)
        if table is not None:
            found.setdefault((table.symbol, table.interval), []).append((file.name, table))
    tables = []
    for (symbol, interval), parts in sorted(found.items()):
        table, decided = merge(parts)
        tables.append(table)
        notes.extend(f"{symbol} {interval}: {note}" for note in decided)
    return Imported(tuple(tables), tuple(reports), tuple(notes))


def bars_files(path: Path) -> tuple[Path, ...]:
    """The bars files of a folder by name, or the one file given.

    Raises:
        BarsError: The path does not exist, cannot be read, or holds none.
    """
    rule = f"bars are files named SYMBOL or SYMBOL_anything with {', '.join(SUFFIXES)}"
    try:
        if path.is_file():
            return (path,)
        entries = sorted(path.iterdir())
    except OSError as error:
        raise BarsError(
            f"{path} cannot be read: {error.strerror}.", value=str(path), rule=rule, remedy="give a folder of bars files"
        ) from error
    files = tuple(entry for entry in entries if entry.is_file() and entry.name.endswith(SUFFIXES) and entry.name != SPLITS)
    if files:
        return files
    inner = [entry.name for entry in entries if entry.is_dir() and any(each.name.endswith(SUFFIXES) for each in entry.iterdir())]
    remedy = f"give one of its folders: {', '.join(inner)}" if inner else "put bars files there, or give another folder"
    raise BarsError(f"{path} holds no bars file.", value=str(path), rule=rule, remedy=remedy)


def import_file(file: Path, calendar: TradingCalendar, options: ImportOptions) -> tuple[BarTable | None, ImportReport]:
    """One file as a table, or None when it is refused, and its report; never raises for what the file holds."""
    account = Account(file.name, symbol_of(file))
    try:
        table = _import(file, calendar, options, account)
    except BarsError as error:
        return None, account.refuse(error)
    return table, account.close(table, calendar)


def symbol_of(file: Path) -> str:
    """The file's name without its ending, up to the first underscore, in capitals."""
    name = file.name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name.split("_", 1)[0].upper()


def _import(file: Path, calendar: TradingCalendar, options: ImportOptions, account: Account) -> BarTable:
    if not SYMBOL.fullmatch(account.symbol):
        raise BarsError(
            f"The name of {file.name} has no symbol.", value=account.symbol, rule="a file is named SYMBOL or SYMBOL_anything",
            remedy="rename it, such as BRK.B_2024.csv",
        )
    rows = read_rows(file, account, options.columns)
    times, name = _times(rows, options, account)
    columns = [numbers(rows.columns[role]) for role in ("open", "high", "low", "close", "volume")]
    raw = RawBars(times.ns, columns[0], columns[1], columns[2], columns[3], columns[4], rows.lines)
    unread = [rows.times[name][index] for index in np.flatnonzero(~times.valid)[:3]]
    account.drop(f"no instant in column {name}", raw.where(~times.valid), broken=True, said=unread)
    raw = raw.where(times.valid)
    times = replace(times, ns=times.ns[times.valid], valid=times.valid[times.valid])
    if not len(raw):
        raise BarsError(
            f"{file.name} has no row with an instant in column {name}.", value=name, rule="every row has a time",
            remedy="import it with `trading bars import --column time=NAME`",
        )
    if len(times.formats) > 1:
        account.notes.append(f"stamps are written in {len(times.formats)} ways: {', '.join(times.formats)}")
    interval = options.interval or stamps.infer_interval(times.ns, file.name)
    account.interval = interval
    stamps.check_interval(times.ns, interval, file.name)
    start = stamps.session_midnights(times) if interval.daily else _starts(times, raw.volume, interval, calendar, options, account)
    return clean(replace(raw, start=start), interval, calendar, account)


def _times(rows: Rows, options: ImportOptions, account: Account) -> tuple[Stamps, str]:
    """The instants of the first time column that has one in nearly every row, and its name."""
    read: list[tuple[float, str, Stamps]] = []
    for name, values in rows.times.items():
        parsed = stamps.parse(values, options.date_order, account.file)
        read.append((float(parsed.valid.mean()) if len(values) else 0.0, name, parsed))
    share, name, parsed = max(read, key=lambda each: each[0])
    for other_share, other, _ in read:
        if other not in (name, "session"):
            account.notes.append(f"time is column {name} ({share:.0%} instants), column {other} ({other_share:.0%}) is not used")
    return parsed, name


def _starts(
    times: Stamps, volume: Floats, interval: Interval, calendar: TradingCalendar, options: ImportOptions, account: Account
) -> Instants:
    """UTC starts of intraday rows."""
    at = times.ns
    if not times.aware:
        zone = options.timezone
        if zone is None:
            zone = stamps.find_zone(at, volume, interval, calendar, account.file)
            account.notes.append(f"stamps have no offset; regular hours and volume show that they are {zone}")
        try:
            at = stamps.to_utc(at, ZoneInfo(zone))
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise BarsError(
                f"{zone!r} is no time zone.", value=zone, rule="zones have IANA names", remedy="write one such as America/New_York"
            ) from error
    if options.stamp is Stamp.END:
        account.notes.append("stamps are bar ends, as said; starts are one bar earlier")
        return stamps.starts_of(at, interval, calendar)
    if options.stamp is None:
        evidence = stamps.end_stamped(at, volume, interval, calendar)
        if evidence is not None:
            raise BarsError(
                f"The stamps of {account.file} may be bar ends: {evidence}.", value="stamp",
                rule="a stamp marks a bar's start unless said otherwise",
                remedy="import it with `trading bars import --stamp end|start`: end if 09:31 is the first minute's bar, start if 16:00 is"
                " only a closing print",
            )
    return at
