"""Orders: releases paced actions when their time has come, and follows orders that the broker has news of."""

import dagster as dg

from assets.partitions import tags_of
from sensors.attempts import MOST_ATTEMPTS, MOST_RELEASES, REASON_TAG, next_attempt
from sensors.jobs import follow_up
from trading_pipeline.domain.cycles import follow_up as follow_up_cycle
from trading_pipeline.service import approvals as service
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.orders.settlement import news


@dg.sensor(job=follow_up, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def orders(context: dg.SensorEvaluationContext, desk: dg.ResourceParam[Desk]) -> dg.SensorResult:
    """A run for exactly the actions whose `not_before` has come, or for open orders with news; never a sleep in a run."""
    due = service.due(desk)
    released = tuple(name for name in due.released if desk.ledger.get("approvals", name) is None)
    heard = news(desk)
    if not released and not heard:
        return dg.SensorResult(skip_reason="no action is released and no open order has news")
    turn = follow_up_cycle(released, desk.today(), desk.now(), "release" if released else "orders")
    what = "release:" + "+".join(released) if released else "orders:" + heard
    attempt = next_attempt(context.instance, REASON_TAG, what, most=MOST_RELEASES if released else MOST_ATTEMPTS)
    if attempt is None:
        return dg.SensorResult(skip_reason=f"a run of {what} is under way, or enough have failed")
    tags = tags_of(desk, turn) | {REASON_TAG: what}
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"{what}#{attempt}", partition_key=turn.session.isoformat(), tags=tags)])
