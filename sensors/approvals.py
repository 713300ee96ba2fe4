"""Approvals: waits on the pending-approval table (A3).

Dagster evaluates sensors every five seconds, one after the other. While somebody is asked, this one spends most of that time looking,
so that an approval is seen at once; what is left of the five seconds is ample for the others.
"""

import time

import dagster as dg

from assets.partitions import tags_of
from sensors import bar_close
from sensors.attempts import MOST_RELEASES, REASON_TAG, next_attempt
from sensors.jobs import follow_up
from trading_pipeline.domain.cycles import follow_up as follow_up_cycle
from trading_pipeline.service import approvals as service
from trading_pipeline.service.desk import Desk

WAIT_SECONDS = 3.5
"""Of the five."""
_LOOK_SECONDS = 0.15


@dg.sensor(job=follow_up, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def approvals(context: dg.SensorEvaluationContext, desk: dg.ResourceParam[Desk]) -> dg.SensorResult:
    """Approved: a run for exactly those actions. Overdue: expired, which counts as rejected."""
    due = _awaited(desk)
    expired = service.expire(desk, due.overdue)
    released = tuple(name for name in due.released if desk.ledger.get("approvals", name) is not None)
    if not released:
        waiting = len(desk.ledger.find("approvals", state="pending"))
        return dg.SensorResult(skip_reason=f"{waiting} wait for a person, {expired} expired")
    turn = follow_up_cycle(released, desk.today(), desk.now(), "approval")
    what = "approval:" + "+".join(released)
    attempt = next_attempt(context.instance, REASON_TAG, what, most=MOST_RELEASES)
    if attempt is None:
        return dg.SensorResult(skip_reason=f"a run of {what} is under way, or enough have failed")
    tags = tags_of(desk, turn) | {REASON_TAG: what}
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"{what}#{attempt}", partition_key=turn.session.isoformat(), tags=tags)])


def _awaited(desk: Desk) -> service.Due:
    """What is due, as soon as anything is; a market whose minutes are not the wall clock's has no time to wait."""
    until = time.monotonic() + WAIT_SECONDS
    while True:
        due = service.due(desk)
        if due.released or due.overdue or time.monotonic() >= until or not bar_close.minutes_coincide(desk):
            return due
        if not desk.ledger.find("actions", state=service.WAITING, limit=1):
            return due
        time.sleep(_LOOK_SECONDS)
