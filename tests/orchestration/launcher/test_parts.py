"""What the launcher is made of, in this process: the allow-list, what is watched, how messages are put together, who carries a run."""

import json
import os
import selectors
import socket
from pathlib import Path

import dagster as dg
import pytest

import resources.launcher.protocol
from resources.launcher import children
from resources.launcher.environment import ALLOWED, ALLOWED_PREFIXES, DENIED, scrubbed
from resources.launcher.protocol import MOST_BYTES, Lines, packed
from resources.launcher.warmth import watch
from resources.run_process import PROCESS_TAG, alive, mark_run, process_of, this_process
from trading_pipeline.settings import MODEL_KEYS


def test_only_what_runs_need_or_a_setting_names_is_handed_on() -> None:
    environ = {
        "PATH": "/bin", "LC_ALL": "C", "TRADING_DATABASE_URL": "postgresql://app", "DAGSTER_HOME": "/h", "SSL_CERT_FILE": "/c",
        "OPENAI_API_KEY": "named", "AWS_SECRET_ACCESS_KEY": "canary", "GITHUB_TOKEN": "canary", "PGPASSWORD": "canary",
        "TRADING_OWNER_DATABASE_URL": "postgresql://owner:canary@host/trading", "LD_PRELOAD": "canary",
    }
    kept = scrubbed(environ, ["OPENAI_API_KEY", "NOT_SET"])
    assert kept.keys() & environ.keys() == {"PATH", "LC_ALL", "TRADING_DATABASE_URL", "DAGSTER_HOME", "SSL_CERT_FILE", "OPENAI_API_KEY"}
    assert "canary" not in "".join(kept.values())
    assert kept["OPENBLAS_NUM_THREADS"] == kept["OMP_NUM_THREADS"] == "1"


def test_the_page_names_all_that_is_handed_on_and_what_never_is() -> None:
    """`trading up` hands on the keys of models without being asked."""
    page = (Path(__file__).parents[3] / "docs" / "launcher.md").read_text(encoding="utf-8")
    told = page.partition("## Secrets")[2].partition("## ")[0]
    handed_on = {*ALLOWED, *(f"{prefix}*" for prefix in ALLOWED_PREFIXES), *MODEL_KEYS}
    assert {name for name in handed_on | DENIED if f"`{name}`" not in told} == set()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRADING_HOME", str(tmp_path))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    (tmp_path / "clock.json").write_text(json.dumps({"market": "samples", "start": "2012-06-01", "elapsed_ns": 1, "gate": None}))
    return tmp_path


def test_a_replay_that_runs_is_the_same_and_another_is_not(home: Path) -> None:
    state = watch()
    before = state()
    clock = json.loads((home / "clock.json").read_text())
    (home / "clock.json").write_text(json.dumps(clock | {"elapsed_ns": 2, "anchor_ns": 5, "kept_until_ns": 9, "gate": 3}))
    assert state() == before
    (home / "clock.json").write_text(json.dumps(clock | {"start": "2013-06-01"}))
    assert state() != before


@pytest.mark.parametrize("name", ["trading.toml", "splits.csv", "market/AAA.csv"])
def test_a_file_that_comes_changes_or_goes_is_noticed(home: Path, name: str) -> None:
    state = watch()
    absent = state()
    (home / name).parent.mkdir(exist_ok=True)
    (home / name).write_text("one")
    there = state()
    os.utime(home / name, (1, 1))
    older = state()
    (home / name).unlink()
    assert absent != there != older != absent
    assert state() == absent


def test_our_own_modules_are_watched_and_installed_ones_are_not(home: Path) -> None:
    assert str(Path(resources.launcher.protocol.__file__)) in watch()()
    assert str(Path(dg.__file__)) not in watch()()


def test_messages_in_any_parts_arrive_whole_and_one_by_one() -> None:
    sent = packed({"ready": 1}) + packed({"accepted": 1})
    for size in range(1, len(sent) + 1):
        lines = Lines()
        parts = [sent[start : start + size] for start in range(0, len(sent), size)]
        assert [message for part in parts for message in lines.feed(part)] == [{"ready": 1}, {"accepted": 1}]


def test_a_message_without_an_end_is_given_up() -> None:
    with pytest.raises(ValueError, match="too long"):
        Lines().feed(b"x" * (MOST_BYTES + 1))


def test_a_run_that_repeats_another_is_not_carried_by_its_process() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        first = instance.create_run_for_job(dg.GraphDefinition(name="nothing").to_job(name="nothing"))
        mark_run(instance, first)
        marked = instance.get_run_by_id(first.run_id)
        assert marked is not None and process_of(marked) == this_process() and alive(this_process())
        # As Dagster copies the tags of a run to its re-execution.
        again = instance.create_run_for_job(dg.GraphDefinition(name="nothing").to_job(name="nothing"), tags=dict(marked.tags))
        assert PROCESS_TAG in again.tags
        assert process_of(again) is None


def test_a_spare_that_has_waited_for_an_hour_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    spare = children.Child(pid=0, channel=ours, ready=True)
    nursery = children.Children(selectors.DefaultSelector(), lambda: None, {0: spare})
    monkeypatch.setattr(children.time, "monotonic", lambda: spare.born + children.SPARE_SECONDS - 1)
    nursery.lose_patience()
    assert nursery.spares() == [spare]
    monkeypatch.setattr(children.time, "monotonic", lambda: spare.born + children.SPARE_SECONDS + 1)
    nursery.lose_patience()
    assert nursery.spares() == []
    with theirs:
        assert theirs.recv(1) == b""
