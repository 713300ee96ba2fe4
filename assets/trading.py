"""From a proposal to a portfolio: verdicts, orders, fills, snapshots. No retry policy on any of them."""

from typing import Any

import dagster as dg

from assets.decisions import signals
from assets.market import ONE_RUN
from assets.materialize import materialize
from assets.missed import when_missed
from assets.partitions import SESSIONS
from trading_pipeline.service.desk import Desk


@dg.asset(
    partitions_def=SESSIONS, backfill_policy=ONE_RUN, deps=[signals], group_name="trading", kinds={"rulebook"}, owners=["team:desk"],
    **when_missed("verdicts"),
)
def verdicts(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """Every rule's answer to every proposed action, with the measured value and the limit."""
    return materialize(context, desk)


@dg.asset(
    partitions_def=SESSIONS, backfill_policy=ONE_RUN, deps=[verdicts], group_name="trading", kinds={"broker"}, owners=["team:desk"],
    **when_missed("orders"),
)
def orders(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """Orders of released actions: judged again, committed, then sent once."""
    return materialize(context, desk)


@dg.asset(
    partitions_def=SESSIONS, backfill_policy=ONE_RUN, deps=[orders], group_name="trading", kinds={"broker"}, owners=["team:desk"],
    **when_missed("fills"),
)
def fills(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """Executions, each booked once, and what became of every open order."""
    return materialize(context, desk)


@dg.asset(
    partitions_def=SESSIONS, backfill_policy=ONE_RUN, deps=[fills], group_name="trading", kinds={"postgres"}, owners=["team:desk"],
    **when_missed("portfolio_snapshots"),
)
def portfolio_snapshots(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """Cash, positions, profit and loss after the cycle, compared with what the broker states."""
    return materialize(context, desk)
