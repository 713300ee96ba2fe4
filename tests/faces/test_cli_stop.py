"""`trading stop`: latched before anything is opened, told until confirmed, and cleared by a person at a terminal alone."""

import json
import subprocess
import sys
from collections.abc import Collection
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.conftest import connect
from tests.faces.conftest import Shell
from trading_pipeline.adapters import stop_files
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.domain.events import EventType
from trading_pipeline.errors import SettingsError
from trading_pipeline.ports import Stop
from trading_pipeline.service.desk import user_actor


def buy(shell: Shell) -> None:
    """Let a strategy of its own buy; a stop and a target rest."""
    path = shell.project / "protected.toml"
    path.write_text(
        'name = "guarded"\nsymbols = ["GOOG"]\nmode = "autonomous"\ninterval = "1d"\n[agent]\nform = "expression"\n'
        'enter_when = "close > 0"\n'
        '[sizing]\nmethod = "fraction"\nfraction = 0.05\nstop = 0.03\ntarget = 0.05\n'
    )
    shell.at("2012-10-16T09:30:05")
    for arguments in (["strategy", "create", str(path)], ["strategy", "start", "guarded"], ["run"]):
        assert shell(*arguments).code == 0


@pytest.fixture
def holding(asked: Shell) -> Shell:
    """Proposals that waited, and an order that filled, under its stop."""
    buy(asked)
    return asked


def of_type(shell: Shell, kind: EventType) -> list[dict]:
    return [dict(event.payload) for event in shell.events() if event.type is kind]


def test_everything_stops_and_every_order_is_confirmed(holding: Shell) -> None:
    said = holding("stop", "--yes", "--json")
    answer = said.json()
    assert (said.code, answer["latched"], answer["clean"], answer["record"]) == (0, True, True, "ledger")
    assert {line["state"] for line in answer["ended"]} == {"canceled"}
    assert [naked["symbol"] for naked in answer["unprotected"]] == ["GOOG"]
    assert {row["state"] for row in holding("strategy", "list", "--json").json()} == {"emergency_stopped"}
    assert holding("approvals", "--json").json() == []
    assert holding("verify").code == 0


def test_people_read_what_was_done_and_what_is_left(holding: Shell) -> None:
    out = holding("stop", "--yes", "--reason", "the news").out
    for told in ("confirmed", "NO STOP RESTS for", "every order of ours is confirmed", "trading stop review"):
        assert told in out
    review = holding("stop", "review").out
    for told in ("THE ACCOUNT PAPER-1", user_actor(), "the news", "No stop rests for", "They agree.", "trading stop clear"):
        assert told in review
    assert "EMERGENCY STOP" in holding("status").out
    [found] = [each for each in holding("doctor", "--json").json()["findings"] if each["what"] == "emergency stop"]
    assert found["state"] == "fail"


def test_one_strategy_is_stopped_alone(holding: Shell) -> None:
    assert holding("stop", "--strategy", "guarded", "--yes").code == 0
    assert {row["name"]: row["state"] for row in holding("strategy", "list", "--json").json()} == {
        "guarded": "emergency_stopped", "steady": "running",
    }
    assert [row["strategy"] for row in holding("stop", "--status", "--json").json()["stops"]] == ["guarded"]


def test_without_a_word_nothing_is_stopped_where_nobody_can_be_asked(asked: Shell) -> None:
    assert asked("stop").code == 2
    assert not (asked.home / "stops" / "ACCOUNT.json").exists()


def test_a_folder_that_is_no_home_is_not_called_stopped(asked: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRADING_DATABASE_URL")
    said = asked("stop", "--yes", "--home", asked.project / "elsewhere", "--json")
    assert (said.code, said.error()["message"].startswith("NOTHING WAS STOPPED")) == (2, True)
    assert not (asked.project / "elsewhere").exists()


def test_a_name_that_no_strategy_has_is_told(asked: Shell) -> None:
    said = asked("stop", "--strategy", "steedy", "--yes", "--json")
    assert (said.code, said.error()["error"]) == (2, "UnknownName")
    assert asked("strategy", "list", "--json").json()[0]["state"] == "running"


def test_a_locked_ledger_does_not_keep_the_cancels(holding: Shell, postgres) -> None:
    """55, fault 30, fault 61."""
    with closing(connect(postgres.superuser_url(holding.database))) as holder, holder.cursor() as cursor:
        cursor.execute("BEGIN; SELECT * FROM ledger_head FOR UPDATE")
        said = holding("stop", "--yes", "--wait", "0", "--json")
        answer = said.json()
        assert (answer["latched"], answer["record"], answer["clean"], len(answer["ended"])) == (True, "journal", False, 2)
        cursor.execute("ROLLBACK")
    assert of_type(holding, EventType.ACCOUNT_LATCHED) == []
    assert holding("status").code == 0
    assert len(of_type(holding, EventType.ACCOUNT_LATCHED)) == 1
    assert holding("verify").code == 0


def test_a_database_that_is_gone_leaves_the_latch_and_says_that_nothing_was_cancelled(holding: Shell, monkeypatch) -> None:
    """55, fault 61."""
    url = holding.environment["TRADING_DATABASE_URL"]
    for name in ("TRADING_DATABASE_URL", "TRADING_OWNER_DATABASE_URL"):
        monkeypatch.setenv(name, "postgresql://nobody:x@127.0.0.1:1/none")
    said = holding("stop", "--yes", "--wait", "0")
    assert (said.code, "NO CANCEL WAS SENT" in said.out) == (1, True), said
    assert (holding.home / "stops" / "ACCOUNT.json").exists()
    monkeypatch.setenv("TRADING_DATABASE_URL", url)
    monkeypatch.delenv("TRADING_OWNER_DATABASE_URL")
    assert holding("status").code == 0
    assert of_type(holding, EventType.STOP_REPORTED)[-1]["clean"] is True


def test_a_home_whose_disk_takes_no_file_of_its_stop_is_looked_at_and_cleared(holding: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """55, fault 61: the reserve is the account's file, and its strategies have none."""

    def full(path: Path, content: bytes, *, new: bool = False) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(stop_files, "write_atomically", full)
    assert holding("stop", "--yes").code == 0
    assert [path.name for path in (holding.home / "stops").glob("*.json")] == ["ACCOUNT.json"]
    assert "EMERGENCY STOP" in holding("status").out
    assert "Stopped" in holding("stop", "review").out
    assert holding.at_a_terminal(["stop", "clear"], {"away:": "PAPER-1"}).code == 0


def test_a_database_folder_that_is_gone_is_no_account_without_orders(holding: Shell, monkeypatch) -> None:
    """53, 55, fault 61: a new one would have no orders, and all of none would be called confirmed."""
    for name in ("TRADING_DATABASE_URL", "TRADING_OWNER_DATABASE_URL"):
        monkeypatch.delenv(name)
    for arguments in (("stop", "--yes", "--wait", "0"), ("stop", "--status"), ("orders",), ("stop", "review"), ("verify",)):
        said = holding(*arguments)
        assert "is gone" in said.out + said.err, said
        assert not (holding.home / "postgres").exists()
    assert (holding.home / "stops" / "ACCOUNT.json").exists()
    said = holding("stop", "--yes", "--wait", "0")
    assert (said.code, "NO CANCEL WAS SENT" in said.out) == (1, True), said


def test_the_latch_is_on_the_disk_before_the_settings_are_read(asked: Shell, monkeypatch) -> None:
    def unreadable(home: object) -> None:
        latched = json.loads((asked.home / "stops" / "ACCOUNT.json").read_text())
        assert latched["actor"] == user_actor()
        raise SettingsError("nobody reads them")

    monkeypatch.setattr("trading_pipeline.emergency_settings.settings_at_hand", unreadable)
    assert asked("stop", "--yes", "--wait", "0").code == 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("nonsense = 1\n", "nonsense of the settings"), ("keep_protective_stops = yes and no\n", "trading.toml, line 1"),
        ('[market]\nclock = "sundial"\n', "market.clock of the settings"), ("[limits]\nmax_order_value = 200000\n", "hard limit"),
        ("[paper\naccount = \"PAPER-1\"\n", "trading.toml, line 1"), (b"\xff\xfe\x00", "trading.toml, line 1"),
    ],
    ids=["an unknown key", "no TOML", "a wrong value", "above a hard limit", "a broken heading", "no text at all"],
)
def test_settings_that_nobody_can_read_keep_no_cancel(holding: Shell, settings: str | bytes, told: str) -> None:
    """55: everything else refuses them."""
    (holding.home / "trading.toml").write_bytes(settings if isinstance(settings, bytes) else settings.encode())
    said = holding("stop", "--yes", "--json")
    answer = said.json()
    assert (said.code, answer["latched"], answer["clean"], answer["record"]) == (0, True, True, "ledger"), said.err
    assert {line["state"] for line in answer["ended"]} == {"canceled"}
    assert any(told in left_out for left_out in answer["left_out"])
    assert holding("status").code == 2


def test_an_account_whose_name_cannot_be_read_is_the_one_that_the_database_has(trading: Shell, monkeypatch) -> None:
    """55: and never another one, which would have no orders and look clean."""
    buy(trading)
    monkeypatch.delenv("TRADING_PAPER__ACCOUNT")
    (trading.home / "trading.toml").write_text('[paper]\naccount = "PAPER-7\n')
    answer = trading("stop", "--yes", "--json").json()
    assert (answer["clean"], {line["state"] for line in answer["ended"]}) == (True, {"canceled"})
    [latched] = of_type(trading, EventType.ACCOUNT_LATCHED)
    assert latched["account"] == trading.environment["TRADING_PAPER__ACCOUNT"]


def test_a_database_of_ones_own_that_cannot_be_read_is_not_taken_for_a_new_one(holding: Shell, monkeypatch) -> None:
    """55: an empty one would have no orders and look clean."""
    for name in ("TRADING_DATABASE_URL", "TRADING_OWNER_DATABASE_URL"):
        monkeypatch.delenv(name)
    (holding.home / "trading.toml").write_text('database_url = "postgresql://app@db/ledger\n')
    said = holding("stop", "--yes", "--wait", "0")
    assert (said.code, "NO CANCEL WAS SENT" in said.out) == (1, True)
    assert "Which database" in said.out
    assert not (holding.home / "postgres").exists()
    (holding.home / "postgres").mkdir()
    assert "Which database" in holding("stop", "--yes", "--wait", "0").out, "one that was left behind is no better"


def test_a_replay_clock_that_cannot_be_read_stands_where_the_record_ends(holding: Shell) -> None:
    """55: and does not run on to today, filling what rests on the way."""
    last = holding.events()[-1].at
    clock = holding.home / "clock.json"
    whole = clock.read_bytes()
    clock.write_bytes(b"{" + whole[:20])
    said = holding("stop", "--yes", "--json")
    assert (said.code, said.json()["clean"]) == (0, True), said.err
    [left_out] = said.json()["left_out"]
    assert "clock.json is damaged" in left_out
    assert left_out[:40] in holding("stop", "--status").out
    assert {event.at for event in holding.events() if event.type is EventType.ORDER_CANCELED} == {last}
    clock.write_bytes(whole)
    assert holding("verify").code == 0


def test_it_latches_while_the_rest_has_not_begun(asked: Shell) -> None:
    """55: the process is held up right behind the latch: what it imported until then is all that stood before it."""
    script = (
        "import sys, trading_pipeline.faces.cli.stopping as s; from trading_pipeline.faces.cli.main import main\n"
        "s._carry_out = lambda *a: (_ for _ in ()).throw(SystemExit(','.join(sorted(sys.modules))))\n"
        "main(['stop', '--yes'])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=asked.project, capture_output=True, text=True, check=False)
    loaded = set(done.stderr.strip().splitlines()[-1].split(","))
    assert (asked.home / "stops" / "ACCOUNT.json").exists()
    assert not loaded & {"numpy", "pandas", "sqlalchemy", "psycopg2", "dagster", "pyarrow", "exchange_calendars", "matplotlib"}


def test_the_latch_is_cleared_by_typing_the_accounts_name_at_a_terminal(holding: Shell) -> None:
    """49, D9."""
    assert holding("stop", "--yes").code == 0
    assert holding("stop", "clear", "--json").error()["error"] == "PermissionRequired"
    assert holding.at_a_terminal(["stop", "clear"], {"away:": "PAPER-2"}).code == 2
    assert holding.at_a_terminal(["stop", "clear"], {"away:": "PAPER-1"}).code == 0
    assert [event.actor for event in holding.events() if event.type is EventType.ACCOUNT_LATCH_CLEARED] == [user_actor()]
    assert {row["state"] for row in holding("strategy", "list", "--json").json()} == {"emergency_stopped"}
    assert holding("stop", "clear", "--json").code != 0


def test_a_stop_that_is_pressed_while_somebody_types_the_accounts_name_stands(holding: Shell) -> None:
    """49, 51: whoever types has been shown the stop that they clear, and it was another one."""

    class Late(str):
        __slots__ = ()

        def encode(self, *_how: str) -> bytes:
            assert holding("stop", "--yes", "--reason", "something is wrong").code == 0
            return super().encode()

    assert holding("stop", "--yes", "--reason", "the news").code == 0
    said = holding.at_a_terminal(["stop", "clear"], {"away:": Late("PAPER-1")})
    told = " ".join(said.out.split())
    assert said.code == 3
    assert told.index(f"Stopped by {user_actor()}") < told.index("the news") < told.index("Type PAPER-1")
    assert f"Another stop came meanwhile, by {user_actor()}: something is wrong" in told
    stops = holding("stop", "--status", "--json").json()["stops"]
    assert [stop["reason"] for stop in stops if not stop["strategy"]] == ["the news", "something is wrong"]
    assert holding.at_a_terminal(["stop", "clear"], {"away:": "PAPER-1"}).code == 0


def test_who_clears_the_latch_of_a_ledger_that_was_put_back_is_told_so_first(holding: Shell) -> None:
    """4, 49, C14: whatever the latch was set for."""
    assert holding("stop", "--yes").code == 0
    with (holding.home / "anchors.jsonl").open("a") as file:
        file.write(json.dumps({"seq": 10_000, "hash": "00" * 32, "at": "2024-08-28T13:30:00.000000Z"}) + "\n")
    said = holding.at_a_terminal(["stop", "clear"], {"away:": "PAPER-1"})
    told = " ".join(said.out.split())
    assert said.code == 0
    assert told.index("it was restored from before") < told.index("accepts this ledger") < told.index("PAPER-1 is cleared")
    assert holding("verify").code == 0


@pytest.mark.parametrize("how", ["--quiet", "--json"])
def test_whose_stops_go_is_shown_before_the_name_is_asked_for_whatever_is_left_out(asked: Shell, how: str) -> None:
    """4, 49."""
    assert asked("stop", "--yes", "--reason", "the broker sells what we do not hold").code == 0
    with (asked.home / "anchors.jsonl").open("a") as file:
        file.write(json.dumps({"seq": 10_000, "hash": "00" * 32, "at": "2024-08-28T13:30:00.000000Z"}) + "\n")
    said = asked.at_a_terminal(["stop", "clear", how], {"away:": "PAPER-1"})
    told = " ".join(said.out.split())
    assert said.code == 0
    for seen in ("the broker sells what we do not hold", "it was restored from before", "accepts this ledger"):
        assert told.index(seen) < told.index("Type PAPER-1")


def test_who_clears_an_account_that_is_stopped_still_is_told_so(asked: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """49, 51: by somebody else, in the moment in which it was cleared."""
    assert asked("stop", "--yes", "--reason", "the news").code == 0
    cleared = LatchFiles.clear

    def meanwhile(files: LatchFiles, stops: Collection[Stop]) -> None:
        files.stop(Stop(None, "something is wrong", "user:bob", datetime.now(UTC)))
        cleared(files, stops)

    monkeypatch.setattr(LatchFiles, "clear", meanwhile)
    said = asked.at_a_terminal(["stop", "clear"], {"away:": "PAPER-1"})
    told = " ".join(said.out.split())
    assert said.code == 1
    assert "PAPER-1 is stopped still: Stopped by user:bob" in told
    assert "something is wrong" in told


def test_at_a_terminal_it_asks_first(asked: Shell) -> None:
    said = asked.at_a_terminal(["stop"], {"[y/N]": "n"})
    assert (said.code, (asked.home / "stops" / "ACCOUNT.json").exists()) == (1, False)
    said = asked.at_a_terminal(["stop"], {"[y/N]": "y"})
    assert (said.code, (asked.home / "stops" / "ACCOUNT.json").exists()) == (0, True)
