"""Bar close: one run per close for everything due, never two, and what was missed is written down (A7)."""

import dagster as dg

from assets.partitions import CYCLE_TAG, tags_of
from sensors.attempts import next_attempt
from sensors.jobs import cycle
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.timetable import due_cycles, record_missed


@dg.sensor(job=cycle, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def bar_close(context: dg.SensorEvaluationContext, desk: dg.ResourceParam[Desk]) -> dg.SensorResult:
    """Launch the cycle of each newly closed bar; a cycle whose run died is run again and continues where it stopped."""
    requests = []
    for due in due_cycles(desk):
        attempt = next_attempt(context.instance, CYCLE_TAG, due.cycle_id)
        if attempt is None:
            continue
        missed = record_missed(desk, due)
        if missed:
            context.log.info(f"{missed} closes before {due.cycle_id} were missed")
        requests.append(dg.RunRequest(run_key=f"{due.cycle_id}#{attempt}", partition_key=due.session.isoformat(), tags=tags_of(desk, due)))
    if not requests:
        shows = f"the market clock shows {desk.now():%Y-%m-%d %H:%M:%S} UTC"
        return dg.SensorResult(skip_reason=f"no bar has closed since the last cycle; {shows}")
    return dg.SensorResult(run_requests=requests)
