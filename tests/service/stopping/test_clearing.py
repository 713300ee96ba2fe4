"""Clearing takes away what the person has looked at; what anybody has pressed beside it stands, whatever became of them."""

import errno
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import OPEN, PERSON, Floor, bars, floor, market, strategy
from tests.service.orders.settlement.scripted import scripted, settled, tally
from tests.service.stopping.stopping import Gone, clear, shown, stop
from trading_pipeline.adapters import stop_files
from trading_pipeline.adapters.brokers.paper_faults import Call, NotReady
from trading_pipeline.adapters.journal_file import JournalFile
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.errors import Conflict, StorageError
from trading_pipeline.ports import Stop
from trading_pipeline.service import controls
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
    assert {each["by"] for each in stop_review.review(stage.desk)["stops"] if each["strategy"] is None} == {PERSON, "user:bob"}
    recovery.resume_stop(stage.restarted().desk)
    assert BOB in stage.desk.latch.stops()


@pytest.mark.parametrize(("owner", "name"), [(anchoring, "restored"), (LatchFiles, "clear")], ids=["the clearing is on record", "files go"])
def test_a_stop_that_is_pressed_while_another_ones_files_have_still_to_go_keeps_its_own(flat, monkeypatch, owner, name):
    """51, 52: whoever pressed it dies with nothing else written."""
    went_on = getattr(owner, name)

    def meanwhile(*given):
        if flat.row("latches")["state"] == "cleared":
            flat.desk.latch.stop(BOB)
        return went_on(*given)

    monkeypatch.setattr(owner, name, meanwhile)
    assert clear(flat) == (BOB,), "who clears is told that the account is stopped still"
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


# Cleared in the ledger, and dead before the files went


def half_cleared(stage: Floor, monkeypatch) -> Floor:
    """Who cleared it is gone before a file went, or its disk took none of it; the process after that."""
    with monkeypatch.context() as dies:

        def refused(*_):
            raise StorageError("read-only")

        dies.setattr(LatchFiles, "clear", refused)
        with pytest.raises(StorageError):
            clear(stage)
    assert stage.row("latches")["state"] == "cleared"
    return stage.restarted()


def test_a_clearing_that_died_before_its_files_went_ends_nothing_that_was_made_since(stage, tmp_path, monkeypatch):
    """51, D9, fault 60: the file holds the account until it is cleared again, and nobody has pressed twice."""
    assert stop(stage).clean
    controls.create(stage.desk, strategy("fresh"), actor=PERSON)
    stage = half_cleared(stage, monkeypatch)
    head = stage.desk.ledger.head()
    for _ in range(2):
        assert recovery.resume_stop(stage.desk) == []
    assert (stage.row("strategies", name="fresh")["state"], stage.desk.ledger.head()) == ("draft", head)
    with pytest.raises(Conflict, match="under an emergency stop"):
        controls.start(stage.desk, "fresh", actor=PERSON)
    steps = stop_review.review(stage.desk)["next"]
    assert any("trading stop clear" in step for step in steps)
    assert not any("not confirmed" in step for step in steps)
    assert shown(stage) == [PERSON]
    assert clear(stage) == ()
    assert (all_files(tmp_path), stage.types().count("account.latch_cleared")) == ([], 1)
    controls.start(stage.desk, "fresh", actor=PERSON)
    assert stage.verifies()


def test_who_presses_while_the_file_of_a_cleared_stop_stands_stops_everything(stage, tmp_path, monkeypatch):
    """51, 53, fault 62: and both are cleared together."""
    assert stop(stage).clean
    controls.create(stage.desk, strategy("fresh"), actor=PERSON)
    stage = half_cleared(stage, monkeypatch)
    stage.desk.latch.stop(BOB)
    [report] = recovery.resume_stop(stage.restarted().desk)
    assert (report.stop, report.clean, stage.row("strategies", name="fresh")["state"]) == (BOB, True, "emergency_stopped")
    assert (latched_by(stage), shown(stage)) == ([PERSON, "user:bob"], [PERSON, "user:bob"])
    assert clear(stage) == ()
    assert (all_files(tmp_path), stage.row("latches")["state"]) == ([], "cleared")


def test_a_round_of_a_stop_that_somebody_has_cleared_meanwhile_presses_it_not_again(stage):
    """51: whoever waits for its last cancels still."""
    press = stop(stage).stop
    clear(stage)
    controls.create(stage.desk, strategy("fresh"), actor=PERSON)
    emergency.carry_out(stage.desk, press)
    assert (latched_by(stage), stage.row("latches")["state"]) == ([PERSON], "cleared")
    assert stage.row("strategies", name="fresh")["state"] == "draft"


def test_a_hold_whose_clearing_died_before_its_file_went_is_cleared_again(flat, tmp_path, monkeypatch):
    """C14."""
    again = half_cleared(flat, monkeypatch)
    recovery.resume_stop(again.desk)
    assert (shown(again), latched_by(again)) == (["recovery"], ["recovery"])
    assert clear(again) == ()
    assert all_files(tmp_path) == []


# Files of nobody's


def test_a_copy_of_the_file_goes_with_the_stop_that_it_is_of(stage, tmp_path):
    """51, D9: as a backup leaves it. Who is told that the account is cleared can trade again."""
    stop(stage)
    (tmp_path / "stops" / "ACCOUNT (copy).json").write_bytes((tmp_path / "stops" / "ACCOUNT.json").read_bytes())
    assert clear(stage) == ()
    assert all_files(tmp_path) == []
    controls.create(stage.desk, strategy("fresh"), actor=PERSON)
    recovery.resume_stop(stage.desk)
    assert (stage.row("strategies", name="fresh")["state"], stage.row("latches")["state"]) == ("draft", "cleared")


def test_a_copy_that_comes_back_later_holds_the_account_and_stops_no_strategy_again(stage, tmp_path):
    """51, D9: nobody has pressed."""
    stop(stage)
    copy = (tmp_path / "stops" / "ACCOUNT.json").read_bytes()
    clear(stage)
    stage.run(strategy("fresh"))
    (tmp_path / "stops" / "sync-conflict.json").write_bytes(copy)
    recovery.resume_stop(stage.restarted().desk)
    assert stage.row("strategies", name="fresh")["state"] == "running"
    assert emergency.in_force(stage.desk, stage.desk.ledger, "fresh").actor == PERSON
    assert clear(stage) == ()
    assert stage.desk.latch.standing("fresh") is None


def test_a_file_that_is_nobodys_is_shown_beside_the_accounts_and_goes_with_it(stage, tmp_path):
    """51, D9: what was hidden behind another stop would stand up when that one is cleared."""
    stop(stage)
    controls.create(stage.desk, strategy("fresh"), actor=PERSON)
    (tmp_path / "stops" / "STOP.json").write_bytes(b"{")
    recovery.resume_stop(stage.restarted().desk)
    assert (shown(stage), stage.row("strategies", name="fresh")["state"]) == ([PERSON, "latch"], "draft")
    assert clear(stage) == ()
    assert [each.strategy for each in stage.desk.latch.stops()] == ["buyer"]


# What has no file of its own


def unexplained(stage: Floor, number: int = 1) -> Floor:
    """The broker tells of an execution under a name of ours that this ledger never wrote, while a stop stands."""
    again, broker = scripted(stage)
    name = "A" * 20
    fill = Fill(f"LOST-{number}", name, "AAPL", Side.BUY, 7, Decimal(100), Decimal(1), OPEN + timedelta(minutes=number))
    broker.more.append((name, fill))
    again.go(OPEN + timedelta(minutes=number + 1))
    assert any("the account is latched" in note for note in settled(again).notes)
    return again


def test_an_account_that_is_found_ahead_of_its_ledger_under_a_stop_is_shown_to_who_clears_it(stage):
    """49, C14: and its orders are asked for once more before."""
    assert stop(stage).clean
    again = unexplained(stage)
    assert shown(again) == [PERSON, RECOVERY]
    assert "never wrote" in emergency.held(again.desk, again.desk.ledger).stops[-1].reason
    with pytest.raises(Conflict, match="not confirmed"):
        clear(again)
    assert [report.clean for report in recovery.resume_stop(again.desk)] == [True]
    assert recovery.resume_stop(again.desk) == []
    assert latched_by(again) == [PERSON, RECOVERY], "each once"
    assert emergency.recorded(again.desk, again.desk.ledger, None).actor == PERSON
    assert clear(again) == ()
    assert (again.row("latches")["state"], again.verifies()) == ("cleared", True)


@pytest.mark.parametrize("before", [False, True], ids=["for the first time", "again"])
def test_an_account_that_is_found_ahead_of_its_ledger_while_the_person_types_stays_latched(stage, before):
    """49, C14."""
    assert stop(stage).clean
    if before:
        stage = unexplained(stage)
        recovery.resume_stop(stage.desk)
    looked_at = emergency.held(stage.desk, stage.desk.ledger)
    again = unexplained(stage, number=3)
    recovery.resume_stop(again.desk)
    with pytest.raises(Conflict, match="never wrote"):
        clear(again, shown=looked_at)
    assert again.row("latches")["state"] == "latched"
    assert clear(again) == ()


def test_a_ledger_that_is_put_back_while_the_person_types_is_not_accepted_unseen(stage, monkeypatch):
    """4, 49, C14: clearing would begin the anchors anew from it."""
    assert stop(stage).clean
    looked_at = emergency.held(stage.desk, stage.desk.ledger)
    monkeypatch.setattr(anchoring, "restored", lambda _: "the ledger ends at 3")
    with pytest.raises(Conflict, match="found meanwhile that the ledger ends at 3"):
        clear(stage, shown=looked_at)
    assert stage.row("latches")["state"] == "latched"


def test_every_press_that_only_the_ledger_took_is_shown_and_has_a_file_when_the_disk_takes_it(stage, tmp_path, monkeypatch):
    """49, 51, fault 61: the disk took no second file."""
    stop(stage)
    with monkeypatch.context() as full:

        def no_space(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr(stop_files, "_write_press", no_space)
        for actor in ("user:bob", "user:carol"):
            stop(stage, actor=actor)
        assert len(all_files(tmp_path)) == 1
        assert shown(stage) == [PERSON, "user:bob", "user:carol"]
    recovery.resume_stop(stage.restarted().desk)
    assert len(all_files(tmp_path)) == 3
    assert shown(stage) == latched_by(stage) == [PERSON, "user:bob", "user:carol"]
    assert clear(stage) == ()
    assert (all_files(tmp_path), stage.row("latches")["state"]) == ([], "cleared")
