"""`trading run`, `approvals`, `approve`, `reject`: from a closed bar over a person to a fill."""

import json
import os
import pwd
from pathlib import Path

import pytest

from tests.faces.conftest import Shell
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.clocks import Pace, ReplayClock
from trading_pipeline.domain.events import EventType
from trading_pipeline.faces.cli.output import in_new_york


def pending(trading: Shell) -> dict[str, str]:
    return {row["symbol"]: row["action_id"] for row in trading("approvals", "--json").json()}


def decided(trading: Shell, type_: EventType) -> list[str]:
    return [event.payload["action_id"] for event in trading.events() if event.type is type_]


def test_an_approved_proposal_is_sent_by_the_next_run_and_why_tells_its_story(asked: Shell) -> None:
    action = pending(asked)["GOOG"]
    done = asked.attended("approve", action, "--yes", "--json").json()
    assert (done["action_id"], done["state"]) == (action, "approved")
    [approved] = [event for event in asked.events() if event.type is EventType.APPROVAL_APPROVED]
    assert approved.payload["hash"] == done["hash"]
    assert approved.actor.startswith("user:")
    asked.at("2012-10-15T09:30:15")
    ran = asked("run", "--json").json()
    assert [cycle["cycle"].split("@")[0] for cycle in ran["cycles"]] == ["release"]
    [fill] = [event for event in asked.events() if event.type is EventType.ORDER_FILLED]
    told = [cause["type"] for cause in asked("why", fill.payload["execution_id"], "--json").json()]
    assert told[0] == "bar.received"
    assert [each for each in told if each in ("approval.approved", "order.filled")] == ["approval.approved", "order.filled"]
    assert told[-1] == "portfolio.snapshotted"
    held = asked("status", "--json").json()["positions"]
    assert [(each["symbol"], each["quantity"]) for each in held] == [("GOOG", fill.payload["quantity"])]


def test_running_again_at_the_same_instant_changes_nothing(asked: Shell) -> None:
    before = asked.events()
    assert "Nothing is due now." in asked("run").out
    assert asked.events() == before


def test_in_a_replay_the_time_left_is_the_persons(asked: Shell) -> None:
    """At speed 10 the five minutes of a proposal are thirty seconds."""
    path, calendar = asked.home / "clock.json", load_calendar(asked.home / "cache")
    stood = ReplayClock.attach(path, calendar)
    start, end = stood.now(), stood.end
    path.unlink()
    ReplayClock.create(path, market="samples", pace=Pace.INTRADAY, start=start, end=end, calendar=calendar, speed=10)
    rows = asked("approvals", "--json").json()
    assert all(0 < row["real_seconds_left"] <= 30 for row in rows)
    assert all(row["seconds_left"] / 10 == pytest.approx(row["real_seconds_left"], abs=1) for row in rows)
    assert "00:00:" in asked("approvals").out
    assert " s of real time left, until 09:35:05" in asked("approve", rows[0]["action_id"]).out
    ReplayClock.attach(path, calendar).pause()


def test_a_replay_that_stands_tells_market_time(asked: Shell) -> None:
    assert {row["real_seconds_left"] for row in asked("approvals", "--json").json()} == {None}
    assert "00:05:00" in asked("approvals").out


def test_without_a_terminal_nobody_approves_whatever_they_add(asked: Shell) -> None:
    """49, D17: a script, a timer or a program of the person's own is no person."""
    action = pending(asked)["GOOG"]
    for added in ([], ["--yes"], ["--yes", "--json"]):
        refused = asked("approve", action, *added)
        assert refused.code == 2
        assert "at a terminal" in refused.err
        assert "--yes" not in refused.err.partition("Remedy")[2]
    assert refused.error()["error"] == "PermissionRequired"
    assert decided(asked, EventType.APPROVAL_APPROVED) == []
    assert pending(asked)["GOOG"] == action, "it still waits"


def test_in_the_demo_a_script_approves_as_the_demos_person(trading: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """D17."""
    monkeypatch.setenv("TRADING_ENVIRONMENT", "demo")
    for arguments in (["strategy", "create", trading.strategy()], ["strategy", "start", "steady"], ["run"]):
        assert trading(*arguments).code == 0
    action = pending(trading)["GOOG"]
    unsaid = trading("approve", action, "--json")
    assert (unsaid.code, unsaid.error()["error"]) == (2, "PermissionRequired")
    assert "--yes" in unsaid.error()["remedy"]
    assert trading("approve", action, "--yes", "--json").json()["actor"] == "demo:person"
    assert trading.attended("approve", pending(trading)["FB"], "--yes", "--json").json()["actor"].startswith("user:")


def test_the_person_sees_first_what_would_be_sent_and_then_only_the_rules_that_came_close(asked: Shell) -> None:
    [row] = [row for row in asked("approvals", "--json").json() if row["symbol"] == "GOOG"]
    shown = asked("approve", row["action_id"]).out
    assert shown.startswith(f"BUY {row['shown']['quantity']} GOOG  about $")
    for words in ("model text", "close > 0", "no worse than $", "void outside", "limits version 1", "5 min 0 s left, until 09:35:05"):
        assert words in shown
    assert f"{len(row['shown']['verdicts'])} rules, none against" in shown
    assert len(shown.splitlines()) < 25
    assert "penny stock" not in shown, "$700 is far above the $1 that it needs"
    [order_value] = [each for each in row["shown"]["verdicts"] if each["rule"] == "order_value"]
    used, limit = (float(order_value[name].strip("$").replace(",", "")) for name in ("measured", "limit"))
    assert ("order value" in shown) == (used >= 0.9 * limit)


STOPPED = """
name = "steady"
symbols = ["GOOG"]
mode = "approval"
interval = "1d"
[agent]
form = "expression"
enter_when = "close > 0"
[sizing]
method = "fraction"
fraction = 0.05
stop = 0.03
[chart]
bars = 60
"""


def test_the_person_sees_how_far_the_worst_price_is_and_what_the_stop_would_lose(trading: Shell) -> None:
    for arguments in (["strategy", "create", trading.strategy(STOPPED)], ["strategy", "start", "steady"], ["run"]):
        assert trading(*arguments).code == 0
    [row] = trading("approvals", "--json").json()
    shown = row["shown"]
    many, worst, seen = shown["quantity"], float(shown["limit_price"]), float(shown["reference"])
    [bracket] = shown["brackets"]
    text = trading("approve", row["action_id"]).out
    assert f"no worse than ${worst:,.2f}, {(worst / seen - 1) * 100:.2f} % above" in text
    assert "bounded by “no worse than” alone" in text
    stop = float(bracket["stop"])
    assert f"at the stop ${many * (worst - stop):,.2f} from the worst price, ${many * (seen - stop):,.2f} from the price shown" in text
    path = next(line for line in text.splitlines() if line.endswith(".png"))
    assert Path(path).is_file(), "a line of its own, to be copied"


def test_an_entry_without_a_stop_may_lose_all_of_it(asked: Shell) -> None:
    assert "all of it, $" in asked("approve", pending(asked)["GOOG"]).out


def test_ctrl_c_at_the_question_says_that_nothing_was_decided(asked: Shell) -> None:
    said = asked.at_a_terminal(["approve", pending(asked)["GOOG"]], {"Approve exactly this?": "\x03"})
    assert said.code == 130
    assert "Nothing was decided" in said.out
    assert decided(asked, EventType.APPROVAL_APPROVED) == []


def test_the_person_can_see_every_check_with_its_numbers(asked: Shell) -> None:
    [row] = [row for row in asked("approvals", "--json").json() if row["symbol"] == "GOOG"]
    shown = asked("approve", row["action_id"], "--all-checks").out
    for verdict in row["shown"]["verdicts"]:
        assert verdict["rule"].replace("_", " ") in shown
        assert in_new_york(verdict["measured"]) in shown
        assert in_new_york(verdict["limit"]) in shown
    assert "UTC" not in shown


def test_a_list_of_proposals_fits_80_columns_with_ids_that_can_be_pasted_back(asked: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in ("80", "60"):
        monkeypatch.setenv("COLUMNS", columns)
        lines = asked("approvals").out.splitlines()
        assert max(map(len, lines)) <= int(columns)
        for row, line in zip(asked("approvals", "--json").json(), lines[1:], strict=True):
            name = line.split()[0]
            assert name == row["short_id"] != row["action_id"]
            assert row["action_id"].startswith(name)
            assert f"BUY {row['shown']['quantity']} {row['symbol']} " in line
            assert line.endswith("00:05:00")
    assert max(map(len, asked("approvals", "--all").out.splitlines())) <= 60
    assert asked("why", name).code == 0
    assert asked("reject", name.lower()).code == 0
    assert decided(asked, EventType.APPROVAL_REJECTED) == [row["action_id"]]


def test_at_a_terminal_only_yes_approves(asked: Shell) -> None:
    action = pending(asked)["GOOG"]
    assert asked.at_a_terminal(["approve", action[:6]], {"[y/N]": ""}).code == 1
    assert decided(asked, EventType.APPROVAL_APPROVED) == []
    assert asked.at_a_terminal(["approve", action[:6]], {"[y/N]": "y"}).code == 0
    assert decided(asked, EventType.APPROVAL_APPROVED) == [action]


@pytest.mark.parametrize("how", ["--quiet", "--json"])
def test_what_a_person_approves_is_shown_first_whatever_is_left_out(asked: Shell, how: str) -> None:
    """49."""
    action = pending(asked)["GOOG"]
    told = " ".join(asked.at_a_terminal(["approve", action[:6], how], {"[y/N]": "n"}).out.split())
    for seen in ("GOOG", "steady", "$"):
        assert seen in told[: told.index("Approve exactly this?")]


def test_a_rejected_proposal_stays_rejected(asked: Shell) -> None:
    action = pending(asked)["GOOG"]
    assert asked("reject", action, "--reason", "too dear").code == 0
    late = asked.attended("approve", action, "--yes", "--json")
    assert (late.code, late.error()["error"]) == (3, "Conflict")
    assert decided(asked, EventType.APPROVAL_APPROVED) == []
    [row] = [row for row in asked("approvals", "--all", "--json").json() if row["action_id"] == action]
    assert (row["state"], row["reason"]) == ("rejected", "too dear")


def test_a_proposal_cannot_be_approved_at_the_instant_it_expires(asked: Shell) -> None:
    action = pending(asked)["GOOG"]
    asked.at("2012-10-15T09:35:05")
    late = asked.attended("approve", action, "--yes")
    assert late.code == 3
    assert "expired" in late.err
    asked("run")
    assert action in decided(asked, EventType.APPROVAL_EXPIRED)


def test_an_unknown_proposal_is_named_with_the_remedy(asked: Shell) -> None:
    refused = asked("approve", "NOSUCH", "--yes", "--json")
    assert refused.code == 2
    assert refused.error()["value"] == "NOSUCH"
    assert "trading approvals" in refused.error()["remedy"]


def test_status_says_replay_loudly_and_counts_what_waits(asked: Shell) -> None:
    said = asked("status")
    assert said.out.startswith(" REPLAY ")
    assert "2 proposals wait for you" in said.out
    assert "2012-10-15 09:30:05 New York, market open until 2012-10-15 16:00" in said.out
    assert asked("status", "--json").json()["market"] == "REPLAY"


def test_status_knows_the_next_session_and_a_cycle_that_is_overdue(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy())
    trading("strategy", "start", "steady")
    due = trading("status", "--json").json()["next_cycle"]
    assert due["due"] == "2012-10-15T13:30:00+00:00"
    trading("run")
    assert trading("status", "--json").json()["next_cycle"]["due"] == "2012-10-16T13:30:00+00:00"
    trading.at("2012-10-16T02:00:00")
    night = trading("status", "--json").json()
    assert (night["open"], night["next_change"]) == (False, "2012-10-16T13:30:00+00:00")
    trading.at("2012-10-26T18:00:00")
    assert trading("status", "--json").json()["next_change"] == "2012-10-31T13:30:00+00:00", "two unscheduled closures and a weekend"


def test_status_says_that_the_market_closes_early_and_what_the_pipeline_does(trading: Shell) -> None:
    """The day after Thanksgiving 2012 closed at 13:00."""
    trading.at("2012-11-23T11:00:00")
    assert "market open until 2012-11-23 13:00, closes early, 13:00" in trading("status").out
    assert "idle: no strategy runs" in trading("status").out
    trading("strategy", "create", trading.strategy())
    trading("strategy", "start", "steady")
    assert "cycle 1d@2012-11-21 16:00 is due" in trading("status").out
    doing = trading("status", "--json").json()["workflow"]
    assert (doing["state"], doing["cycle"], doing["step"]) == ("cycle_due", "1d@2012-11-21T21:00Z", "bars")


def test_the_person_is_who_the_operating_system_says_not_who_they_say(asked: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "mallory")
    monkeypatch.setenv("USER", "mallory")
    done = asked.attended("approve", pending(asked)["GOOG"], "--yes", "--json").json()
    assert done["actor"] == f"user:{pwd.getpwuid(os.getuid()).pw_name}"


def test_no_secret_of_the_settings_is_ever_printed(asked: Shell) -> None:
    """9."""
    password = asked.environment["TRADING_DATABASE_URL"].split("://")[1].split("@")[0].split(":")[1]
    for command in (["doctor"], ["doctor", "--json"], ["status", "--json"], ["strategy", "show", "steady", "--json"]):
        said = asked(*command)
        assert password not in said.out + said.err
    assert json.loads(asked("doctor", "--json").out)["settings"]["database_url"] == "set"
