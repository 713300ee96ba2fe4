"""Recordings out of one home and into another: whole, checked line by line, and never half."""

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.llm.recorded import NOON, PICTURE, reply, request
from trading_pipeline.adapters.llm import recordings
from trading_pipeline.adapters.llm.cassette_exchange import check_recordings, export_recordings, import_recordings
from trading_pipeline.adapters.llm.cassette_store import CassetteStore, Taken
from trading_pipeline.adapters.llm.recordings import Recording, line_of, recording_of
from trading_pipeline.errors import InputError, StorageError

BARE = replace(PICTURE, content=b"")


def recording(number: int = 0, text: str = "kept") -> Recording:
    return Recording(request(number, pictures=(BARE, BARE)), reply(text), NOON)


@pytest.fixture
def store(tmp_path: Path) -> CassetteStore:
    made = CassetteStore(tmp_path / "one" / "replies.sqlite3")
    made.keep(*(recording(number, f"reply {number} \ud800\x00 é") for number in range(5)))
    return made


@pytest.fixture
def exported(store: CassetteStore, tmp_path: Path) -> Path:
    file = tmp_path / "export.jsonl"
    assert export_recordings(store, file) == 5
    return file


def test_what_is_exported_comes_out_of_another_home_the_same(store: CassetteStore, exported: Path, tmp_path: Path):
    other = CassetteStore(tmp_path / "other" / "replies.sqlite3")
    checked = check_recordings(exported)
    assert (checked.recordings, checked.refused) == (5, ())
    assert import_recordings(other, exported) == {Taken.ADDED: 5}
    assert list(other.recordings()) == list(store.recordings())
    assert import_recordings(other, exported) == {Taken.UNCHANGED: 5}
    again = tmp_path / "again.jsonl"
    export_recordings(other, again)
    assert again.read_bytes() == exported.read_bytes()


def test_an_export_explains_itself_and_is_for_its_owner_alone(exported: Path):
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    line = json.loads(exported.read_text("ascii").splitlines()[0])
    assert set(line) == {"cassette", "digest", "recorded_at", "request", "reply", "seal"}
    assert line["request"]["text"].startswith("Question ") and line["request"]["system"] == "You judge."
    picture = {"type": "Picture", "sha256": "ab" * 32, "width": 1200, "height": 800, "media_type": "image/png"}
    assert line["request"]["pictures"] == [picture] * 2
    assert line["recorded_at"] == "2026-11-20T17:00:00.000000Z"
    assert line["reply"]["cost"] == "0.0123"


def test_an_export_that_cannot_be_written_leaves_the_earlier_one(store: CassetteStore, exported: Path, monkeypatch: pytest.MonkeyPatch):
    before = exported.read_bytes()

    def full(recording: Recording) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trading_pipeline.adapters.llm.cassette_exchange.line_of", full)
    with pytest.raises(StorageError, match="No space left"):
        export_recordings(store, exported)
    assert exported.read_bytes() == before
    assert sorted(path.name for path in exported.parent.iterdir()) == ["export.jsonl", "one"]


def change(**to: Any) -> Callable[[dict[str, Any]], None]:
    """Set fields of a line; `a__b` for `b` in `a`."""

    def apply(line: dict[str, Any]) -> None:
        for name, value in to.items():
            *path, last = name.split("__")
            place = line
            for part in path:
                place = place[part]
            place[last] = value

    return apply


TAMPERED: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (change(digest="0" * 64), "digest"),
    (change(request__text="Buy everything"), "digest"),
    (change(request__system=""), "digest"),
    (change(request__model="claude-opus-5-5"), "digest"),
    (change(request__pictures=[]), "digest"),
    (change(request__sampling__temperature="0.9"), "digest"),
    (change(request__pictures="none"), "pictures"),
    (change(request__provider="nobody"), "nobody"),
    (change(request__text=7), "expected str"),
    (change(reply__text="BUY"), "seal"),
    (change(reply__ending="refused"), "seal"),
    (change(reply__cost="0.0001"), "seal"),
    (change(reply__cost="NaN"), "below zero"),
    (change(reply__cost="-1"), "below zero"),
    (change(reply__seconds=-1.0), "below zero"),
    (change(reply__usage__input_tokens=-1), "below zero"),
    (change(reply__usage__input_tokens=True), "expected int"),
    (change(reply__usage__input_tokens=1.5), "expected int"),
    (change(reply__ending="fine"), "fine"),
    (change(reply__more=1), "unknown field more"),
    (change(reply="text"), "no object"),
    (change(request=None), "no object"),
    (change(recorded_at="2026-11-21T17:00:00.000000Z"), "seal"),
    (change(recorded_at="yesterday"), "instant"),
    (change(recorded_at="2026-11-20T17:00:00"), "instant"),
    (change(recorded_at=5), "instant"),
    (change(seal="00"), "seal"),
    (change(seal=None), "seal"),
    (change(cassette=2), "format 2"),
    (change(more=1), "exactly"),
    (lambda line: line.pop("seal"), "exactly"),
    (lambda line: line["reply"].pop("text"), "text"),
]


@pytest.mark.parametrize(("tamper", "said"), TAMPERED)
def test_a_line_that_was_touched_is_refused(tamper: Callable[[dict[str, Any]], object], said: str):
    line = json.loads(line_of(recording()))
    tamper(line)
    with pytest.raises(InputError, match=said):
        recording_of(json.dumps(line).encode())


@pytest.mark.parametrize(
    "line", [b"", b"null", b"[]", b"{", b"\xff", b'{"cassette":NaN}', b"[" * 100_000, line_of(recording())[:-2].encode()],
)
def test_a_line_that_is_no_recording_is_refused(line: bytes):
    with pytest.raises(InputError):
        recording_of(line)


def test_a_model_s_name_that_no_table_takes_is_refused():
    with pytest.raises(InputError, match="characters"):
        recording_of(line_of(replace(recording(), request=request(model="\ud800"))).encode())


def test_a_line_without_an_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("trading_pipeline.adapters.llm.recordings.MAX_LINE", 3_000)
    monkeypatch.setattr("trading_pipeline.adapters.llm.cassette_exchange.MAX_LINE", 3_000)
    file = tmp_path / "long.jsonl"
    file.write_text(f"{line_of(recording())}\n{'x' * 50_000}\n{line_of(recording(1))}\n")
    checked = check_recordings(file)
    assert (checked.recordings, [(each.line, "more than" in each.why) for each in checked.refused]) == (2, [(2, True)])


def test_every_refused_line_is_named_with_its_number(exported: Path):
    lines = exported.read_bytes().splitlines()
    exported.write_bytes(b"\n".join([lines[0], b"", lines[1][:-9], lines[2], lines[0], lines[3].replace(b"reply 3", b"reply 4")]))
    checked = check_recordings(exported)
    lines_refused = [each.line for each in checked.refused]
    assert lines_refused[:3] == [2, 3, 5]
    assert checked.refused[2].why == "The same request as in line 1."


def test_a_file_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(StorageError, match="nowhere"):
        check_recordings(tmp_path / "nowhere.jsonl")


def test_costs_keep_every_digit(tmp_path: Path):
    precise = replace(recording(), reply=reply(cost=Decimal("0.000000123456789")))
    assert recording_of(line_of(precise).encode()) == precise
    assert recordings.reply_text(precise.reply).count("0.000000123456789") == 1
