"""What is a limit and what is none, and which of two allows more."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from trading_pipeline.domain.limits import AccountLimits, StrategyLimits, looser
from trading_pipeline.errors import SettingsError

D = Decimal
NO_TIME = timedelta(0)


@pytest.mark.parametrize(
    ("make", "name", "value", "where"),
    [
        *((AccountLimits, "max_day_loss", value, "account limits") for value in (D(0), D("-0.01"), D("NaN"), D("Infinity"))),
        *((AccountLimits, "max_open_orders", value, "account limits") for value in (0, -1, True, False)),
        (AccountLimits, "min_order_gap", NO_TIME, "account limits"),
        (AccountLimits, "max_quote_age", timedelta(seconds=-1), "account limits"),
        (StrategyLimits, "recovery_size", D(0), "strategy limits"),
        (StrategyLimits, "losing_streak", 0, "strategy limits"),
        (StrategyLimits, "cool_off", NO_TIME, "strategy limits"),
    ],
)
def test_a_limit_that_would_mean_nothing_or_everything_is_refused(make: Any, name: str, value: Any, where: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} = .* in the {where}") as refused:
        make(**{name: value})
    assert refused.value.value is value
    may_be_off = ' or to "off"' if name in ("recovery_size", "cool_off") else ""
    assert refused.value.rule == "a limit is a finite number above zero"
    assert refused.value.remedy == f"set {name} to a positive value{may_be_off}"


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (AccountLimits, {"max_day_loss": D("0.01")}),
        (AccountLimits, {"max_open_orders": 1}),
        (AccountLimits, {"min_order_gap": timedelta(microseconds=1)}),
        (StrategyLimits, {"cool_off": None, "recovery_size": None, "revenge_wait": None, "max_day_risk": None}),
        (StrategyLimits, {"recovery_size": D(1)}),
    ],
)
def test_the_least_limit_there_can_be_is_one(make: Any, changes: dict[str, Any]) -> None:
    made = make(**changes)
    assert {name: getattr(made, name) for name in changes} == changes


@pytest.mark.parametrize("make", [AccountLimits, StrategyLimits])
def test_no_level_is_set_above_the_hard_limit_on_an_order(make: Any) -> None:
    """65."""
    assert make(max_order_value=D(100_000)).max_order_value == 100_000
    with pytest.raises(SettingsError, match=r"\$100,000\.01 is above the hard limit") as refused:
        make(max_order_value=D("100000.01"))
    assert refused.value.value == D("100000.01")


def test_an_entry_is_never_larger_after_losses() -> None:
    """F5."""
    with pytest.raises(SettingsError, match="would enlarge an entry after losses") as refused:
        StrategyLimits(recovery_size=D("1.01"))
    assert refused.value.value == D("1.01")


@pytest.mark.parametrize(
    ("name", "before", "after", "allows_more"),
    [
        ("max_day_loss", D(1_000), D("1000.01"), True),
        ("max_day_loss", D(1_000), D(1_000), False),
        ("max_day_loss", D(1_000), D(999), False),
        # longer waits allow less
        ("cool_off", timedelta(minutes=30), timedelta(minutes=29), True),
        ("cool_off", timedelta(minutes=30), timedelta(minutes=30), False),
        ("revenge_wait", timedelta(minutes=30), timedelta(minutes=31), False),
        # off allows most
        ("max_day_risk", D(500), None, True),
        ("max_day_risk", None, D(500), False),
        ("max_day_risk", None, None, False),
        ("cool_off", timedelta(minutes=30), None, True),
        ("cool_off", None, timedelta(minutes=30), False),
    ],
)
def test_a_limit_is_loosened_when_more_would_be_allowed(name: str, before: Any, after: Any, allows_more: bool) -> None:
    """D17: loosening is what needs a person at a terminal."""
    assert looser(name, before, after) is allows_more
