"""The walk of a lane that is alone makes what the simulation makes, or nothing."""

import os
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from random import Random

import numpy as np
import pytest

from tests.service.backtests.benches import bench_of
from tests.service.backtests.random_plans import random_bars, scenario
from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.shadow import FillCosts
from trading_pipeline.domain.sizing import EntryPlan
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, RiskSizing
from trading_pipeline.service.backtests import columnar
from trading_pipeline.service.backtests.bench import Bench, sessions_of
from trading_pipeline.service.backtests.columnar.alone import played_alone, told
from trading_pipeline.service.backtests.columnar.ground import ground_of
from trading_pipeline.service.backtests.columnar.incidents import Told
from trading_pipeline.service.backtests.columnar.lanes import lanes_of
from trading_pipeline.service.backtests.columnar.outcome import result_of
from trading_pipeline.service.backtests.columnar.simulation import Simulation
from trading_pipeline.service.backtests.columnar.units import steps

D = Decimal
SEEDS = range(int(os.environ.get("BACKTEST_SEEDS", "40")))
MUCH = D(10) ** 9
OWN = StrategyLimits(
    max_order_value=D(100_000), max_position_value=MUCH, max_day_loss=MUCH, max_orders_per_hour=1_000, cool_off=None, recovery_size=None,
    revenge_wait=None,
)
ACCOUNT = AccountLimits(
    max_position_value=MUCH, max_concentration=D(1), max_day_loss=MUCH, max_day_notional=D(10) ** 12, max_volume_share=D(1),
    volatility_trip=D(100_000),
)
AGENTS = (
    ExpressionAgent("rsi_14 crossed_below 45", "close > sma_20", 15), ExpressionAgent("rsi_14 crossed_below 40", "rsi_14 > 55"),
    ExpressionAgent("close crossed_above sma_20", "", 3), ExpressionAgent("close crossed_above sma_20", "close < open", 1),
)
SIZINGS = (FractionSizing(D("0.5"), atr_stop=D(1)), FractionSizing(D("0.09"), atr_stop=D("0.3")), FractionSizing(D("0.4")))
COSTS = (
    FillCosts(), FillCosts(D(0), D(0), D(0), D(0), D("0.0005"), D(1)), FillCosts(D("0.001"), D("0.0005"), D("0.01"), D(2), D("0.0001")),
)


def alone(seed: int) -> tuple[BacktestPlan, dict]:
    """A plan of one strategy and symbol whose limits cannot bind, on a random market."""
    dice, (wanted, tables) = Random(seed), scenario(seed)
    symbol = next((each for each in wanted.symbols if each != "TQQQ"), "AAPL")
    table = replace(tables.get(symbol) or next(iter(tables.values())), symbol=symbol)
    spec = replace(
        wanted.strategies[0], symbols=(symbol,), agent=dice.choice(AGENTS), sizing=dice.choice(SIZINGS), limits=OWN,
        min_confidence=D("0.8"),
    )
    return replace(wanted, strategies=(spec,), limits=ACCOUNT, costs=dice.choice(COSTS)), {symbol: table}


def simulated(bench: Bench, plan: BacktestPlan) -> Simulation:
    """One that was not run yet."""
    tables = {symbol: bench.tables[symbol, plan.interval] for symbol in plan.symbols}
    ground = ground_of(tables, bench.splits, bench.calendar, plan.first, plan.last)
    return Simulation(plan, lanes_of(plan, ground), ground.grid)


def result(bench: Bench, sim: Simulation, told: Told) -> BacktestResult:
    days = [session.day for session in sessions_of(bench.calendar, sim.plan)]
    return result_of(sim.plan, sim.lanes, sim.grid, told, days)


def test_a_lane_that_is_alone_makes_what_the_simulation_makes(tmp_path):
    trades = 0
    for seed in SEEDS:
        plan, tables = alone(seed)
        with bench_of(tmp_path / str(seed), plan, *tables.values()) as bench:
            if columnar.why_not(bench, plan):
                continue
            sim = simulated(bench, plan)
            if (round_trips := played_alone(sim)) is None:
                continue
            found, expected = result(bench, sim, told(sim, round_trips)), result(bench, sim, sim.run().told())
        trades += len(found.trades)
        assert found.trades == expected.trades, seed
        assert (found.decisions, found.denials) == (expected.decisions, expected.denials), seed
        for column in ("equity", "invested", "traded", "commissions"):
            assert getattr(found, column).tolist() == getattr(expected, column).tolist(), (seed, column)
    assert trades > len(SEEDS), "otherwise nothing was compared"


def test_stops_are_those_of_sizing_where_bars_have_more_digits_than_prices(tmp_path):
    plan, tables = next(each for each in map(alone, SEEDS) if each[0].interval.minutes == 5 and each[0].strategies[0].sizing.atr_stop)
    plan, [symbol] = replace(plan, first=date(2024, 3, 1), last=date(2024, 4, 30)), tables
    table = random_bars(symbol, 3, Interval.MIN5, date(2024, 2, 26), plan.last)
    adjusted = replace(table, **{name: np.round(getattr(table, name) * 0.987_654_321, 7) for name in ("open", "high", "low", "close")})
    with bench_of(tmp_path, plan, adjusted) as bench:
        sim = simulated(bench, plan)
        sizer, bars = sim.sizers[0], np.arange(len(sim.grid) - 1)
        stops, plain = sizer.stops(sim, bars)
        assert plain.sum() > 3_000
        for bar in bars[plain].tolist():
            planned = sizer.planned(sim, bar, sim.quote(0, bar))
            assert isinstance(planned, EntryPlan)
            assert steps(planned.brackets[0].stop) == stops[bar] == sizer.size(sim, bar, sim.cash).parts[0][1]


@pytest.mark.parametrize(
    "change",
    [
        {"limits": replace(OWN, cool_off=timedelta(minutes=30))}, {"limits": replace(OWN, max_day_loss=D(1_000))},
        {"limits": replace(OWN, max_orders_per_hour=10)}, {"sizing": RiskSizing()},
        {"sizing": FractionSizing(D("0.1"), stop=D("0.01"), target=D("0.01"))}, {"agent": ExpressionAgent("close > 0", "close < 0")},
    ],
)
def test_whatever_may_bind_between_trades_is_left_to_the_simulation(tmp_path, change):
    plan, tables = next(each for each in map(alone, SEEDS) if each[0].interval.minutes == 5)
    other = replace(plan, strategies=(replace(plan.strategies[0], **change),))
    with bench_of(tmp_path, other, *tables.values()) as bench:
        assert played_alone(simulated(bench, other)) is None
