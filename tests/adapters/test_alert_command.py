"""The notification hook, with real programs."""

import json
import sys
import time

import psutil

from tests.evidence.report import ROOT
from trading_pipeline.adapters.alert_command import PASSED, PASSED_PREFIXES, alert
from trading_pipeline.settings import MODEL_KEYS

MESSAGE = {"name": "tick:bar_close", "reason": "nothing of it; $(touch pwned) for 66 s"}
COPY = "import sys, os, json; open(sys.argv[1], 'w').write(json.dumps([sys.stdin.read(), sorted(os.environ)]))"


def test_the_program_gets_the_alarm_on_its_standard_input_and_no_secret(tmp_path, monkeypatch):
    needed = {
        "HOME": str(tmp_path), "TRADING_HOME": str(tmp_path), "DISPLAY": ":0", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1/bus",
        "XDG_RUNTIME_DIR": "/run/user/1", "LC_ALL": "C.UTF-8", "https_proxy": "http://127.0.0.1:9",
    }
    secret = {
        *MODEL_KEYS, *(f"TRADING_{name}" for name in MODEL_KEYS), "TRADING_DATABASE_URL", "TRADING_OWNER_DATABASE_URL",
        "TRADING_DAGSTER_DATABASE_URL", "ANTHROPIC_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "LD_PRELOAD_OF_OURS",
    }
    for name, value in {**needed, **dict.fromkeys(secret, "canary")}.items():
        monkeypatch.setenv(name, value)
    assert alert([sys.executable, "-c", COPY, str(tmp_path / "got")], MESSAGE) == ""
    given, names = json.loads((tmp_path / "got").read_text())
    assert json.loads(given) == MESSAGE
    assert {"PATH", *needed} <= set(names)
    assert not secret & set(names)


def test_the_page_names_all_that_the_program_is_given():
    told = (ROOT / "docs" / "watchdog.md").read_text(encoding="utf-8").partition("## Be told")[2].partition("\n## ")[0]
    assert {name for name in (*PASSED, *(f"{prefix}*" for prefix in PASSED_PREFIXES)) if f"`{name}`" not in told} == set()


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
