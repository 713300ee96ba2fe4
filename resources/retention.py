"""Prunes Dagster's own record (A8): its event log grows by 150 MB a day, and `retention` in dagster.yaml covers ticks only.

Deleting a run deletes its materialisations from the catalogue, so the newest run of each job and partition stays, and the newest
that succeeded. The trading ledger, another database, is the record and is never touched: whatever was traded can be asked there for ever.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import dagster as dg
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from sqlalchemy import text

FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
PAGE = 200
MOST_RUNS = 5_000
"""Deleted in one go; the next one goes on."""
PARTITION_TAGS = ("dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge did: runs deleted, runs older than the limit that stay as the newest of their partition, and whether more are due."""

    deleted: int
    kept: int
    more: bool


def purge(instance: dg.DagsterInstance, before: datetime, most: int = MOST_RUNS) -> Purged:
    """Delete finished runs created before an instant, except the newest and the newest successful one of each job and partition.

    Args:
        instance: Whose record.
        before: Aware.
        most: Runs to delete at most.
    """
    newest: set[tuple[str, ...]] = set()
    succeeded: set[tuple[str, ...]] = set()
    due: list[str] = []
    kept = 0
    for record in _finished(instance):
        run = record.dagster_run
        place = run.job_name, *(run.tags.get(tag, "") for tag in PARTITION_TAGS)
        success = run.status is dg.DagsterRunStatus.SUCCESS
        stays = place not in newest or (success and place not in succeeded)
        newest.add(place)
        if success:
            succeeded.add(place)
        if record.create_timestamp < before:
            kept += stays
            if not stays:
                due.append(run.run_id)
    _delete(instance, due[:most])
    return Purged(min(len(due), most), kept, len(due) > most)


def _finished(instance: dg.DagsterInstance) -> Iterator[dg.RunRecord]:
    """Finished runs, the newest first."""
    cursor = None
    while page := instance.get_run_records(dg.RunsFilter(statuses=list(FINISHED)), limit=PAGE, cursor=cursor):
        yield from page
        cursor = page[-1].dagster_run.run_id


def _delete(instance: dg.DagsterInstance, runs: Sequence[str]) -> None:
    """Delete runs, and what Dagster leaves of them: the results of their checks, the files of what they printed, their room on the disk."""
    events = instance.event_log_storage
    assert isinstance(events, SqlEventLogStorage)
    for first in range(0, len(runs), PAGE):
        some = runs[first : first + PAGE]
        with events.index_connection() as connection:
            connection.execute(AssetCheckExecutionsTable.delete().where(AssetCheckExecutionsTable.c.run_id.in_(some)))
        for run_id in some:
            instance.compute_log_manager.delete_logs(prefix=[run_id])
            instance.delete_run(run_id)
    if not runs:
        return
    with events.index_connection() as connection:
        if connection.dialect.name == "postgresql":
            # Autovacuum waits until a fifth of a table is dead, which takes several nights, while the files grow.
            connection.execute(text("VACUUM (ANALYZE)"))
