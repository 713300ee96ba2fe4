"""`python -m trading_pipeline.demo` as a stranger runs it: in a process of its own, in a folder of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def play(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One demo; nothing of this process's settings reaches it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TRADING_", "DAGSTER_"))}
    command = [sys.executable, "-m", "trading_pipeline.demo", "--home", str(home), "--json", *arguments]
    return subprocess.run(
        command, cwd=home.parent, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=110,
    )


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """The last line."""
    assert done.returncode == 0, done.stderr[-3000:]
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("RESULT ")
    return json.loads(last.removeprefix("RESULT "))


@pytest.mark.slow
def test_the_demo_trades_three_sessions_and_a_second_one_moves_the_first_aside(short_home):
    home = short_home / "demo"
    first = result_of(play(home, "--sessions", "3"))
    assert (first["sessions"], first["symbols"], first["verified"]) == (3, 5, True)
    assert first["signals"] == 3 * 5 * 2, "each strategy answers on each symbol in each session"
    assert first["verdicts"] >= first["denied"] >= 0
    assert first["orders"] > 0
    assert first["snapshots"] >= 3
    assert first["approvals"] >= 1
    marked = home / "mark"
    marked.touch()

    second = result_of(play(home, "--sessions", "1"))
    assert (second["sessions"], second["verified"]) == (1, True)
    assert not marked.exists()
    [aside] = [folder for folder in short_home.iterdir() if folder.name.startswith("demo-")]
    assert (aside / "mark").exists()
    assert (aside / "postgres").is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "2030-01-01"], "There is no session from 2030-01-01."),
        (["--from", "tomorrow"], "Argument --from: 'tomorrow' is no date such as 2012-10-15."),
        (["--sessions", "0"], "Argument --sessions: '0' is no whole number from 1 on."),
        (["--bogus"], "Unrecognized arguments: --bogus."),
        (["--bars", "no-such-folder"], "no-such-folder"),
    ],
)
def test_what_cannot_be_played_is_refused_as_everywhere_and_the_earlier_home_stays(short_home, arguments, message):
    home = short_home / "demo"
    home.mkdir()
    (home / "trading.toml").write_text('environment = "demo"\n')
    done = play(home, *arguments)
    assert done.returncode == 2, done.stderr
    said = json.loads(done.stderr.splitlines()[-1])
    assert message in said["message"]
    assert said["rule"]
    assert said["remedy"]
    assert "RESULT" not in done.stdout
    assert [each.name for each in home.parent.iterdir()] == ["demo"]
    assert (home / "trading.toml").exists()
