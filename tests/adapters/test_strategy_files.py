"""The limits of a strategy file: discipline in minutes and fractions, switched off by a word."""

from datetime import timedelta
from decimal import Decimal

import pytest

from trading_pipeline.adapters.strategy_files import parse_strategy
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.errors import StrategyError

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
