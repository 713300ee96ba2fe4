"""51-56: the emergency stop: the latch first, nothing sent after it, every order asked for until it is over, for good."""

import tempfile
import threading
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.desks import NEVER, OPEN, PERSON, Floor, Killed, bars, crashing, floor, market, strategy
from trading_pipeline.adapters.brokers.paper_faults import Call, DropReply, Empty, LoseRequest, NotReady
from trading_pipeline.adapters.journal_file import JournalFile
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode
from trading_pipeline.errors import Conflict, InputError, LedgerUnavailable, PermissionRequired, StorageError, TradingError
from trading_pipeline.ports import Stop
from trading_pipeline.service import approvals, controls, emergency, recovery
from trading_pipeline.service.anchoring import anchor, restored

E = EventType
PROTECTED = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.02"), target=Decimal("0.03"))


@pytest.fixture
def stage(tmp_path) -> Floor:
    """Fifty shares of AAPL held under a stop and a target."""
    made = floor(tmp_path, market(bars()), OPEN, strategy(sizing=PROTECTED))
    made = replace(made, desk=replace(made.desk, journal=JournalFile(tmp_path / "journal.jsonl")))
    made.cycle()
    return made


def stop(stage: Floor, **given) -> emergency.Report:
    return emergency.stop(stage.desk, **({"reason": "enough", "actor": PERSON} | given))


def states(stage: Floor) -> set[str]:
    return {row["state"] for row in stage.rows("orders") if row["order_class"] == "P"}


class Gone:
    """A ledger whose server has gone: every call says so."""

    def __init__(self, error=None):
        self._error = error or LedgerUnavailable("gone")

    def __getattr__(self, name):
        def refuse(*_args, **_kwargs):
            raise self._error

        return refuse


# The order of work


def test_the_latch_stands_before_anything_else_is_tried(stage):
    """52, 55, fault 61."""
    gone = replace(stage.desk, ledger=Gone(), broker=Gone(), journal=Gone(StorageError("full")))
    report = emergency.stop(gone, reason="enough", actor=PERSON)
    assert (report.clean, report.complete, "full" in report.record) == (False, False, True)
    assert stage.desk.latch.standing("buyer").reason == "enough"


def test_the_facts_come_in_the_order_of_the_document(stage):
    """53."""
    before = len(stage.types())
    stop(stage)
    assert stage.types()[before:] == [
        "account.latched", "strategy.emergency_stopped", "order.cancel_requested", "order.cancel_requested",
        "order.canceled", "order.canceled", "stop.reported",
    ]
    assert stage.verifies()


def test_stops_and_targets_are_cancelled_and_the_position_stays(stage):
    """53, 56, D9."""
    report = stop(stage)
    assert (report.clean, {line.state for line in report.ended}) == (True, {"canceled"})
    assert stage.broker.positions() == {"AAPL": 50}
    assert [(naked.symbol, naked.quantity) for naked in report.unprotected] == [("AAPL", 50)]


def test_protective_orders_stay_where_the_settings_keep_them(stage):
    """D9."""
    stage = replace(stage, desk=replace(stage.desk, keep_protective_stops=True))
    report = stop(stage)
    assert (report.clean, len(report.kept), report.unprotected) == (True, 2, ())
    assert states(stage) == {"accepted"}


def test_an_entry_that_waits_is_cancelled_with_its_children_even_where_protection_is_kept(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=PROTECTED), keep_protective_stops=True)
    stage.faults.on_every_submit(LoseRequest())
    stage.cycle()
    stop(stage)
    assert {row["state"] for row in stage.rows("orders")} == {"cancel_pending"}


def test_what_waits_for_a_person_is_voided_and_nobody_can_approve_it(tmp_path):
    """48, 54."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(mode=Mode.APPROVAL))
    stage.cycle()
    proposal = stage.row("approvals")["action_id"]
    stage.desk.latch.stop(Stop(None, "enough", PERSON, OPEN))
    with pytest.raises(Conflict):
        approvals.approve(stage.desk, proposal, actor=PERSON)
    stop(stage)
    assert stage.row("approvals")["state"] == "voided"


def test_orders_of_other_hands_are_listed_and_left_alone(tmp_path):
    """28, D9."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=PROTECTED))
    stage.cycle()
    name = stage.broker.trade_by_hand("AAPL", Side.BUY, 5, Decimal(100))
    report = stop(stage)
    assert name not in {line.client_id for line in (*report.ended, *report.external)}
    assert stage.broker.positions() == {"AAPL": 55}


# One strategy, and everything


def test_one_strategy_is_stopped_for_good_and_the_other_goes_on(tmp_path):
    stage = floor(
        tmp_path, market(bars(), bars("IBM")), OPEN, strategy(sizing=PROTECTED), strategy("other", symbols=("IBM",), sizing=PROTECTED)
    )
    stage.cycle()
    stage.go(OPEN + timedelta(seconds=2)).release()
    stop(stage, strategy="buyer")
    assert {row["name"]: row["state"] for row in stage.rows("strategies")} == {"buyer": "emergency_stopped", "other": "running"}
    assert {row["strategy"]: row["state"] for row in stage.rows("orders", order_class="P")} == {"buyer": "canceled", "other": "accepted"}
    assert stage.rows("latches") == []


def test_nothing_starts_under_the_accounts_latch_and_a_stopped_strategy_never(stage):
    """51."""
    stop(stage)
    controls.create(stage.desk, strategy("next"), actor=PERSON)
    with pytest.raises(Conflict, match="the account is under an emergency stop"):
        controls.start(stage.desk, "next", actor=PERSON)
    emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1")
    controls.start(stage.desk, "next", actor=PERSON)
    for again in (controls.start, controls.resume):
        with pytest.raises(TradingError, match="stopped"):
            again(stage.desk, "buyer", actor=PERSON)


def test_a_strategy_of_a_stopped_name_cannot_be_made(stage):
    stage.desk.latch.stop(Stop("later", "enough", PERSON, OPEN))
    with pytest.raises(Conflict):
        controls.create(stage.desk, strategy("later"), actor=PERSON)


# Nothing follows a stop


def test_nobody_is_asked_after_the_latch(stage):
    """54."""
    stage.desk.latch.stop(Stop("buyer", "enough", PERSON, OPEN))
    asked = len(stage.asked.questions)
    stage.go(OPEN + timedelta(days=1, seconds=1)).cycle()
    assert len(stage.asked.questions) == asked
    assert [event.payload["reason"] for event in stage.events(E.SIGNAL_MISSED)][-1] == "an emergency stop is in force"


def test_a_reply_that_comes_after_the_latch_is_discarded(tmp_path):
    """54."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())

    class Pressed:
        provider, needs = "rules", stage.asked.needs

        def decide(self, questions):
            stop(stage)
            return stage.asked.decide(questions)

    replace(stage, desk=replace(stage.desk, deciders={"rules": Pressed()})).cycle()
    types = stage.types()
    assert ("llm.discarded" in types, "llm.responded" in types, "llm.action_generated" in types) == (True, False, False)
    assert stage.rows("orders") == []


def test_what_was_ready_before_the_latch_is_not_sent_after_it(tmp_path):
    """52."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    with pytest.raises(Killed), crashing(stage.desk.ledger, "lease"):
        stage.cycle()
    assert stage.row("actions")["state"] == "ready"
    stage.desk.latch.stop(Stop("buyer", "enough", PERSON, OPEN))
    stage.restarted().cycle()
    assert "order.submitted" not in stage.types()
    assert stage.broker.orders(None) == []


# Never done before it is


def test_a_broker_that_is_not_ready_is_asked_again_until_it_is(stage):
    """53, 55, fault 61."""
    stage.faults.on_call(Call.CANCEL, *[NotReady()] * 3)
    report = stop(stage)
    assert (report.clean, len(report.open)) == (False, 2)
    assert stop(stage, wait_seconds=5).clean


def test_an_order_without_an_answer_is_unknown_until_its_absence_is_proven(tmp_path):
    """53, fault 60."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.faults.on_every_submit(LoseRequest())
    stage.cycle()
    assert [line.state for line in stop(stage).unknown] == ["cancel_pending"]
    for seconds in (70, 80):
        stage.go(OPEN + timedelta(seconds=seconds))
        [report] = recovery.resume_stop(stage.desk)
    assert report.clean
    assert recovery.resume_stop(stage.desk) == []


def test_an_order_that_lands_although_its_answer_was_lost_is_cancelled(tmp_path):
    """53, fault 60."""
    stage = floor(tmp_path, market(bars(volume=1)), OPEN, strategy(sizing=PROTECTED))
    stage.faults.on_every_submit(DropReply())
    stage.cycle()
    assert stop(stage).clean
    assert stage.broker.orders(None) == []


def test_an_empty_answer_is_no_end(stage):
    """53, fault 24."""
    stage.faults.on_call(Call.ORDERS, *[Empty()] * 12)
    stage.faults.on_call(Call.CANCEL, NotReady(), NotReady())
    assert not stop(stage).clean


def test_a_fill_that_beats_the_cancel_is_booked(tmp_path):
    """19, C11, fault 60."""
    stage = floor(tmp_path, market(bars(at={OPEN: (100, 104, 100, 100)})), OPEN, strategy(sizing=PROTECTED))
    stage.cycle()
    stage.go(OPEN + timedelta(hours=8))
    stop(stage)
    assert "filled" in {row["state"] for row in stage.rows("orders", part="target-1")}
    assert stage.broker.positions() == {}


# Without the ledger


def test_without_a_ledger_the_broker_is_told_directly_and_the_journal_keeps_the_stop(stage):
    """7, 55, fault 61."""
    gone = replace(stage.desk, ledger=Gone())
    report = emergency.stop(gone, reason="enough", actor=PERSON)
    assert (report.record, report.clean, len(report.ended), stage.broker.orders(None)) == ("journal", False, 2, [])
    assert "account.latched" not in stage.types()
    recovery.resume_stop(stage.desk)
    types = stage.types()
    assert types.index("account.latched") < types.index("strategy.emergency_stopped") < types.index("stop.reported")
    assert states(stage) == {"canceled"}
    head = stage.desk.ledger.head()
    recovery.resume_stop(stage.desk)
    assert stage.desk.ledger.head() == head
    assert stage.verifies()


def test_a_locked_ledger_is_waited_for_two_seconds_and_no_longer(stage, monkeypatch):
    """55, fault 30, fault 61."""
    monkeypatch.setattr(emergency.stop_orders, "LEDGER_SECONDS", 0.1)
    held, done = threading.Event(), threading.Event()

    def hold():
        with stage.desk.ledger.transaction():
            held.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)
    monkeypatch.setattr(emergency.stop_orders, "ANSWER_SECONDS", 0.2)
    try:
        began = time.monotonic()
        report = stop(stage)
        took = time.monotonic() - began
    finally:
        done.set()
        holder.join()
    assert (report.record, stage.broker.orders(None)) == ("journal", [])
    assert took < 10
    recovery.resume_stop(stage.desk)
    assert stage.row("latches")["state"] == "latched"
    assert stage.verifies()


@pytest.mark.parametrize(("reason", "actor"), [
    ("caf\udce9", PERSON), ("a\0b", PERSON), ("x" * 100_000, PERSON), ("odd", ""), ("odd", "user:" + "x" * 300),
])
def test_a_stop_is_carried_out_whatever_its_text(stage, reason, actor):
    """55: what a Latin-1 terminal hands over, as what a person has pasted."""
    report = stop(stage, reason=reason, actor=actor)
    assert (report.record, report.clean, stage.broker.orders(None)) == ("ledger", True, [])
    assert recovery.resume_stop(stage.desk) == []
    assert stage.verifies()


def test_what_the_ledger_refuses_of_a_stop_keeps_no_cancel_back(stage, monkeypatch):
    """53, 55."""
    def refuse(*_args, **_kwargs):
        raise InputError("refused")

    monkeypatch.setattr(emergency, "write_down", refuse)
    report = stop(stage)
    assert (report.record, stage.broker.orders(None)) == ("journal", [])


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b'{"reason": "a\\u0000", "actor": "", "at": "2024-08-28T10:00:00Z"}'])
def test_a_latch_file_that_somebody_has_touched_stops_the_account_and_lets_the_home_open(stage, tmp_path, content):
    (tmp_path / "stops").mkdir(exist_ok=True)
    (tmp_path / "stops" / "ACCOUNT.json").write_bytes(content)
    (tmp_path / "stops" / "strategy-a\nb.json").write_bytes(content)
    [report] = recovery.resume_stop(stage.desk)
    assert (report.record, report.clean, stage.broker.orders(None)) == ("ledger", True, [])
    assert recovery.resume_stop(stage.desk) == []
    assert stage.row("strategies")["state"] == "emergency_stopped"


@pytest.mark.parametrize(("type_", "payload", "stops"), [
    ("account.latched", "{}", True), ("account.latched", '{"reason": 5, "pressed_at": "today"}', True),
    ("strategy.emergency_stopped", '{"strategy": "a b", "reason": "odd", "pressed_at": "2024-08-28T10:00:00Z"}', False),
    ("strategy.emergency_stopped", "{}", True), ("stop.reported", "{}", False), ("order.filled", "{}", False),
    ("account.latched", "[]", False),
])
def test_a_line_of_the_journal_that_somebody_has_touched_keeps_no_home_from_opening(stage, tmp_path, type_, payload, stops):
    """7: a stop stays one, of the account where it names nobody's; what only a broker or a person decides is not taken from a file."""
    line = f'{{"type":"{type_}","stream":"account","key":"k","payload":{payload},"actor":"user:a","at":"2024-08-28T10:00:00Z"}}\n'
    (tmp_path / "journal.jsonl").write_text(line)
    recovery.resume_stop(stage.desk)
    assert ("account.latched" in stage.types()) == stops
    assert recovery.resume_stop(stage.desk) == []
    assert stop(stage).clean
    assert stage.verifies()


def test_one_strategy_without_a_ledger_is_latched_and_not_called_done(stage):
    report = emergency.stop(replace(stage.desk, ledger=Gone()), strategy="buyer", reason="enough", actor=PERSON)
    assert (report.clean, len(stage.broker.orders(None))) == (False, 2)
    [report] = recovery.resume_stop(stage.desk)
    assert (report.clean, stage.broker.orders(None)) == (True, [])


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


def test_pressing_twice_at_once_stops_once(stage):
    """fault 62."""
    threads = [threading.Thread(target=stop, args=(stage,)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [stage.types().count(name) for name in ("account.latched", "strategy.emergency_stopped")] == [1, 1]
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
    assert len(stage.events(E.STOP_REPORTED)) == 1, "nothing differs from the round before"


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
