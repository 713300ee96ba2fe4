"""The cassette's file under kills, crowds, full and read-only disks, and flipped bits: real files, real processes."""

import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.adapters.llm.recorded import NOON, reply, request
from trading_pipeline.adapters.llm.cassette_store import PAGE, CassetteStore, Taken
from trading_pipeline.adapters.llm.recordings import Recording
from trading_pipeline.errors import StorageError

ROOT = Path(__file__).parents[3]


def recording(number: int = 0, text: str = "kept", **changes: object) -> Recording:
    return Recording(replace(request(number), pictures=()), reply(text, **changes), NOON)


def digest(number: int = 0) -> str:
    return recording(number).request.digest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cassette" / "replies.sqlite3"


@pytest.fixture
def store(path: Path) -> CassetteStore:
    return CassetteStore(path)


def python(script: str, *arguments: object, **more: object) -> "subprocess.Popen[str]":
    """A process of its own that has the helpers of this module."""
    head = "import sys\nfrom pathlib import Path\nfrom tests.adapters.llm.test_cassette_store import *\npath = Path(sys.argv[1])\n"
    command = [sys.executable, "-c", head + textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, **more)  # type: ignore[call-overload,no-any-return]


def test_a_file_that_is_not_there_holds_nothing_and_is_not_made_by_looking(store: CassetteStore, path: Path):
    assert (store.find(digest()), list(store.recordings()), store.count(), store.size(), store.tallies(lambda *_: None)) == (
        None, [], 0, 0, [],
    )
    assert not path.parent.exists()


def test_files_are_for_their_owner_alone(store: CassetteStore, path: Path):
    before = os.umask(0)
    try:
        store.keep(recording())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = sorted(path.parent.iterdir())
    assert path in files and all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files), files


def test_a_killed_writer_loses_nothing_that_it_reported_and_tears_nothing(path: Path):
    """A reply is reported after its commit, so every one that was reported is there, whole, whenever the kill comes."""
    writer = """
    store = CassetteStore(path)
    number = int(sys.argv[2])
    while True:
        store.keep(recording(number, "kept " * 500))
        print(number, flush=True)
        number += 1
    """
    chance, reported = random.Random(7), set[int]()
    for begin in range(0, 5_000, 1_000):
        process = python(writer, path, begin)
        assert process.stdout is not None
        reported.add(int(process.stdout.readline()))
        time.sleep(chance.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        reported.update(int(line) for line in process.stdout if line.endswith("\n"))
        process.wait()
        process.stdout.close()
    found = {each.request.text: each.reply for each in CassetteStore(path).recordings()}
    assert len(reported) >= 5
    assert {f"Question {number}" for number in reported} <= found.keys()
    assert set(found.values()) == {reply("kept " * 500)}
    assert len(found) - len(reported) <= 5, "one at most a kill was committed and not yet reported"


def test_a_writer_killed_while_it_makes_the_file_leaves_no_half_file(path: Path):
    chance = random.Random(3)
    for _ in range(6):
        process = python("CassetteStore(path).keep(recording())", path)
        time.sleep(chance.uniform(0.2, 0.6))
        process.kill()
        process.communicate()
    store = CassetteStore(path)
    store.keep(recording(1))
    assert store.find(digest(1)) == reply("kept")


def test_processes_and_threads_write_and_read_at_once(store: CassetteStore, path: Path):
    begin = """
    store = CassetteStore(path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: store.keep(recording(number)), range(int(sys.argv[2]), int(sys.argv[2]) + 25)))
    """
    processes = [python(begin, path, first) for first in (0, 100, 200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.keep(recording(number)), range(300, 325)))
        seen = list(pool.map(lambda number: store.find(digest(number)), range(300, 325)))
    assert set(seen) == {reply("kept")}
    assert [(process.communicate(), process.returncode)[1] for process in processes] == [0, 0, 0]
    numbers = {int(each.request.text.removeprefix("Question ")) for each in store.recordings()}
    assert numbers == {first + number for first in (0, 100, 200, 300) for number in range(25)}


def test_many_making_the_file_at_once_make_one(tmp_path: Path):
    for round_ in range(10):
        path = tmp_path / str(round_) / "replies.sqlite3"
        stores, barrier = [CassetteStore(path) for _ in range(8)], threading.Barrier(8)

        def make(number: int, stores: list[CassetteStore] = stores, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            stores[number].keep(recording(number))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(make, range(8)))
        assert CassetteStore(path).count() == 8


def test_the_last_of_several_replies_to_one_request_stands(store: CassetteStore):
    store.keep(recording(0, "one"))
    store.keep(recording(0, "two"), recording(0, "three"))
    assert (store.find(digest()), store.count()) == (reply("three"), 1)


def test_a_flipped_bit_is_found(store: CassetteStore, path: Path):
    store.keep(recording(0, "BUY at 100"), recording(1))
    store.close()
    content = path.read_bytes()
    assert content.count(b"BUY at 100") == 1
    path.write_bytes(content.replace(b"BUY at 100", b"BUY at 900"))
    with pytest.raises(StorageError, match=f"the reply to {digest()} is not what was kept") as caught:
        CassetteStore(path).find(digest())
    assert "import an export" in caught.value.remedy
    assert CassetteStore(path).find(digest(1)) == reply("kept")
    with pytest.raises(StorageError, match="is not what was kept"):
        list(CassetteStore(path).recordings())


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 500, b"SQLite format 3\x00" + b"\xff" * 8_000])
def test_a_file_that_is_no_cassette_is_named_and_left_alone(path: Path, content: bytes):
    path.parent.mkdir()
    path.write_bytes(content)
    for call in (lambda: CassetteStore(path).find(digest()), lambda: CassetteStore(path).keep(recording())):
        with pytest.raises(StorageError) as caught:
            call()
        assert str(path) in caught.value.message and "move the file aside" in caught.value.remedy
    assert path.read_bytes() == content


def test_a_file_cut_off_in_its_middle_is_named(store: CassetteStore, path: Path):
    store.keep(*(recording(number, "long " * 1_000) for number in range(100)))
    store.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StorageError, match="is damaged"):
        list(CassetteStore(path).recordings())


def test_a_newer_format_is_not_touched(store: CassetteStore, path: Path):
    store.keep(recording())
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(StorageError, match="has format 2"):
        CassetteStore(path).find(digest())


def test_a_full_disk_refuses_and_harms_nothing_older(store: CassetteStore, path: Path):
    """The limit on a file's size stands in for a full disk: writes fail in the middle, with an error of the operating system's."""
    store.keep(recording(0, "older"))
    store.close()
    filler = """
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    store = CassetteStore(path)
    try:
        for number in range(1, 1_000):
            store.keep(recording(number, "".join(random.choices("abcdefgh", k=5_000))))
    except StorageError as error:
        print(number, type(error).__name__, error.message)
    """
    out, _ = python(filler, path).communicate()
    number, kind, message = out.split(" ", 2)
    assert kind == "StorageError" and str(path) in message and int(number) > 1
    fresh = CassetteStore(path)
    assert fresh.find(digest(0)) == reply("older")
    assert fresh.count() == int(number)
    fresh.keep(recording(5_000))
    assert fresh.count() == int(number) + 1


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
@pytest.mark.parametrize("left_open", [False, True])
def test_a_read_only_disk_is_replayed_from_and_refuses_to_record(store: CassetteStore, path: Path, left_open: bool):
    store.keep(recording(0, "older"))
    if left_open:
        assert path.with_name(f"{path.name}-wal").stat().st_size
    else:
        store.close()
    reader = """
    store = CassetteStore(path)
    print(store.find(digest(0)) == reply("older"), store.find(digest(1)), store.count())
    store.count_replay(digest(0))
    try:
        store.keep(recording(1))
    except StorageError as error:
        print(error)
    store.close()
    """
    head = "import sys\nfrom pathlib import Path\nfrom tests.adapters.llm.test_cassette_store import *\npath = Path(sys.argv[1])\n"
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" || exit 77; shift 0; exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, path.parent, sys.executable, "-c", head + textwrap.dedent(reader), path]
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no read-only mount here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    first, refused = done.stdout.splitlines()
    assert first == "True None 1"
    assert "is read-only" in refused and "replay-or-fail" in refused
    store.close()
    assert CassetteStore(path).count() == 1


def test_who_waits_too_long_for_the_file_is_told(store: CassetteStore, path: Path, monkeypatch: pytest.MonkeyPatch):
    store.keep(recording())
    store.close()
    monkeypatch.setattr("trading_pipeline.adapters.llm.cassette_file.BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        assert store.find(digest()) == reply("kept"), "readers do not wait"
        with pytest.raises(StorageError, match="is locked") as caught:
            store.keep(recording(1))
        assert "fuser" in caught.value.remedy
    finally:
        holder.close()
    store.keep(recording(1))
    assert store.count() == 2


def test_a_file_that_is_replaced_is_seen_and_what_an_old_one_left_does_no_harm(store: CassetteStore, path: Path):
    store.keep(recording(0, "of the first"))
    aside = path.with_name("aside")
    path.rename(aside)
    assert path.with_name(f"{path.name}-wal").stat().st_size, "what the first one left behind"
    assert store.find(digest()) is None
    store.keep(recording(1, "of the second"))
    assert [each.reply.text for each in store.recordings()] == ["of the second"]


def test_pruning_takes_the_old_and_the_model_s_and_gives_the_room_back(store: CassetteStore, path: Path):
    other = "claude-haiku-5"
    noise = random.Random(1)
    for number in range(2 * PAGE + 10):
        each = recording(number, "".join(noise.choices("abcdefgh", k=2_000)))
        store.take([replace(each, at=NOON - timedelta(days=number % 2))], replace=False)
    store.keep(replace(recording(9_999), request=request(9_999, model=other)))
    full = store.size()
    yesterday = NOON - timedelta(hours=12)
    assert (store.count(), store.count(before=yesterday), store.count(model=other)) == (2 * PAGE + 11, PAGE + 5, 1)
    assert list(store.prune(before=yesterday)) == [PAGE, 5]
    assert sum(store.prune(model=other, before=yesterday)) == 0
    assert sum(store.prune(model=other)) == 1
    assert {each.at for each in store.recordings()} == {NOON}
    assert store.size() < full * 0.6


def test_recordings_from_elsewhere_replace_only_when_told(store: CassetteStore):
    store.keep(recording(0, "mine"), recording(1, "same"))
    theirs = [recording(0, "theirs"), recording(1, "same"), recording(2, "new")]
    assert store.take(theirs, replace=False) == {Taken.LEFT: 1, Taken.UNCHANGED: 1, Taken.ADDED: 1}
    assert store.find(digest(0)) == reply("mine")
    assert store.take(theirs, replace=True) == {Taken.REPLACED: 1, Taken.UNCHANGED: 2}
    assert store.find(digest(0)) == reply("theirs")


def test_counts_of_replays_survive_closing_and_a_newer_reply(store: CassetteStore, path: Path):
    store.keep(recording())
    for _ in range(3):
        store.count_replay(digest())
    store.close()
    store.keep(recording(0, "newer"))
    [tally] = CassetteStore(path).tallies(lambda *_: None)
    assert (tally.recordings, tally.replays) == (1, 3)
