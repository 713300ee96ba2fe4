"""Bar close: one run per close for everything due, never two, and what was missed is written down (A7).

The first cycle of a session comes after the last session's close, however late that is: the close reports its own day, and
what the new day is measured from is its equity.
"""

import dagster as dg

from assets.partitions import CYCLE_TAG, tags_of
from sensors.attempts import REASON_TAG, given_up, next_attempt
from sensors.jobs import cycle
from sensors.session_close import reason
from trading_pipeline.service.closing import overdue_closes
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.timetable import due_cycles, record_missed


@dg.sensor(job=cycle, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def bar_close(context: dg.SensorEvaluationContext, desk: dg.ResourceParam[Desk]) -> dg.SensorResult:
    """Launch the cycle of each newly closed bar; a cycle whose run died is run again and continues where it stopped."""
    unclosed = [session.day for session in overdue_closes(desk)]
    waited_for = [day for day in unclosed if not given_up(context.instance, REASON_TAG, reason(day.isoformat()))]
    if waited_for:
        return dg.SensorResult(skip_reason=f"the close of {waited_for[0]} comes first")
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
