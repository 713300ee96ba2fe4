"""Grids as people write them, what they make of a strategy, and how they are refused."""

from dataclasses import replace
from decimal import Decimal

import pytest

from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.strategies import AnalyzerAgent, ExpressionAgent, FractionSizing, Lifetime, Mode, RiskSizing, StrategySpec
from trading_pipeline.errors import ExpressionError, InputError, SettingsError, StrategyError, UnknownName
from trading_pipeline.service.backtests.grids import MOST_POINTS, grid_of

DIPS = StrategySpec(
    "dips", ("AAPL",), Mode.AUTONOMOUS, Interval.DAY1, ExpressionAgent("rsi_14 < 30 and close > sma_200", "rsi_14 > 55", 10), Lifetime.OPEN,
    sizing=FractionSizing(Decimal("0.10"), Decimal("0.05")),
)


def agents(grid):
    return [point.spec.agent for point in grid.points]


def test_a_field_takes_the_values_listed():
    grid = grid_of(DIPS, ["agent.max_bars=30,60,90"])
    assert [agent.max_bars for agent in agents(grid)] == [30, 60, 90]
    assert grid.axes[0].name == "agent.max_bars"
    assert [grid.label(point) for point in grid.points] == ["agent.max_bars 30", "agent.max_bars 60", "agent.max_bars 90"]


def test_a_range_includes_both_ends_and_is_exact():
    grid = grid_of(DIPS, ["sizing.stop=0.01..0.05..0.02"])
    assert [point.spec.sizing.stop for point in grid.points] == [Decimal("0.01"), Decimal("0.03"), Decimal("0.05")]
    assert len(grid_of(DIPS, ["agent.max_bars=1..10..4"]).points) == 3


def test_a_piece_of_an_expression_varies_where_it_stands():
    grid = grid_of(DIPS, ["rsi_14 < {20..40..10}"])
    assert [agent.enter_when for agent in agents(grid)] == [f"rsi_14 < {bound} and close > sma_200" for bound in (20, 30, 40)]
    assert all(agent.exit_when == "rsi_14 > 55" for agent in agents(grid))
    assert grid.label(grid.points[0]) == "rsi_14 < 20"
    assert grid.own == 1


def test_the_length_of_an_indicator_varies():
    assert [agent.enter_when for agent in agents(grid_of(DIPS, ["sma_{50,100}"]))] == [
        "rsi_14 < 30 and close > sma_50", "rsi_14 < 30 and close > sma_100",
    ]


def test_space_in_a_piece_is_as_one_likes():
    spec = replace(DIPS, agent=ExpressionAgent("rsi_14   <  30"))
    assert len(grid_of(spec, ["rsi_14 < {20,25}"]).points) == 2


def test_several_multiply_and_the_last_varies_fastest():
    grid = grid_of(DIPS, ["agent.max_bars=5,10", "rsi_14 > {50,60}", "rsi_14 < {25,30}"])
    assert grid.shape == (2, 2, 2)
    assert [(agent.max_bars, agent.exit_when, agent.enter_when[:11]) for agent in agents(grid)][:3] == [
        (5, "rsi_14 > 50", "rsi_14 < 25"), (5, "rsi_14 > 50", "rsi_14 < 30"), (5, "rsi_14 > 60", "rsi_14 < 25"),
    ]


def test_two_pieces_of_one_expression_vary_together():
    grid = grid_of(DIPS, ["sma_{100,200}", "rsi_14 < {25,30}"])
    assert {agent.enter_when for agent in agents(grid)} == {
        f"rsi_14 < {low} and close > sma_{length}" for low in (25, 30) for length in (100, 200)
    }
    assert [axis.name for axis in grid.axes] == ["rsi_14 < ?", "sma_?"] or len(grid.axes) == 2


def test_a_whole_expression_is_written_anew():
    grid = grid_of(DIPS, ["agent.enter_when=rsi_{7,14} < {25,30}"])
    assert [agent.enter_when for agent in agents(grid)] == ["rsi_7 < 25", "rsi_7 < 30", "rsi_14 < 25", "rsi_14 < 30"]
    assert len({axis.name for axis in grid.axes}) == 2


def test_two_numbers_of_one_name_are_numbered():
    spec = replace(DIPS, agent=ExpressionAgent("rsi_14 < 30 or rsi_14 < 30"))
    grid = grid_of(spec, ["agent.enter_when=rsi_14 < {20,30} or rsi_14 < {25,35}"])
    assert [axis.name for axis in grid.axes] == ["rsi_14 < ? (1)", "rsi_14 < ? (2)"]


def test_the_own_settings_may_not_be_among_them():
    assert grid_of(DIPS, ["agent.max_bars=5,20"]).own is None


@pytest.mark.parametrize(("texts", "error", "says"), [
    ([], InputError, "empty"),
    (["agent.max_bar=3"], UnknownName, "did you mean 'agent.max_bars'"),
    (["sizing.atr_multiple=1,2"], UnknownName, "cannot vary 'sizing.atr_multiple' of dips"),
    (["symbols=1,2"], UnknownName, "symbols"),
    (["agent.max_bars=ten"], InputError, "'ten' in 'agent.max_bars=ten' is no value"),
    (["agent.max_bars=-3"], InputError, "0 or more"),
    (["agent.max_bars=nan"], InputError, "no value"),
    (["agent.max_bars=1,1.0"], InputError, "twice"),
    (["agent.max_bars=2.5"], StrategyError, "whole number"),
    (["agent.max_bars=1..9"], InputError, "from..to..step"),
    (["agent.max_bars=9..1..2"], InputError, "no values"),
    (["agent.max_bars=1..9..0"], InputError, "no values"),
    (["agent.max_bars=1..100000..1"], InputError, f"at most {MOST_POINTS:,}"),
    (["agent.max_bars=1..80..1", "rsi_14 > {1..80..1}"], InputError, f"at most {MOST_POINTS:,}"),
    (["agent.max_bars=1", "agent.max_bars=2"], InputError, "varies agent.max_bars twice"),
    (["rsi_14 < {20,25}", "rsi_14 < {30,35}"], InputError, "varies agent.enter_when twice"),
    (["rsi_14 < 30"], InputError, "varies nothing"),
    (["rsi_21 < {20,25}"], InputError, "stands nowhere in the expressions of dips"),
    (["rsi_14 {20,25}"], InputError, "stands nowhere"),
    (["_{20,25}"], InputError, "stands 3 times"),
    (["agent.enter_when=rsi_14 < {20,25"], InputError, "braces"),
    (["agent.enter_when=rsi_{1,14} < 20"], InputError, "The point"),
    (["agent.enter_when=rsi_14 << {20,25}"], ExpressionError, "The point"),
    (["sizing.stop=0.5,1.5"], StrategyError, "stop = 1.5"),
    (["min_confidence=0.5,1.5"], StrategyError, "no fraction"),
    (["limits.max_order_value=50000,200000"], SettingsError, "INVARIANT_65"),
])
def test_what_is_no_grid_is_refused_and_says_why(texts, error, says):
    with pytest.raises(error) as caught:
        grid_of(DIPS, texts)
    assert says in str(caught.value)


def test_risk_sizing_and_limits_vary_too():
    spec = replace(DIPS, agent=AnalyzerAgent(), sizing=RiskSizing())
    grid = grid_of(spec, ["sizing.atr_multiple=1.5,2", "limits.max_order_value=5000,10000", "min_confidence=0.7,0.8"])
    assert len({point.spec for point in grid.points}) == 8
    with pytest.raises(InputError, match="it has none"):
        grid_of(spec, ["rsi_14 < {20,25}"])
