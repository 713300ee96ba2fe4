"""Bar close: one run per close for everything due, never two, and what was missed is written down (A7)."""

import dagster as dg

from assets.partitions import tags_of
from sensors.jobs import cycle
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.timetable import due_cycles, record_missed

MOST_ATTEMPTS = 3
UNFINISHED = (
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


@dg.sensor(job=cycle, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def bar_close(context: dg.SensorEvaluationContext, desk: dg.ResourceParam[Desk]) -> dg.SensorResult:
    """Launch the cycle of each newly closed bar; a cycle whose run died is run again and continues where it stopped."""
    requests = []
    for due in due_cycles(desk):
        attempt = _attempt(context.instance, due)
        if attempt is None:
            continue
        missed = record_missed(desk, due)
        if missed:
            context.log.info(f"{missed} closes before {due.cycle_id} were missed")
        requests.append(dg.RunRequest(run_key=f"{due.cycle_id}#{attempt}", partition_key=due.session.isoformat(), tags=tags_of(due)))
    if not requests:
        return dg.SensorResult(skip_reason=f"no bar has closed since the last cycle; the market clock shows {desk.now():%Y-%m-%d %H:%M:%S} UTC")
    return dg.SensorResult(run_requests=requests)


def _attempt(instance: dg.DagsterInstance, due: Cycle) -> int | None:
    """Which attempt a run would be; None while one is under way, or when enough have failed."""
    runs = instance.get_runs(dg.RunsFilter(tags={"trading/cycle": due.cycle_id}))
    if len(runs) >= MOST_ATTEMPTS or any(run.status in UNFINISHED for run in runs):
        return None
    return len(runs) + 1
