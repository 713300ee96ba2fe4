"""Orders: releases paced actions when their time has come, and follows orders that the broker has news of."""

import dagster as dg

from assets.partitions import tags_of
from sensors.jobs import follow_up
from trading_pipeline.domain.cycles import follow_up as follow_up_cycle
from trading_pipeline.service import approvals as service
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.settlement import news


@dg.sensor(job=follow_up, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def orders(desk: dg.ResourceParam[Desk]) -> dg.SensorResult:
    """A run for exactly the actions whose `not_before` has come, or for open orders with news; never a sleep in a run."""
    due = service.due(desk)
    released = tuple(name for name in due.released if desk.ledger.get("approvals", name) is None)
    heard = news(desk)
    if not released and not heard:
        return dg.SensorResult(skip_reason="no action is released and no open order has news")
    cycle = follow_up_cycle(released, desk.today(), desk.now(), "release" if released else "orders")
    key = "release:" + "+".join(released) if released else "orders:" + heard
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key, partition_key=cycle.session.isoformat(), tags=tags_of(cycle))])
