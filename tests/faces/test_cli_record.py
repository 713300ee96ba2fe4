"""`trading events`, `verify`, `rebuild`, `doctor`: reading the record, and noticing when it was tampered with."""

import json
import os
import signal
import time

import pytest

from tests.conftest import execute
from tests.faces.conftest import Shell
from trading_pipeline.adapters.home_lock import held
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.ports import Anchor
from trading_pipeline.service import queries


def test_events_are_the_newest_ones_in_order_of_seq_one_json_object_a_line(asked: Shell) -> None:
    events = asked.events()
    lines = [json.loads(line) for line in asked("events", "--json", "--limit", "5").out.splitlines()]
    assert [line["seq"] for line in lines] == [event.seq for event in events[-5:]]
    assert lines[-1]["hash"] == events[-1].hash.hex()
    assert lines[-1]["payload"] == json.loads(events[-1].payload_text)


def test_events_are_chosen_by_type_stream_and_seq(asked: Shell) -> None:
    def seqs(*arguments: str) -> list[int]:
        return [json.loads(line)["seq"] for line in asked("--json", "events", *arguments).out.splitlines()]

    events = asked.events()
    assert seqs("--type", "chart.rendered", "--type", "risk.evaluated") == [e.seq for e in events if e.type == "risk.evaluated"]
    assert seqs("--type", "strategy.started", "--limit", "1") == [e.seq for e in events if e.type == "strategy.started"]
    assert seqs("--stream", "strategy:steady", "--after", "3", "--limit", "2") == [
        e.seq for e in events if e.stream == "strategy:steady" and e.seq > 3
    ][:2]


def test_an_unknown_event_type_is_refused_with_the_nearest_one(trading: Shell) -> None:
    refused = trading("events", "--type", "order.file")
    assert refused.code == 2
    assert "order.filled" in refused.err


def test_following_shows_what_comes_and_ends_quietly_on_ctrl_c(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy())
    follower = trading.process("events", "--follow", "--json")
    assert follower.stdout is not None
    assert json.loads(follower.stdout.readline())["type"] == "ledger.opened"
    assert json.loads(follower.stdout.readline())["type"] == "strategy.created"
    trading("strategy", "start", "steady")
    assert json.loads(follower.stdout.readline())["type"] == "strategy.starting"
    follower.send_signal(signal.SIGINT)
    _, err = follower.communicate(timeout=20)
    assert (follower.returncode, err) == (130, "")


def test_a_reader_that_goes_away_is_no_error(asked: Shell) -> None:
    with asked.process("events", "--follow", "--quiet") as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.stdout.close()
        asked("strategy", "pause", "steady")
        deadline = time.monotonic() + 20
        while writer.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert writer.stderr is not None
        assert writer.stderr.read() == ""


def test_why_of_nothing_known_is_an_input_error(asked: Shell) -> None:
    refused = asked("why", "NOSUCHORDER", "--json")
    assert (refused.code, refused.error()["value"]) == (2, "NOSUCHORDER")


def test_verify_names_the_first_difference_and_rebuild_mends_a_table(asked: Shell, postgres: EmbeddedPostgres) -> None:
    assert asked("verify", "--json").json()["verified"] is True
    execute(postgres.superuser_url(asked.database), "UPDATE strategies SET state = 'finished'")
    broken = asked("verify", "--json")
    assert broken.code == 4
    assert broken.json()["difference"]["table"] == "strategies"
    assert broken.error()["error"] == "LedgerCorrupt"
    assert "trading rebuild" in broken.error()["remedy"]
    sick = asked("doctor", "--json")
    assert sick.code == 1
    assert [f["state"] for f in sick.json()["findings"] if f["what"] == "ledger"] == ["fail"]
    assert asked("rebuild").code == 2
    assert asked("rebuild", "--yes").code == 0
    assert asked("verify").code == 0


def test_a_corrupt_event_is_found_and_rebuild_refuses_it(asked: Shell, postgres: EmbeddedPostgres) -> None:
    forge = "SET session_replication_role = replica; UPDATE events SET actor = 'nobody' WHERE seq = 3"
    execute(postgres.superuser_url(asked.database), forge)
    assert asked("verify", "--json").json()["difference"]["seq"] == 3
    refused = asked("rebuild", "--yes", "--json")
    assert (refused.code, refused.error()["error"]) == (4, "LedgerCorrupt")


def test_a_ledger_that_cannot_be_reached_is_told_in_three_lines(trading: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_DATABASE_URL", "postgresql://trading_app:wrong@/trading?host=/nowhere")
    refused = trading("status")
    assert refused.code == 4
    assert [line.split()[0] for line in refused.err.splitlines()][-3:] == ["error", "rule", "remedy"]
    assert "wrong" not in refused.err


def test_a_ledger_of_another_environment_is_refused(trading: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    trading("strategy", "list")
    monkeypatch.setenv("TRADING_ENVIRONMENT", "demo")
    refused = trading("status", "--json")
    assert (refused.code, refused.error()["error"]) == (4, "EnvironmentMismatch")


def test_what_happened_is_held_against_the_invariants(asked: Shell) -> None:
    said = asked("verify", "--invariants")
    assert said.code == 0
    assert said.out.startswith(f"Kept: {len(asked.events())} events from 1 to {len(asked.events())}, ")
    told = asked("verify", "--invariants", "--from", "5", "--to", "9", "--json").json()
    assert (told["kept"], told["first"], told["last"], told["events"], told["violations"]) == (True, 5, 9, 5, [])
    assert (told["looked"]["3"], told["looked"]["65"]) == (5, 0)


def test_a_broken_invariant_is_named_with_its_event(asked: Shell, postgres: EmbeddedPostgres) -> None:
    [proposal, *_] = [event for event in asked.events() if event.type == "approval.requested"]
    forged = proposal.payload_text.replace('"quantity":', '"quantity":1', 1)
    url = postgres.superuser_url(asked.database)
    execute(url, "SET session_replication_role = replica; UPDATE events SET payload = %s WHERE seq = %s", forged, proposal.seq)
    said = asked("verify", "--invariants")
    assert said.code == 1
    assert f"invariant 3, event {proposal.seq}: " in said.out
    assert f"invariant 45, event {proposal.seq}: " in said.out
    numbers = {violation["invariant"] for violation in asked("verify", "--invariants", "--json").json()["violations"]}
    assert {3, 45} <= numbers


def test_a_stretch_is_chosen_for_invariants_only_and_begins_within_the_ledger(asked: Shell) -> None:
    refused = asked("verify", "--from", "3", "--json")
    assert (refused.code, refused.error()["remedy"]) == (2, "add --invariants, or leave them out")
    refused = asked("verify", "--invariants", "--from", "100000", "--json")
    assert (refused.code, refused.error()["error"]) == (2, "UnknownName")


def test_an_anchor_that_the_ledger_does_not_reach_is_a_difference(asked: Shell) -> None:
    assert asked("verify").code == 0
    head = asked.events()[-1]
    with asked.desk() as desk:
        desk.anchors.record(Anchor(head.seq + 1, bytes(32), head.at))
    refused = asked("verify", "--json")
    assert (refused.code, refused.json()["difference"]["seq"]) == (4, head.seq + 1)
    assert "anchor" in refused.error()["rule"]


def test_doctor_is_content_with_a_sound_home(asked: Shell) -> None:
    said = asked("doctor", "--json")
    states = {finding["what"]: finding["state"] for finding in said.json()["findings"]}
    assert said.code == 0
    assert {states[what] for what in ("settings", "python", "libraries", "TA-Lib", "home", "calendar", "ledger", "models")} == {"ok"}


@pytest.mark.parametrize("name", ["anthropic_api_key", "OPENAI_API_KEY", "trading_openai_api_key", "claude_code_oauth_token"])
def test_a_key_in_the_settings_file_is_refused_and_not_shown(asked: Shell, name: str) -> None:
    """79: keys come from the environment."""
    (asked.home / "trading.toml").write_text(f'{name} = "sk-ant-canary-0123456789"\n')
    refused = asked("status", "--json")
    assert (refused.code, refused.error()["error"]) == (2, "SettingsError")
    assert refused.error()["message"] == f"{name} stands in trading.toml."
    assert f"as {name.upper().removeprefix('TRADING_')} in the environment" in refused.error()["remedy"]
    told = asked("doctor", "--json")
    [settings] = [finding for finding in told.json()["findings"] if finding["what"] == "settings"]
    assert (told.code, settings["state"]) == (1, "fail")
    assert "canary" not in refused.out + refused.err + told.out + told.err


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "TRADING_OWNER_DATABASE_URL"])
def test_doctor_warns_of_keys_that_others_may_read_and_does_not_show_them(asked: Shell, name: str) -> None:
    """79: a file of secrets has mode 0600."""
    file = asked.project / ".env"
    for mode, warned in ((0o644, ["warn"]), (0o600, [])):
        file.write_text(f'OTHER_SECRET = "x"\n{name} = "sk-ant-canary-0123456789"\n')
        file.chmod(mode)
        said = asked("doctor", "--json")
        found = [finding for finding in said.json()["findings"] if finding["what"] == "keys"]
        assert [finding["state"] for finding in found] == warned
        assert all(finding["found"].startswith(f"{name} in ") for finding in found)
        assert "canary" not in said.out + said.err


def test_doctor_does_not_pad_its_answer_to_the_longest_line_on_a_pipe(asked: Shell) -> None:
    lines = asked("doctor").out.splitlines()
    [libraries] = [line for line in lines if line.startswith("libraries")]
    assert len(libraries) > 150
    assert lines[0].split() == ["CHECK", "STATE", "FOUND", "REMEDY"]
    assert len(lines[0]) < 100


def test_doctor_names_where_the_home_runs_instead_of_the_default_port(asked: Shell) -> None:
    with held(asked.home, "trading up at http://127.0.0.1:4321"):
        [found] = [each for each in asked("doctor", "--json").json()["findings"] if each["what"] == "port"]
    assert found["state"] == "ok"
    assert found["found"] == f"this home runs: trading up at http://127.0.0.1:4321, pid {os.getpid()}"


def test_events_and_why_wrap_on_a_narrow_terminal_and_lose_no_word(asked: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    proposal = asked("approvals", "--json").json()[0]["action_id"]
    for command in (["events", "--limit", "20"], ["why", proposal]):
        piped = asked(*command).out
        monkeypatch.setenv("COLUMNS", "60")
        narrow = asked(*command).out
        monkeypatch.delenv("COLUMNS")
        assert max(map(len, narrow.splitlines())) <= 60
        assert narrow.count("New York") == 1
        assert "UTC" not in narrow + piped
        assert "00Z" not in narrow + piped
        assert sorted(set(piped.split()) - {"2012-10-15"}) == sorted(set(narrow.split()) - {"2012-10-15", "New", "York", "time"})


def test_a_home_that_nobody_named_is_said_and_one_that_was_named_is_not(asked: Shell) -> None:
    said = "home .trading/paper, the newest; another with --home\n"
    for command in ("status", "approvals", "verify", "events"):
        assert asked(command).err.startswith(said)
        assert "the newest" not in asked(command, "--home", asked.home).err
        assert asked(command, "--json").err == ""


def test_a_fault_of_ours_is_one_message_and_a_traceback_in_the_homes_logs(trading: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom\x1b[31m [red]markup[/red]")

    monkeypatch.setattr(queries, "status", broken)
    said = trading("status")
    assert said.code == 1
    assert "\nerror   Something unforeseen broke: RuntimeError: boom[31m [red]markup[/red]\n" in said.err
    [saved] = (trading.home / "logs").glob("cli-*.log")
    assert str(saved) in said.err
    assert "Traceback" in saved.read_text()
    assert saved.stat().st_mode & 0o077 == 0
