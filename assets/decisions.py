"""What was proposed, by whom, and why."""

from typing import Any

import dagster as dg

from assets.analysis import charts
from assets.by_session import by_session
from assets.materialize import materialize
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.record.versions import Kind


@dg.asset(deps=[charts, Kind.DECISIONS.value], group_name="decisions", kinds={"llm"}, **by_session("signals"))
def signals(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """One Signal or Abstain per due strategy and symbol, with its reasons; late cycles are recorded as missed."""
    return materialize(context, desk)
