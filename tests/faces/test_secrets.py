"""Marked secrets in all that a process of the pipeline is given, looked for in all that it leaves behind."""

import json
from pathlib import Path

import pytest

from tests.faces.conftest import Shell

CANARIES = {
    "ANTHROPIC_API_KEY": "canary-zf3-anthropic", "OPENAI_API_KEY": "canary-zf3-openai", "AWS_SECRET_ACCESS_KEY": "canary-zf3-aws",
    "IBKR_PASSWORD": "canary-zf3-ibkr", "PGPASSWORD": "canary-zf3-pg",
}


def test_no_secret_is_found_in_anything_that_a_day_leaves_behind(asked: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """9, fault 72, T6, T16: facts, files, charts, answers and errors; the database's own password is the secret that is really used."""
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    password = asked.environment["TRADING_DATABASE_URL"].split("://")[1].split("@")[0].split(":")[1]
    said = [
        asked.attended(*command)
        for command in (
            ["approvals"], ["approve", asked("approvals", "--json").json()[0]["action_id"], "--yes"], ["run"], ["status"],
            ["events", "--json"], ["doctor"], ["verify", "--invariants"], ["limits"], ["why", "nothing-of-that-name"],
        )
    ]
    secrets = [password, *CANARIES.values()]
    sinks = {"answers": "".join(each.out + each.err for each in said).encode()}
    sinks["facts"] = "".join(
        f"{event.type} {event.key} {event.stream} {event.actor} {event.payload_text}\n" for event in asked.events()
    ).encode()
    sinks |= {path.as_posix(): path.read_bytes() for path in Path(asked.project).rglob("*") if path.is_file()}
    assert len(sinks) > 10, "the archive, the charts and the settings are among them"
    assert json.loads(asked("status", "--json").out)
    assert {name: secret for name, content in sinks.items() for secret in secrets if secret.encode() in content} == {}
