"""`trading up` before anything is started: which replay it joins or begins, and what it refuses without a trace."""

import os
import socket
from pathlib import Path

import pytest

from tests.faces.conftest import STRATEGY, Shell
from trading_pipeline.adapters import home_lock
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.clocks import ReplayClock
from trading_pipeline.adapters.home_lock import held
from trading_pipeline.faces.cli import up as supervisor


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Homes that processes would have been started on; real ones are started in test_up."""
    homes: list[Path] = []
    monkeypatch.setattr(supervisor, "up", lambda home, *_, **__: homes.append(home))
    return homes


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_in_use_is_refused_and_nothing_is_written(trading: Shell, started: list[Path], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        refused = trading("up", "--home", tmp_path / "new", "--port", number, "--json")
    assert refused.code == 4
    assert refused.error()["error"] == "ServiceError"
    assert str(number) in refused.error()["message"]
    assert not (tmp_path / "new").exists()
    assert started == []


@pytest.mark.parametrize(
    ("at", "error"),
    [("1850-01-02", "CalendarError"), ("2012-10-29", "CalendarError"), ("tomorrow", "InputError")],
    ids=["before the calendar", "an unscheduled closure", "no date"],
)
def test_a_start_that_cannot_be_is_refused_and_nothing_is_written(
    trading: Shell, started: list[Path], tmp_path: Path, at: str, error: str,
) -> None:
    refused = trading("up", "--home", tmp_path / "new", "--port", port(), "--at", at, "--json")
    said = refused.error()
    assert (refused.code, said["error"]) == (2, error)
    assert at in said["message"]
    assert said["rule"]
    assert said["remedy"]
    assert not (tmp_path / "new").exists()
    assert started == []


def test_a_start_after_the_last_bar_is_refused(trading: Shell, started: list[Path], tmp_path: Path) -> None:
    refused = trading("up", "--home", tmp_path / "new", "--port", port(), "--at", "2020-01-02", "--json")
    assert (refused.code, refused.error()["error"]) == (2, "InputError")
    assert "the bars end at 2013-03-01" in refused.error()["rule"]
    assert not (tmp_path / "new").exists()
    assert started == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_is_a_storage_error(trading: Shell, started: list[Path], tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    refused = trading("up", "--home", tmp_path / "new", "--port", port(), "--json")
    tmp_path.chmod(0o755)
    assert (refused.code, refused.error()["error"]) == (4, "StorageError")
    assert started == []


def test_a_home_that_cannot_be_made_is_a_storage_error(trading: Shell, started: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    refused = trading("up", "--home", tmp_path / "file" / "home", "--port", port(), "--json")
    assert (refused.code, refused.error()["error"]) == (4, "StorageError")
    assert "permissions" in refused.error()["remedy"]
    assert started == []


def test_a_folder_that_cannot_be_used_leaves_the_home_as_it_was(trading: Shell, started: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    (folder / "NVDA.csv").write_text("nonsense\n1\n")
    before = sorted(trading.home.iterdir())
    refused = trading("up", "--home", trading.home, "--port", port(), "--bars", folder, "--json")
    assert (refused.code, refused.error()["error"]) == (2, "BarsError")
    assert sorted(trading.home.iterdir()) == before
    assert started == []


def test_a_home_that_is_up_is_not_touched_by_another_up(trading: Shell, started: list[Path]) -> None:
    before = (trading.home / "clock.json").read_bytes()
    with held(trading.home, "trading up at http://127.0.0.1:3000"):
        refused = trading("up", "--port", port(), "--at", "2012-11-01", "--json")
    assert (refused.code, refused.error()["error"]) == (4, "ServiceError")
    assert "trading up at http://127.0.0.1:3000" in refused.error()["message"]
    assert (trading.home / "clock.json").read_bytes() == before
    assert started == []


def test_of_two_in_the_same_instant_one_gets_the_home(trading: Shell, started: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have looked and seen nobody."""
    monkeypatch.setattr(home_lock, "require_unused", lambda _home: None)
    before = (trading.home / "clock.json").read_bytes()
    with held(trading.home, "trading up"):
        assert trading("up", "--port", port(), "--at", "2012-11-01").code == 4
    assert (trading.home / "clock.json").read_bytes() == before
    assert started == []


def test_a_new_home_replays_the_samples_from_the_first_session_of_the_demo(trading: Shell, started: list[Path], tmp_path: Path) -> None:
    home = tmp_path / "new"
    said = trading("up", "--home", home, "--port", port(), "--session-seconds", "5")
    assert said.code == 0, said.err
    assert "REPLAY of samples from 2012-10-15 09:30 New York" in said.err
    assert started == [home]
    clock = ReplayClock.attach(home / "clock.json", load_calendar(home / "cache"))
    assert (clock.market, clock.pace, clock.session_seconds) == ("samples", "daily", 5.0)
    assert clock.now().isoformat() == "2012-10-15T13:30:00+00:00"


def test_a_folder_of_minutes_is_replayed_at_its_speed_with_a_strategy_of_ones_own(
    trading: Shell, started: list[Path], tmp_path: Path,
) -> None:
    rows = [f"2024-08-28 {9 + (30 + m) // 60:02}:{(30 + m) % 60:02},10,11,9,10.5,{1000 + m}" for m in range(390)]
    folder, home = tmp_path / "bars", tmp_path / "new"
    folder.mkdir()
    (folder / "NVDA.csv").write_text("\n".join(["time,open,high,low,close,volume", *rows]))
    mine = trading.strategy(STRATEGY.format(mode="approval", order=5000).replace('["GOOG", "FB"]', '["NVDA"]').replace("1d", "1min"))
    said = trading("up", "--home", home, "--port", port(), "--bars", folder, "--at", "2024-08-28T10:00", "--speed", "2", "--strategy", mine)
    assert said.code == 0, said.err
    clock = ReplayClock.attach(home / "clock.json", load_calendar(home / "cache"))
    assert (clock.market, clock.pace, clock.speed) == ("files", "intraday", 2.0)
    assert clock.now().isoformat() == "2024-08-28T14:00:00+00:00"
    assert 'source = "files"' in (home / "trading.toml").read_text()
    assert started == [home]
    [listed] = trading("strategy", "list", "--home", home, "--json").json()
    assert (listed["name"], listed["state"], listed["spec"]["symbols"]) == ("steady", "running", ["NVDA"])


def test_a_replay_goes_on_from_where_it_stands_and_never_back(trading: Shell, started: list[Path]) -> None:
    before = ReplayClock.attach(trading.home / "clock.json", load_calendar(trading.home / "cache")).now()
    assert trading("up", "--port", port()).code == 0
    assert ReplayClock.attach(trading.home / "clock.json", load_calendar(trading.home / "cache")).now() == before
    back = trading("up", "--port", port(), "--at", "2012-10-12")
    assert back.code == 3
    assert "never goes back" in back.err
    assert started == [trading.home]
