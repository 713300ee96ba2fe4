"""What was proposed, by whom, and why."""

from typing import Any

import dagster as dg

from assets.analysis import charts
from assets.market import ONE_RUN
from assets.materialize import materialize
from assets.missed import when_missed
from assets.partitions import SESSIONS
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.versions import Kind


@dg.asset(
    partitions_def=SESSIONS, backfill_policy=ONE_RUN, deps=[charts, Kind.DECISIONS.value], group_name="decisions", kinds={"llm"},
    owners=["team:desk"],
    **when_missed("signals"),
)
def signals(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """One Signal or Abstain per due strategy and symbol, with its reasons; late cycles are recorded as missed."""
    return materialize(context, desk)
