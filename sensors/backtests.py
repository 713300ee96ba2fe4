"""Keeps the strategies that a backfill can choose in step with those of the home, and offers those of the package.

None is ever taken away: what a strategy's backtests came to stays in the catalogue.
"""

import dagster as dg

from assets.backtests import STRATEGIES
from trading_pipeline.homes import known_strategies
from trading_pipeline.service.desk import Desk


@dg.sensor(minimum_interval_seconds=15, default_status=dg.DefaultSensorStatus.RUNNING)
def backtest_strategies(context: dg.SensorEvaluationContext, desk: dg.ResourceParam[Desk]) -> dg.SensorResult | dg.SkipReason:
    """Offer each strategy, running or not, as a partition of the backtests."""
    assert STRATEGIES.name is not None
    known = set(context.instance.get_dynamic_partitions(STRATEGIES.name))
    new = [each for each in sorted(known_strategies(desk.ledger)) if each not in known]
    if not new:
        return dg.SkipReason(f"all {len(known)} strategies can be chosen")
    return dg.SensorResult(dynamic_partitions_requests=[STRATEGIES.build_add_request(new)])
