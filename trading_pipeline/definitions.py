"""Everything Dagster knows of the pipeline: assets, checks, jobs, sensors and the desk."""

import dagster as dg

from assets import analysis, backtests, checks, decisions, evidence, market, settings, trading
from resources.backtests import backtests_resource
from resources.desk import desk_resource
from sensors import approvals, bar_close, jobs, orders, retention, safety, session_close, versions, watchdog
from sensors.backtests import backtest_strategies
from sensors.evidence import evidence as evidence_sensor

defs = dg.Definitions(
    assets=[
        *dg.load_assets_from_modules([market, analysis, decisions, trading, evidence, backtests]), *settings.SPECS, watchdog.WATCHED,
    ],
    asset_checks=dg.load_asset_checks_from_modules([checks, watchdog]),
    jobs=[jobs.cycle, jobs.follow_up, jobs.session_close, jobs.evidence, retention.retention],
    sensors=[
        bar_close.bar_close, approvals.approvals, orders.orders, session_close.session_close, safety.safety, safety.lost_runs,
        versions.versions, watchdog.watchdog, evidence_sensor, backtest_strategies,
    ],
    schedules=[bar_close.bar_close_by_the_minute, retention.retention_nightly],
    resources={"desk": desk_resource, "backtests": backtests_resource},
    executor=dg.in_process_executor,
)
