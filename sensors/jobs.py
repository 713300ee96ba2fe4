"""The jobs that sensors launch: the whole chain for a closed bar, its end for approvals and orders, the session's close, the evidence."""

from datetime import date

import dagster as dg

from assets.analysis import charts, indicators
from assets.decisions import signals
from assets.evidence import model_report, outcomes
from assets.market import bars
from assets.trading import fills, orders, portfolio_snapshots, verdicts
from resources.run_process import mark_run
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.submitter.closing import close_session

NO_RETRIES = {"dagster/max_retries": "0"}

cycle = dg.define_asset_job(
    "cycle", selection=dg.AssetSelection.assets(bars, indicators, charts, signals, verdicts, orders, fills, portfolio_snapshots),
    tags=NO_RETRIES, description="A bar closed: from bars to portfolio snapshots, for every strategy that is due.",
)
follow_up = dg.define_asset_job(
    "follow_up", selection=dg.AssetSelection.assets(orders, fills, portfolio_snapshots), tags=NO_RETRIES,
    description="Approved or released actions, or news of open orders: orders, fills and snapshots for exactly those.",
)
evidence = dg.define_asset_job(
    "evidence", selection=dg.AssetSelection.assets(outcomes, model_report), tags=NO_RETRIES,
    description="What became of each signal, and whether those who decide are any good.",
)


@dg.op(required_resource_keys={"desk"}, config_schema={"session": str}, description="Cancel entries, void proposals, finish, report.")
def close(context: dg.OpExecutionContext) -> None:
    """Close the session that the run names."""
    mark_run(context.instance, context.run)
    desk: Desk = context.resources.desk
    report = close_session(desk, desk.calendar.session(date.fromisoformat(context.op_config["session"])))
    context.add_output_metadata({"report": dg.MetadataValue.json(report)})


@dg.job(tags=NO_RETRIES, description="The session's close: cancel entries, void proposals, finish strategies of its lifetime, report.")
def session_close() -> None:
    """One op: the close is one fact."""
    close()
