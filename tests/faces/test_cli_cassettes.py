"""`trading cassette`: what people and scripts see of recordings."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests.adapters.llm.recorded import reply, request
from tests.faces.conftest import Shell
from trading_pipeline.adapters.llm.cassette_store import CassetteStore
from trading_pipeline.adapters.llm.recordings import Recording
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.ports import Home

LATELY = datetime.now(UTC) - timedelta(days=3)


def recording(number: int, at: datetime = LATELY, text: str = "kept", **changes: object) -> Recording:
    return Recording(replace(request(number), pictures=(), **changes), reply(text, cost=Decimal("0.25")), at)  # type: ignore[arg-type]


@pytest.fixture
def store(trading: Shell) -> CassetteStore:
    """Three recordings, one of another model and of this instant; the first was replayed twice."""
    made = CassetteStore(Home(trading.home).cassette)
    made.keep(recording(1), recording(2), recording(3, datetime.now(UTC), model="claude-haiku-5"))
    made.count_replay(recording(1).request.digest)
    made.count_replay(recording(1).request.digest)
    made.close()
    return made


def test_stats_of_an_empty_cassette_say_so_and_make_nothing(trading: Shell):
    said = trading("cassette", "stats")
    assert (said.code, "Nothing is recorded yet" in said.out) == (0, True)
    assert not Home(trading.home).cassette.parent.exists()


def test_stats_count_by_model_and_month_and_say_what_replaying_saved(trading: Shell, store: CassetteStore):
    said = trading("cassette", "stats")
    assert said.code == 0
    [row] = [line for line in said.out.splitlines() if "claude-sonnet-5-5" in line]
    assert row.split() == ["anthropic", "claude-sonnet-5-5", f"{LATELY.astimezone(NEW_YORK):%Y-%m}", "2", "$0.50", "2", "$0.50"]
    assert "3 recordings" in said.out and "replaying saved $0.50" in said.out
    data = trading("--json", "cassette", "stats").json()
    assert (data["recordings"], data["saved"], data["mode"], data["bytes"] > 0) == (3, "0.50", "record", True)
    assert [(each["model"], each["cost"], each["replays"]) for each in data["models"]] == [
        ("claude-haiku-5", "0.25", 0), ("claude-sonnet-5-5", "0.50", 2),
    ]


def test_a_recording_without_a_reported_cost_is_priced_by_the_table(trading: Shell, store: CassetteStore):
    unpriced = replace(recording(4, model="nobody-knows-it"), reply=reply(cost=None))
    store.keep(unpriced)
    said = trading("cassette", "stats")
    assert "1 recording left out of the money: the price is not known." in said.err


def test_export_and_import_carry_recordings_to_another_home(trading: Shell, store: CassetteStore):
    file = trading.project / "replies.jsonl"
    assert trading("cassette", "export", file).out == f"3 recordings exported to {file}.\n"
    refused = trading("--json", "cassette", "export", file)
    assert (refused.code, refused.error()["remedy"]) == (2, "add --replace")
    assert trading("cassette", "export", file, "--replace").code == 0
    other = trading.project / "other"
    brought = trading("--json", "--home", other, "cassette", "import", file).json()
    assert (brought["added"], brought["unchanged"], brought["refused"]) == (3, 0, [])
    assert list(CassetteStore(Home(other).cassette).recordings()) == list(store.recordings())


def test_an_import_overwrites_nothing_unless_told(trading: Shell, store: CassetteStore):
    file = trading.project / "replies.jsonl"
    trading("cassette", "export", file)
    store.keep(recording(1, text="newer"))
    said = trading("cassette", "import", file)
    assert "0 recordings added, 2 there already." in said.out and "1 request with another reply here: left as they are." in said.out
    assert store.find(recording(1).request.digest) == recording(1, text="newer").reply
    assert "1 recording replaced." in trading("cassette", "import", file, "--replace").out
    assert store.find(recording(1).request.digest) == recording(1).reply


def test_paths_that_lead_nowhere_are_the_users_mistake(trading: Shell, store: CassetteStore):
    lost = trading("cassette", "import", trading.project / "nofile.jsonl", "--json")
    assert (lost.code, lost.error()["error"], lost.error()["value"]) == (2, "InputError", str(trading.project / "nofile.jsonl"))
    assert "trading cassette export nofile.jsonl" in lost.error()["remedy"]
    away = trading("cassette", "export", trading.project / "nowhere" / "kept.jsonl", "--json")
    assert (away.code, away.error()["message"]) == (2, f"There is no folder {trading.project / 'nowhere'}.")
    assert not (trading.project / "nowhere").exists()


def test_an_import_with_a_refused_line_imports_nothing_and_names_the_line(trading: Shell, store: CassetteStore):
    file = trading.project / "replies.jsonl"
    trading("cassette", "export", file)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1].replace("kept", "sold"), "garbage"]) + "\n")
    other = trading.project / "other"
    said = trading("--home", other, "cassette", "import", file)
    assert said.code == 2
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == ["2", "3"]
    assert "2 lines" in said.err and "Line 2" in said.err
    assert not Home(other).cassette.exists()
    data = trading("--json", "--home", other, "cassette", "import", file)
    assert [each["line"] for each in data.json()["refused"]] == [2, 3]
    assert data.error()["value"] == "line 2"


def test_pruning_wants_to_know_what_and_asks(trading: Shell, store: CassetteStore):
    assert trading("--json", "cassette", "prune").error()["remedy"] == "add --older-than DAYS, --model MODEL or both"
    unattended = trading("--json", "cassette", "prune", "--model", "claude-haiku-5")
    assert (unattended.code, unattended.error()["error"]) == (2, "PermissionRequired")
    assert store.count() == 3


def test_a_person_who_says_no_keeps_everything(trading: Shell, store: CassetteStore):
    said = trading.at_a_terminal(["cassette", "prune", "--model", "claude-haiku-5"], {"[y/N]": "n"})
    assert (said.code, "Delete 1 recording?" in said.out, "Nothing was changed" in said.out) == (1, True, True)
    assert store.count() == 3


def test_pruning_by_age_and_by_model(trading: Shell, store: CassetteStore):
    store.keep(recording(4, datetime.now(UTC) - timedelta(days=400)))
    gone = trading("cassette", "prune", "--older-than", "365", "--yes")
    assert (gone.code, gone.out) == (0, "1 recording deleted.\n")
    assert trading("--json", "cassette", "prune", "--model", "claude-haiku-5", "--yes").json() == {"deleted": 1}
    assert trading("--json", "cassette", "prune", "--model", "claude-haiku-5", "--yes").json() == {"deleted": 0}
    assert {each.request.model for each in store.recordings()} == {"claude-sonnet-5-5"}


def test_a_damaged_cassette_is_said_with_the_remedy(trading: Shell, store: CassetteStore):
    store.path.write_bytes(b"no database" * 1_000)
    said = trading("--json", "cassette", "stats")
    assert (said.code, said.error()["error"]) == (4, "StorageError")
    assert "move the file aside" in said.error()["remedy"]
