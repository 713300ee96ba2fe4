"""The market as it was: closed bars, unadjusted, in the archive."""

from typing import Any

import dagster as dg

from assets.by_session import by_session
from assets.materialize import materialize
from trading_pipeline.service.desk import Desk


@dg.asset(group_name="market", kinds={"parquet"}, **by_session("bars"))
def bars(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """Bars that closed since the last cycle, checked and archived; what made no sense is dropped and said."""
    return materialize(context, desk)
