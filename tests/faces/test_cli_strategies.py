"""`trading strategy ...`: the ledger after each command, and what is refused."""

from pathlib import Path

import pytest

from tests.faces.conftest import STRATEGY, Shell
from trading_pipeline.domain.events import EventType


def types_of(trading: Shell) -> list[EventType]:
    return [event.type for event in trading.events()]


def test_a_strategy_goes_from_draft_to_finished_and_every_step_names_the_person(trading: Shell) -> None:
    from trading_pipeline.service.desk import user_actor

    assert trading("strategy", "create", trading.strategy()).out == "steady is a draft: 2 symbols, 1d bars, approval mode.\n"
    assert trading("strategy", "start", "steady").out == "steady is running.\n"
    assert trading("strategy", "pause", "steady", "--reason", "lunch").out == "steady is paused user: lunch.\n"
    assert trading("strategy", "resume", "steady").out == "steady is running.\n"
    assert trading("strategy", "finish", "steady", "--yes").out == "steady is finished.\n"
    events = [event for event in trading.events() if event.stream == "strategy:steady"]
    assert [event.type for event in events] == [
        EventType.STRATEGY_CREATED, EventType.STRATEGY_STARTING, EventType.STRATEGY_STARTED, EventType.STRATEGY_PAUSED,
        EventType.STRATEGY_RESUMED, EventType.STRATEGY_FINISHED,
    ]
    assert {event.actor for event in events} == {user_actor()}


def test_list_and_show_say_what_the_ledger_has(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy())
    [listed] = trading("strategy", "list", "--json").json()
    assert (listed["name"], listed["state"], listed["spec"]["symbols"]) == ("steady", "draft", ["GOOG", "FB"])
    shown = trading("strategy", "show", "steady")
    assert "close > 0" in shown.out
    assert "$10,000.00" in shown.out
    assert "5 % of equity" in shown.out


def test_a_finished_strategy_takes_no_command(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy())
    trading("strategy", "start", "steady")
    trading("strategy", "finish", "steady", "--yes")
    before = len(trading.events())
    refused = trading("strategy", "resume", "steady")
    assert (refused.code, len(trading.events())) == (2, before)
    assert "finished" in refused.err


def test_finishing_needs_a_person_or_yes(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy())
    trading("strategy", "start", "steady")
    refused = trading("strategy", "finish", "steady")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert EventType.STRATEGY_FINISHED not in types_of(trading)


def test_a_name_nobody_knows_lists_those_there_are(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy())
    refused = trading("strategy", "start", "stead", "--json")
    assert refused.code == 2
    assert refused.error()["value"] == "stead"
    assert "steady" in refused.error()["remedy"]


GOOD = STRATEGY.format(mode="approval", order=10_000)


@pytest.mark.parametrize(
    ("text", "error", "value", "words"),
    [
        (GOOD.replace('"FB"', '"ZZZZ"'), "UnknownName", "ZZZZ", ("ZZZZ", "symbol")),
        (GOOD.replace('"1d"', '"5min"'), "UnknownName", "GOOG", ("5min", "1d")),
        (GOOD.replace('"1d"', '"7min"'), "StrategyError", "7min", ("7min", "interval")),
        (GOOD.replace("fraction = 0.05", "fractoin = 0.05"), "StrategyError", "sizing.fractoin", ("fractoin", "fraction")),
        (GOOD.replace('mode = "approval"', 'mode = "approval"\nindicators = ["smaa_20"]'), None, "smaa", ("smaa",)),
        (GOOD.replace("close > 0", "close > nonsense_20"), None, "nonsense", ("nonsense",)),
        (GOOD.replace("10000", "100000.01"), "SettingsError", "100000.01", ("$100,000.01", "INVARIANT_65", "$100,000.00")),
        (GOOD.replace('mode = "approval"', 'mode = "approval"\napproval_timeout_seconds = 601'), "StrategyError", "601", ("600",)),
        ("name = ", "StrategyError", "strategy.toml", ("TOML", "line")),
    ],
    ids=["symbol", "interval without bars", "interval", "key", "indicator", "expression", "above a hard limit", "timeout", "no TOML"],
)
def test_a_strategy_that_cannot_be_is_refused_and_nothing_is_written(
    trading: Shell, text: str, error: str | None, value: str, words: tuple[str, ...],
) -> None:
    trading("strategy", "list")
    before = trading.events()
    refused = trading("strategy", "create", trading.strategy(text), "--json")
    said = refused.error()
    assert refused.code == said["exit_code"] == 2
    assert error is None or said["error"] == error
    assert value in said["value"]
    assert said["rule"]
    assert said["remedy"]
    for word in words:
        assert word in f"{said['message']} {said['rule']} {said['remedy']}"
    assert trading.events() == before


def test_a_strategy_file_that_cannot_be_read_is_a_storage_error(trading: Shell, tmp_path: Path) -> None:
    refused = trading("strategy", "create", tmp_path / "nowhere.toml", "--json")
    assert refused.code == 4
    assert refused.error()["value"] == "nowhere.toml"


def test_tightening_a_limit_needs_no_confirmation(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy(order=10_000))
    assert trading("strategy", "revise", trading.strategy(order=5_000)).code == 0
    with trading.desk() as desk:
        row = desk.ledger.get("strategies", "steady")
    assert row is not None
    assert row["limits_version"] == 2


def test_loosening_a_limit_is_refused_without_a_terminal(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy(order=5_000))
    refused = trading("strategy", "revise", trading.strategy(order=9_000), "--json")
    assert refused.code == 2
    assert refused.error()["error"] == "PermissionRequired"
    assert "max_order_value from 5000 to 9000" in refused.error()["value"]
    assert "D17" in refused.error()["rule"]
    assert EventType.STRATEGY_REVISED not in types_of(trading)


def test_loosening_a_limit_is_done_by_typing_its_new_value_again(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy(order=5_000))
    path = str(trading.strategy(order=9_000))
    wrong = trading.at_a_terminal(["strategy", "revise", path], {"again:": "90000"})
    assert wrong.code == 2
    assert EventType.STRATEGY_REVISED not in types_of(trading)
    right = trading.at_a_terminal(["strategy", "revise", path], {"again:": "9000"})
    assert right.code == 0
    [revised] = [event for event in trading.events() if event.type is EventType.STRATEGY_REVISED]
    assert revised.payload["loosened"] == ["max_order_value from 5000 to 9000"]
