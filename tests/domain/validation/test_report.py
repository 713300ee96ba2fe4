"""The verdict: luck and the market's rise do not pass, an edge does, and what a model may remember does not count."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from tests.domain.validation.results import at_random, result_of, trade, traded, weekdays, with_an_edge
from trading_pipeline.domain.backtests import ExitReason
from trading_pipeline.domain.judgement import Period
from trading_pipeline.domain.validation import Grade, Trials, Walk, paired, risk_score, validate
from trading_pipeline.domain.validation.risk_score import grade_of
from trading_pipeline.errors import InputError

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_signals_thrown_by_a_coin_are_not_validated():
    """Nominal: one in twenty of each test, and all of them have to pass. 50 coins, in markets that rise and markets that fall."""
    passed = []
    for seed in range(50):
        result, market = at_random(seed, drift=0.0012 if seed % 2 else -0.0003)
        passed.append(validate(result, market=market).passed)
    assert sum(passed) <= 2


def test_a_rising_market_alone_is_not_validated_although_every_trade_looks_good():
    """Inside half of the time in a market that makes 1 % in each session: all of it is the market's."""
    random = np.random.default_rng(1)
    market = random.normal(0.004, 0.01, 504)
    inside = np.repeat(random.random(126) < 0.5, 4)
    report = validate(traded(market, inside), market=market)
    assert report.evidence.trade_p < 0.01
    assert not report.passed
    assert report.reasons[0].startswith("it may be the market's own moves")


def test_a_planted_edge_is_validated():
    found = [validate(result, market=market) for result, market in map(with_an_edge, range(10))]
    assert sum(report.passed for report in found) >= 8
    [report, *_] = [each for each in found if each.passed]
    assert report.headline.startswith("Validated: on these bars the ")
    assert "no grid of settings was run" in report.headline
    assert "no promise" in report.headline


def test_twelve_trades_are_too_few_and_the_headline_says_so_first():
    sessions = weekdays(252)
    trades = tuple(trade(sessions[20 * place], sessions[20 * place + 3], 100.0 + place) for place in range(12))
    returns = np.random.default_rng(1).normal(0.001, 0.004, 252)
    report = validate(result_of(returns, trades), market=np.random.default_rng(2).normal(0, 0.01, 252))
    assert report.headline.startswith("NOT VALIDATED: 12 closed trades, at least 30 are needed")
    assert report.evidence.mean_trade.low is None


def test_every_reason_is_named():
    result, market = at_random(3)
    report = validate(result, market=market)
    headline = report.headline
    assert headline.startswith("NOT VALIDATED: ")
    assert all(reason in headline for reason in report.reasons)
    assert [check.name for check in report.checks if not check.passed] and all(check.reason for check in report.checks if not check.passed)


def test_without_a_market_to_compare_with_nothing_is_validated():
    result, _ = with_an_edge(0)
    assert validate(result).reasons == ("it was not compared with buying and holding, so it may be the market's rise",)


def test_a_backtest_that_never_traded_is_not_validated():
    report = validate(result_of(np.zeros(100)), market=np.random.default_rng(1).normal(0, 0.01, 100))
    assert report.reasons[:2] == ("0 closed trades, at least 30 are needed", "the equity never moved, so there is no Sharpe ratio")
    assert report.evidence.win_rate is None and report.evidence.profit_factor is None


def test_buying_and_holding_itself_proves_nothing():
    market = np.random.default_rng(1).normal(0.002, 0.01, 300)
    report = validate(result_of(market), market=market)
    assert report.evidence.beta == pytest.approx(1)
    assert report.evidence.beyond_market_p == 1


def test_what_is_still_held_counts_in_the_equity_and_not_among_the_trades():
    sessions = weekdays(252)
    kept = trade(sessions[0], sessions[-1], -20_000.0, ExitReason.OPEN)
    closed = tuple(trade(sessions[6 * place], sessions[6 * place + 3], 100.0 + 7 * (place % 5)) for place in range(40))
    random = np.random.default_rng(1)
    report = validate(result_of(random.normal(-0.0008, 0.01, 252), (*closed, kept)), market=random.normal(0, 0.01, 252))
    assert report.evidence.closed == 40
    assert report.evidence.trade_p < 0.001
    assert not report.passed
    assert report.notes == ("1 trade still open at the end: in the equity at the last close, in no figure of trades.",)


def test_equal_results_have_equal_verdicts():
    result, market = at_random(5)
    assert validate(result, market=market) == validate(result, market=market.copy())


# A search


def grid_of(result, columns):
    return Trials(result.sessions, np.column_stack(columns))


def own(result):
    before = np.concatenate(([result.cash], result.equity[:-1]))
    return result.equity / before - 1


def test_the_best_of_many_coins_does_not_survive_the_search():
    """200 coins in one market: the best of them looks good by itself and is put down by the deflated Sharpe ratio."""
    random = np.random.default_rng(12)
    market = random.normal(0.0, 0.012, 504)
    coins = [traded(market, np.repeat(random.random(126) < 0.5, 4)) for _ in range(200)]
    best = max(coins, key=lambda each: float(own(each).mean() / own(each).std()))
    alone = validate(best, market=market)
    searched = validate(best, market=market, trials=grid_of(best, [own(each) for each in coins]))
    assert alone.evidence.sharpe_p < 0.05
    assert searched.trials == 200
    assert searched.deflated_sharpe < 0.95
    assert any("would look as good by luck" in reason for reason in searched.reasons)


def test_an_edge_that_all_settings_share_survives_the_search():
    random = np.random.default_rng(4)
    result, market = with_an_edge(1, edge=0.006)
    near = [own(result) + random.normal(0, 0.0005, 504) for _ in range(20)]
    report = validate(result, market=market, trials=grid_of(result, [own(result), *near]))
    assert report.passed, report.headline
    assert report.overfitting.loses == 0
    assert "21 settings were tried and are allowed for" in report.headline


def test_walking_forward_that_keeps_too_little_is_not_validated():
    result, market = with_an_edge(1)
    days = weekdays(100)
    kept = Walk(np.full(100, 0.002), np.full(100, 0.0015), days)
    lost = Walk(np.full(100, 0.002), np.full(100, 0.0005), days)
    assert validate(result, market=market, walk=kept).efficiency == pytest.approx(0.75)
    assert any("kept 25% of what they had made" in each for each in validate(result, market=market, walk=lost).reasons)
    nothing = validate(result, market=market, walk=Walk(np.full(9, -0.01), np.full(9, 0.01), weekdays(9)))
    assert any("made nothing" in each for each in nothing.reasons)


def test_columns_of_other_sessions_are_refused():
    result, market = at_random(1)
    with pytest.raises(InputError, match="503 rows of the market's returns do not fit 504 sessions"):
        validate(result, market=market[1:])
    with pytest.raises(InputError, match="the grid's returns"):
        validate(result, market=market, trials=Trials(result.sessions[1:], np.zeros((503, 4))))


# What a model may remember


def test_only_sessions_after_the_models_training_count():
    """An edge before the end of the training, a coin after it: a model that remembers."""
    known, first_market = with_an_edge(1, edge=0.008)
    unknown, second_market = at_random(1, drift=0.0)
    returns = np.concatenate([own(known), own(unknown)])
    market = np.concatenate([first_market, second_market])
    inside = returns != 0
    whole = traded(market, inside, np.where(inside, returns - market, 0.0))
    cutoff = whole.sessions[503]
    assert validate(whole, market=market).evidence.trade_p < 0.05
    report = validate(whole, market=market, cutoffs={"m-1": cutoff})
    assert report.basis is Period.AFTER
    assert list(report.periods) == [Period.AFTER, Period.BEFORE]
    assert (report.periods[Period.BEFORE].sessions, report.evidence.sessions) == (504, 504)
    assert report.periods[Period.BEFORE].trade_p < 0.05 < report.evidence.trade_p
    assert not report.passed


def test_the_last_of_several_trainings_counts():
    result, market = with_an_edge(1)
    report = validate(result, market=market, cutoffs={"old": date(2020, 1, 1), "new": result.sessions[399]})
    assert (report.cutoff, report.evidence.sessions) == (result.sessions[399], 104)


def test_where_no_session_lies_after_the_training_nothing_is_validated():
    result, market = with_an_edge(0)
    report = validate(result, market=market, cutoffs={"m-1": result.sessions[-1]})
    assert report.basis is Period.BEFORE
    assert report.headline.startswith("NOT VALIDATED: no session lies after the end of the model's training")


def test_where_the_end_of_the_training_is_unknown_nothing_is_validated():
    result, market = with_an_edge(0)
    report = validate(result, market=market, cutoffs={"m-1": date(2020, 1, 1), "m-2": None})
    assert report.basis is Period.UNKNOWN
    assert report.headline.startswith("NOT VALIDATED: the end of the training of m-2 is not known")


# The risk score


def test_the_risk_score_is_nothing_at_the_targets_and_all_where_nothing_is_left():
    assert risk_score(drawdown=0.10, sharpe=1.0, profit_factor=1.5, p_value=0.01, overfitted=0.10).points == 0
    worst = risk_score(drawdown=0.30, sharpe=0.0, profit_factor=1.0, p_value=0.20, overfitted=0.50)
    assert (worst.points, worst.grade) == (100, Grade.UNACCEPTABLE)
    beyond = risk_score(drawdown=0.9, sharpe=-3.0, profit_factor=0.1, p_value=1.0, overfitted=1.0)
    assert beyond == replace(worst, parts=beyond.parts)


def test_the_risk_score_worked_by_hand():
    """Half of the way in drawdown, Sharpe and profit factor, none in luck, and no grid: 10 + 10 + 10 + 0 + 10."""
    found = risk_score(drawdown=0.20, sharpe=0.5, profit_factor=1.25, p_value=0.001, overfitted=None)
    assert [part.points for part in found.parts] == [10, 10, 10, 0, 10]
    assert (found.points, found.grade) == (40, Grade.MEDIUM)


def test_a_backtest_that_never_lost_has_the_best_profit_factor():
    assert risk_score(drawdown=0.0, sharpe=2.0, profit_factor=float("inf"), p_value=0.0, overfitted=0.0).points == 0


def test_grades_and_borders_are_those_of_the_backtester_persona():
    persona = (ROOT / "trading_pipeline/prompts/personas/backtester/v1.md").read_text()
    rows = [line.split("|")[1:3] for line in persona.splitlines() if line.startswith("| ") and "-" in line.split("|")[1]]
    told = {grade.strip(): [int(bound) for bound in reach.split("-")] for reach, grade in rows}
    assert set(told) == set(Grade)
    for grade, (low, high) in told.items():
        assert {grade_of(low), grade_of(high)} == {grade}


# Two series


def test_a_series_that_is_better_in_every_way_is_told_apart():
    random = np.random.default_rng(1)
    common = random.normal(0, 0.01, 400)
    found = paired(common + 0.001 + random.normal(0, 0.001, 400), common)
    assert found.mean_return.value == pytest.approx(0.001, abs=0.0002)
    assert found.told_apart
    assert found.sharpe.low > 0


def test_two_series_of_equal_worth_are_told_apart_as_seldom_as_the_interval_says():
    random = np.random.default_rng(2)
    apart = sum(paired(random.normal(0, 0.01, 250), random.normal(0, 0.01, 250)).told_apart for _ in range(60))
    assert apart <= 7


def test_a_series_does_not_differ_from_itself():
    returns = np.random.default_rng(1).normal(0, 0.01, 100)
    found = paired(returns, returns)
    assert (found.mean_return.value, found.mean_return.low, found.mean_return.high) == (0, 0, 0)
    assert not found.told_apart


def test_few_sessions_have_a_difference_and_no_interval():
    found = paired(np.full(10, 0.02), np.full(10, 0.01))
    assert found.mean_return.low is None and not found.told_apart
    assert found.sharpe is None



def test_one_session_has_no_sharpe_ratio_though_its_equity_moved():
    report = validate(result_of(np.array([0.01])), market=np.array([0.005]))
    assert "one session has no Sharpe ratio" in report.headline
    assert "never moved" not in report.headline


def test_questions_without_a_recording_are_no_judgement_of_the_model():
    result = replace(result_of(np.random.default_rng(1).normal(0, 0.01, 60)), decisions={"hold": 3, "abstain: not_recorded": 57})
    report = validate(result, market=np.random.default_rng(2).normal(0, 0.01, 60))
    assert report.reasons[0] == "57 of 60 decisions had no recording of what the model says, so it was not the model that traded"
