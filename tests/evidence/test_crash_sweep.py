"""A hundred kills in the default test run, in a process of its own: it forks, and must have no thread and no connection.

It is played by two workers, and goes on with a file of what was played before.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.evidence import report
from tests.evidence.crash_sweep import again, notes
from tests.evidence.crashing.keeping import Kept, kept
from tests.evidence.crashing.rounds import RESTORED, Sweep
from tests.evidence.crashing.workers import Played
from trading_pipeline.errors import SettingsError

FIRST = Played(0, Sweep(kills=6, rounds=1, points=Counter(C1=1, C2=1), profiles=Counter(deduplicates=6)))
SECOND = Played(1, Sweep(kills=8, desks=2, rounds=1, points=Counter(C1=2), found=Counter(lost=1)), ["lost: an order"])


@pytest.mark.timeout(900)
def test_a_hundred_kills_lose_and_double_nothing_and_every_wrong_order_path_is_seen_to_fail(tmp_path: Path) -> None:
    """11, 12, 15, 18, 20, 22, fault 1, C1-C8, C10-C14, T20: three brokers, three controls. Two workers go on where one round was played."""
    path = tmp_path / "kept"
    with kept(path, report.commit()) as rounds:
        rounds.add(FIRST)
    argv = [sys.executable, "-m", "tests.evidence.crash_sweep"]
    others = ("SEED", "REPORT", "FIRST")
    environment = {name: value for name, value in os.environ.items() if name not in others}
    environment |= {"N": str(FIRST.tally.kills + 100), "JOBS": "2", "KEEP": str(path)}
    done = subprocess.run(argv, cwd=report.ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6_000:]
    last = done.stdout.splitlines()[-1]
    figures = json.loads(last.removeprefix("RESULT "))
    with kept(path, report.commit()) as rounds:
        assert rounds.runs == 3
        assert not any(rounds.played.values())
        assert rounds.told.rounds == len(rounds.played)
        # Each worker takes every other seed, as fast as it can.
        assert {1, 2, 3} <= rounds.played.keys() <= set(range(2 * len(rounds.played)))
        assert figures.pop("kills") == rounds.told.kills >= FIRST.tally.kills + 100
        kills_at = rounds.told.points - FIRST.tally.points
        assert rounds.told.kills - FIRST.tally.kills == kills_at.total() - kills_at[RESTORED]
    assert figures == {"duplicated": 0, "lost": 0, "orphaned": 0, "phantom": 0, "controls_failed_as_they_should": True}


def test_an_interrupted_sweep_has_what_its_runs_have_played(tmp_path: Path) -> None:
    """Every count, every seed with what was wrong in it, and the time of both."""
    path = tmp_path / "kept"
    with kept(path, "abc") as rounds:
        rounds.began -= 100
        rounds.add(FIRST)
    with kept(path, "abc") as rounds:
        rounds.began -= 10
        rounds.add(SECOND)
    with kept(path, "abc") as rounds:
        assert rounds.told == Sweep(
            kills=14, desks=2, rounds=2, points=Counter(C1=3, C2=1), profiles=Counter(deduplicates=6), found=Counter(lost=1),
        )
        assert rounds.played == {0: [], 1: ["lost: an order"]}
        assert (rounds.runs, round(rounds.seconds)) == (3, 110)


def test_a_line_that_a_kill_cut_short_is_played_again(tmp_path: Path) -> None:
    """What comes after it begins on a line of its own."""
    path = tmp_path / "kept"
    with kept(path, "abc") as rounds:
        rounds.add(FIRST)
    with path.open("a") as file:
        file.write('{"seed": 1, "at": 1')
    for _ in range(2):
        with kept(path, "abc") as rounds:
            assert rounds.played.keys() == {0}


def test_what_another_commit_has_kept_is_refused_and_stays(tmp_path: Path) -> None:
    """Figures of two commits say nothing about either."""
    path = tmp_path / "kept"
    with kept(path, "abc") as rounds:
        rounds.add(FIRST)
    before = path.read_bytes()
    with pytest.raises(SettingsError, match=r"kept by another commit \(abc, this is abc-dirty\)"), kept(path, "abc-dirty"):
        pass
    assert path.read_bytes() == before


def test_two_runs_do_not_keep_one_file(tmp_path: Path) -> None:
    """A seed would be counted twice."""
    path = tmp_path / "kept"
    with kept(path, "abc"), pytest.raises(SettingsError, match="Another run keeps"), kept(path, "abc"):
        pass


def test_the_page_names_the_command_and_the_runs_that_it_counts() -> None:
    """Without saying where the file was."""
    assert again(1_000, 1, keeps=False) == "make crash-sweep N=1000"
    assert again(10_000, 2, keeps=True) == "KEEP=FILE JOBS=2 make crash-sweep N=10000"
    told = Kept(told=FIRST.tally, runs=2, earlier=100.0)
    assert "1 rounds, each with a fresh database, 100 s by 2 workers side by side, in 2 runs" in notes(told, {}, 2)[0]
    assert "100 s. After" in notes(Kept(told=FIRST.tally, runs=1, earlier=100.0), {}, 1)[0]
