"""Rounding in a figure's last digits decides nothing: the same bars give the same answer, however much history was read before them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipeline.domain import analyzer
from trading_pipeline.domain.expressions import evaluate, parse
from trading_pipeline.domain.ties import above

CENTS = [2.77, 2.78, 2.76, 2.75, 2.79]


def averaged(closes: list[float], window: int) -> np.ndarray:
    """A running mean as libraries keep it, one value in and one out: its last digits carry all that was ever added."""
    total, found = sum(closes[:window]), []
    for newest, oldest in zip([*closes[window:], 0.0], closes, strict=False):
        found.append(total / window)
        total += newest - oldest
    return np.array([np.nan] * (window - 1) + found)


@given(st.lists(st.sampled_from(CENTS), min_size=60, max_size=60), st.integers(1, 30))
def test_a_close_beside_its_mean_says_the_same_from_wherever_the_mean_was_begun(closes, later):
    for comparison in (">", ">=", "<", "<=", "==", "!=", "crossed_above", "crossed_below"):
        expression = parse(f"close {comparison} sma_20")
        whole = evaluate(expression, {"close": np.array(closes), "sma_20": averaged(closes, 20)})
        part = evaluate(expression, {"close": np.array(closes[later:]), "sma_20": averaged(closes[later:], 20)})
        assert list(whole[later + 20 :]) == list(part[20:])


def test_a_figure_is_not_above_one_that_differs_by_rounding_only():
    assert not above(0.1 + 0.2, 0.3)
    assert not above(2.7700000000000005, 2.77)
    assert above(2.7700001, 2.77)
    assert not above(2.77, 2.7700001)
    assert not above(float("nan"), 1.0)


def test_a_small_difference_of_large_figures_is_measured_by_what_it_was_made_from():
    assert above(1e-13, 0.0)
    assert not above(1e-13, 0.0, 180.0)


@pytest.mark.parametrize("name", ["close", "sma_20", "rsi_14", "volume", "atr_14", "macd_hist"])
def test_the_score_does_not_hang_on_last_digits(name):
    level = {"close": 2.77, "sma_20": 2.77, "sma_50": 2.77, "sma_200": 2.77, "rsi_14": 45.0, "macd_hist": 0.0, "volume": 1.2e6,
             "volume_sma_20": 1e6, "atr_14": 0.5}
    columns = {other: np.array([value]) for other, value in level.items()}
    nudged = [columns | {name: np.array([level[name] + by * max(1e-15, level[name] * 2e-15)])} for by in (-1, 0, 1)]
    assert len({int(analyzer.score_columns(each)[0]) for each in nudged}) == 1
    assert {analyzer.score_at(each, 0).total for each in nudged} == {int(analyzer.score_columns(columns)[0])}
