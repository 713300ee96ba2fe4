"""Retention: once a day Dagster's old runs are purged, see `resources.retention`; the ledger stays whole."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from resources.retention import purge
from resources.run_process import mark_run
from sensors.jobs import NO_RETRIES
from trading_pipeline.settings import Settings


@dg.op(description="Delete finished runs past their days, except the newest of each job and partition.")
def purge_runs(context: dg.OpExecutionContext) -> None:
    """One purge; `more` in its metadata says that the next one goes on."""
    mark_run(context.instance, context.run)
    days = Settings.load().keep_runs_days
    done = purge(context.instance, datetime.now(UTC) - timedelta(days=days))
    context.add_output_metadata({"deleted": done.deleted, "kept_as_newest": done.kept, "more": done.more, "keep_runs_days": days})


@dg.job(tags=NO_RETRIES, description="Prune Dagster's own record of old runs; the trading ledger is never pruned.")
def retention() -> None:
    """One op."""
    purge_runs()


retention_nightly = dg.ScheduleDefinition(
    name="retention_nightly", job=retention, cron_schedule="30 2 * * *", execution_timezone="America/New_York",
    default_status=dg.DefaultScheduleStatus.RUNNING, description="At 02:30 in New York, when no market is open.",
)
