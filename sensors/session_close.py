"""Session close: at the calendar's close, 13:00 on early closes, the session is closed and reported once."""

import dagster as dg

from sensors.attempts import REASON_TAG, next_attempt
from sensors.jobs import session_close as session_close_job
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.submitter.closing import sessions_to_close


def reason(day: str) -> str:
    """What the runs that close a session are for, as their tag says it."""
    return f"close:{day}"


@dg.sensor(job=session_close_job, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def session_close(context: dg.SensorEvaluationContext, desk: dg.ResourceParam[Desk]) -> dg.SensorResult:
    """Launch the close of every session that has ended and is open in the ledger, again when its run died."""
    requests = []
    for session in sessions_to_close(desk):
        day = session.day.isoformat()
        attempt = next_attempt(context.instance, REASON_TAG, reason(day))
        if attempt is None:
            continue
        config = {"ops": {"close": {"config": {"session": day}}}}
        tags = {"market": desk.world.value.upper(), "session": day, "dagster/max_retries": "0", REASON_TAG: reason(day)}
        requests.append(dg.RunRequest(run_key=f"{reason(day)}#{attempt}", run_config=config, tags=tags))
    if not requests:
        return dg.SensorResult(skip_reason="no open session has ended, or its close is under way, or enough have failed")
    return dg.SensorResult(run_requests=requests)
