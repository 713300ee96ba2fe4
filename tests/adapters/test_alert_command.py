"""The notification hook, with real programs."""

import json
import sys
import time

import psutil

from trading_pipeline.adapters.alert_command import alert

MESSAGE = {"name": "tick:bar_close", "reason": "nothing of it; $(touch pwned) for 66 s"}
COPY = "import sys, os, json; open(sys.argv[1], 'w').write(json.dumps([sys.stdin.read(), sorted(os.environ)]))"


def test_the_program_gets_the_alarm_on_its_standard_input_and_no_database_address(tmp_path, monkeypatch):
    monkeypatch.setenv("TRADING_DATABASE_URL", "postgresql://trading:secret@db/trading")
    monkeypatch.setenv("TRADING_HOME", str(tmp_path))
    assert alert([sys.executable, "-c", COPY, str(tmp_path / "got")], MESSAGE) == ""
    given, names = json.loads((tmp_path / "got").read_text())
    assert json.loads(given) == MESSAGE
    assert "TRADING_HOME" in names
    assert "TRADING_DATABASE_URL" not in names


def test_nothing_goes_through_a_shell(tmp_path):
    assert alert([sys.executable, "-c", COPY, str(tmp_path / "$(touch pwned); x")], MESSAGE) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["$(touch pwned); x"]


def test_what_goes_wrong_is_said_and_no_exception():
    assert alert([], MESSAGE) == ""
    assert "cannot be run: No such file" in alert(["/no/such/program"], MESSAGE)
    assert alert([sys.executable, "-c", "import sys; sys.exit(3)"], MESSAGE).endswith("ended with 3.")
    assert alert([sys.executable, "-c", "pass"], MESSAGE | {"much": "x" * 1_000_000}) == "", "it need not read"


def test_a_program_that_does_not_end_is_killed_with_its_children(tmp_path):
    pid = tmp_path / "pid"
    endless = f"import subprocess, time; p = subprocess.Popen(['sleep', '600']); open({str(pid)!r}, 'w').write(str(p.pid)); time.sleep(600)"
    said = alert([sys.executable, "-c", endless], MESSAGE, seconds=1)
    assert "did not end within 1 s" in said
    child, deadline = int(pid.read_text()), time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
