"""The analyzer score: the points of the founding documents, its labels, and one answer bar by bar and over columns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.domain.market_tables import tables
from trading_pipeline.domain.analyzer import COLUMNS, INDICATORS, UNSCORED, Label, Score, decision, missing, score_at, score_columns
from trading_pipeline.domain.indicators import compute, price_columns
from trading_pipeline.domain.signals import Action

BEST = {"close": 110, "volume": 130, "sma_20": 105, "sma_50": 100, "sma_200": 90, "rsi_14": 60, "macd_hist": 0.1, "atr_14": 2,
        "volume_sma_20": 100}
WORST = {"close": 90, "volume": 100, "sma_20": 95, "sma_50": 100, "sma_200": 99, "rsi_14": 80, "macd_hist": -0.1, "atr_14": 0.2,
         "volume_sma_20": 100}


def row(**changes):
    return {name: np.array([float(value)]) for name, value in {**BEST, **changes}.items()}


def total(**changes):
    score = score_at(row(**changes), 0)
    assert score is not None
    return score.total


def test_all_seven_points_are_120_and_capped_at_100():
    score = score_at(row(), 0)
    assert sum(point.points for point in score.points) == 120
    assert score.total == 100


@pytest.mark.parametrize(("changes", "expected"), [
    ({"close": 104}, 100),
    ({"close": 104, "macd_hist": 0}, 80),
    ({"sma_20": 100, "macd_hist": 0}, 80),
    ({"rsi_14": 44.9, "macd_hist": 0}, 80),
    ({"rsi_14": 45, "macd_hist": 0}, 100),
    ({"rsi_14": 70, "macd_hist": 0}, 100),
    ({"rsi_14": 70.1, "macd_hist": 0}, 80),
    ({"volume": 120, "macd_hist": 0}, 80),
    ({"volume": 120.1, "macd_hist": 0}, 100),
    ({"sma_200": 110, "macd_hist": 0}, 90),
    ({"atr_14": 0.49, "macd_hist": 0}, 90),
    ({"atr_14": 0.5, "macd_hist": 0}, 100),
])
def test_each_question_has_its_points_and_its_edge(changes, expected):
    assert total(**changes) == expected


def test_nothing_earned_is_zero():
    assert total(**WORST) == 0


@pytest.mark.parametrize(("points", "label"), [
    (100, "STRONG_BUY"), (80, "STRONG_BUY"), (79, "BUY"), (60, "BUY"), (59, "HOLD"), (40, "HOLD"), (39, "AVOID"), (0, "AVOID"),
])
def test_labels_begin_at_80_60_and_40(points, label):
    assert Score(points, ()).label is Label(label)


@pytest.mark.parametrize(("points", "held", "action", "confidence"), [
    (60, False, Action.BUY, "0.6"), (100, False, Action.BUY, "1"), (59, False, Action.HOLD, "0.59"), (0, False, Action.HOLD, "0"),
    (100, True, Action.HOLD, "1"), (40, True, Action.HOLD, "0.4"), (39, True, Action.SELL, "0.61"), (0, True, Action.SELL, "1"),
])
def test_enter_from_60_and_leave_below_40(points, held, action, confidence):
    said, sure = decision(Score(points, ()), held)
    assert said is action
    assert f"{sure.normalize():f}" == confidence


@pytest.mark.parametrize("name", COLUMNS)
def test_without_one_of_its_columns_there_is_no_score(name):
    assert score_at(row(**{name: np.nan}), 0) is None
    assert missing(row(**{name: np.nan}), 0) == (name,)
    assert score_columns(row(**{name: np.nan})).tolist() == [UNSCORED]


def test_reasons_are_words_with_figures():
    words = score_at(row(rsi_14=72.34, volume=90), 0).words
    assert words.startswith("STRONG_BUY 80/100. For: close 110.00 above SMA20 105.00; ")
    assert words.endswith("Against: RSI14 72.3 outside 45-70; volume 90 not above 1.2 x its 20-bar mean 100.")


@settings(max_examples=25, deadline=None)
@given(tables(min_size=1, max_size=260))
def test_over_columns_is_bar_by_bar_on_markets(bars):
    columns = {**compute(INDICATORS, bars), **price_columns(bars)}
    scores = [score_at(columns, index) for index in range(len(bars))]
    assert score_columns(columns).tolist() == [UNSCORED if score is None else score.total for score in scores]


EDGES = st.sampled_from([0.0, 0.5, 1.0, 45.0, 70.0, 83.3, 100.0, 120.0, np.nan])


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, EDGES)), min_size=1, max_size=20))
def test_over_columns_is_bar_by_bar_at_the_edges(rows):
    columns = {name: np.array([values[name] for values in rows]) for name in COLUMNS}
    scores = [score_at(columns, index) for index in range(len(rows))]
    assert score_columns(columns).tolist() == [UNSCORED if score is None else score.total for score in scores]
