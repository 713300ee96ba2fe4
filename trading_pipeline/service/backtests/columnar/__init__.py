"""The columnar engine: rules over whole columns, Python only where something can happen.

`lanes` evaluates the rules, `simulation` plays the account from candidate to candidate, `sizes` and `judging` say how much and
whether, `losses` where a day's loss ended it, `outcome` what came of it: `results`, for grids of many plans. With a ledger, `run` takes the
real steps of the pipeline at the closes that the columns have found, and nowhere else, and compares what came of it: every such
backtest is computed twice. What columns cannot tell is said by `why_not`; then the stepped engine, to which property tests hold this
one, plays the plan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache

import numpy as np

from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult
from trading_pipeline.domain.bars import Interval, instant_of
from trading_pipeline.errors import ServiceError
from trading_pipeline.ports import Ledger
from trading_pipeline.service.backtests.bench import Bench, Stepped, sessions_of
from trading_pipeline.service.backtests.columnar.incidents import Account
from trading_pipeline.service.backtests.columnar.lanes import Grid, Ground, Lane, Unfit, ground_of, lanes_of
from trading_pipeline.service.backtests.columnar.losses import play
from trading_pipeline.service.backtests.columnar.outcome import result_of
from trading_pipeline.service.backtests.stepping import Progress, step

__all__ = ["Unfit", "results", "run", "why_not"]


def why_not(bench: Bench, plan: BacktestPlan) -> str:
    """Why a plan is not one for columns; empty when it is."""
    try:
        _played(_Same(bench), plan)
    except Unfit as unfit:
        return str(unfit)
    return ""


def results(bench: Bench, plan: BacktestPlan, assumptions: Sequence[str] = ()) -> BacktestResult:
    """What comes of a plan, without a ledger: the same decisions, trades and equity.

    Raises:
        Unfit: The stepped engine has to play it.
    """
    played = _play(bench, plan)
    days = [session.day for session in sessions_of(bench.calendar, plan)]
    return result_of(plan, played.lanes, played.grid, played.account, days, assumptions)


def run(bench: Bench, plan: BacktestPlan, ledger: Ledger, progress: Progress | None = None) -> None:
    """Take the steps of the pipeline where the columns have found something, on an empty ledger.

    Raises:
        Unfit: The stepped engine has to play it.
        ServiceError: The two engines disagree: a fault of the program.
    """
    played = _played(_Same(bench), plan)
    desk = bench.desk(plan, ledger)
    assert isinstance(desk.clock, Stepped)
    step(desk, desk.clock, plan, progress, only_where=played.instants().__contains__)
    _agree(plan, ledger, played)


@dataclass(frozen=True, slots=True)
class _Played:
    """A plan played through by columns."""

    lanes: Sequence[Lane]
    grid: Grid
    account: Account
    stopped: Mapping[str, int]
    """From which bar on a loss has stopped which strategy."""

    def instants(self) -> frozenset[datetime]:
        """When something was decided, filled or stopped, and each session's first close, which opens it."""
        account, grid = self.account, self.grid
        bars = {bar for _, bar, _ in account.decisions} | {fill.step for fill in account.fills} | set(self.stopped.values())
        bars |= set(range(len(grid)) if grid.daily else np.searchsorted(grid.session_of, np.arange(len(grid.days))).tolist())
        inside = (bar for bar in bars if bar + 1 < len(grid))
        return frozenset(instant_of(grid.start[bar + 1] if grid.daily else grid.end[bar]) for bar in inside)


class _Same:
    """A bench as a key: by its identity."""

    def __init__(self, bench: Bench) -> None:
        self.it = bench

    def __hash__(self) -> int:
        return id(self.it)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.it is other.it


@lru_cache(maxsize=2)
def _played(bench: _Same, plan: BacktestPlan) -> _Played:
    """Asked whether it can, then told to: played once."""
    return _play(bench.it, plan)


@lru_cache(maxsize=8)
def _ground(bench: "_Same", symbols: tuple[str, ...], interval: Interval, first: date, last: date) -> Ground:
    """Laid once for all the plans that are played on it."""
    tables = {symbol: bench.it.tables[symbol, interval] for symbol in symbols}
    return ground_of(tables, bench.it.splits, bench.it.calendar, first, last)


def _play(bench: Bench, plan: BacktestPlan) -> _Played:
    if len({spec.interval for spec in plan.strategies}) > 1:
        raise Unfit("its strategies decide on different intervals")
    ground = _ground(_Same(bench), plan.symbols, plan.interval, plan.first, plan.last)
    of_plan = lanes_of(plan, ground)
    return _Played(of_plan, ground.grid, *play(plan, of_plan, ground.grid))


def _agree(plan: BacktestPlan, ledger: Ledger, played: _Played) -> None:
    """Hold the ledger's executions to those of the columns."""
    found = [
        (row["strategy"], row["symbol"], row["side"], row["quantity"], row["price"], row["commission"], row["at"])
        for row in ledger.find("fills", order_by="seq")
    ]
    expected = [fill.told(played.lanes[fill.lane]) for fill in played.account.fills]
    if sorted(found) == sorted(expected):
        return
    first = next((ours for ours, theirs in zip(sorted(expected), sorted(found), strict=False) if ours != theirs), None)
    raise ServiceError(
        f"The engines disagree about {plan.name}: {len(found)} executions by the steps, {len(expected)} by columns; the first is {first}.",
        value=plan.name, rule="columns decide as the steps of the pipeline do", remedy="run it with --engine stepped, and report it",
    )
