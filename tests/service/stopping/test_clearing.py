"""Clearing takes away what the person has looked at; what anybody has pressed beside it stands, whatever became of them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.desks import OPEN, PERSON, Floor, bars, floor, market, strategy
from tests.service.orders.settlement.scripted import tally
from tests.service.stopping.stopping import Gone, stop
from trading_pipeline.adapters.brokers.paper_faults import Call, NotReady
from trading_pipeline.adapters.journal_file import JournalFile
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.domain.events import EventType
from trading_pipeline.errors import Conflict, StorageError
from trading_pipeline.ports import Stop
from trading_pipeline.service.actors import RECOVERY
from trading_pipeline.service.orders.adoption import latch
from trading_pipeline.service.record import anchoring
from trading_pipeline.service.stopping import emergency, stop_review
from trading_pipeline.service.submitter import recovery

E = EventType
BOB = Stop(None, "something is wrong", "user:bob", OPEN + timedelta(seconds=1))


@pytest.fixture
def flat(tmp_path) -> Floor:
    """Nothing held and a strategy that buys at its next cycle; the account is held by what recovery found."""
    made = floor(tmp_path, market(bars()), OPEN, strategy())
    made = replace(made, desk=replace(made.desk, journal=JournalFile(tmp_path / "journal.jsonl")))
    with made.desk.ledger.transaction() as tx:
        latch(made.desk, tx, "restored", tally(made))
    return made


def clear(stage: Floor, **given) -> None:
    emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1", **given)


def latched_by(stage: Floor) -> list[str]:
    return [event.actor for event in stage.events(E.ACCOUNT_LATCHED)]


def all_files(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "stops").glob("ACCOUNT*"))


# Pressed, told "latched", and dead before the ledger or the journal had it


def test_a_stop_that_is_in_its_file_alone_does_not_go_with_what_recovery_holds(flat):
    """51, 52, fault 60."""
    flat.desk.latch.stop(BOB)
    with pytest.raises(Conflict, match=r"The stop by user:bob is in its file alone.*something is wrong"):
        clear(flat)
    assert flat.desk.latch.standing("buyer") == BOB
    assert flat.row("latches")["state"] == "latched"
    again = flat.restarted()
    recovery.resume_stop(again.desk)
    again.go(OPEN + timedelta(seconds=5)).cycle()
    assert ("order.submitted" in again.types(), again.row("strategies")["state"]) == (False, "emergency_stopped")
    assert latched_by(again) == ["recovery", "user:bob"]


def test_a_stop_that_is_in_its_file_alone_does_not_go_with_another_persons(stage, tmp_path):
    """51, fault 60, fault 62: nor is it forgotten: the next process writes it down, once, and then it can be cleared."""
    stop(stage)
    stage.desk.latch.stop(BOB)
    assert len(all_files(tmp_path)) == 2
    with pytest.raises(Conflict, match="user:bob is in its file alone"):
        clear(stage)
    assert [each.actor for each in stage.desk.latch.stops() if each.strategy is None] == [PERSON, "user:bob"]
    for _ in range(2):
        recovery.resume_stop(stage.restarted().desk)
    assert latched_by(stage) == [PERSON, "user:bob"]
    clear(stage)
    assert (all_files(tmp_path), stage.row("latches")["state"], stage.verifies()) == ([], "cleared", True)


def test_two_who_pressed_and_died_are_both_written_down_by_the_next_process(stage):
    """51, 53, fault 62."""
    carol = replace(BOB, actor="user:carol", at=BOB.at + timedelta(seconds=1))
    for each in (BOB, carol):
        stage.desk.latch.stop(each)
    stage.faults.on_call(Call.CANCEL, *[NotReady()] * 10)
    recovery.resume_stop(stage.restarted().desk)
    assert latched_by(stage) == ["user:bob", "user:carol"]
    assert [report.clean for report in recovery.resume_stop(stage.desk)] == [False], "one asks for the orders of both"
    recovery.resume_stop(stage.desk)
    clear(stage)
    assert stage.desk.latch.standing("fresh") is None
    assert stage.verifies()


def test_a_file_that_nobody_can_read_goes_on_record_once_and_can_be_cleared(stage, tmp_path):
    """51."""
    stop(stage)
    (tmp_path / "stops" / "ACCOUNT-0123456789abcdef.json").write_bytes(b"{")
    with pytest.raises(Conflict, match="cannot be read"):
        clear(stage)
    for _ in range(3):
        recovery.resume_stop(stage.restarted().desk)
    assert latched_by(stage) == [PERSON, "latch"]
    clear(stage)
    assert all_files(tmp_path) == []


# Pressed while somebody clears


@pytest.mark.parametrize("dies", [True, False], ids=["and dies", "and is done"])
def test_what_is_pressed_while_the_person_types_is_not_what_they_were_shown(flat, dies):
    """49, 51: however far it has come by then."""
    shown = emergency.held(flat.desk, flat.desk.ledger)
    flat.desk.latch.stop(BOB)
    if not dies:
        assert emergency.carry_out(flat.desk, BOB).clean
    with pytest.raises(Conflict, match="Another stop came meanwhile, by user:bob: something is wrong"):
        clear(flat, shown=shown)
    assert flat.desk.latch.standing("buyer") == BOB
    assert flat.row("latches")["state"] == "latched"


def test_a_stop_without_a_file_that_is_pressed_while_the_person_types_stands(stage):
    """49, 51: its disk took nothing; the ledger did."""
    stop(stage)
    shown = emergency.held(stage.desk, stage.desk.ledger)
    unlatched = replace(stage.desk, latch=Gone(StorageError("full")))
    emergency.write_down(unlatched, BOB, resumed=False)
    with pytest.raises(Conflict, match="Another stop came meanwhile, by user:bob"):
        clear(stage, shown=shown)
    assert stage.row("latches")["actor"] == "user:bob"
    assert {each["by"] for each in stop_review.review(stage.desk)["stops"] if each["strategy"] is None} == {"user:bob"}
    recovery.resume_stop(stage.restarted().desk)
    assert BOB in stage.desk.latch.stops()


@pytest.mark.parametrize(("owner", "name"), [(anchoring, "restored"), (LatchFiles, "clear")], ids=["the clearing is on record", "files go"])
def test_a_stop_that_is_pressed_while_another_ones_files_have_still_to_go_keeps_its_own(flat, monkeypatch, owner, name):
    """51, 52: whoever pressed it dies with nothing else written."""
    went_on = getattr(owner, name)

    def meanwhile(*given):
        flat.desk.latch.stop(BOB)
        return went_on(*given)

    monkeypatch.setattr(owner, name, meanwhile)
    clear(flat)
    assert flat.row("latches")["state"] == "cleared"
    assert flat.desk.latch.stops() == [BOB]
    recovery.resume_stop(flat.restarted().desk)
    assert (flat.row("latches")["actor"], flat.row("strategies")["state"]) == ("user:bob", "emergency_stopped")


def test_a_hold_that_has_come_to_be_on_record_since_it_was_shown_is_the_one_that_was_shown(stage):
    hold = Stop(None, "restored", RECOVERY, OPEN)
    stage.desk.latch.stop(hold)
    shown = emergency.held(stage.desk, stage.desk.ledger)
    recovery.resume_stop(stage.desk)
    clear(stage, shown=shown)
    assert (stage.desk.latch.stops(), stage.row("latches")["state"]) == ([], "cleared")


def test_a_hold_is_one_although_its_fact_is_of_a_later_instant_than_its_file(flat, tmp_path):
    """As on every clock that goes on: the file comes first."""
    [path] = (tmp_path / "stops").glob("ACCOUNT*")
    path.unlink()
    hold = flat.desk.latch.stop(Stop(None, "restored", RECOVERY, OPEN - timedelta(milliseconds=3)))
    emergency.mirror(flat.desk)
    assert emergency.held(flat.desk, flat.desk.ledger).stops == (hold,)
    clear(flat)
    assert (flat.desk.latch.stops(), flat.row("latches")["state"]) == ([], "cleared")


def test_a_lost_file_that_is_made_again_while_its_stop_is_cleared_does_not_come_back(stage, tmp_path, monkeypatch):
    """It would stop everything once more, for good, in the name of somebody who has not pressed."""
    stop(stage)
    (tmp_path / "stops" / "ACCOUNT.json").unlink()
    latched = LatchFiles.stop

    def meanwhile(files, pressed):
        monkeypatch.setattr(LatchFiles, "stop", latched)
        clear(stage)
        return latched(files, pressed)

    monkeypatch.setattr(LatchFiles, "stop", meanwhile)
    emergency.mirror(stage.desk)
    assert (all_files(tmp_path), stage.row("latches")["state"]) == ([], "cleared")


def test_a_lost_file_is_made_again_as_the_press_that_it_was(stage, tmp_path):
    """51: so that it is no press of its own, and goes with the stop it is of."""
    press = stop(stage).stop
    (tmp_path / "stops" / "ACCOUNT.json").unlink()
    for _ in range(2):
        recovery.resume_stop(stage.restarted().desk)
    assert stage.desk.latch.standing("fresh") == press
    assert latched_by(stage) == [PERSON]
    clear(stage)
    assert all_files(tmp_path) == []


def test_what_somebody_else_has_cleared_meanwhile_is_cleared_once(flat):
    shown = emergency.held(flat.desk, flat.desk.ledger)
    clear(flat)
    with pytest.raises(Conflict, match="under no stop"):
        clear(flat, shown=shown)
    assert flat.types().count("account.latch_cleared") == 1
