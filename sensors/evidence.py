"""Evidence: after a session's close what was proposed is measured once, and the model report is written anew.

Never in the way of trading: its runs have the lowest priority, and one that fails pauses nothing.
"""

import dagster as dg

from sensors.attempts import REASON_TAG, next_attempt
from sensors.jobs import evidence as evidence_job
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.reports.outcomes import session_to_measure


@dg.sensor(name="evidence", job=evidence_job, minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def evidence(context: dg.SensorEvaluationContext, desk: dg.ResourceParam[Desk]) -> dg.RunRequest | dg.SkipReason:
    """Launch the measuring of the newest closed session; it measures what earlier ones left open too."""
    session = session_to_measure(desk)
    if session is None:
        return dg.SkipReason("the newest closed session is measured, or none has closed")
    day = session.day.isoformat()
    attempt = next_attempt(context.instance, REASON_TAG, f"evidence:{day}")
    if attempt is None:
        return dg.SkipReason(f"{day} is being measured, or enough attempts have failed")
    tags = {"market": desk.world.value.upper(), "session": day, "dagster/priority": "-5", REASON_TAG: f"evidence:{day}"}
    return dg.RunRequest(run_key=f"evidence:{day}#{attempt}", partition_key=day, tags=tags)
