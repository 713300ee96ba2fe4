"""Which bars a backtest runs on: of the home or of folders, whether they reach, and what has to be said of them.

What cannot be right is refused: sessions without bars, a split that the prices do not have. What may be wrong is said: rows that were left
out, sessions without bars in between, bars without volume, steps that no split explains. Nothing comes from a network.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from trading_pipeline.domain.adjustments import Split, split_adjusted
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.sessions import Session, TradingCalendar
from trading_pipeline.errors import BarsError, UnknownName
from trading_pipeline.ports import BarArchive, Home
from trading_pipeline.service.backtests.bench import sessions_of
from trading_pipeline.settings import Settings, Source

if TYPE_CHECKING:
    from trading_pipeline.adapters.market_data.files import FileMarket

_NAMED = 5
"""So many sessions without bars are named; of more the first."""
_CLEAR_SPLIT = 1.5
"""From 3 for 2 on, and from 2 for 3 down, prices show whether they have a split; smaller ones look like a day's move."""

_SPAN = "every symbol has bars from the first session to the last"

Tables = Mapping[tuple[str, Interval], BarTable]
Days = np.ndarray[tuple[int], np.dtype[np.datetime64]]


@dataclass(frozen=True, slots=True)
class Bars:
    """What a source has of a plan's symbols, all of it."""

    tables: Tables
    splits: Mapping[str, tuple[Split, ...]]
    source: str
    there: Callable[[], Mapping[str, Sequence[Interval]]]
    """What the source has, for who asked for something else: intervals by symbol."""
    remedy: str
    notes: tuple[str, ...] = ()
    """What became of files on the way in: rows left out or mended, sessions taken from another file."""


NO_BARS = Bars({}, {}, "bars that are gone", dict, "put the bars back that the backtest ran on")


def bars_of(settings: Settings, plan: BacktestPlan, calendar: TradingCalendar, folders: Sequence[Path]) -> Bars:
    """All that a source has of a plan's symbols; the errors are those of `open_bench`."""
    found, sessions = _of_folders(folders, plan, calendar) if folders else _of_home(settings, plan, calendar), sessions_of(calendar, plan)
    require(found, plan, sessions)
    for place in places_of(plan):
        _require_edges(found, place, sessions)
        for split in found.splits.get(place[0], ()):
            if sessions[0].day <= split.session <= sessions[-1].day:
                _require_step(found.tables[place], split)
    return found


def seen(bars: Bars, plan: BacktestPlan, sessions: Sequence[Session]) -> Tables:
    """What there is to be seen by the end of a plan."""
    return {place: bars.tables[place].until(sessions[-1].close) for place in places_of(plan)}


def places_of(plan: BacktestPlan) -> list[tuple[str, Interval]]:
    """Which bars a plan needs, by symbol and interval, in order."""
    return sorted({(symbol, spec.interval) for spec in plan.strategies for symbol in spec.symbols})


def _of_home(settings: Settings, plan: BacktestPlan, calendar: TradingCalendar) -> Bars:
    """The home's source with what was imported beside it. Yahoo is not asked: of it there is what the archive has."""
    from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
    from trading_pipeline.adapters.market_data.with_imports import WithImports
    from trading_pipeline.home_market import kept_splits, open_market

    root, until = Home(settings.home).archive, calendar.horizon.close
    # The one that reads remembers what it read, session by session: it is not kept.
    archive, index = ParquetArchive(root), ParquetArchive(root)
    tables: dict[tuple[str, Interval], BarTable] = {}
    there: Callable[[], Mapping[str, Sequence[Interval]]]
    if settings.market.source is Source.YFINANCE:
        splits, source = kept_splits(settings), "the archive"
        for symbol, interval in places_of(plan):
            tables[symbol, interval] = archive.read(symbol, interval, until=until)
        there = partial(_archived, index)
        remedy = "fetch or import bars with `trading bars`, or name a folder of files with --data"
    else:
        market, splits = open_market(settings, calendar, archive)
        source, remedy = market.name, "import bars with `trading bars import`, or name a folder of files with --data"
        for symbol, interval in places_of(plan):
            tables[symbol, interval] = market.closed_bars([symbol], interval, None, until)[symbol]

        def there() -> Mapping[str, Sequence[Interval]]:
            of_source = market.symbols if isinstance(market, WithImports) else ()
            return _archived(index) | {symbol: market.intervals(symbol) for symbol in of_source}

    known = {symbol: splits[symbol] for symbol in plan.symbols if symbol in splits}
    return Bars(tables, MappingProxyType(known), source, there, remedy)


def _archived(archive: BarArchive) -> dict[str, Sequence[Interval]]:
    found: dict[str, Sequence[Interval]] = {}
    for interval in Interval:
        for symbol in archive.symbols(interval):
            found[symbol] = (*found.get(symbol, ()), interval)
    return found


def _of_folders(folders: Sequence[Path], plan: BacktestPlan, calendar: TradingCalendar) -> Bars:
    """Files, each read once and checked like an import; those of other symbols are not opened."""
    from trading_pipeline.adapters.market_data.files import FileMarket, bars_files, symbol_of

    tables: dict[tuple[str, Interval], BarTable] = {}
    splits: dict[str, tuple[Split, ...]] = {}
    wanted, there, notes = places_of(plan), dict[str, Sequence[Interval]](), list[str]()
    for folder in folders:
        missing = {symbol for symbol, interval in wanted if (symbol, interval) not in tables}
        there |= {symbol_of(file): () for file in bars_files(folder) if symbol_of(file) not in there}
        market = FileMarket(
            folder, calendar, symbols=missing,
            instead="take the file out of the folder (what is imported into the home is used without --data)",
        )
        for symbol, interval in wanted:
            if (symbol, interval) in tables or symbol not in market.symbols:
                continue
            there[symbol] = market.intervals(symbol)
            if interval in market.intervals(symbol):
                tables[symbol, interval] = market.closed_bars([symbol], interval, None, calendar.horizon.close)[symbol]
                splits[symbol] = tuple(split for split in market.splits if split.symbol == symbol)
                notes += _became(market, symbol, interval)
    source = f"files of {', '.join(folder.name for folder in folders)}"
    known = {symbol: found for symbol, found in splits.items() if found}
    remedy = "put a file of these bars into the folder, or name another with --data"
    return Bars(tables, MappingProxyType(known), source, lambda: there, remedy, tuple(notes))


def _became(market: "FileMarket", symbol: str, interval: Interval) -> Iterator[str]:
    """What an import would report of a symbol's files, but that regular hours were cut out."""
    from trading_pipeline.adapters.market_data.cleaning import OUTSIDE_HOURS

    for report in market.reports:
        if (report.symbol, report.interval) == (symbol, interval):
            changes = [f"rows left out ({note.rule}): {note.rows:,}" for note in report.dropped if note.rule != OUTSIDE_HOURS]
            changes += [f"rows mended ({note.rule}): {note.rows:,}" for note in report.repaired]
            if changes:
                yield f"{report.file}: {'; '.join(changes)}"
    yield from (note for note in market.notes if note.startswith(f"{symbol} {interval}: "))


def _told(there: Mapping[str, Sequence[Interval]]) -> str:
    """What there is, in words."""
    named = [f"{symbol} ({', '.join(intervals)})" if intervals else symbol for symbol, intervals in sorted(there.items())]
    some = ", ".join(named[:12])
    return (some + (f" and {len(named) - 12} more" if len(named) > 12 else "")) or "nothing"


def require(bars: Bars, plan: BacktestPlan, sessions: Sequence[Session]) -> None:
    """Refuse a plan whose sessions the bars do not span.

    Raises:
        UnknownName: There are no bars of a symbol in the wanted interval.
        BarsError: They begin later, or end earlier.
    """
    first, last = sessions[0].day, sessions[-1].day
    for symbol, interval in places_of(plan):
        table = bars.tables.get((symbol, interval))
        if table is None or not len(table):
            raise UnknownName(
                f"There are no {interval} bars of {symbol}.", value=f"{symbol} {interval}",
                rule=f"a backtest runs on bars that are there; {bars.source} has {_told(bars.there())}", remedy=bars.remedy,
            )
        begin, end = _day(table, 0), _day(table, -1)
        if begin > first or end < last:
            raise BarsError(
                f"The {interval} bars of {symbol} go from {begin} to {end}, and the backtest from {first} to {last}.",
                value=f"{symbol} {interval}", rule=_SPAN, remedy=f"{_shorter(np.unique(table.session_days), sessions)}{bars.remedy}",
            )


def _require_edges(bars: Bars, place: tuple[str, Interval], sessions: Sequence[Session]) -> None:
    """Refuse sessions that lie between a symbol's bars, as between files of two years: nothing would be traded in silence."""
    have = np.unique(bars.tables[place].session_days)
    first, last = sessions[0].day, sessions[-1].day
    inside = _inside(have, first, last)
    bare = [day for day in dict.fromkeys((first, last)) if day not in inside]
    if not inside or (len(inside) == 2 < len(sessions) - 1 and not bare):
        told = f"in any session {'between' if inside else 'from'} {first} {'and' if inside else 'to'} {last}"
        beside = inside or _beside(have, first)
    elif bare:
        told = f"on {' and '.join(str(day) for day in bare)}, of a backtest from {first} to {last}"
        beside = sorted({day for edge in bare for day in _beside(have, edge)})
    else:
        return
    symbol, interval = place
    raise BarsError(
        f"There are no {interval} bars of {symbol} {told}; the nearest sessions that have some are {', '.join(map(str, beside))}.",
        value=f"{symbol} {interval}", rule=_SPAN, remedy=f"{_shorter(have, sessions)}{bars.remedy}",
    )


def _shorter(have: Days, sessions: Sequence[Session]) -> str:
    """How to ask for fewer sessions that begin and end with bars, as the beginning of a remedy; empty where there are none."""
    first, last = sessions[0].day, sessions[-1].day
    inside = _inside(have, first, last)
    fewer = bool(inside) and (inside[0], inside[-1]) != (first, last)
    return f"choose --from {inside[0]} --to {inside[-1]}, or " if fewer else ""


def _inside(have: Days, first: date, last: date) -> list[date]:
    found: list[date] = have[(have >= np.datetime64(first)) & (have <= np.datetime64(last))].tolist()
    return found


def _beside(have: Days, day: date) -> list[date]:
    """The last session with bars before a day without, and the first after it."""
    at = int(np.searchsorted(have, np.datetime64(day)))
    found: list[date] = have[max(at - 1, 0) : at + 1].tolist()
    return found


def _require_step(table: BarTable, split: Split) -> None:
    """Refuse a split that the prices do not have: shares would multiply at a price that stays, which is money from nowhere."""
    place = int(np.searchsorted(table.session_days, np.datetime64(split.session)))
    ratio = float(split.ratio)
    if not 0 < place < len(table) or 1 / _CLEAR_SPLIT < ratio < _CLEAR_SPLIT:
        return
    move = float(table.open[place]) / float(table.close[place - 1])
    if abs(math.log(move)) < abs(math.log(move * ratio)):
        raise BarsError(
            f"The prices of {split.symbol} do not step at its split of {split.ratio.normalize():f} for 1 on {split.session}: they go from "
            f"{table.close[place - 1]:g} to {table.open[place]:g}.", value=f"{split.symbol} {split.session}",
            rule="a split is counted once: by splits.csv where prices are as they were traded, by the prices where those are adjusted",
            remedy="take the split out of splits.csv, or use unadjusted prices",
        )


def _day(table: BarTable, index: int) -> date:
    found: date = table.session_days[index].astype(object)
    return found


def digest_of(tables: Tables, splits: Mapping[str, Sequence[Split]]) -> str:
    """SHA-256 in hex over bars and splits: what a stored backtest is compared by."""
    content = hashlib.sha256()
    for place in sorted(tables):
        content.update(tables[place].digest().encode())
    for split in (each for symbol in sorted(splits) for each in splits[symbol]):
        content.update(f"{split.symbol} {split.session} {split.ratio}\n".encode())
    return content.hexdigest()


def assumptions(bars: Bars, plan: BacktestPlan, sessions: Sequence[Session]) -> tuple[str, ...]:
    """What every report on a plan says of its bars."""
    first, last = sessions[0].day, sessions[-1].day
    split = [each for symbol in plan.symbols for each in bars.splits.get(symbol, ()) if first <= each.session <= last]
    counted = ", ".join(f"{each.symbol} {each.ratio.normalize():f} for 1 on {each.session}" for each in split)
    steps = [step for place in places_of(plan) for step in _steps(bars, place, sessions)]
    quiet = [told for place in places_of(plan) if (told := _quiet(bars.tables[place], sessions))]
    return (
        f"Bars: {bars.source}; {'; '.join(_covers(bars.tables[place], sessions) for place in places_of(plan))}.",
        *((f"On the way in: {'; '.join(bars.notes)}.",) if bars.notes else ()),
        "Prices are traded as the source has them. "
        + (f"Splits are applied as facts, when they happened: {counted}." if split else "No split is known inside the sessions."),
        *(f"{step}. If it was a split, name it in splits.csv: as it is, who held it gained or lost as much." for step in steps),
        *((f"Bars without volume fill orders at their prices, although nobody traded there: {', '.join(quiet)}.",) if quiet else ()),
        "Dividends are not paid: a series adjusted for them has them in its prices, one that is not leaves them out.",
        "The symbols were chosen knowing that they still trade: those that were delisted are missing, which flatters (survivorship).",
    )


def _steps(bars: Bars, place: tuple[str, Interval], sessions: Sequence[Session]) -> Iterator[str]:
    """Prices that move between two sessions as they hardly do but by a split that nobody has named."""
    from trading_pipeline.adapters.market_data.cleaning import price_steps

    table = bars.tables[place].until(sessions[-1].close)
    table = split_adjusted(table, bars.splits.get(place[0], ()), sessions[-1].day)
    days = table.session_days
    ends = np.flatnonzero(days[1:] != days[:-1])
    inside = ends[days[ends + 1] > np.datetime64(sessions[0].day)]
    yield from (f"{place[0]}: {step}" for step in price_steps(days, table.close, inside))


def _quiet(table: BarTable, sessions: Sequence[Session]) -> str:
    """How many bars of the sessions have no volume; empty where all have."""
    inside = table.since(sessions[0].open).until(sessions[-1].close)
    many = int((inside.volume == 0).sum())
    return f"{many:,} of {len(inside):,} of {table.symbol} {table.interval}" if many else ""


def _covers(table: BarTable, sessions: Sequence[Session]) -> str:
    """What there is of a symbol, and which sessions have none."""
    have = np.unique(table.session_days)
    missing = [session.day for session in sessions if not _among(session.day, have)]
    told = f"{table.symbol} {table.interval} from {_day(table, 0)}"
    if not missing:
        return told
    named = ", ".join(str(day) for day in missing[:_NAMED]) + (" and more" if len(missing) > _NAMED else "")
    return f"{told}, none in {len(missing)} of {len(sessions)} sessions ({named})"


def _among(day: date, days: Days) -> bool:
    at = int(np.searchsorted(days, np.datetime64(day)))
    return at < len(days) and bool(days[at] == np.datetime64(day))
