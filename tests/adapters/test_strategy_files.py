"""The limits of a strategy file: discipline in minutes and fractions, switched off by a word."""

from datetime import timedelta
from decimal import Decimal

import pytest

from trading_pipeline.adapters.strategy_files import parse_strategy
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.errors import InputError, SettingsError, StrategyError

FILE = """
name = "dips"
symbols = ["AAPL"]
mode = "approval"
interval = "1d"
[agent]
form = "analyzer"
[limits]
"""


def limits(*lines: str) -> StrategyLimits:
    return parse_strategy(FILE + "\n".join(lines)).limits


def test_a_file_that_says_nothing_has_the_defaults():
    assert limits() == StrategyLimits()


def test_discipline_is_given_in_minutes_and_fractions():
    given = limits("losing_streak = 2", "cool_off_minutes = 45", "recovery_size = 0.25", "revenge_wait_minutes = 390")
    assert (given.losing_streak, given.cool_off, given.recovery_size, given.revenge_wait) == (
        2, timedelta(minutes=45), Decimal("0.25"), timedelta(minutes=390),
    )


def test_each_rule_is_switched_off_by_a_word():
    assert limits("max_day_risk = 750.50").max_day_risk == Decimal("750.50")
    assert limits('max_day_risk = "off"').max_day_risk is None
    off = limits('cool_off_minutes = "off"', 'recovery_size = "off"', 'revenge_wait_minutes = "off"')
    assert (off.cool_off, off.recovery_size, off.revenge_wait) == (None, None, None)


@pytest.mark.parametrize("line", [
    "cool_off_minutes = 0", "cool_off_minutes = 391", 'cool_off_minutes = "never"', "cool_off_minutes = 1.5", "recovery_size = 1.01",
    "recovery_size = 0", "revenge_wait_minutes = -1", "losing_streak = 0", 'losing_streak = "off"', "cool_off = 30",
    'max_day_risk = "never"',
])
def test_what_makes_no_sense_is_refused_by_its_name(line):
    with pytest.raises(StrategyError) as refused:
        limits(line)
    assert f"limits.{line.split()[0]}" in refused.value.message
    assert refused.value.rule
    assert refused.value.remedy


@pytest.mark.parametrize(("line", "rule", "remedy"), [
    ('recovery_size = "none"', 'it is a number, or "off"', 'such as 10 or 0.5, without quotes, or to "off"'),
    ('cool_off_minutes = "never"', 'it is a whole number, or "off"', 'such as 10, without quotes, or to "off"'),
    ("recovery_size = true", 'it is a number, or "off"', 'or to "off"'),
    ('max_day_loss = "off"', "it is a number, and cannot be off", "set limits.max_day_loss to a number, such as 10 or 0.5, without quotes"),
    ('losing_streak = "off"', "it is a whole number, and cannot be off", "losing_streak to a number, such as 10, without quotes"),
])
def test_the_word_that_switches_a_limit_off_is_told_where_there_is_one(line, rule, remedy):
    with pytest.raises(StrategyError) as refused:
        limits(line)
    assert refused.value.rule == rule
    assert refused.value.remedy.endswith(remedy)


def test_a_limit_of_nothing_is_switched_off_by_its_word_instead():
    with pytest.raises(SettingsError) as refused:
        limits("max_day_model_cost = 0")
    assert refused.value.remedy == 'set max_day_model_cost to a positive value or to "off"'
    with pytest.raises(SettingsError) as refused:
        limits("max_day_loss = 0")
    assert refused.value.remedy == "set max_day_loss to a positive value"


ASKS = FILE.replace('form = "analyzer"\n[limits]', 'provider = "anthropic"')


@pytest.mark.parametrize(("lines", "said", "rule", "remedy"), [
    ('model = "claude haiku"', "agent.model", "a model is named as its provider names it", "write claude-haiku"),
    ('model = "m"\nmasks = "symbol"', "agent.masks", "it is a list", 'write agent.masks = ["symbol"]'),
    ('model = "m"\nmasks = ["symbol", "faces"]', "agent.masks no. 2", "it is one of 'symbol', 'dates' or 'prices'", "agent.masks no. 2"),
    ('model = "m"\ntrigger = "rsi14 < 30"', "trigger: There is no indicator 'rsi14'", "sma_20, rsi_14", "did you mean 'rsi_14'?"),
    ('model = "m"\ntrigger_held = "rsi_14"', "trigger_held: This is a number", "an expression is a condition", "compare it"),
])
def test_what_a_model_is_asked_with_is_refused_with_what_to_write_instead(lines, said, rule, remedy):
    with pytest.raises(InputError) as refused:
        parse_strategy(f"{ASKS}\n{lines}\n", "mine.toml")
    assert said in refused.value.message
    assert rule in refused.value.rule
    assert remedy in refused.value.remedy
