"""`trading limits`: side by side, and loosened only by a person at a terminal."""

import pytest

from tests.faces.conftest import Shell
from trading_pipeline.domain.events import EventType
from trading_pipeline.service.desk import user_actor


def limits_set(trading: Shell) -> list[tuple[int, str]]:
    return [(event.payload["version"], event.actor) for event in trading.events() if event.type is EventType.LIMITS_SET]


def test_a_new_ledger_has_what_is_configured(trading: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_LIMITS__MAX_DAY_LOSS", "250")
    shown = trading("limits", "--json").json()
    assert (shown["version"], shown["recorded"], shown["effective"]["max_day_loss"]) == (None, None, "250")
    assert "Nothing is recorded yet" in trading("limits").out
    assert limits_set(trading) == []


def test_a_tighter_setting_is_in_force_without_a_command(asked: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_LIMITS__MAX_DAY_LOSS", "250")
    shown = asked("limits", "--json").json()
    found = [shown[each]["max_day_loss"] for each in ("recorded", "configured", "effective")]
    assert (found, shown["unconfirmed"]) == (["1000", "250", "250"], [])
    assert asked("limits", "confirm").code == 3
    assert "looser" not in asked("status").out


def test_a_limit_that_is_off_is_switched_on_by_a_setting_and_off_again_by_a_person(asked: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_LIMITS__MAX_DAY_RISK", "400")
    shown = asked("limits", "--json").json()
    assert [shown[each]["max_day_risk"] for each in ("recorded", "configured", "effective")] == [None, "400", "400"]
    assert shown["unconfirmed"] == []
    waiting = asked("approvals", "--json").json()
    assert asked.attended("approve", waiting[0]["action_id"], "--yes").code != 0, "what was asked under other limits is void"
    monkeypatch.setenv("TRADING_LIMITS__MAX_DAY_RISK", "off")
    assert "max_day_risk from 400 to off" in asked("limits").out
    assert asked("limits", "confirm").code == 2
    assert asked.at_a_terminal(["limits", "confirm"], {"again:": "off"}).code == 0
    assert asked("limits", "--json").json()["effective"]["max_day_risk"] is None


def test_a_looser_setting_is_told_and_voids_nothing(asked: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_LIMITS__MAX_DAY_LOSS", "5000")
    told = "looser limits are configured and not confirmed"
    assert f"{told}: trading limits" in asked("status").out
    [found] = [each for each in asked("doctor", "--json").json()["findings"] if each["what"] == "limits"]
    assert (found["state"], found["found"]) == ("warn", f"{told}: max_day_loss from 1000 to 5000")
    assert "max_day_loss from 1000 to 5000" in asked("limits").out
    waiting = asked("approvals", "--json").json()
    assert asked.attended("approve", waiting[0]["action_id"], "--yes").code == 0
    assert limits_set(asked) == [(1, "settings")]


def test_loosening_is_refused_without_a_terminal(asked: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """49, D17, T25."""
    monkeypatch.setenv("TRADING_LIMITS__MAX_DAY_LOSS", "5000")
    refused = asked("limits", "confirm", "--json")
    assert (refused.code, refused.error()["error"]) == (2, "PermissionRequired")
    assert "max_day_loss from 1000 to 5000" in refused.error()["message"]
    assert limits_set(asked) == [(1, "settings")]


def test_loosening_is_done_by_typing_the_new_value_again(asked: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_LIMITS__MAX_DAY_LOSS", "5000")
    assert asked.at_a_terminal(["limits", "confirm"], {"again:": "50000"}).code == 2
    assert limits_set(asked) == [(1, "settings")]
    assert asked.at_a_terminal(["limits", "confirm"], {"again:": "$5,000"}).code == 0
    assert limits_set(asked) == [(1, "settings"), (2, user_actor())]
    assert asked("approvals", "--json").json() == []
    assert "looser" not in asked("status").out


@pytest.mark.parametrize("how", ["--quiet", "--json"])
def test_what_is_typed_again_is_shown_first_whatever_is_left_out(asked: Shell, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """49, D17."""
    monkeypatch.setenv("TRADING_LIMITS__MAX_DAY_LOSS", "5000")
    told = " ".join(asked.at_a_terminal(["limits", "confirm", how], {"again:": "5000"}).out.split())
    shown = "The account would allow more than before: max_day_loss: 1000 becomes 5000"
    assert told.index(shown) < told.index("Type the new max_day_loss again:")
    told = " ".join(asked.at_a_terminal(["limits", "grant", "50", "--strategy", "steady", how], {"again:": "50"}).out.split())
    assert told.index("steady may lose $50.00 more") < told.index("Type the new amount again:")


def test_a_loss_is_granted_by_typing_the_amount_again_at_a_terminal(asked: Shell) -> None:
    """D12: for this session, added up, and nothing resumed by it."""
    refused = asked("limits", "grant", "500", "--json")
    assert (refused.code, refused.error()["error"]) == (2, "PermissionRequired")
    assert asked.at_a_terminal(["limits", "grant", "500"], {"again:": "5000"}).code == 2
    assert asked("limits", "--json").json()["granted"] == {}
    assert asked.at_a_terminal(["limits", "grant", "500"], {"again:": "$500"}).code == 0
    assert asked.at_a_terminal(["limits", "grant", "250.50", "--strategy", "steady"], {"again:": "250.50"}).code == 0
    assert asked("limits", "--json").json()["granted"] == {"account": "500", "strategy:steady": "250.50"}
    assert "steady may lose $250.50 more than its limit, this session." in asked("limits").out
    events = [event for event in asked.events() if event.type is EventType.LOSS_GRANTED]
    assert [(event.payload["strategy"], event.payload["amount"], event.actor) for event in events] == [
        (None, "500", user_actor()), ("steady", "250.50", user_actor()),
    ]


@pytest.mark.parametrize("words", [["grant"], ["grant", "much"], ["grant", "-5"], ["show", "500"], ["confirm", "--strategy", "steady"]])
def test_what_makes_no_sense_is_refused_with_the_way_to_say_it(asked: Shell, words: list[str]) -> None:
    refused = asked("limits", *words)
    assert refused.code == 2
    assert asked("limits", "--json").json()["granted"] == {}
