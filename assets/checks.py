"""Asset checks (A5): they guard data and ledger. A denied order is a value, never a failed check.

Blocking where trading on bad data would follow; a stale symbol is not, because its signal abstains by itself.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg

from assets.analysis import charts
from assets.market import bars
from assets.partitions import cycles_of, partitions_of
from assets.trading import portfolio_snapshots
from trading_pipeline.domain.bar_quality import faults as bar_faults
from trading_pipeline.domain.bar_quality import findings, missing
from trading_pipeline.domain.bars import BarTable
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.errors import StorageError
from trading_pipeline.service.accounting import compare_with_broker
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.market import events_of
from trading_pipeline.service.record.verification import verify_newest
from trading_pipeline.service.steps import completed, due_strategies

LOOKED_AT = 500
"""Newest bars of each symbol that are checked in every cycle."""
VERIFIED = 2_000
"""Newest events whose chain is verified in every cycle; `trading verify` checks all."""


def _tables(context: dg.AssetCheckExecutionContext, desk: Desk) -> list[tuple[Cycle, BarTable]]:
    found: list[tuple[Cycle, BarTable]] = []
    for cycle in cycles_of(desk, context.run.tags, partitions_of(context.run), context.run.run_id):
        if cycle.interval is None or cycle.bar_end is None:
            continue
        symbols = sorted({symbol for spec in due_strategies(desk, cycle) for symbol in spec.symbols})
        tables = desk.archive.read_many(symbols, cycle.interval, until=cycle.bar_end, count=LOOKED_AT)
        found.extend((cycle, table) for table in tables.values())
    return found


def _result(
    name: str, faults: list[str], looked: int, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {"symbols": looked}
    if faults:
        metadata["faults"] = dg.MetadataValue.json(faults[:50])
    return dg.AssetCheckResult(asset_key=bars.key, check_name=name, passed=not faults, severity=severity, metadata=metadata)


@dg.multi_asset_check(
    name="bars_checks",
    specs=[
        dg.AssetCheckSpec(
            "bars_are_sane", asset=bars, blocking=True,
            description="Prices positive and finite, high and low around open and close, no bar twice, in order.",
        ),
        dg.AssetCheckSpec(
            "bars_have_no_gaps", asset=bars,
            description="Every bar that the calendar expects between a symbol's first and newest is there.",
        ),
        dg.AssetCheckSpec("bars_are_fresh", asset=bars, description="The newest bar of every symbol is the one the cycle is about."),
    ],
)
def bars_checks(context: dg.AssetCheckExecutionContext, desk: dg.ResourceParam[Desk]) -> Iterator[dg.AssetCheckResult]:
    """Bars are read once for all three. Nothing downstream runs on bars that make no sense.

    A gap is a warning, because a thin symbol does not trade in every minute; a stale symbol too, because its decision abstains.
    """
    tables = _tables(context, desk)
    wrong = [f"{table.symbol}: {finding.sentence}" for _, table in tables for finding in findings(table, bar_faults(table))]
    yield _result("bars_are_sane", wrong, len(tables))
    yield _result("bars_have_no_gaps", _gaps(desk, [table for _, table in tables]), len(tables), dg.AssetCheckSeverity.WARN)
    yield _result("bars_are_fresh", _stale(tables), len(tables), dg.AssetCheckSeverity.WARN)


def _gaps(desk: Desk, tables: Sequence[BarTable]) -> list[str]:
    found = []
    for table in tables:
        if len(table):
            sessions = desk.archive.sessions(table.symbol, table.interval)
            gaps = missing(table, desk.calendar, max(sessions[0], _session_of(desk, table)), sessions[-1])
            if gaps:
                found.append(f"{table.symbol}: {len(gaps)} bars missing, the first at {gaps[0]:%Y-%m-%d %H:%M} UTC")
    return found


def _stale(tables: Sequence[tuple[Cycle, BarTable]]) -> list[str]:
    return [
        f"{table.symbol}: newest bar closed {table.last_end:%Y-%m-%d %H:%M} UTC" if len(table) else f"{table.symbol}: no bar"
        for cycle, table in tables
        if not len(table) or table.last_end != cycle.bar_end
    ]


def _session_of(desk: Desk, table: BarTable) -> date:
    session = desk.calendar.last_opened(table.bar(0).start)
    return session.day if session is not None else table.bar(0).start.date()


@dg.asset_check(asset=charts, description="Every stored chart still has the digest that names it.")
def charts_are_whole(context: dg.AssetCheckExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.AssetCheckResult:
    """Reads each picture of the cycle back."""
    looked, faults = 0, []
    for cycle in cycles_of(desk, context.run.tags, partitions_of(context.run), context.run.run_id):
        for event in events_of(desk, completed(desk.ledger, cycle, "charts")):
            looked += 1
            try:
                desk.objects.get(event.payload["sha256"])
            except StorageError as error:
                faults.append(f"{event.payload['symbol']}: {error.message}")
    return dg.AssetCheckResult(passed=not faults, metadata={"pictures": looked, "faults": dg.MetadataValue.json(faults)})


@dg.multi_asset_check(
    name="portfolio_checks",
    specs=[
        dg.AssetCheckSpec("ledger_verifies", asset=portfolio_snapshots, description="The newest events chain: no gap, no edit, no swap."),
        dg.AssetCheckSpec("book_equals_broker", asset=portfolio_snapshots, description="Booked positions equal what the broker states."),
    ],
)
def portfolio_checks(desk: dg.ResourceParam[Desk]) -> Iterator[dg.AssetCheckResult]:
    """A cheap look at the ledger's end, the whole is `trading verify`; and a difference is an error for a person, never traded away."""
    fault = verify_newest(desk.ledger, VERIFIED)
    yield dg.AssetCheckResult(
        asset_key=portfolio_snapshots.key, check_name="ledger_verifies", passed=not fault,
        metadata={"newest_events": VERIFIED, "fault": fault or "none"},
    )
    differences = compare_with_broker(desk)
    yield dg.AssetCheckResult(
        asset_key=portfolio_snapshots.key, check_name="book_equals_broker", passed=not differences,
        metadata={"differences": dg.MetadataValue.json(differences)},
    )
