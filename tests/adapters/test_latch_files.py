"""51, 55, fault 31: latch files: durable before they count, a stop where in doubt, good on a full disk."""

import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trading_pipeline.adapters import durable_files, latch_files, stop_files
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.adapters.stop_files import keep_reserve
from trading_pipeline.errors import StorageError, UnknownName
from trading_pipeline.ports import Latch, Stop

AT = datetime(2026, 3, 2, 14, 30, 0, 123456, tzinfo=UTC)
ALL, ONE = Stop(None, "enough", "user:anna", AT), Stop("dips", "odd", "user:ben", AT)
NEXT = Stop(None, "enough", "user:ben", AT + timedelta(seconds=1))
HELD = Stop(None, "restored", "recovery", AT)


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
        assert [latch.stop(HELD), latch.stop(ALL)] == [HELD, ALL]
        assert (latch.stops(), latch.standing("dips")) == ([ALL, HELD], ALL)
        assert latch.stop(Stop(None, "restored", "recovery", AT + timedelta(seconds=1))) == ALL
        assert latch.stops() == [ALL, HELD]

    def test_every_press_of_the_accounts_stop_stands_by_itself(self, latch: Latch):
        """51, fault 62: and once, however often it is written."""
        assert [latch.stop(each) for each in (ALL, NEXT, ALL, NEXT)] == [ALL] * 4
        assert latch.stops() == [ALL, NEXT]
        latch.clear([ALL])
        assert (latch.stops(), latch.standing("dips")) == ([NEXT], NEXT)

    def test_clearing_takes_the_accounts_away_and_no_strategys(self, latch: Latch):
        latch.stop(ALL)
        latch.stop(ONE)
        latch.clear([ALL, ONE])
        latch.clear([ALL])
        assert latch.stops() == [ONE]

    def test_a_stop_that_was_not_looked_at_is_not_cleared(self, latch: Latch):
        latch.stop(NEXT)
        latch.clear([ALL])
        assert latch.stops() == [NEXT]

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
        assert latch.standing("dips") == stop, "whatever shows it keeps orders from going out"
        latch.stop(ONE)
        latch.stop(ALL)
        assert latch.stops() == [ALL, stop, ONE], "who clears the account's sees this one too"
        latch.clear([ALL])
        assert latch.stops() == [stop, ONE]
        latch.clear([stop])
        assert latch.stops() == [ONE]

    def test_a_copy_of_a_stop_is_that_stop_and_goes_with_it(self, latch, folder):
        """51: as a backup or a file manager leaves one."""
        latch.stop(ALL)
        (folder / "ACCOUNT (copy).json").write_bytes((folder / "ACCOUNT.json").read_bytes())
        assert latch.stops() == [ALL]
        latch.clear([ALL])
        assert (latch.stops(), latch.standing("dips")) == ([], None)

    def test_where_no_file_is_of_the_account_clearing_writes_nothing(self, latch, folder):
        """As on a disk that takes no file: only the ledger had the stop."""
        latch.stop(ONE)
        latch.clear([ALL])
        assert [path.name for path in folder.iterdir()] == ["strategy-dips.json"]

    def test_what_the_ledger_cannot_hold_is_latched_in_what_it_can(self, latch):
        latch.stop(Stop(None, "caf\udce9\x00" + "e" * 600, "", AT))
        assert latch.stops() == [Stop(None, "caf?" + "e" * 496, "unknown", AT)]

    @pytest.mark.parametrize("depth", [0, 1])
    def test_a_folder_that_cannot_be_looked_into_stops_the_account(self, latch, folder, depth):
        no_folder = (folder, folder.parent)[depth]
        no_folder.parent.mkdir(exist_ok=True)
        no_folder.write_text("no folder")
        [stop] = latch.stops()
        assert stop.strategy is None
        assert latch.stops() == [latch.standing("dips")] == [stop], "one stop, however often it is looked at"

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

    def test_each_who_presses_on_a_full_disk_takes_the_reserve_if_it_is_there(self, latch, folder, monkeypatch):
        """55, fault 31, fault 61."""
        latch.stop(HELD)
        keep_reserve(folder)
        monkeypatch.setattr(stop_files, "write_atomically", self.full)
        assert latch.stop(ALL) == ALL
        assert latch.stop(NEXT) == ALL, "latched already, with or without a file"
        assert latch.stops() == [ALL, HELD]

    def test_what_recovery_holds_is_no_stop_to_whom_a_full_disk_refuses_one(self, latch, monkeypatch):
        latch.stop(HELD)
        monkeypatch.setattr(stop_files, "write_atomically", self.full)
        with pytest.raises(StorageError, match="No space left"):
            latch.stop(ALL)

    def test_a_disk_that_makes_no_links_is_latched(self, latch, monkeypatch):
        def refuse(path, target):
            raise PermissionError(1, "Operation not permitted", str(path))

        monkeypatch.setattr(Path, "hardlink_to", refuse)
        assert [latch.stop(ALL), latch.stop(NEXT), latch.stops()] == [ALL, ALL, [ALL, NEXT]]

    @pytest.mark.parametrize("full", [False, True])
    def test_who_finds_nothing_and_is_overtaken_writes_over_nobody(self, latch, folder, monkeypatch, full):
        """51, 55, fault 62: on a full disk as well."""
        keep_reserve(folder)
        write = stop_files.write_atomically

        def overtaken(path, content, *, new):
            monkeypatch.setattr(stop_files, "write_atomically", write)
            latch.stop(ALL)
            monkeypatch.setattr(stop_files, "write_atomically", self.full if full else write)
            stop_files.write_atomically(path, content, new=new)

        monkeypatch.setattr(stop_files, "write_atomically", overtaken)
        latch.stop(NEXT)
        assert latch.stops() == [ALL, NEXT]

    def test_what_is_pressed_while_the_file_that_was_looked_at_goes_stands(self, latch, folder, monkeypatch):
        """51, 52."""
        latch.stop(ALL)
        unlink = Path.unlink

        def meanwhile(path, **given):
            monkeypatch.setattr(Path, "unlink", unlink)
            latch.stop(NEXT)
            unlink(path, **given)

        monkeypatch.setattr(Path, "unlink", meanwhile)
        latch.clear([ALL])
        assert LatchFiles(folder).stops() == [NEXT]

    def test_one_clears_at_a_time_and_nobody_who_presses_waits_for_that(self, latch, folder, monkeypatch):
        """51, 55: of two who clear, the slower one could take the file of who has pressed since the other one was done."""
        monkeypatch.setattr(latch_files, "_CLEARING_SECONDS", 0.05)
        latch.stop(ALL)
        with durable_files.open_lock(folder / ".clearing") as somebody:
            durable_files.take_lock(somebody, folder, 1)
            with pytest.raises(StorageError, match="locked"):
                latch.clear([ALL])
            latch.stop(NEXT)
        assert latch.stops() == [ALL, NEXT]

    def test_many_press_at_once_and_one_stop_stands(self, latch):
        threads = [threading.Thread(target=latch.stop, args=(ALL,)) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert latch.stops() == [ALL]

    @staticmethod
    def full(path, content, *, new):
        raise OSError(28, "No space left on device", str(path))
