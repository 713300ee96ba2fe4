"""Approvals: waits on the pending-approval table (A3)."""

import dagster as dg

from assets.partitions import tags_of
from sensors.attempts import REASON_TAG, next_attempt
from sensors.jobs import follow_up
from trading_pipeline.domain.cycles import follow_up as follow_up_cycle
from trading_pipeline.service import approvals as service
from trading_pipeline.service.desk import Desk


@dg.sensor(job=follow_up, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def approvals(context: dg.SensorEvaluationContext, desk: dg.ResourceParam[Desk]) -> dg.SensorResult:
    """Approved: a run for exactly those actions. Overdue: expired, which counts as rejected."""
    due = service.due(desk)
    expired = service.expire(desk, due.overdue)
    released = tuple(name for name in due.released if desk.ledger.get("approvals", name) is not None)
    if not released:
        waiting = len(desk.ledger.find("approvals", state="pending"))
        return dg.SensorResult(skip_reason=f"{waiting} wait for a person, {expired} expired")
    turn = follow_up_cycle(released, desk.today(), desk.now(), "approval")
    what = "approval:" + "+".join(released)
    attempt = next_attempt(context.instance, REASON_TAG, what)
    if attempt is None:
        return dg.SensorResult(skip_reason=f"a run of {what} is under way, or enough have failed")
    tags = tags_of(desk, turn) | {REASON_TAG: what}
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"{what}#{attempt}", partition_key=turn.session.isoformat(), tags=tags)])
