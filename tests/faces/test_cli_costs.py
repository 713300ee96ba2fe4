"""`trading costs` and the line of `trading status`."""

from decimal import Decimal

import pytest

from tests.faces.conftest import Shell
from tests.model_facts import answered, asked, skipped
from trading_pipeline.faces.cli.costs import fine
from trading_pipeline.service.models.purse import budget_day


def write(trading: Shell) -> str:
    day = budget_day().isoformat()
    with trading.desk() as desk, desk.ledger.transaction() as tx:
        tx.append(
            asked("c1", day=day, reserved="0.10"), answered("c1", cost="0.0042"), asked("c2", day=day, reserved="0.30"),
            skipped("c3", "trigger", "0.02", day=day), skipped("c4", "strategy_budget", "0.02", day=day),
        )
    return day


def test_costs_are_shown_and_sum_up_in_every_way(trading: Shell) -> None:
    day = write(trading)
    shown = trading("costs").out
    assert f"Today, {day} in New York: $0.0042 of $5.00 spent, $0.30 reserved, $4.70 left" in shown
    assert "1 strategy budget, 1 trigger" in shown
    assert "Triggers saved 1 question, $0.02 at most." in shown
    found = trading("costs", "--by", "prompt", "--days", 7, "--json").json()
    assert [(each["prompt"], each["spent"], each["questions"]) for each in found["groups"]] == [("analyst/v1", "0.0042", 2)]
    assert trading("status", "--json").json()["models"]["left"] == "4.6958"
    assert "models       $0.0042 of $5.00 spent, $0.30 reserved, $4.70 left" in trading("status").out


def test_a_home_that_asked_no_model_says_so(trading: Shell) -> None:
    assert "No model was asked." in trading("costs").out
    assert trading("costs", "--days", 0).code == 2
    assert trading("costs", "--by", "moon").code == 2


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "$0.00"), ("0.00", "$0.00"), ("0.000001", "$0.0001"), ("0.0042", "$0.0042"), ("0.25", "$0.25"), ("12.3456", "$12.35"),
        ("1234.5", "$1,234.50"),
    ],
)
def test_less_than_a_cent_is_not_nothing(amount: str, shown: str) -> None:
    assert fine(Decimal(amount)) == shown
