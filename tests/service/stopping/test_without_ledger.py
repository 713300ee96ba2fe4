"""55: an emergency stop without the ledger, from a journal that is merged later, whatever its text and whoever touched its files."""

import threading
import time
from dataclasses import replace

import pytest

from tests.desks import PERSON
from tests.service.stopping.stopping import Gone, states, stop
from trading_pipeline.errors import InputError
from trading_pipeline.service.stopping import emergency
from trading_pipeline.service.submitter import recovery


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


def test_a_ledger_that_stays_locked_is_given_up(stage, monkeypatch):
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
    [report, *_] = recovery.resume_stop(stage.desk)
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
