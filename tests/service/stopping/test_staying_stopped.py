"""51: a stop is for good: over crashes, lost files and restored ledgers, until a person clears the latch."""

import tempfile
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.desks import NEVER, OPEN, PERSON, Floor, Killed, crashing, strategy
from tests.service.booting import booted
from tests.service.orders.settlement.scripted import tally
from tests.service.stopping.stopping import Gone, states, stop
from trading_pipeline.adapters.brokers.paper_faults import Call, NotReady
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.strategies import ExpressionAgent
from trading_pipeline.errors import Conflict, PermissionRequired
from trading_pipeline.ports import Stop
from trading_pipeline.service import controls
from trading_pipeline.service.orders.adoption import latch
from trading_pipeline.service.record.anchoring import anchor, restored
from trading_pipeline.service.stopping import emergency, stop_review
from trading_pipeline.service.submitter import recovery

E = EventType


# For good


def test_a_crash_right_after_the_latch_is_made_good_at_the_next_boot(stage):
    """51, fault 60."""
    with pytest.raises(Killed), crashing(stage.desk.ledger, "transaction"):
        stop(stage)
    assert "account.latched" not in stage.types()
    [report, *_] = recovery.resume_stop(stage.restarted().desk)
    assert (report.clean, stage.row("strategies")["state"]) == (True, "emergency_stopped")


def test_a_crash_within_the_cancels_is_gone_on_with(stage):
    """53, C10, fault 60."""
    with pytest.raises(Killed), crashing(type(stage.desk.broker), "cancel", on=2):
        stop(stage)
    [report] = recovery.resume_stop(stage.restarted().desk)
    assert (report.clean, states(stage)) == (True, {"canceled"})


def test_pressing_at_once_stops_once_and_every_press_is_on_record(stage):
    """fault 62."""
    threads = [threading.Thread(target=stop, args=(stage,)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [stage.types().count(name) for name in ("account.latched", "strategy.emergency_stopped")] == [4, 1]
    assert (states(stage), stage.verifies()) == ({"canceled"}, True)


@pytest.mark.parametrize("name", [None, "buyer"])
def test_what_the_desk_was_quicker_to_cancel_is_told_by_the_stop_all_the_same(stage, name):
    """53: whoever reads "no order was working" after a stop that cancelled two has been told wrong."""
    stage.desk.latch.stop(Stop(name, "enough", PERSON, OPEN))
    [first] = recovery.resume_stop(stage.restarted().desk)
    report = stop(stage, strategy=name)
    assert report.clean
    assert {line.client_id: line.state for line in report.ended} == {line.client_id: line.state for line in first.ended}
    assert len(report.ended) == 2
    assert len(stage.events(E.STOP_REPORTED)) == (1 if name else 2), "each press of the account's stop has a report of its own"


def test_a_stop_after_a_cleared_one_tells_only_of_its_own_orders(stage):
    stop(stage)
    emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1")
    stage.go(OPEN + timedelta(seconds=5))
    assert stop(stage).ended == ()


def test_a_lost_file_is_written_again_from_the_ledger(stage, tmp_path):
    """51, fault 62."""
    stop(stage)
    for file in (tmp_path / "stops").glob("*.json"):
        file.unlink()
    assert emergency.in_force(stage.desk, stage.desk.ledger, "buyer") is not None
    recovery.resume_stop(stage.desk)
    assert {each.strategy for each in stage.desk.latch.stops()} == {None, "buyer"}


def test_a_stop_survives_a_ledger_that_is_restored_from_before(stage):
    """51, fault 35, fault 62: as after a restore: the same files beside a ledger that knows of no stop."""
    stop(stage)
    older = floor_of_before(stage)
    assert emergency.in_force(older.desk, older.desk.ledger, "buyer") is not None
    recovery.resume_stop(older.desk)
    assert older.row("strategies")["state"] == "emergency_stopped"
    assert older.row("latches")["state"] == "latched"


def test_a_ledger_older_than_its_anchor_is_latched_until_a_person_accepts_it(stage):
    """4, C14, fault 35."""
    anchor(stage.desk)
    older = floor_of_before(stage)
    recovery.resume_stop(older.desk)
    latch = older.row("latches")
    assert (latch["state"], "restored from before" in latch["reason"]) == ("latched", True)
    assert older.row("strategies")["state"] != "emergency_stopped"
    with pytest.raises(Conflict):
        controls.start(older.desk, "buyer", actor=PERSON)
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    assert restored(older.desk) == ""
    recovery.resume_stop(older.desk)
    assert (older.desk.latch.stops(), older.row("latches")["state"]) == ([], "cleared")


def test_anchors_that_cannot_be_read_keep_no_order_of_a_stop_working(stage, tmp_path):
    """51, 53, C14: only the latch was written when the process died; whether the ledger was restored nobody can tell."""
    anchors = tmp_path / "anchors.jsonl"
    anchors.unlink()
    anchors.mkdir()
    stage.desk.latch.stop(Stop("buyer", "enough", PERSON, OPEN))
    assert any("anchor" in line for line in booted(stage)), "it does not trade, and says why"
    assert (stage.row("strategies")["state"], stage.broker.orders()) == ("emergency_stopped", [])
    anchors.rmdir()
    assert any(line.startswith("Ready") for line in booted(stage))


def test_a_person_who_stops_an_account_that_is_only_held_stops_its_strategies_too(stage):
    stage.desk.latch.stop(Stop(None, "restored", "recovery", OPEN))
    recovery.resume_stop(stage.desk)
    assert stage.row("strategies")["state"] == "running"
    stop(stage)
    assert stage.row("strategies")["state"] == "emergency_stopped"
    assert stage.desk.latch.stops()[0].actor == PERSON


# Clearing


@pytest.mark.parametrize(("actor", "typed"), [("model:x", "PAPER-1"), ("demo:person", "PAPER-1"), (PERSON, "paper-1"), (PERSON, "")])
def test_only_a_person_who_types_the_accounts_name_clears_the_latch(stage, actor, typed):
    """49."""
    stop(stage)
    with pytest.raises(PermissionRequired):
        emergency.clear(stage.desk, actor=actor, typed=typed)
    assert stage.desk.latch.standing("anything") is not None


def test_a_latch_stands_while_an_order_is_not_confirmed(stage):
    """53."""
    stage.faults.on_call(Call.CANCEL, *[NotReady()] * 3)
    stop(stage)
    with pytest.raises(Conflict, match="not done"):
        emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1")
    recovery.resume_stop(stage.desk)
    emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1")


def test_after_clearing_another_stop_latches_again(stage):
    stop(stage)
    emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1")
    stop(stage)
    assert stage.types().count("account.latched") == 2
    assert (stage.row("latches")["state"], stage.verifies()) == ("latched", True)


def floor_of_before(stage: Floor) -> Floor:
    """The same home with a ledger restored from when the strategy had just begun, and no stop had."""
    made = stage.restarted(ledger=MemoryLedger("demo", opened_at=OPEN))
    with tempfile.TemporaryDirectory() as empty:
        quiet = replace(made, desk=replace(made.desk, latch=LatchFiles(Path(empty))))
        quiet.run(strategy(agent=ExpressionAgent(NEVER, NEVER)))
    return made


@pytest.mark.parametrize("reason", ["enough", "restored"])
def test_a_stop_that_comes_while_a_restored_ledgers_latch_is_cleared_stays(stage, monkeypatch, reason):
    """49, 51, 53: whoever clears has looked at that latch, not at the stop, which may be of the same reason; its cancels go on."""
    with stage.desk.ledger.transaction() as tx:
        latch(stage.desk, tx, "restored", tally(stage))
    asked = emergency.last_report

    def meanwhile(desk, scope):
        monkeypatch.setattr(emergency, "last_report", asked)
        stage.faults.on_call(Call.CANCEL, *[NotReady()] * 3)
        assert not stop(stage, actor="user:bob", reason=reason).clean
        return asked(desk, scope)

    monkeypatch.setattr(emergency, "last_report", meanwhile)
    with pytest.raises(Conflict, match="Another stop came meanwhile, by user:bob"):
        emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1")
    assert stage.row("latches")["state"] == "latched"
    assert stage.row("latches")["actor"] == "user:bob"
    assert emergency.in_force(stage.desk, stage.desk.ledger, "fresh") is not None
    assert stage.row("strategies")["state"] == "emergency_stopped"
    recovery.resume_stop(stage.restarted().desk)
    assert (states(stage), stage.broker.orders()) == ({"canceled"}, [])
    assert stage.verifies()


def pressed_meanwhile(stage, monkeypatch, press):
    """Somebody presses while a person who clears looks at the newest report."""
    asked = emergency.last_report

    def meanwhile(desk, scope):
        monkeypatch.setattr(emergency, "last_report", asked)
        desk.latch.stop(press)
        emergency.carry_out(desk, press)
        return asked(desk, scope)

    monkeypatch.setattr(emergency, "last_report", meanwhile)


@pytest.mark.parametrize(("actor", "hours"), [("user:bob", 0), ("user:bob", -1), ("user:bob", 1), (PERSON, 0)])
def test_a_stop_that_is_pressed_while_another_one_is_cleared_stays(stage, monkeypatch, actor, hours):
    """49, 51, fault 62: the latch that was looked at is clean and stands. No clock tells the presses apart: one was set meanwhile."""
    assert stop(stage, actor=PERSON).clean
    pressed_meanwhile(stage, monkeypatch, Stop(None, "something is wrong", actor, datetime.now(UTC) + timedelta(hours=hours)))
    with pytest.raises(Conflict, match=f"Another stop came meanwhile, by {actor}: something is wrong"):
        emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1")
    assert emergency.in_force(stage.desk, stage.desk.ledger, "fresh") is not None
    assert (stage.row("latches")["state"], stage.row("latches")["actor"]) == ("latched", actor)
    shown = stop_review.review(stage.desk)["stops"]
    told = [(each["by"], each["reason"]) for each in shown if each["strategy"] is None]
    assert told == [(PERSON, "enough"), (actor, "something is wrong")], "both stand"
    emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1")
    assert stage.row("latches")["state"] == "cleared"
    assert stage.verifies()


def test_rounds_of_two_persons_stops_tell_each_of_them_once(stage):
    """62: whose round comes last is no new press."""
    presses = [Stop(None, "enough", actor, datetime.now(UTC)) for actor in (PERSON, "user:bob")]
    stage.desk.latch.stop(presses[0])
    stage.faults.on_call(Call.CANCEL, *[NotReady()] * 500)
    for each in (*presses, *presses):
        assert not emergency.carry_out(stage.desk, each).clean
        recovery.resume_stop(stage.restarted().desk)
    assert [event.actor for event in stage.events(E.ACCOUNT_LATCHED)] == [PERSON, "user:bob"]
    assert stage.verifies()


def test_a_stop_that_is_pressed_while_the_file_of_a_cleared_one_goes_has_a_file(stage, monkeypatch):
    """51, 52: what is sent is held against the files."""
    stop(stage)
    cleared = type(stage.desk.latch).clear

    def meanwhile(latch, stops):
        monkeypatch.setattr(type(stage.desk.latch), "clear", cleared)
        stop(stage, actor="user:bob")
        cleared(latch, stops)

    monkeypatch.setattr(type(stage.desk.latch), "clear", meanwhile)
    emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1")
    assert stage.desk.latch.standing("fresh").actor == "user:bob"
    assert stage.row("latches")["state"] == "latched"


def test_a_stop_that_is_pressed_while_the_file_of_a_cleared_one_goes_and_the_ledger_is_silent_has_a_file(stage, monkeypatch):
    """51, 52, 7: only the journal has it."""
    stop(stage)
    cleared = type(stage.desk.latch).clear
    silent = replace(stage.desk, ledger=Gone())

    def meanwhile(latch, stops):
        monkeypatch.setattr(type(stage.desk.latch), "clear", cleared)
        emergency.stop(silent, reason="something is wrong", actor="user:bob")
        cleared(latch, stops)

    monkeypatch.setattr(type(stage.desk.latch), "clear", meanwhile)
    emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1")
    assert stage.desk.latch.standing("fresh").actor == "user:bob"
    recovery.resume_stop(stage.restarted().desk)
    assert (stage.row("latches")["state"], stage.row("latches")["actor"]) == ("latched", "user:bob")


def test_a_stop_that_the_journal_kept_while_another_one_stood_is_on_record_once(stage):
    """7, 51: whoever clears the other one has seen it."""
    stop(stage)
    emergency.stop(replace(stage.desk, ledger=Gone()), reason="something is wrong", actor="user:bob")
    for _ in range(2):
        recovery.resume_stop(stage.restarted().desk)
    assert [event.actor for event in stage.events(E.ACCOUNT_LATCHED)] == [PERSON, "user:bob"]
    assert stage.verifies()


def test_a_press_that_journal_and_ledger_have_is_cleared_once(stage):
    """7, 51: the ledger was silent in its first round only."""
    press = Stop(None, "enough", PERSON, datetime.now(UTC))
    stage.desk.latch.stop(press)
    emergency.carry_out(replace(stage.desk, ledger=Gone()), press)
    assert emergency.carry_out(stage.desk, press).clean
    emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1")
    assert recovery.resume_stop(stage.restarted().desk) == []
    assert stage.desk.latch.standing("fresh") is None
    assert stage.row("latches")["state"] == "cleared"
    assert stage.verifies()
