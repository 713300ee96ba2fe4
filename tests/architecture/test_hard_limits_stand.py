"""65-69, 84: constants that no setting, file, environment or argument moves."""

from datetime import time, timedelta
from decimal import Decimal

import pytest

from trading_pipeline.adapters.strategy_files import parse_strategy
from trading_pipeline.domain import limits
from trading_pipeline.domain.limits import HARD_LIMITS, AccountLimits, StrategyLimits
from trading_pipeline.domain.rules import hard
from trading_pipeline.errors import InputError, SettingsError
from trading_pipeline.settings import Settings

FOUNDING = {
    65: Decimal(100_000), 66: Decimal(1), 67: (time(9, 30), time(16, 0)), 68: timedelta(seconds=30), 69: timedelta(seconds=60),
}
STRATEGY = """
name = "loose"
symbols = ["AAPL"]
mode = "approval"
interval = "1d"
lifetime = "open"
{line}
[agent]
form = "analyzer"
{table}
"""


def test_they_are_those_of_the_founding_documents():
    assert dict(HARD_LIMITS) == FOUNDING
    with pytest.raises(TypeError):
        HARD_LIMITS[65] = Decimal(1_000_000)


@pytest.mark.parametrize("make", [AccountLimits, StrategyLimits])
def test_a_setting_at_the_hard_limit_is_taken_and_one_cent_above_is_refused(make):
    assert make(max_order_value=Decimal("100000.00")).max_order_value == 100_000
    with pytest.raises(SettingsError, match="hard limit"):
        make(max_order_value=Decimal("100000.01"))


def test_the_environment_cannot_lift_them(monkeypatch, tmp_path):
    monkeypatch.setenv("TRADING_LIMITS__MAX_ORDER_VALUE", "100000.01")
    with pytest.raises(SettingsError, match="hard limit"):
        Settings.load(tmp_path)


@pytest.mark.parametrize("line", [
    "max_order_value = 250000", "min_price = 0.01", "cooldown = 0", "duplicate_window = 0", 'order_hours = "extended"',
    "max_order_value = 0", "max_order_value = -1", "max_order_value = inf", "max_order_value = nan",
])
def test_trading_toml_cannot_lift_them_or_name_them(tmp_path, line):
    (tmp_path / "trading.toml").write_text(f"[limits]\n{line}\n")
    with pytest.raises(SettingsError):
        Settings.load(tmp_path)


@pytest.mark.parametrize("line", [
    "max_order_value = 100000.01", "min_price = 0.5", "cooldown = 1", "duplicate_window = 1", 'order_hours = "extended"',
])
def test_a_strategy_file_cannot_lift_them_or_name_them(line):
    parse_strategy(STRATEGY.format(line="", table=""), "fine.toml")
    with pytest.raises(InputError):
        parse_strategy(STRATEGY.format(line="", table=f"[limits]\n{line}\n"), "loose.toml")
    with pytest.raises(InputError):
        parse_strategy(STRATEGY.format(line=line, table=""), "loose.toml")


def test_the_rules_read_the_constants_themselves():
    hours = (hard.ORDERS_FROM, hard.ORDERS_UNTIL)
    read = {65: hard.MAX_ORDER_VALUE, 66: hard.MIN_PRICE, 67: hours, 68: hard.COOLDOWN, 69: hard.DUPLICATE_WINDOW}
    assert read == FOUNDING
    assert limits.MAX_ORDER_VALUE is hard.MAX_ORDER_VALUE
