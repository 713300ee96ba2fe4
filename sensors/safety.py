"""Safety: a failed run is a fact and pauses the strategies it traded for; a run whose process is gone has failed."""

import dagster as dg
import psutil

from assets.partitions import CYCLE_TAG, cycles_of
from resources.run_process import alive, process_of
from sensors.jobs import cycle, follow_up, session_close
from trading_pipeline.errors import InputError
from trading_pipeline.service.controls import record_failed_run
from trading_pipeline.service.desk import Desk

_IN_A_PROCESS = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)


@dg.run_failure_sensor(
    monitored_jobs=[cycle, follow_up, session_close], minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING,
)
def safety(context: dg.RunFailureSensorContext, desk: dg.ResourceParam[Desk]) -> None:
    """Write `run.failed` and pause what the run was trading for."""
    tags = dict(context.dagster_run.tags)
    try:
        cycles = cycles_of(desk, tags, []) if CYCLE_TAG in tags else []
    except InputError:  # a run with a cycle that nobody made traded for no strategy
        cycles = []
    error = context.failure_event.message or "no message"
    record_failed_run(desk, context.dagster_run.run_id, context.dagster_run.job_name, error[:500], cycles)


@dg.sensor(minimum_interval_seconds=5, default_status=dg.DefaultSensorStatus.RUNNING)
def lost_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Report runs as failed whose process no longer exists: nobody else notices under the default launcher."""
    lost = 0
    for record in context.instance.get_run_records(dg.RunsFilter(statuses=list(_IN_A_PROCESS))):
        run = record.dagster_run
        named = process_of(run)
        # Runs are children of this process or of one it replaced: what was under way before it began ended with that one.
        if (named is not None and not alive(named)) or (named is None and record.update_timestamp.timestamp() < _began()):
            context.instance.report_run_failed(run, f"its process {named or ''} is gone")
            lost += 1
    return dg.SkipReason(f"{lost} runs had lost their process")


def _began() -> float:
    return psutil.Process().create_time()
