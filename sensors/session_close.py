"""Session close: at the calendar's close, 13:00 on early closes, the session is closed and reported once."""

import dagster as dg

from sensors.jobs import session_close as session_close_job
from trading_pipeline.service.closing import sessions_to_close
from trading_pipeline.service.desk import Desk


@dg.sensor(job=session_close_job, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def session_close(desk: dg.ResourceParam[Desk]) -> dg.SensorResult:
    """Launch the close of every session that has ended and is open in the ledger."""
    ended = sessions_to_close(desk)
    if not ended:
        return dg.SensorResult(skip_reason="no open session has ended")
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"close:{session.day}", run_config={"ops": {"close": {"config": {"session": session.day.isoformat()}}}},
                tags={"market": desk.world.value.upper(), "session": session.day.isoformat(), "dagster/max_retries": "0"},
            )
            for session in ended
        ]
    )
