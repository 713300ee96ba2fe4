"""Grids that are run, and walked over: in any number of processes the same, and settings never chosen by what came after."""

import math
import os
import pickle
import threading
from dataclasses import replace
from datetime import date
from decimal import Decimal

import numpy as np
import pytest

from tests.domain.validation.results import result_of, weekdays
from tests.service.backtests.test_grids import DIPS
from trading_pipeline.adapters.backtest_heat_png import heat_map_png
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.validation import validate
from trading_pipeline.errors import InputError, ServiceError, StorageError
from trading_pipeline.service.backtests.grids import grid_of
from trading_pipeline.service.backtests.sensitivity import sensitivity
from trading_pipeline.service.backtests.validation_sections import validated
from trading_pipeline.service.backtests.walk_forward import walk_forward, windows_of

DAYS = weekdays(252)
PLAN = BacktestPlan((DIPS,), DAYS[0], DAYS[-1])
GRID = grid_of(DIPS, ["agent.max_bars=5..25..5", "rsi_14 < {20..40..10}"])


def made_up(plan):
    """A result that follows from the settings alone: 15 bars is best, and worse the further away; each setting with noise of its own."""
    agent = plan.strategies[0].agent
    random = np.random.default_rng(agent.max_bars * 1_000 + int(agent.enter_when.split()[2]))
    inside = np.array([plan.first <= day <= plan.last for day in DAYS])
    returns = 0.0012 - 0.0001 * abs(agent.max_bars - 15) + random.normal(0, 0.004, len(DAYS))
    result = result_of(returns[inside])
    return result if inside.all() else _on(result, [day for day, wanted in zip(DAYS, inside, strict=True) if wanted])


def _on(result, days):
    return replace(result, sessions=tuple(days))


def refusing(plan):
    if plan.strategies[0].agent.max_bars == 15:
        raise StorageError("The disk is full.", value=15, rule="there is room", remedy="make room")
    return made_up(plan)


def dying(plan):
    if plan.strategies[0].agent.max_bars == 15:
        os._exit(9)
    return made_up(plan)


class Remembering:
    """Counts plans in this process; cannot be sent to another."""

    def __init__(self):
        self.seen, self.lock = [], threading.Lock()

    def __call__(self, plan):
        self.seen.append(plan)
        return made_up(plan)


def same(one, two):
    assert [point.point for point in one.points] == [point.point for point in two.points]
    assert all(np.array_equal(a.returns, b.returns) for a, b in zip(one.points, two.points, strict=True))


def test_in_two_processes_a_grid_is_what_it_is_in_one():
    done = []
    one = sensitivity(PLAN, GRID, made_up, processes=1)
    two = sensitivity(PLAN, GRID, made_up, processes=2, progress=lambda: done.append(1))
    same(one, two)
    assert len(done) == 15
    assert one.trials.returns.shape == (252, 15)
    assert one.points[3].label == "agent.max_bars 10, rsi_14 < 20"


def test_beside_threads_nothing_is_forked():
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    try:
        same(sensitivity(PLAN, GRID, made_up, processes=2), sensitivity(PLAN, GRID, made_up, processes=1))
        here = Remembering()
        with pytest.raises(TypeError):
            pickle.dumps(here)
        sensitivity(PLAN, GRID, here, processes=2)
        assert len(here.seen) == 15
    finally:
        over.set()
        other.join()


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_names_the_point(processes):
    with pytest.raises(StorageError) as caught:
        sensitivity(PLAN, GRID, refusing, processes=processes)
    assert caught.value.message.startswith("At agent.max_bars 15, rsi_14 < 20: The disk is full")
    assert caught.value.remedy == "make room"


def test_a_process_that_dies_is_said_and_not_waited_for():
    with pytest.raises(ServiceError, match="ended before its work did"):
        sensitivity(PLAN, GRID, dying, processes=2)


def test_a_grid_of_another_strategy_is_refused():
    with pytest.raises(InputError, match="one strategy of a backtest"):
        sensitivity(BacktestPlan((DIPS, DIPS), DAYS[0], DAYS[-1]), GRID, made_up)


def test_neighbours_are_one_step_away_on_one_axis():
    found = sensitivity(PLAN, GRID, made_up, processes=1)
    assert [each.label for each in found.neighbours(0)] == ["agent.max_bars 10, rsi_14 < 20", "agent.max_bars 5, rsi_14 < 30"]
    assert len(found.neighbours(4)) == 4


def test_a_heat_map_has_the_figure_of_each_setting():
    found = sensitivity(PLAN, GRID, made_up, processes=1)
    heat = found.heat_map()
    assert (heat.rows, heat.columns) == (("5", "10", "15", "20", "25"), ("20", "30", "40"))
    assert heat.values[1, 2] == found.points[5].sharpe
    assert heat.own == (1, 1)
    turned = found.heat_map(1, 0, "total_return")
    assert turned.values[2, 1] == found.points[5].total_return
    assert heat_map_png(heat, "dips $5").startswith(b"\x89PNG")
    assert heat_map_png(heat) == heat_map_png(heat)


def test_over_further_axes_a_heat_map_is_the_mean():
    grid = grid_of(DIPS, ["agent.max_bars=5,10", "rsi_14 < {20,30}", "rsi_14 > {50,60}"])
    found = sensitivity(PLAN, grid, made_up, processes=1)
    heat = found.heat_map()
    assert heat.values[0, 1] == pytest.approx((found.points[2].sharpe + found.points[3].sharpe) / 2)
    assert heat.note == "Mean over rsi_14 > ?."


def test_one_axis_is_one_row_and_what_never_traded_is_a_hole():
    grid = grid_of(DIPS, ["agent.max_bars=5,10"])
    found = sensitivity(PLAN, grid, lambda plan: result_of(np.zeros(252)), processes=1)
    heat = found.heat_map()
    assert heat.values.shape == (1, 2) and math.isnan(heat.values[0, 0])
    assert found.best is None
    assert heat_map_png(heat).startswith(b"\x89PNG")


# Walking forward


def test_windows_follow_each_other_and_use_each_session_once():
    assert windows_of(252, 126, 42) == [(0, 126, 168), (42, 168, 210), (84, 210, 252)]
    assert windows_of(100, 60, 30) == [(0, 60, 90), (30, 90, 100)]
    with pytest.raises(InputError, match="leave none to walk into"):
        windows_of(126, 126, 42)
    with pytest.raises(InputError, match="too short"):
        windows_of(252, 126, 4)


def test_settings_are_chosen_by_what_lies_behind_and_run_on_what_comes_next():
    found = sensitivity(PLAN, GRID, made_up, processes=1)
    used = Remembering()
    walk = walk_forward(PLAN, found, used, in_sample=126, out_of_sample=42)
    assert [(plan.first, plan.last) for plan in used.seen] == [(DAYS[126], DAYS[167]), (DAYS[168], DAYS[209]), (DAYS[210], DAYS[251])]
    for window, (first, cut, _) in zip(walk.windows, windows_of(252, 126, 42), strict=True):
        ratios = [point.returns[first:cut].mean() / point.returns[first:cut].std(ddof=1) for point in found.points]
        assert window.label == found.points[int(np.argmax(ratios))].label
    assert walk.sessions == DAYS[126:]
    assert walk.equity[-1] == pytest.approx(100_000 * math.prod(1 + float(each) for each in walk.walk.out_of_sample))
    assert len(walk.walk.in_sample) == 3 * 126
    assert walk.efficiency == pytest.approx(float(walk.walk.out_of_sample.mean() / walk.walk.in_sample.mean()))


def test_what_comes_after_has_no_say_in_the_choice():
    """After session 126 everything is another: the first window's choice is the same."""
    def other(plan):
        result = made_up(plan)
        flipped = np.concatenate([np.diff(result.equity, prepend=result.cash)[:126], -np.diff(result.equity)[125:]])
        return replace(result, equity=result.cash + np.cumsum(flipped))

    one = walk_forward(PLAN, sensitivity(PLAN, GRID, made_up, processes=1), made_up)
    two = walk_forward(PLAN, sensitivity(PLAN, GRID, other, processes=1), made_up)
    assert one.windows[0].label == two.windows[0].label
    assert one.windows[1].label != two.windows[1].label


def test_the_report_of_a_grid_shows_tables_and_a_picture():
    found = sensitivity(PLAN, GRID, made_up, processes=1)
    walk = walk_forward(PLAN, found, made_up)
    own = made_up(PLAN)
    report = validate(own, market=np.random.default_rng(1).normal(0, 0.01, 252), trials=found.trials, walk=walk.walk)
    shown = validated(report, grid=found, walk=walk, draw=heat_map_png)
    assert shown.headline.startswith("NOT VALIDATED: 0 closed trades")
    assert not shown.passed
    titles = [title for title, _, _ in shown.sections]
    assert titles == [
        "Is it evidence?", "How sure are the figures?", "Risk score", "How much depends on the settings?", "Walking forward",
    ]
    [(_, grid_text, png)] = [each for each in shown.sections if each[0] == titles[3]]
    assert png.startswith(b"\x89PNG")
    assert "(its own)" in grid_text and "15 settings." in grid_text
    assert "Efficiency " in shown.sections[4][1]


def test_a_plan_of_another_account_keeps_its_cash():
    plan = BacktestPlan((DIPS,), DAYS[0], DAYS[-1], cash=Decimal(50_000))
    walk = walk_forward(plan, sensitivity(plan, GRID, made_up, processes=1), made_up)
    assert walk.cash == 50_000
    assert isinstance(walk.sessions[0], date)
