"""How much a result depends on its settings: the same backtest at every point of a grid, in several processes, always in the same order.

A point is a plan, and what evaluates a plan is handed in, so nothing here knows an engine. What comes back from a process is a column of
returns and a few figures, not a ledger. Equal grids give equal answers, however many processes there are. What follows from the points
(deflated Sharpe ratio, probability of overfitting) is `domain.validation`'s business.
"""

import multiprocessing
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

import numpy as np

from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult
from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.performance import performance_of, returns_of
from trading_pipeline.domain.strategies import StrategySpec
from trading_pipeline.domain.validation import HeatMap, Trials
from trading_pipeline.errors import InputError, ServiceError, TradingError
from trading_pipeline.service.backtests.grids import Grid, Point

Evaluate = Callable[[BacktestPlan], BacktestResult]
"""Runs a plan, results only. One that cannot be pickled runs in one process where there is no safe fork."""
PROCESSES: Final = 2


@dataclass(frozen=True, slots=True)
class PointResult:
    """What one point came to; figures as in `domain.performance`, None where there is none."""

    point: Point
    label: str
    sessions: tuple[date, ...]
    returns: Floats
    total_return: float | None
    sharpe: float | None
    max_drawdown: float
    trades: int
    """Closed."""
    win_rate: float | None
    profit_factor: float | None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """All points of a grid, in its order."""

    grid: Grid
    points: tuple[PointResult, ...]

    @property
    def trials(self) -> Trials:
        """The returns that a validation takes the search into account by."""
        return Trials(self.points[0].sessions, np.column_stack([each.returns for each in self.points]))

    @property
    def best(self) -> PointResult | None:
        """The highest Sharpe ratio, the first of equals; None where no point traded."""
        return max((each for each in self.points if each.sharpe is not None), key=lambda each: each.sharpe or 0.0, default=None)

    def neighbours(self, place: int) -> tuple[PointResult, ...]:
        """The points one step away on one axis: a peak that stands alone among them is fitted."""
        shape = self.grid.shape
        at = np.unravel_index(place, shape)
        found = []
        for axis, size in enumerate(shape):
            for step in (-1, 1):
                if 0 <= at[axis] + step < size:
                    there = tuple(int(each) + step * (axis == number) for number, each in enumerate(at))
                    found.append(self.points[int(np.ravel_multi_index(there, shape))])
        return tuple(found)

    def heat_map(self, rows: int = 0, columns: int = 1, figure: str = "sharpe") -> HeatMap:
        """A figure over two of the axes; over further ones it is the mean.

        Args:
            rows: Number of the axis that goes down; with one axis there is one row.
            figure: `sharpe`, `total_return`, `max_drawdown`, `win_rate`, `profit_factor` or `trades`.
        """
        grid = self.grid
        values = np.array([_figure(each, figure) for each in self.points], np.float64).reshape(grid.shape)
        if len(grid.axes) == 1:
            axis = grid.axes[0]
            own = None if grid.own is None else (0, grid.own)
            return HeatMap(figure, "", axis.name, ("",), axis.values, values[None, :], own, "")
        values = np.moveaxis(values, (rows, columns), (0, 1))
        others = [axis.name for number, axis in enumerate(grid.axes) if number not in (rows, columns)]
        flat = values.reshape(*values.shape[:2], -1)
        known = np.isfinite(flat)
        # Where no point along the others has a figure there is none, and no warning either.
        sums = np.where(known, flat, 0).sum(axis=2)
        mean = np.divide(sums, known.sum(axis=2), out=np.full(sums.shape, np.nan), where=known.any(axis=2))
        own = None
        if grid.own is not None:
            at = np.unravel_index(grid.own, grid.shape)
            own = (int(at[rows]), int(at[columns]))
        down, across = grid.axes[rows], grid.axes[columns]
        note = f"Mean over {', '.join(others)}." if others else ""
        return HeatMap(figure, down.name, across.name, down.values, across.values, mean, own, note)


def sensitivity(
    plan: BacktestPlan, grid: Grid, evaluate: Evaluate, *, processes: int = PROCESSES, progress: Callable[[], None] | None = None,
) -> Sensitivity:
    """Run every point of a grid.

    Args:
        plan: Of one strategy, the one that the grid is of.
        evaluate: Runs one plan, such as `evaluating.OnBench`.
        processes: 1 runs everything in this one.
        progress: Told after each point.

    Raises:
        InputError: The plan is not of the grid's strategy; or as `evaluate` raises, the point named.
        ServiceError: A process ended before its work did.
    """
    if plan.strategies != (grid.spec,):
        raise InputError(
            f"The grid is of {grid.spec.name}, the backtest of {', '.join(spec.name for spec in plan.strategies)}.", value=plan.name,
            rule="a grid varies the one strategy of a backtest", remedy="backtest that strategy alone",
        )
    plans = [planned(plan, point.spec) for point in grid.points]
    labels = [grid.label(point) for point in grid.points]
    found: list[PointResult] = []
    with _mapped(evaluate, min(processes, len(plans))) as run:
        for point, label, summary in zip(grid.points, labels, run(plans, labels), strict=True):
            found.append(replace(summary, point=point, label=label))
            if progress is not None:
                progress()
    return Sensitivity(grid, tuple(found))


def planned(plan: BacktestPlan, spec: StrategySpec) -> BacktestPlan:
    """The plan with another setting of its one strategy."""
    return replace(plan, strategies=(spec,))


def summarised(result: BacktestResult, point: Point, label: str = "") -> PointResult:
    """The figures of a result that a grid keeps."""
    figures = performance_of(result)
    return PointResult(
        point, label, result.sessions, returns_of(result.equity, result.cash), figures.total_return, figures.sharpe, figures.max_drawdown,
        figures.trades.closed, figures.trades.win_rate, figures.trades.profit_factor,
    )


def _figure(point: PointResult, name: str) -> float:
    value = getattr(point, name)
    return float("nan") if value is None else float(value)


_Run = Callable[[Sequence[BacktestPlan], Sequence[str]], Iterator[PointResult]]
_evaluate: Evaluate
"""Of a worker."""


@contextmanager
def _mapped(evaluate: Evaluate, processes: int) -> Iterator[_Run]:
    """Something that runs plans in order, here or in worker processes."""
    if processes <= 1 or not (_forks() or _travels(evaluate)):
        yield lambda plans, labels: (_named(evaluate, plan, label) for plan, label in zip(plans, labels, strict=True))
        return
    context = multiprocessing.get_context("fork" if _forks() else "spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(evaluate,))
    try:
        yield lambda plans, labels: pool.map(_in_worker, plans, labels)
    except BrokenProcessPool as error:
        raise ServiceError(
            "A process that ran backtests of the grid ended before its work did.", value=processes,
            rule="each process holds the bars of the backtest in memory", remedy="free memory, or run the grid in one process",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _forks() -> bool:
    """A fork has the bars already and starts at once; but beside threads, one of which may hold a lock for good, it is not safe."""
    return sys.platform == "linux" and threading.active_count() == 1


def _travels(evaluate: Evaluate) -> bool:
    """Whether it can be sent to a process that is no fork; if not, everything runs here, slower and just the same."""
    try:
        pickle.dumps(evaluate)
    except (pickle.PicklingError, TypeError, AttributeError):
        return False
    return True


def _begin(evaluate: Evaluate) -> None:
    """In a worker: whoever interrupts the command interrupts its parent, which ends the workers."""
    global _evaluate
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _evaluate = evaluate


def _in_worker(plan: BacktestPlan, label: str) -> PointResult:
    return _named(_evaluate, plan, label)


def _named(evaluate: Evaluate, plan: BacktestPlan, label: str) -> PointResult:
    try:
        return summarised(evaluate(plan), Point((), plan.strategies[0]))
    except TradingError as error:
        raise type(error)(f"At {label}: {error.message}", value=error.value, rule=error.rule, remedy=error.remedy) from error
