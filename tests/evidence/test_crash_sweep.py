"""A hundred kills in the default test run, in a process of its own: it forks, and must have no thread and no connection."""

import json
import os
import subprocess
import sys

import pytest

from tests.evidence.report import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_hundred_kills_lose_and_double_nothing_and_every_wrong_order_path_is_seen_to_fail() -> None:
    """11, 12, 15, 18, 20, 22, fault 1, C1-C8, C10-C14, T20: three brokers, three controls."""
    argv = [sys.executable, "-m", "tests.evidence.crash_sweep"]
    environment = {name: value for name, value in os.environ.items() if name not in ("SEED", "REPORT")} | {"N": "100"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6_000:]
    last = done.stdout.splitlines()[-1]
    figures = json.loads(last.removeprefix("RESULT "))
    assert figures.pop("kills") >= 100
    assert figures == {"duplicated": 0, "lost": 0, "orphaned": 0, "phantom": 0, "controls_failed_as_they_should": True}
