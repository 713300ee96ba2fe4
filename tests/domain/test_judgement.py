"""The statistics of judgement against published and hand-worked values, and the properties they must have whatever the cases are."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_pipeline.domain.judgement import (
    FEWEST,
    Bin,
    brier,
    calibration,
    gain,
    mean_over_sessions,
    reliability_curve,
    right,
    too_few,
    wilson,
)
from trading_pipeline.domain.signals import Action

cases = st.lists(st.tuples(st.integers(0, 100).map(lambda n: n / 100), st.booleans()), min_size=1, max_size=60)


@pytest.mark.parametrize(("hits", "n", "low", "high"), [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
])
def test_wilson_intervals_are_those_published(hits, n, low, high):
    """Source: Newcombe, Statistics in Medicine 17 (1998), 857, table I, method 3."""
    found = wilson(hits, n)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert found.value == hits / n


def test_direction_is_right_when_it_earns_its_costs():
    assert right(Action.BUY, 0.0007, 0.0006) is True
    assert right(Action.BUY, 0.0006, 0.0006) is False
    assert right(Action.SELL, -0.01, 0.0006) is True
    assert right(Action.SELL, 0.01, 0.0006) is False
    assert right(Action.HOLD, 0.5, 0.0006) is None
    assert gain(Action.HOLD, 0.5) == 0


def test_the_brier_score_of_a_documented_example():
    """Source: scikit-learn's documentation of brier_score_loss: 0.037 (0.0375 before rounding)."""
    assert brier([0.1, 0.9, 0.8, 0.3], [False, True, True, False]).score == pytest.approx(0.0375)


def test_the_parts_of_the_brier_score_worked_by_hand():
    """Four forecasts of 0.2, one right; two of 0.8, both right. Base rate 1/2.

    Score (3 x 0.04 + 0.64 + 2 x 0.04) / 6 = 0.14; reliability (4 x 0.05^2 + 2 x 0.2^2) / 6 = 0.015; resolution
    (4 x 0.25^2 + 2 x 0.5^2) / 6 = 0.125; uncertainty 0.25; skill 1 - 0.14 / 0.25 = 0.44.
    """
    found = brier([0.2] * 4 + [0.8] * 2, [True, False, False, False, True, True])
    assert found.score == pytest.approx(0.14)
    assert found.reliability == pytest.approx(0.015)
    assert found.resolution == pytest.approx(0.125)
    assert found.uncertainty == pytest.approx(0.25)
    assert found.within == pytest.approx(0.0)
    assert found.skill == pytest.approx(0.44)


def test_without_variety_there_is_no_skill_to_speak_of():
    assert brier([0.9, 0.8], [True, True]).skill is None


def test_the_reliability_curve_of_a_documented_example():
    """Source: scikit-learn's documentation of calibration_curve, three bins: 0, 1/2, 1 right at 0.2, 0.525, 0.85."""
    said = [0.1, 0.2, 0.3, 0.4, 0.65, 0.7, 0.8, 0.9, 1.0]
    curve = reliability_curve(said, [False] * 4 + [True] * 5, bins=3, fewest=1)
    assert [each.forecast for each in curve] == pytest.approx([0.2, 0.525, 0.85])
    assert [each.right.value for each in curve] == [0.0, 0.5, 1.0]
    assert [each.n for each in curve] == [3, 2, 4]


def test_a_bin_with_too_few_forecasts_is_counted_and_has_no_point():
    curve = reliability_curve([0.55] * 9 + [0.3] * 10, [True] * 19)
    assert (curve[5].n, curve[5].right) == (9, None)
    assert (curve[3].n, curve[3].right.n) == (10, 10), "0.3 opens its bin, whatever binary fractions say"
    assert isinstance(curve[0], Bin)
    assert math.isnan(curve[0].forecast)


def test_calibration_pools_what_does_not_rise():
    """A rise and a fall pool to a half, two rises and a fall to two thirds. Worked by hand after Ayer et al. (1955)."""
    steps = calibration([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [True, False, True, True, False, True])
    assert [(step.low, step.high, step.n) for step in steps] == [(0.1, 0.2, 2), (0.3, 0.5, 3), (0.6, 0.6, 1)]
    assert [step.right for step in steps] == pytest.approx([1 / 2, 2 / 3, 1])


def test_the_interval_of_a_mean_is_that_of_theory_for_independent_cases():
    """400 standard normal sessions: the half-width is 1.96 / 20 = 0.098, within what a seeded sample leaves."""
    values = np.random.default_rng(7).standard_normal(400)
    found = mean_over_sessions([[value] for value in values], 1)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.06)


def test_cases_of_one_session_are_no_independent_evidence():
    """Ten copies of each case are no more than one of it."""
    values = np.random.default_rng(7).standard_normal(100)
    once, often = mean_over_sessions([[value] for value in values], 1), mean_over_sessions([[value] * 10 for value in values], 1)
    assert often.n == 1_000
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_overlapping_cases_need_longer_runs_and_have_wider_intervals():
    """Sums over five sessions overlap: drawn alone they look surer than they are."""
    steps = np.random.default_rng(7).standard_normal(404)
    sums = [[value] for value in np.convolve(steps, np.ones(5), "valid")]
    alone, runs = mean_over_sessions(sums, 1), mean_over_sessions(sums, 5)
    assert runs.high - runs.low > 1.7 * (alone.high - alone.low), "theory says the root of 5, less what runs of five leave out"


def test_one_session_has_a_mean_and_no_interval():
    assert mean_over_sessions([[1.0, 3.0], []], 5).low is None
    assert mean_over_sessions([[1.0, 3.0]], 5).value == 2


def test_too_few_says_how_many_and_how_many_it_takes():
    assert too_few(7) == "too few (n = 7, at least 30)"
    assert too_few(FEWEST) == ""


@given(cases)
def test_brier_is_within_its_bounds_and_the_sum_of_its_parts(pairs):
    found = brier([said for said, _ in pairs], [hit for _, hit in pairs])
    assert 0 <= found.score <= 1
    assert found.score == pytest.approx(found.reliability - found.resolution + found.uncertainty + found.within, abs=1e-12)
    assert min(found.reliability, found.resolution, found.uncertainty) >= 0


@settings(max_examples=50)
@given(cases, st.randoms(use_true_random=False))
def test_no_figure_depends_on_the_order_of_its_cases(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    one, other = (([said for said, _ in each], [hit for _, hit in each]) for each in (pairs, shuffled))
    assert brier(*one) == brier(*other)
    assert calibration(*one) == calibration(*other)
    for mine, theirs in zip(reliability_curve(*one), reliability_curve(*other), strict=True):
        assert (mine.n, mine.right) == (theirs.n, theirs.right)


@given(cases)
def test_the_calibration_map_rises_and_keeps_every_case(pairs):
    steps = calibration([said for said, _ in pairs], [hit for _, hit in pairs])
    rights = [step.right for step in steps]
    assert rights == sorted(rights)
    assert sum(step.n for step in steps) == len(pairs)
    assert sum(step.right * step.n for step in steps) == pytest.approx(sum(hit for _, hit in pairs))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_share_and_narrows_with_more_cases(case):
    hits, n = case
    found, more = wilson(hits, n), wilson(10 * hits, 10 * n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert more.high - more.low <= found.high - found.low
