"""One run of ours for `bench.backtest`, in a process of its own: `python -m bench.ours MODE SYMBOLS`, with BENCH_ROOT as the peers have it.

    prepare      write the harness's bars into the archive of a home, each checked against our calendar
    ledger       backtest with the whole ledger
    told         the same, put into words and read
    results      the same decisions, nothing written
    every-bar    the same by a function that is asked at every close, as the peers' strategies in Python are; nothing written
    steps        the steps of the pipeline at every bar with the whole ledger, over the first sessions alone
    grid         a hundred settings of the strategy on one symbol, results only, two processes

Timed is the run alone, as the peers time it: what is imported and the bars are in memory before. A few sessions are run first, so that what
is imported late is there too; nothing of what they computed is used again.
"""

import gc
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.backtest_plan import ACCOUNT, MINUTE_NS, load, plan
from bench.peers import SYMBOLS
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.bootstrap_backtests import open_bench
from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult, ExitReason, Trade
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns
from trading_pipeline.domain.signals import Action
from trading_pipeline.ports import Home
from trading_pipeline.service.backtests import columnar
from trading_pipeline.service.backtests.bench import Bench
from trading_pipeline.service.backtests.columnar.asking import Ask, Values
from trading_pipeline.service.backtests.engines import Backtest, Engine, run
from trading_pipeline.service.backtests.evaluating import OnBench
from trading_pipeline.service.backtests.grids import grid_of
from trading_pipeline.service.backtests.results import marks_of, result_of
from trading_pipeline.service.backtests.sensitivity import sensitivity
from trading_pipeline.settings import Settings

GRID = ("rsi_14 crossed_below {21..39..2}", "rsi_14 > {46..64..2}")
"""Ten by ten."""
Ran = TypeVar("Ran")
Kept = TypeVar("Kept")
WARM_UP_BARS = 3 * 390


def prepare(root: Path) -> dict[str, Any]:
    """A home with the bars in its archive, made anew."""
    home = root / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    calendar = load_calendar(home / "cache")
    tables = load(root, SYMBOLS, calendar)
    ParquetArchive(Home(home).archive).append_many(tables)
    shutil.copyfile(ACCOUNT, home / "trading.toml")
    asked = plan(tables[0])
    return {"first": asked.first.isoformat(), "last": asked.last.isoformat()}


class Stage:
    """The benches of so many accounts, one a symbol, and their plans."""

    def __init__(self, root: Path, symbols: int, stack: ExitStack) -> None:
        """Read the bars."""
        settings = Settings.load(root / "home")
        archive, until = Home(settings.home).archive, load_calendar(settings.home / "cache").horizon.close
        self.plans = [plan(ParquetArchive(archive).read(symbol, Interval.MIN1, until=until)) for symbol in SYMBOLS[:symbols]]
        self.benches = [stack.enter_context(open_bench(settings, each)) for each in self.plans]
        self.bars = [table for bench in self.benches for table in bench.tables.values()]

    def few(self) -> tuple[Bench, BacktestPlan]:
        """The first symbol's first sessions."""
        table = self.bars[0].rows(0, WARM_UP_BARS)
        bench = replace(self.benches[0], tables={(table.symbol, table.interval): table})
        return bench, replace(self.plans[0], last=table.session_days[-1].item())


def measured(
    stage: Stage, run_one: Callable[[Bench, BacktestPlan], Ran], kept: Callable[[Bench, Ran], Kept],
) -> tuple[list[Kept], dict[str, Any]]:
    """Of every account's run what is kept, which is not timed; and what all runs took together."""
    run_one(*stage.few())
    cpu = wall = 0.0
    found = []
    for bench, asked in zip(stage.benches, stage.plans, strict=True):
        gc.collect()
        began_cpu, began = time.process_time(), time.perf_counter()
        done = run_one(bench, asked)
        cpu, wall = cpu + time.process_time() - began_cpu, wall + time.perf_counter() - began
        found.append(kept(bench, done))
        del done
    return found, {"bars": sum(map(len, stage.bars)), "run_cpu": round(cpu, 4), "run_s": round(wall, 4)}


def with_ledger(stage: Stage) -> tuple[list[BacktestResult], dict[str, Any]]:
    """Backtests as users have them, before they are stored or read: one after another, each let go."""

    def counted(_: Bench, done: Backtest) -> BacktestResult:
        assert done.counted is not None
        return done.counted()

    return measured(stage, partial(run, engine=Engine.COLUMNAR), counted)


def told(stage: Stage) -> tuple[list[BacktestResult], dict[str, Any]]:
    """The same, and every fact put into words and chained; afterwards each ledger is read, and the results are what it says."""

    def run_and_tell(bench: Bench, asked: BacktestPlan) -> Backtest:
        done = run(bench, asked, engine=Engine.COLUMNAR)
        done.ledger.head()
        return done

    def read(bench: Bench, done: Backtest) -> tuple[BacktestResult, int]:
        return result_of(done.ledger, marks=marks_of(bench)), done.ledger.head()[0]

    found, figures = measured(stage, run_and_tell, read)
    return [result for result, _ in found], figures | {"facts": sum(facts for _, facts in found)}


def results_only(stage: Stage) -> tuple[list[BacktestResult], dict[str, Any]]:
    """The same decisions, nothing written."""
    return measured(stage, columnar.results, lambda _, result: result)


def every_bar(stage: Stage) -> tuple[list[BacktestResult], dict[str, Any]]:
    """A function decides, without a trigger."""
    asked = {spec.name: dips for each in stage.plans for spec in each.strategies}
    return measured(stage, partial(columnar.results, agents=asked), lambda _, result: result)


def dips(symbol: str) -> Ask:  # noqa: ARG001 - every symbol's is the same
    """The strategy's rule in Python."""

    def decide(now: Values, before: Values, held: int | None) -> Action:
        if held is None:
            return Action.BUY if before["rsi_14"] >= 30 > now["rsi_14"] else Action.HOLD
        return Action.SELL if now["rsi_14"] > 55 or held >= 60 else Action.HOLD

    return decide


def steps(stage: Stage) -> dict[str, Any]:
    """Every close taken through the steps of the pipeline, everything written: the first sessions, and these for the second time."""
    bench, asked = stage.few()
    run(bench, asked, engine=Engine.STEPPED)
    began = time.process_time()
    done = run(bench, asked, engine=Engine.STEPPED)
    return {"bars": WARM_UP_BARS, "run_cpu": round(time.process_time() - began, 4), "facts": done.ledger.count()}


def grid(stage: Stage) -> dict[str, Any]:
    """Two processes, wall time and CPU of both."""
    asked = grid_of(stage.plans[0].strategies[0], GRID)
    wall = time.perf_counter()
    found = sensitivity(stage.plans[0], asked, OnBench(stage.benches[0]))
    wall, times = time.perf_counter() - wall, os.times()
    cpu = times.children_user + times.children_system
    return {"points": len(found.points), "wall_s": round(wall, 2), "grid_cpu_s": round(cpu, 2)}


def write_trades(root: Path, mode: str, bars: Sequence[BarTable], results: Sequence[BacktestResult]) -> int:
    """As the peers write theirs, by the bars of entry and exit; how many there are. An open trade is none, as theirs."""
    lines = []
    for number, (table, result) in enumerate(zip(bars, results, strict=True)):
        lines += [_line(number, table, trade) for trade in result.trades if trade.exit_reason is not ExitReason.OPEN]
    (root / "out" / f"trades_ours_{mode}_{len(bars)}.csv").write_text("".join(lines), "ascii")
    return len(lines)


def _line(number: int, table: BarTable, trade: Trade) -> str:
    entry, left = bar_of_entry(table, trade), bar_of_exit(table, trade)
    return f"{number},{entry},{trade.entry_price:.6f},{left},{trade.exit_price:.6f},{trade.shares:.4f}\n"


def bar_of_entry(table: BarTable, trade: Trade) -> int:
    """When the bar of an entry at its open starts, ns."""
    return int(table.start[np.searchsorted(table.end, instant_ns(trade.entry_at), side="right")])


def bar_of_exit(table: BarTable, trade: Trade) -> int:
    """When the bar of an exit starts, ns.

    What fills at an open is stamped with the bar's start, what its range reaches with its end. A stop that fills as one bar ends and
    another starts was reached in the older one's range if that went so low; otherwise it stood below it, and the newer one opened lower.
    """
    at = instant_ns(trade.exit_at)
    if trade.exit_reason is ExitReason.STOP and trade.exit_at > trade.entry_at:
        older = int(np.searchsorted(table.end, at))
        if older < len(table) and table.end[older] == at and table.low[older] <= float(trade.exit_price):
            return at - MINUTE_NS
    return at


def main(mode: str, symbols: int) -> int:
    """Do it and print what it took."""
    root = Path(os.environ["BENCH_ROOT"])
    with ExitStack() as stack:
        match mode:
            case "prepare":
                figures = prepare(root)
            case "grid":
                figures = grid(Stage(root, symbols, stack))
            case "steps":
                figures = steps(Stage(root, symbols, stack))
            case "ledger" | "told" | "results" | "every-bar":
                stage, runs = Stage(root, symbols, stack), {"told": told, "results": results_only, "every-bar": every_bar}
                found, figures = runs.get(mode, with_ledger)(stage)
                figures["trades"] = write_trades(root, mode, stage.bars, found)
            case _:
                raise SystemExit(f"there is no mode {mode}")
    print("RESULT " + json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
