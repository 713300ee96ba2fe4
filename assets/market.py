"""The market as it was: closed bars, unadjusted, in the archive."""

from typing import Any

import dagster as dg

from assets.materialize import materialize
from assets.missed import when_missed
from assets.partitions import SESSIONS
from trading_pipeline.service.desk import Desk

ONE_RUN = dg.BackfillPolicy.single_run()
"""State carries from session to session: a range is one ordered run."""


@dg.asset(
    partitions_def=SESSIONS, backfill_policy=ONE_RUN, group_name="market", kinds={"parquet"}, owners=["team:desk"],
    **when_missed("bars"),
)
def bars(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """Bars that closed since the last cycle, checked and archived; what made no sense is dropped and said."""
    return materialize(context, desk)
