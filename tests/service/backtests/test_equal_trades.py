"""Trade for trade: a backtest has the trades of a plain simulation of the strategy's text, and that one has backtesting.py's.

The digests are of backtesting.py 0.6.6's own lists on the bars of the peers' harness, so that it need not be installed. The small market
is always there; the harness (`PEERS=DIR`) is not part of this project, and what needs it says so. The same comparison with the whole ledger
of a year, five times, is part of `make bench-backtest`.
"""

import hashlib
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from bench.backtest_plan import load, plan
from bench.ours import bar_of_entry, bar_of_exit
from bench.peers import SYMBOLS, Harness, NotMeasured
from tests.desks import calendar
from tests.service.backtests.benches import bench_of
from tests.service.backtests.plain_simulation import MOST_BARS, Traded, simulate
from tests.service.backtests.rough_market import rough_minutes, rows_of
from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult, ExitReason
from trading_pipeline.domain.bars import BarTable
from trading_pipeline.service.backtests import columnar
from trading_pipeline.service.backtests.bench import Bench
from trading_pipeline.service.backtests.engines import Engine, run
from trading_pipeline.service.backtests.results import marks_of, result_of, result_of_backtest

PEERS = Path(os.environ.get("PEERS") or Path(__file__).parents[3].parent / "shared" / "bench")
HARNESS_BARS = "cc636c1af4dae69a"
"""As the harness's generator prints it, with numpy 2 on x86-64."""
BACKTESTING_PY = {
    "AAA": (1057, "4141331286909f2e"), "BBB": (1036, "a4e25c33fb44fcf3"), "CCC": (1123, "c7df13d834b82e25"),
    "DDD": (1021, "283cf63b640261ae"), "EEE": (1030, "12162e769d3a07db"),
}
"""Trades, and the digest of their list."""


def trades_of(result: BacktestResult, bars: BarTable) -> list[Traded]:
    """Those that were closed, by the bars of entry and exit."""
    return [
        Traded(bar_of_entry(bars, each), float(each.entry_price), bar_of_exit(bars, each), float(each.exit_price))
        for each in result.trades if each.exit_reason is not ExitReason.OPEN
    ]


def entered(trades: list[Traded]) -> list[Traded]:
    """Without those that were stopped at the open that they were bought at: it lay at their stop or below."""
    return [each for each in trades if (each.entry_start, each.entry_price) != (each.exit_start, each.exit_price)]


def results_only(bench: Bench, asked: BacktestPlan) -> BacktestResult:
    return columnar.results(bench, asked)


def with_the_ledger(bench: Bench, asked: BacktestPlan) -> BacktestResult:
    return result_of(run(bench, asked, engine=Engine.COLUMNAR).ledger, marks=marks_of(bench))


def step_by_step(bench: Bench, asked: BacktestPlan) -> BacktestResult:
    return result_of_backtest(bench, run(bench, asked, engine=Engine.STEPPED))


@pytest.fixture(scope="module")
def rough() -> BarTable:
    """Seventeen sessions, one of them with an early close."""
    return rough_minutes("AAA", 0, date(2023, 11, 15), date(2023, 12, 8), calendar())


def test_the_rough_market_has_every_kind_of_trade(rough):
    rows = rows_of(rough, calendar())
    trades = simulate(rows)
    place = {row.start: number for number, row in enumerate(rows)}
    spans = [(place[trade.entry_start], place[trade.exit_start], trade) for trade in trades]

    def at_open(end, trade):
        return trade.exit_price == rows[end].open

    assert len(trades) > 50
    assert any(begin == end for begin, end, _ in spans), "stopped in the bar of its entry"
    assert any(not at_open(end, trade) for _, end, trade in spans), "stopped within a bar"
    assert any(at_open(end, trade) and rows[end - 1].last for _, end, trade in spans), "a gap over night through its stop"
    assert any(end - begin == MOST_BARS and at_open(end, trade) for begin, end, trade in spans), "sold after sixty bars"
    assert any(rows[end].start - rows[begin].start > 8 * 3600 * 10**9 for begin, end, _ in spans), "held over night"


def test_columns_make_the_trades_of_the_plain_simulation(rough, tmp_path):
    asked = plan(rough)
    with bench_of(tmp_path, asked, rough) as bench:
        assert trades_of(results_only(bench, asked), rough) == entered(simulate(rows_of(rough, calendar())))


def test_an_entry_that_opens_at_its_own_stop_is_left_out(rough, tmp_path):
    """The plain text would buy and be stopped at once; sizing has no stop below such a price."""
    simulated, asked = simulate(rows_of(rough, calendar())), plan(rough)
    with bench_of(tmp_path, asked, rough) as bench:
        found = results_only(bench, asked)
    assert len(simulated) - len(entered(simulated)) == found.denials["sizing"] == 1


@pytest.mark.parametrize(("engine", "sessions"), [(with_the_ledger, 4), (step_by_step, 1)])
def test_the_real_steps_make_the_trades_of_the_plain_simulation(engine, sessions, rough, tmp_path):
    days = rough.session_days
    short = rough.where(days < np.unique(days)[sessions])
    asked = plan(short)
    with bench_of(tmp_path, asked, short) as bench:
        found = trades_of(engine(bench, asked), short)
    assert len(found) >= 3 * sessions
    assert found == entered(simulate(rows_of(short, calendar())))


def test_a_session_without_bars_is_passed_over(rough, tmp_path):
    days = rough.session_days
    broken = rough.where(days != np.datetime64("2023-11-24"))
    asked = plan(broken)
    with bench_of(tmp_path, asked, broken) as bench:
        assert trades_of(results_only(bench, asked), broken) == entered(simulate(rows_of(broken, calendar())))


@pytest.fixture(scope="module")
def harness_bars(tmp_path_factory) -> list[BarTable]:
    """Five symbols, 252 sessions of 390 minutes each."""
    try:
        harness = Harness(PEERS, tmp_path_factory.mktemp("peers"))
    except NotMeasured as why:
        pytest.skip(str(why))
    digest = harness.data()
    if digest != HARNESS_BARS:
        pytest.skip(f"numpy makes other bars of the harness's seed here ({digest}) than those that backtesting.py's trades are known of")
    return load(harness.root, SYMBOLS, calendar())


@pytest.mark.slow
def test_five_accounts_make_backtesting_pys_trades(harness_bars, tmp_path):
    ours = {}
    with ExitStack() as stack:
        for bars in harness_bars:
            asked = plan(bars)
            bench = stack.enter_context(bench_of(tmp_path / bars.symbol, asked, bars))
            ours[bars.symbol] = trades_of(results_only(bench, asked), bars)
    assert {symbol: (len(trades), digest_of(trades)) for symbol, trades in ours.items()} == BACKTESTING_PY
    assert sum(map(len, ours.values())) == 5267


@pytest.mark.slow
def test_the_plain_simulation_makes_backtesting_pys_trades(harness_bars):
    found = {bars.symbol: simulate(rows_of(bars, calendar())) for bars in harness_bars}
    assert {symbol: (len(trades), digest_of(trades)) for symbol, trades in found.items()} == BACKTESTING_PY


def digest_of(trades: list[Traded]) -> str:
    """Of a list in its order."""
    return hashlib.sha256("".join(
        f"{each.entry_start} {each.entry_price:.4f} {each.exit_start} {each.exit_price:.4f}\n" for each in trades
    ).encode()).hexdigest()[:16]


@pytest.mark.parametrize("change", [{"max_bars": 59}, {"exit_when": "rsi_14 >= 56"}, {"enter_when": "rsi_14 < 30"}])
def test_another_rule_makes_other_trades(change, rough, tmp_path):
    asked = plan(rough)
    spec = asked.strategies[0]
    other = replace(asked, strategies=(replace(spec, agent=replace(spec.agent, **change)),))
    with bench_of(tmp_path, other, rough) as bench:
        assert trades_of(results_only(bench, other), rough) != entered(simulate(rows_of(rough, calendar())))


def test_without_the_harness_the_benchmark_says_so(tmp_path):
    command = [sys.executable, "-m", "bench.backtest"]
    done = subprocess.run(command, env=os.environ | {"PEERS": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"there is no harness in {tmp_path}: name the folder of gen_data.py and peers/ with PEERS=DIR" in done.stderr
    assert not done.stdout
