"""Safety: a failed run is a fact and pauses the strategies it traded for; a run whose process is gone has failed."""

import dagster as dg

from assets.partitions import CYCLE_TAG, cycles_of
from resources.run_process import PROCESS_TAG, alive
from sensors.jobs import cycle, follow_up, session_close
from trading_pipeline.errors import InputError
from trading_pipeline.service.controls import record_failed_run
from trading_pipeline.service.desk import Desk


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
    for run in context.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])):
        named = run.tags.get(PROCESS_TAG)
        if named is not None and not alive(named):
            context.instance.report_run_failed(run, f"its process {named} is gone")
            lost += 1
    return dg.SkipReason(f"{lost} runs had lost their process")
