"""The columnar engine: rules over whole columns, Python only where something can happen.

`lanes` evaluates the rules, `simulation` plays the account from candidate to candidate, `sizes` and `judging` say how much and
whether, `losses` where a day's loss ended it, `outcome` what came of it. What it cannot tell is said by `why_not` before a run and
by `Unfit` during one; then the stepped engine, to which property tests hold this one, plays the plan.
"""

from collections.abc import Mapping, Sequence

from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult
from trading_pipeline.domain.bars import BarTable
from trading_pipeline.service.backtests.bench import Bench, sessions_of
from trading_pipeline.service.backtests.columnar import lanes
from trading_pipeline.service.backtests.columnar.incidents import Unfit
from trading_pipeline.service.backtests.columnar.losses import play
from trading_pipeline.service.backtests.columnar.outcome import result_of

__all__ = ["Unfit", "obstacle", "results"]


def obstacle(bench: Bench, plan: BacktestPlan) -> str:
    """Why a plan is not one for columns; empty when it is."""
    return lanes.why_not(plan, _tables(bench, plan), bench.splits, bench.calendar)


def results(bench: Bench, plan: BacktestPlan, assumptions: Sequence[str] = ()) -> BacktestResult:
    """What comes of a plan, without a ledger: the same decisions, trades and equity, for grids of many plans.

    Raises:
        Unfit: The stepped engine has to play it.
    """
    tables = _tables(bench, plan)
    reason = lanes.why_not(plan, tables, bench.splits, bench.calendar)
    if reason:
        raise Unfit(reason)
    grid = lanes.grid_of(plan, tables, bench.calendar)
    of_plan = lanes.lanes_of(plan, tables, grid)
    account, _ = play(plan, of_plan, grid)
    return result_of(plan, of_plan, grid, account, [session.day for session in sessions_of(bench.calendar, plan)], assumptions)


def _tables(bench: Bench, plan: BacktestPlan) -> Mapping[str, BarTable]:
    return {symbol: bench.tables[symbol, plan.interval] for symbol in plan.symbols}
