"""53, 55, fault 61: an emergency stop on a disk that takes no file, with a ledger that lies elsewhere and answers."""

import errno
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from tests.desks import OPEN, PERSON, Floor
from tests.service.booting import booted
from tests.service.orders.settlement.scripted import tally
from tests.service.stopping.stopping import Gone, states
from trading_pipeline.adapters import stop_files
from trading_pipeline.adapters.brokers.paper_faults import Call, NotReady
from trading_pipeline.adapters.journal_file import JournalFile
from trading_pipeline.errors import StopUnfiled, StorageError
from trading_pipeline.ports import Stop
from trading_pipeline.service.orders.adoption import latch
from trading_pipeline.service.record.anchoring import anchor
from trading_pipeline.service.stopping import emergency
from trading_pipeline.service.submitter import recovery

PRESSED = Stop(None, "enough", PERSON, OPEN)


@pytest.fixture
def mend(monkeypatch) -> Callable[[], None]:
    """The disk takes files again."""
    write = stop_files.write_atomically
    return lambda: monkeypatch.setattr(stop_files, "write_atomically", write)


@pytest.fixture(params=[errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
def disk(request, monkeypatch, mend) -> Callable[[], None]:
    """It takes no file until it is mended."""

    def refused(path, content, *, new=False):
        raise OSError(request.param, "refused")

    monkeypatch.setattr(stop_files, "write_atomically", refused)
    return mend


def pressed(stage: Floor) -> Floor:
    """As `trading stop` does it, told "latched" or not, with a broker that takes no cancel; the process after it."""
    stage.faults.on_call(Call.CANCEL, *[NotReady()] * 4)
    with suppress(StorageError):
        stage.desk.latch.stop(PRESSED)
    report = emergency.carry_out(stage.desk, PRESSED)
    assert (report.record, report.clean) == ("ledger", False)
    stage.faults.on_call(Call.CANCEL)
    return stage.restarted()


def filed(stage: Floor) -> list[str | None]:
    return [each.strategy for each in stage.desk.latch.stops()]


@pytest.mark.parametrize("reserved", [True, False])
def test_cancels_wait_for_no_file_and_the_disk_is_told_of_until_it_takes_them(stage, tmp_path, disk, reserved):
    """51, 53, 55, fault 61: the account's file from the reserve, or none; the strategy's has no room anyhow."""
    if reserved:
        (tmp_path / "stops").mkdir()
        (tmp_path / "stops" / ".reserve").write_bytes(b" " * 4096)
    stage = pressed(stage)
    rounds: list[emergency.Report] = []
    with pytest.raises(StopUnfiled, match="A stop has no file"):
        recovery.resume_stop(stage.desk, told=rounds.append)
    assert (states(stage), stage.broker.orders(), [report.clean for report in rounds]) == ({"canceled"}, [], [True])
    head = stage.desk.ledger.head()
    with pytest.raises(StopUnfiled):
        recovery.resume_stop(stage.desk)
    assert stage.desk.ledger.head() == head
    assert emergency.in_force(stage.desk, stage.desk.ledger, "fresh") is not None
    disk()
    assert recovery.resume_stop(stage.desk) == []
    assert filed(stage) == [None, "buyer"]
    assert stage.verifies()


def test_a_desk_comes_up_on_such_a_disk_goes_on_with_the_cancels_and_says_what_is_missing(stage, disk):
    """53, 55, 85, fault 61: it does not begin again for ever."""
    stage = pressed(stage)
    said = booted(stage)
    assert (states(stage), stage.broker.orders()) == ({"canceled"}, [])
    assert not any(line.startswith("Begins again") for line in said), said
    assert any(line.startswith("Stopping failed, and is tried again: A stop has no file") for line in said), said
    assert any("2 orders over" in line for line in said), said
    health = stage.desk.ledger.health(f"desk:{stage.desk.broker.account_id}")
    assert any("A stop has no file" in line for line in health.content["trouble"]), health
    disk()
    assert not any("failed" in line for line in booted(stage))
    assert filed(stage) == [None, "buyer"]


def test_a_stop_of_one_strategy_whose_file_the_disk_does_not_take_goes_on(stage, disk):
    """53, 55, fault 61: no file says that there is anything to do."""
    stage.faults.on_call(Call.CANCEL, *[NotReady()] * 4)
    assert not emergency.carry_out(stage.desk, replace(PRESSED, strategy="buyer")).clean
    stage.faults.on_call(Call.CANCEL)
    with pytest.raises(StopUnfiled):
        recovery.resume_stop(stage.restarted().desk)
    assert (states(stage), stage.broker.orders()) == ({"canceled"}, [])
    disk()
    recovery.resume_stop(stage.desk)
    assert filed(stage) == ["buyer"]


def test_a_stop_that_only_the_journal_has_is_written_down_although_no_file_is_taken(stage, tmp_path, monkeypatch, disk):
    """7, 51, 55, fault 61: nor does the journal take that it is merged."""
    silent = replace(stage.desk, ledger=Gone())
    emergency.carry_out(silent, PRESSED)
    emergency.carry_out(silent, replace(PRESSED, strategy="buyer"))
    with monkeypatch.context() as full:

        def refused(*_):
            raise StorageError("No space left")

        full.setattr(JournalFile, "merged", refused)
        for _ in range(3):
            with pytest.raises(StopUnfiled):
                recovery.resume_stop(stage.restarted().desk)
            head = stage.desk.ledger.head()
    assert (stage.row("latches")["actor"], stage.row("strategies")["state"]) == (PERSON, "emergency_stopped")
    disk()
    recovery.resume_stop(stage.desk)
    assert (filed(stage), stage.types().count("account.latched")) == ([None, "buyer"], 1)
    assert stage.desk.ledger.head() == head
    assert stage.verifies()


def test_a_journal_that_cannot_be_read_keeps_no_order_of_a_stop_working(stage, tmp_path):
    """51, 53, 55: what else it says nobody can tell, and nothing is sent."""
    (tmp_path / "journal.jsonl").mkdir()
    stage.desk.latch.stop(PRESSED)
    assert any("journal" in line for line in booted(stage))
    assert (stage.row("strategies")["state"], stage.broker.orders()) == ("emergency_stopped", [])


def test_a_restored_ledger_is_held_although_no_file_is_taken(stage, tmp_path, monkeypatch, disk):
    """4, 55, C14, fault 35: by its fact."""
    anchor(stage.desk)
    anchors = stage.desk.anchors.newest()
    monkeypatch.setattr(type(stage.desk.anchors), "newest", lambda _: replace(anchors, hash=b"\0" * 32))
    with pytest.raises(StopUnfiled):
        recovery.resume_stop(stage.desk)
    assert (stage.row("latches")["state"], stage.row("latches")["actor"]) == ("latched", "recovery")
    assert stage.row("strategies")["state"] == "running"
    disk()
    recovery.resume_stop(stage.desk)
    assert filed(stage) == [None]


def test_an_account_ahead_of_its_ledger_is_held_although_no_file_is_taken(stage, disk):
    """55, C14: a desk that could not write it down would go on trading."""
    with stage.desk.ledger.transaction() as tx:
        latch(stage.desk, tx, "restored", tally(stage))
    assert emergency.in_force(stage.desk, stage.desk.ledger, "buyer").reason == "restored"
    disk()
    recovery.resume_stop(stage.desk)
    assert filed(stage) == [None]


def test_a_stop_without_a_file_is_cleared(stage, disk):
    """49: nothing has to be written or removed for that."""
    stage = pressed(stage)
    with pytest.raises(StopUnfiled):
        recovery.resume_stop(stage.desk)
    assert emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1") == ()
    assert stage.row("latches")["state"] == "cleared"
    disk()
    recovery.resume_stop(stage.desk)
    assert filed(stage) == ["buyer"]
