"""`trading bars ...`: bars of one's own into the home's archive, bars of the source fetched, and what the archive holds.

Nothing about a file is silent: what was kept, dropped, repaired or refused stands in its report; and so does what the home's
market clock will never reach.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from trading_pipeline.errors import BarsError, InputError, UnknownName
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column, counted, in_new_york, new_york

if TYPE_CHECKING:
    from trading_pipeline.adapters.market_data.cleaning import ImportReport, Note
    from trading_pipeline.domain.bars import BarTable, Interval
    from trading_pipeline.domain.projections import Row
    from trading_pipeline.domain.sessions import TradingCalendar
    from trading_pipeline.ports import Appended
    from trading_pipeline.settings import Settings

app = typer.Typer(help="Import, fetch and list bars.", no_args_is_help=True)

INTERVALS = ("1min", "5min", "15min", "1h", "1d")
IntervalOption = Annotated[str | None, typer.Option("--interval", help=f"One of {', '.join(INTERVALS)}.", metavar="INTERVAL")]


@command(app, "import")
def import_(
    call: Invocation,
    folder: Annotated[Path, typer.Argument(help="CSV, CSV.gz or Parquet files named SYMBOL or SYMBOL_anything.", metavar="FOLDER")],
    interval: IntervalOption = None,
    timezone: Annotated[str | None, typer.Option("--timezone", help="Of stamps without an offset, such as America/New_York.")] = None,
    stamp: Annotated[str | None, typer.Option("--stamp", help="Whether stamps are the start or the end of bars.")] = None,
    date_order: Annotated[str | None, typer.Option("--date-order", help="Of dates with slashes: mdy or dmy.")] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--column", help="Which column is what, such as open=Open; may be repeated.", metavar="ROLE=NAME")
    ] = None,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Import the good files although others are refused.")] = False,
) -> None:
    """Import a folder of bars into the home's archive, with a report of every file."""
    from trading_pipeline.adapters.calendar import load_calendar
    from trading_pipeline.adapters.market_data.files import ImportOptions, import_files
    from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
    from trading_pipeline.adapters.market_data.stamps import DateOrder, Stamp
    from trading_pipeline.ports import Home

    settings = call.settings()
    call.say_home()
    options = ImportOptions(
        _interval(interval), timezone, _choice(stamp, Stamp, "stamp"), _choice(date_order, DateOrder, "date order"), _roles(columns or []),
    )
    home = Home(call.home)
    calendar = load_calendar(home.root / "cache" if home.root.is_dir() else None)
    with call.output.working(f"Reading {folder}"):
        imported = import_files(folder, calendar, options)
    good = keep_going or not imported.refused
    archive = ParquetArchive(home.archive)
    outcome = []
    if good:
        with call.output.progress("Archiving", len(imported.tables)) as step:
            for table in imported.tables:
                outcome.append((table.symbol, table.interval.value, archive.append(table)))
                step()
    notes = (*imported.notes, *(_out_of_reach(settings, calendar, imported.tables, folder) if outcome else ()))
    data = {
        "files": [_as_json(report) for report in imported.reports], "notes": list(notes),
        "archived": [
            {"symbol": symbol, "interval": length, "added": done.added, "replaced": done.replaced, "unchanged": done.unchanged}
            for symbol, length, done in outcome
        ],
    }
    call.output.answer(data, lambda: _show_import(call, imported.reports, notes, outcome))
    if imported.refused and not keep_going:
        raise _refusal(imported.reports)
    if not outcome:
        raise typer.Exit(1)


def _out_of_reach(
    settings: "Settings", calendar: "TradingCalendar", tables: "Sequence[BarTable]", folder: Path,
) -> Iterator[str]:
    """What of the bars no strategy of this home will see, and where it can be traded."""
    from trading_pipeline.adapters.clocks import ReplayClock
    from trading_pipeline.settings import Market

    clock = settings.home / "clock.json"
    if settings.market.clock is not Market.REPLAY or not clock.exists():
        return
    replay = ReplayClock.attach(clock, calendar)
    late = sorted({table.symbol for table in tables if table.bar(0).end > replay.end})
    if late:
        yield (
            f"{', '.join(late)}: these bars begin after this home's replay ends ({new_york(replay.end)[:16]} New York), so that no "
            f"strategy of it will see them; replay them in a home of their own with: trading up --bars {folder}"
        )


@command(app, "fetch")
def fetch(
    call: Invocation,
    symbols: Annotated[list[str] | None, typer.Argument(help="By default those of all live strategies.", metavar="[SYMBOL]...")] = None,
    interval: IntervalOption = None,
) -> None:
    """Fetch closed bars from the home's source into its archive."""
    from trading_pipeline.domain.bar_quality import sane

    length = _interval(interval)
    with call.desk() as desk:
        wanted = _wanted(desk.ledger.find("strategies", order_by="name"), symbols or [], length)
        if not wanted:
            raise InputError(
                "There is nothing to fetch.", value="", rule="symbols are named, or come from strategies that are not over",
                remedy="name symbols, such as: trading bars fetch AAPL --interval 1d",
            )
        until = desk.now()
        done: list[tuple[str, str, Appended, int]] = []
        for symbol, each in wanted:
            known = desk.market.intervals(symbol)
            if each not in known:
                has = f"{desk.market.name} has {', '.join(known)} bars of it" if known else f"{desk.market.name} does not know it"
                raise UnknownName(
                    f"There are no {each} bars of {symbol}.", value=symbol, rule=f"the source supplies the bars; {has}",
                    remedy="correct the symbol or the interval",
                )
        with call.output.progress(f"Fetching from {desk.market.name}", len(wanted)) as step:
            for symbol, each in wanted:
                held = desk.archive.read(symbol, each, until=until, count=1)
                table, dropped = sane(desk.market.closed_bars([symbol], each, held.last_end if len(held) else None, until)[symbol])
                done.append((symbol, each.value, desk.archive.append(table), len(dropped)))
                step()
    call.output.answer(
        [{"symbol": s, "interval": i, "added": a.added, "replaced": a.replaced, "dropped": dropped} for s, i, a, dropped in done],
        lambda: call.output.table(
            [Column("SYMBOL"), Column("BARS"), Column("NEW", right=True), Column("REPLACED", right=True), Column("DROPPED", right=True)],
            [[s, i, f"{a.added:,}", f"{a.replaced:,}", f"{dropped:,}"] for s, i, a, dropped in done],
        ),
    )


@dataclass(frozen=True, slots=True)
class _Holding:
    symbol: str
    interval: str
    bars: int
    sessions: int
    first: datetime
    last: datetime


@command(app, "list")
def list_(call: Invocation) -> None:
    """What the home's archive holds."""
    from datetime import UTC

    from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
    from trading_pipeline.domain.bars import Interval, instant_of
    from trading_pipeline.ports import Home

    call.say_home()
    archive = ParquetArchive(Home(call.home).archive)
    end = datetime.max.replace(tzinfo=UTC)
    held = []
    with call.output.working("Reading the archive"):
        for each in Interval:
            for symbol in archive.symbols(each):
                table = archive.read(symbol, each, until=end)
                if len(table):
                    sessions = len(archive.sessions(symbol, each))
                    held.append(_Holding(symbol, each.value, len(table), sessions, instant_of(table.start[0]), table.last_end))
    held.sort(key=lambda row: (row.symbol, INTERVALS.index(row.interval)))
    call.output.answer(
        [asdict(h) | {"first": h.first.isoformat(), "last": h.last.isoformat()} for h in held],
        lambda: call.output.table(
            [
                Column("SYMBOL"), Column("BARS"), Column("COUNT", right=True), Column("SESSIONS", right=True, spare=1),
                Column("FIRST (NEW YORK)"), Column("LAST CLOSE"),
            ],
            [[h.symbol, h.interval, f"{h.bars:,}", f"{h.sessions:,}", new_york(h.first)[:16], new_york(h.last)[:16]] for h in held],
            empty="The archive is empty. Bars come with the first cycle, by `trading bars import` or by `trading bars fetch`.",
        ),
    )


def _wanted(rows: "list[Row]", symbols: list[str], interval: "Interval | None") -> "list[tuple[str, Interval]]":
    """Symbols and intervals to fetch: those named, or those of strategies that are not over."""
    from trading_pipeline.domain.bars import Interval
    from trading_pipeline.domain.strategies import TRANSITIONS, StrategyState
    from trading_pipeline.service.steps import spec_of

    if symbols:
        return [(symbol.upper(), interval or Interval.DAY1) for symbol in dict.fromkeys(symbols)]
    specs = [spec_of(row) for row in rows if TRANSITIONS[StrategyState(row["state"])]]
    return sorted({(symbol, interval or spec.interval) for spec in specs for symbol in spec.symbols})


def _interval(text: str | None) -> "Interval | None":
    from trading_pipeline.domain.bars import Interval

    found: Interval | None = _choice(text, Interval, "interval")
    return found


def _choice(text: str | None, kind: Any, what: str) -> Any:
    if text is None:
        return None
    known = [each.value for each in kind]
    if text not in known:
        raise UnknownName(f"There is no {what} {text!r}.", value=text, rule=f"one of {', '.join(known)}", remedy=f"correct the {what}")
    return kind(text)


def _roles(columns: list[str]) -> dict[str, str]:
    """`open=Open` as a mapping of roles."""
    roles = ("time", "open", "high", "low", "close", "volume")
    split = [column.partition("=")[::2] for column in columns]
    for role, name in split:
        if role not in roles or not name:
            raise InputError(
                f"--column {role}={name} names no column.", value=f"{role}={name}", rule=f"ROLE=NAME, ROLE one of {', '.join(roles)}",
                remedy="write it such as --column open=Open",
            )
    return dict(split)


def _show_import(
    call: Invocation, reports: "tuple[ImportReport, ...]", notes: tuple[str, ...], outcome: "list[tuple[str, str, Appended]]",
) -> None:
    out = call.output
    zone = " New York"
    for report in reports:
        done = Text("refused", "bold red") if report.refused else Text("read", "green")
        out.line(done, f"  {report.file}: {report.symbol} {report.interval or ''}, {report.read:,} rows, {report.kept:,} kept")
        if report.error is not None:
            out.line(Text("  because  ", "dim"), in_new_york(report.error.message, said=False))
            out.line(Text("  remedy   ", "dim"), report.error.remedy)
            continue
        if report.span:
            daily = report.interval is not None and report.interval.daily
            out.line(f"  {in_new_york(report.span)}{'' if daily else zone}, {counted(report.missing, 'bar')} missing by the calendar")
            zone = zone if daily else ""
        for what, found in (("dropped", report.dropped), ("repaired", report.repaired)):
            for note in found:
                out.line(Text(f"  {what}  ", "yellow"), in_new_york(str(note)))
        for remark in report.notes:
            out.line(Text("  note  ", "dim"), in_new_york(remark))
    for remark in notes:
        out.line(Text("note  ", "yellow"), in_new_york(remark))
    imported = sum(not report.refused for report in reports) if outcome else 0
    out.line(f"{imported} of {counted(len(reports), 'file')} imported.")
    if outcome:
        out.heading("Archived")
        out.table(
            [Column("SYMBOL"), Column("BARS"), Column("NEW", right=True), Column("REPLACED", right=True), Column("UNCHANGED", right=True)],
            [[symbol, length, f"{done.added:,}", f"{done.replaced:,}", f"{done.unchanged:,}"] for symbol, length, done in outcome],
        )


def _refusal(reports: "tuple[ImportReport, ...]") -> BarsError:
    refused = [report for report in reports if report.error is not None]
    first = refused[0].error
    assert first is not None
    others = f" {len(refused) - 1} more of {len(reports)} files are refused." if len(refused) > 1 else ""
    go_on = "; or import the others with --keep-going" if len(refused) < len(reports) else ""
    return BarsError(
        f"Nothing was imported: {first.message}{others}", value=first.value, rule=first.rule, remedy=f"{first.remedy}{go_on}",
    )


def _as_json(report: "ImportReport") -> dict[str, Any]:
    def notes(found: "tuple[Note, ...]") -> list[dict[str, Any]]:
        return [{"rule": note.rule, "rows": note.rows, "examples": list(note.examples)} for note in found]

    return {
        "file": report.file, "symbol": report.symbol, "interval": report.interval.value if report.interval else None, "read": report.read,
        "kept": report.kept, "missing": report.missing, "refused": report.refused, "dropped": notes(report.dropped),
        "repaired": notes(report.repaired), "notes": list(report.notes), "error": report.error.as_json() if report.error else None,
        "first": report.first.isoformat() if report.first else None, "last": report.last.isoformat() if report.last else None,
    }
