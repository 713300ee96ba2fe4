"""51, 55, fault 31: latch files: durable before they count, a stop where in doubt, good on a full disk."""

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trading_pipeline.adapters import durable_files, stop_files
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.adapters.stop_files import keep_reserve
from trading_pipeline.errors import StorageError, UnknownName
from trading_pipeline.ports import Latch, Stop

AT = datetime(2026, 3, 2, 14, 30, 0, 123456, tzinfo=UTC)
ALL, ONE = Stop(None, "enough", "user:anna", AT), Stop("dips", "odd", "user:ben", AT)


class LatchContract:
    """Inherit and define the fixture `latch`, under no stop."""

    def test_nothing_stands_at_first(self, latch: Latch):
        assert (latch.stops(), latch.standing("dips")) == ([], None)

    def test_a_stop_comes_back_as_it_was(self, latch: Latch):
        assert [latch.stop(ALL), latch.stop(ONE)] == [ALL, ONE]
        assert latch.stops() == [ALL, ONE]

    def test_the_accounts_stop_is_every_strategys(self, latch: Latch):
        latch.stop(ALL)
        assert (latch.standing("dips"), latch.standing("made-later")) == (ALL, ALL)

    def test_a_strategys_stop_is_its_own(self, latch: Latch):
        latch.stop(ONE)
        assert (latch.standing("dips"), latch.standing("trend")) == (ONE, None)

    def test_the_first_stop_stays_as_it_was(self, latch: Latch):
        latch.stop(ONE)
        assert latch.stop(Stop("dips", "again", "user:eve", AT)) == ONE
        assert latch.standing("dips") == ONE

    def test_a_person_takes_over_what_a_restore_had_held(self, latch: Latch):
        latch.stop(Stop(None, "restored", "recovery", AT))
        latch.stop(ALL)
        assert latch.stops() == [ALL]
        assert latch.stop(Stop(None, "restored", "recovery", AT)) == ALL

    def test_clearing_takes_the_accounts_away_and_no_strategys(self, latch: Latch):
        latch.stop(ALL)
        latch.stop(ONE)
        latch.clear()
        latch.clear()
        assert latch.stops() == [ONE]

    @pytest.mark.parametrize("name", ["", "../x", "a/b", ".", "a\nb", "x" * 101])
    def test_what_can_be_no_strategys_name_is_refused(self, latch: Latch, name: str):
        with pytest.raises(UnknownName):
            latch.stop(Stop(name, "odd", "user:ben", AT))


class TestLatchFiles(LatchContract):
    @pytest.fixture
    def folder(self, tmp_path):
        return tmp_path / "home" / "stops"

    @pytest.fixture
    def latch(self, folder):
        return LatchFiles(folder)

    @pytest.mark.parametrize("content", [
        b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"reason": 1}', b"[" * 100_000,
        b'{"reason": "odd", "actor": "user:ben", "at": "0001-01-01T00:00:00+23:00"}',
        b'{"reason": "odd", "actor": "user:ben", "at": "2026-03-02T14:30:00"}', b'{"reason": "odd", "actor": "user:ben", "at": 1e999}',
    ])
    def test_a_file_that_cannot_be_read_is_a_stop_that_names_it(self, latch, folder, content):
        folder.mkdir(parents=True)
        (folder / "ACCOUNT.json").write_bytes(content)
        [stop] = latch.stops()
        assert (stop.strategy, latch.standing("dips")) == (None, stop)
        assert "ACCOUNT.json" in stop.reason

    @pytest.mark.parametrize("name", ["STOP.json", "strategy-.json", "strategy-a b.json", "ACCOUNT (1).json", "strategy-\udcff.json"])
    def test_a_file_of_no_scope_stops_the_account_and_is_named(self, latch, folder, name):
        folder.mkdir(parents=True)
        (folder / name).write_bytes(b"{}")
        [stop] = latch.stops()
        assert stop.strategy is None
        assert name.encode("utf-8", "replace").decode() in stop.reason
        latch.stop(ONE)
        latch.stop(ALL)
        assert latch.stops() == [ALL, ONE]

    def test_what_the_ledger_cannot_hold_is_latched_in_what_it_can(self, latch):
        latch.stop(Stop(None, "caf\udce9\x00" + "e" * 600, "", AT))
        assert latch.stops() == [Stop(None, "caf?" + "e" * 496, "unknown", AT)]

    def test_a_folder_that_cannot_be_looked_into_stops_the_account(self, latch, folder):
        folder.parent.mkdir()
        folder.write_text("no folder")
        [stop] = latch.stops()
        assert stop.strategy is None

    def test_the_file_and_its_folders_are_on_the_disk_when_it_counts(self, latch, folder, monkeypatch):
        synced, real = [], os.fsync

        def sync(descriptor: int) -> None:
            synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
            real(descriptor)

        monkeypatch.setattr(durable_files.os, "fsync", sync)
        latch.stop(ALL)
        assert synced[0].startswith(f"{folder}/.new-")
        assert str(folder) in synced
        assert str(folder.parent) in synced

    def test_a_full_disk_is_latched_by_the_reserve(self, latch, folder, monkeypatch):
        """55, fault 31, fault 61."""
        keep_reserve(folder)
        monkeypatch.setattr(stop_files, "write_atomically", self.full)
        assert latch.stop(ALL) == ALL
        assert LatchFiles(folder).stops() == [ALL]
        assert json.loads((folder / "ACCOUNT.json").read_bytes())["reason"] == "enough"

    def test_a_full_disk_without_a_reserve_confirms_nothing(self, latch, monkeypatch):
        monkeypatch.setattr(stop_files, "write_atomically", self.full)
        with pytest.raises(StorageError, match="No space left"):
            latch.stop(ALL)
        assert latch.stops() == []

    def test_many_press_at_once_and_one_stop_stands(self, latch):
        threads = [threading.Thread(target=latch.stop, args=(ALL,)) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert latch.stops() == [ALL]

    @staticmethod
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))
