"""What can be seen in the market: indicators as numbers, charts as pictures."""

from typing import Any

import dagster as dg

from assets.by_session import by_session
from assets.market import bars
from assets.materialize import materialize
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.record.versions import Kind


@dg.asset(deps=[bars, Kind.INDICATORS.value], group_name="analysis", kinds={"talib"}, **by_session("indicators"))
def indicators(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """Every indicator a due strategy asks for, at the newest bar; what is in warm-up says so."""
    return materialize(context, desk)


@dg.asset(deps=[indicators, Kind.CHARTS.value], group_name="analysis", kinds={"matplotlib"}, **by_session("charts"))
def charts(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """A picture per symbol where a strategy shows one, stored by the digest of its bytes."""
    return materialize(context, desk)
