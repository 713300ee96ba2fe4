"""`trading up` before anything is started: which replay it joins or begins, and what it refuses without a trace."""

import os
import socket
import tomllib
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest

from tests.adapters.llm.recorded import NOON, reply, request
from tests.faces.conftest import STRATEGY, Shell
from trading_pipeline.adapters import home_lock
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.clocks import ReplayClock
from trading_pipeline.adapters.home_lock import held
from trading_pipeline.adapters.llm.cassette_store import CassetteStore
from trading_pipeline.adapters.llm.recordings import Recording
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


def minutes(tmp_path: Path) -> Path:
    """A folder with one session of a symbol."""
    rows = [f"2024-08-28 {9 + (30 + m) // 60:02}:{(30 + m) % 60:02},10,11,9,10.5,{1000 + m}" for m in range(390)]
    folder = tmp_path / "bars"
    folder.mkdir()
    (folder / "NVDA.csv").write_text("\n".join(["time,open,high,low,close,volume", *rows]))
    return folder


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
    folder, home = minutes(tmp_path), tmp_path / "new"
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


ASKS = """
name = "asker"
symbols = ["NVDA"]
mode = "approval"
interval = "1min"
[agent]
provider = "openai"
model = "house-model"
prompt = "mine/v1"
"""
MODELS = """
[model.openai]   # my own server
base_url = "http://127.0.0.1:9/v1"
key_required = false
"""
PRICES = """
[[model]]
provider = "openai"
ids = ["house-model"]
input = 0
output = 0
"""


def furnish(home: Path, *, settings: bool = True) -> None:
    """What a person wrote into a home: a prompt, a price, a text, and where their model is."""
    shipped = files("trading_pipeline") / "prompts" / "analyst" / "v1.md"
    for path, text in (
        ("prompts/mine/v1.md", shipped.read_text()), ("prices.toml", PRICES), ("texts/NVDA/news.md", "2024-08-28 A dip."),
    ):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    if settings:
        (home / "trading.toml").write_text(f'environment = "paper"\n{MODELS}\n[limits]\nmax_day_loss = 7\n')


def recorded(home: Path) -> list[Recording]:
    """Two replies on a home's cassette."""
    with closing(CassetteStore(home / "cassette" / "replies.sqlite3")) as store:
        store.keep(*(Recording(request(number), reply(), NOON) for number in (1, 2)))
        return list(store.recordings())


def test_a_strategy_with_ones_own_prompt_price_and_model_is_replayed_from_a_folder(
    trading: Shell, started: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the person wrote into TRADING_HOME comes along into the replay's own home, and stays where it was."""
    mine, folder = tmp_path / "mine", minutes(tmp_path)
    furnish(mine)
    kept = recorded(mine)
    monkeypatch.setenv("TRADING_HOME", str(mine))
    wanted = ["up", "--port", port(), "--bars", folder, "--speed", "10", "--strategy", trading.strategy(ASKS)]
    said = trading(*wanted)
    assert said.code == 0, said.err
    home = trading.project / ".trading" / "replay"
    assert started == [home]
    assert f"Taken along from {mine}: prompts, texts, prices.toml, the cassette (2 recorded replies), [model] of trading.toml." in said.err
    assert "Strategy asker (approval) runs on NVDA." in said.err
    assert "While a proposal waits for you this replay goes on in real time" in said.err
    settings = tomllib.loads((home / "trading.toml").read_text())
    assert settings == {
        "environment": "paper", "market": {"clock": "replay", "source": "files"},
        "model": {"openai": {"base_url": "http://127.0.0.1:9/v1", "key_required": False}},
    }
    assert (home / "trading.toml").stat().st_mode & 0o777 == 0o600
    assert (home / "texts" / "NVDA" / "news.md").read_text() == "2024-08-28 A dip."
    assert (mine / "prompts" / "mine" / "v1.md").exists()
    for store in (CassetteStore(home / "cassette" / "replies.sqlite3"), CassetteStore(mine / "cassette" / "replies.sqlite3")):
        with closing(store):
            assert list(store.recordings()) == kept, "each is there, and verified"


def test_a_replay_in_a_named_home_takes_along_what_is_in_the_one_that_is_worked_in(
    trading: Shell, started: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, there = tmp_path / "mine", tmp_path / "there"
    furnish(mine)
    recorded(mine)
    monkeypatch.setenv("TRADING_HOME", str(mine))
    said = trading("up", "--home", there, "--port", port(), "--bars", minutes(tmp_path), "--strategy", trading.strategy(ASKS))
    assert said.code == 0, said.err
    assert started == [there]
    assert f"Taken along from {mine}: prompts, texts, prices.toml, the cassette (2 recorded replies)" in said.err


def test_a_cassette_that_is_damaged_holds_up_no_replay(trading: Shell, started: list[Path], tmp_path: Path, monkeypatch) -> None:
    mine = tmp_path / "mine"
    furnish(mine)
    recorded(mine)
    (mine / "cassette" / "replies.sqlite3").write_bytes(b"no database" * 100)
    monkeypatch.setenv("TRADING_HOME", str(mine))
    said = trading("up", "--port", port(), "--bars", minutes(tmp_path))
    assert said.code == 0, said.err
    assert "Not all recorded replies are taken along: The cassette" in said.err
    assert "is damaged" in said.err


def test_what_stood_in_the_home_that_is_moved_aside_comes_along_too(trading: Shell, started: list[Path], tmp_path: Path) -> None:
    home = tmp_path / "again"
    furnish(home, settings=False)
    (home / "trading.toml").write_text("model = { openai = { key_required = false } }\n")
    said = trading("up", "--home", home, "--port", port(), "--bars", minutes(tmp_path))
    assert said.code == 0, said.err
    assert (home / "prompts" / "mine" / "v1.md").exists()
    assert (home / "prices.toml").read_text() == PRICES
    assert "are not taken along: they do not stand in tables of their own" in said.err
    [aside] = tmp_path.glob("again-*")
    assert (aside / "prices.toml").exists()


def test_a_replay_goes_on_from_where_it_stands_and_never_back(trading: Shell, started: list[Path]) -> None:
    before = ReplayClock.attach(trading.home / "clock.json", load_calendar(trading.home / "cache")).now()
    assert trading("up", "--port", port()).code == 0
    assert ReplayClock.attach(trading.home / "clock.json", load_calendar(trading.home / "cache")).now() == before
    back = trading("up", "--port", port(), "--at", "2012-10-12")
    assert back.code == 3
    assert "never goes back" in back.err
    assert started == [trading.home]
