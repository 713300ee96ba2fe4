"""Two backtests over the same sessions: told apart where they differ, and not where they may as well be equal."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from tests.domain.validation.results import result_of, weekdays
from trading_pipeline.errors import InputError
from trading_pipeline.service.backtests.comparing import compare, comparison_assumptions, comparison_tables

COMMON = np.random.default_rng(1).normal(0.0002, 0.01, 300)


def better(by: float):
    return result_of(COMMON + by + np.random.default_rng(2).normal(0, 0.001, 300))


def test_who_made_more_is_said_when_it_is_sure():
    found = compare({"plain": result_of(COMMON), "better": better(0.001)})
    [pair] = found.pairs
    assert pair.sentence.startswith("better made more than plain: the difference of -0.")
    assert "excludes 0. Of the Sharpe ratios: -" in pair.sentence
    assert found.note == ""


def test_who_may_as_well_be_equal_is_not_told_apart():
    [pair] = compare({"plain": result_of(COMMON), "twin": better(0.0)}).pairs
    assert pair.sentence.startswith("plain and twin cannot be told apart: ")
    assert "includes 0" in pair.sentence


def test_only_common_sessions_are_compared():
    later = replace(better(0.001), sessions=weekdays(300, date(2024, 6, 3)))
    [pair] = compare({"plain": result_of(COMMON), "later": later}).pairs
    assert pair.sessions == len(set(weekdays(300)) & set(later.sessions))


def test_few_common_sessions_have_no_interval():
    few = result_of(COMMON[:20])
    [pair] = compare({"plain": result_of(COMMON), "short": few}).pairs
    assert pair.sentence == "plain and short have 20 sessions in common; at least 30 are needed to tell them apart."


def test_three_make_three_pairs_and_a_warning():
    found = compare({"a": result_of(COMMON), "b": better(0.0), "c": better(0.001)})
    assert [(pair.first, pair.second) for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found.note == "3 pairs are compared: one interval in twenty excludes 0 by luck alone."


def test_tables_have_a_column_each_and_a_row_a_pair():
    figures, pairs = comparison_tables(compare({"a": result_of(COMMON), "b": better(0.001)}))
    assert figures.columns == ("FIGURE", "a", "b")
    [row] = [row for row in figures.rows if row[0].text == "Return"]
    assert row[1].text == f"{100 * (float(np.prod(1 + COMMON)) - 1):+.2f} %"
    assert [cell.text for cell in pairs.rows[0]][:3] == ["a", "b", "300"]
    assert pairs.rows[0][-1].text == "yes"


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="two backtests or more"):
        compare({"a": result_of(COMMON)})
    with pytest.raises(InputError, match="no session in common"):
        compare({"a": result_of(COMMON), "b": replace(better(0), sessions=weekdays(300, date(2030, 1, 1)))})


def test_what_both_rest_on_is_said_once_and_the_rest_of_whom_it_is():
    one = replace(result_of(COMMON), assumptions=("Dividends are not paid.", "Bars: samples."))
    two = replace(better(0.0), assumptions=("Bars: files.", "Dividends are not paid."))
    found = comparison_assumptions(compare({"one": one, "two": two}))
    assert found == ("Dividends are not paid.", "one: Bars: samples.", "two: Bars: files.")
