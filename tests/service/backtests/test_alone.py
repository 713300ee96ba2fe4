"""The walk of a lane that is alone makes what the simulation makes, or nothing."""

import os
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pytest

from tests.service.backtests.benches import bench_of
from tests.service.backtests.lone_plans import OWN, alone, simulated
from tests.service.backtests.random_plans import random_bars
from trading_pipeline.domain.backtests import BacktestResult
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.sizing import EntryPlan
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, RiskSizing
from trading_pipeline.service.backtests import columnar
from trading_pipeline.service.backtests.bench import Bench, sessions_of
from trading_pipeline.service.backtests.columnar.alone import played_alone, told
from trading_pipeline.service.backtests.columnar.incidents import Told
from trading_pipeline.service.backtests.columnar.outcome import result_of
from trading_pipeline.service.backtests.columnar.simulation import Simulation
from trading_pipeline.service.backtests.columnar.units import steps

D = Decimal
SEEDS = range(int(os.environ.get("BACKTEST_SEEDS", "40")))


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
