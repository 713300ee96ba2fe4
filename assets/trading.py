"""From a proposal to a portfolio: verdicts, orders, fills, snapshots. No retry policy on any of them."""

from typing import Any

import dagster as dg

from assets.by_session import by_session
from assets.decisions import signals
from assets.materialize import materialize
from trading_pipeline.service.desk import Desk


@dg.asset(deps=[signals], group_name="trading", kinds={"rulebook"}, **by_session("verdicts"))
def verdicts(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """Every rule's answer to every proposed action, with the measured value and the limit."""
    return materialize(context, desk)


@dg.asset(deps=[verdicts], group_name="trading", kinds={"broker"}, **by_session("orders"))
def orders(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """Orders of released actions: judged again, committed, then sent once."""
    return materialize(context, desk)


@dg.asset(deps=[orders], group_name="trading", kinds={"broker"}, **by_session("fills"))
def fills(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """Executions, each booked once, and what became of every open order."""
    return materialize(context, desk)


@dg.asset(deps=[fills], group_name="trading", kinds={"postgres"}, **by_session("portfolio_snapshots"))
def portfolio_snapshots(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """Cash, positions, profit and loss after the cycle, compared with what the broker states."""
    return materialize(context, desk)
