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
    assert trading("strategy", "pause", "steady", "--reason", "lunch").out == "steady is paused by a user: lunch.\n"
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


def test_a_strategy_file_that_does_not_exist_is_the_users_mistake(trading: Shell, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.toml", tmp_path):
        refused = trading("strategy", "create", path, "--json")
        assert (refused.code, refused.error()["error"]) == (2, "StrategyError")
        assert refused.error()["value"] == str(path)


def test_what_people_read_has_no_decision_codes_which_scripts_keep(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy(mode="approval"))
    looser = trading.strategy(order=20_000)
    assert "(D17)" in trading("strategy", "revise", looser, "--json").error()["rule"]
    said = trading("strategy", "revise", looser).err
    assert "confirms it at a terminal\n" in said


@pytest.mark.parametrize(
    ("text", "value", "rule", "remedy"),
    [
        (GOOD.replace('"FB"', '"fb"'), "fb", "in capitals", "write FB"),
        (GOOD.replace('"FB"', '"GOOG"'), "GOOG", "each symbol stands once", "remove the second GOOG"),
        (GOOD.replace('["GOOG", "FB"]', "[]"), "[]", "at least one", "add one to symbols"),
        (GOOD.replace('"steady"', '"My Strategy"'), "My Strategy", "small letter", "write my-strategy"),
        (GOOD.replace('"approval"', '"manual"'), "manual", "'approval' or 'autonomous'", "set mode to one of them"),
        (GOOD.replace("0.05", "1.5"), "1.5", "at most 1", "set sizing.fraction to a value at most 1"),
        (GOOD.replace("0.05", "5"), "5", "a fraction, at most 1", "such as 0.05 for 5 %"),
        (GOOD.replace("0.05", '"much"'), "much", "a number", "without quotes"),
        ("max_order = 1000\n" + GOOD, "max_order", "unknown keys", "did you mean limits.max_order_value?"),
        (GOOD.replace("max_order_value", "max_position"), "limits.max_position", "unknown keys", "did you mean limits.max_position_value?"),
        ("colour = 1\n" + GOOD, "colour", "unknown keys", "known keys are name, description"),
    ],
    ids=["lower case", "twice", "no symbol", "name", "mode", "fraction", "per cent", "no number", "of a section", "alike", "unlike"],
)
def test_a_refused_value_is_told_with_its_rule_and_what_to_write_instead(
    trading: Shell, text: str, value: str, rule: str, remedy: str,
) -> None:
    said = trading("strategy", "create", trading.strategy(text), "--json").error()
    assert (said["error"], said["exit_code"], said["value"]) == ("StrategyError", 2, value)
    assert rule in said["rule"]
    assert remedy in said["remedy"]
    told = " ".join((said["message"], said["rule"], said["remedy"]))
    for words in ("Input should", "String should", "Value error", "pattern"):
        assert words not in told


def test_a_mistake_in_an_expression_is_shown_with_the_caret_under_its_place(trading: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = "close > 0 and rsi_14 <> 30"
    for columns in ("80", "40"):
        monkeypatch.setenv("COLUMNS", columns)
        lines = trading("strategy", "create", trading.strategy(GOOD.replace("close > 0", wrong))).err.splitlines()
        [caret] = [index for index, line in enumerate(lines) if line.strip() == "^"]
        assert lines[caret - 1].strip() == wrong
        assert lines[caret - 1][lines[caret].index("^")] == ">"
    long = " and ".join(["close > 0"] * 12 + ["close >"])
    monkeypatch.setenv("COLUMNS", "60")
    lines = trading("strategy", "create", trading.strategy(GOOD.replace("close > 0", long))).err.splitlines()
    [caret] = [index for index, line in enumerate(lines) if line.strip() == "^"]
    assert max(len(lines[caret]), len(lines[caret - 1])) <= 60


@pytest.mark.parametrize(
    ("before", "command", "says", "remedy"),
    [
        ((), "pause", "steady is draft; pause is not possible from there.", "trading strategy start steady"),
        (("start",), "resume", "steady is running; resume is not possible", "trading strategy finish steady"),
        (("start",), "start", "steady is running; start is not possible", "trading strategy pause steady"),
        (("start", "pause"), "pause", "steady is paused by a user; pause is not", "trading strategy resume steady"),
    ],
    ids=["a draft is paused", "a running one is resumed", "a running one is started", "a paused one is paused"],
)
def test_a_command_that_the_state_does_not_allow_says_the_state_and_what_is_allowed(
    trading: Shell, before: tuple[str, ...], command: str, says: str, remedy: str,
) -> None:
    trading("strategy", "create", trading.strategy())
    for each in before:
        trading("strategy", each, "steady")
    facts = trading.events()
    refused = trading("strategy", command, "steady", "--json")
    assert (refused.code, refused.error()["error"]) == (3, "IllegalTransition")
    assert says in refused.error()["message"]
    assert remedy in refused.error()["remedy"]
    assert trading.events() == facts


def test_tightening_a_limit_needs_no_confirmation(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy(order=10_000))
    assert trading("strategy", "revise", trading.strategy(order=5_000)).code == 0
    with trading.desk() as desk:
        row = desk.ledger.get("strategies", "steady")
    assert row is not None
    assert row["limits_version"] == 2


def test_loosening_a_limit_is_refused_without_a_terminal(trading: Shell) -> None:
    """49, D17, T25."""
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


def test_a_symbol_is_added_by_typing_it(trading: Shell) -> None:
    path = trading.strategy()
    trading("strategy", "create", path)
    path.write_text(path.read_text().replace('"FB"', '"FB", "IBM"'))
    assert trading.at_a_terminal(["strategy", "revise", str(path)], {"again:": ""}).code == 2
    assert trading.at_a_terminal(["strategy", "revise", str(path)], {"again:": "IBM"}).code == 0
