"""The account's limits are facts: versions, cited by every verdict, and what was judged under others is void (D17, 48)."""

import json
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.desks import OPEN, PERSON, Killed, bars, crashing, floor, market, strategy
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.orders import OrderState
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.errors import Conflict
from trading_pipeline.service import approvals
from trading_pipeline.service.account_limits import changes

E = EventType
TIGHTER = AccountLimits(max_order_value=Decimal(5_000))


def judged(tmp_path, **changes):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(**changes))
    stage.cycle()
    return stage


def tightened(stage):
    """The next process, which found other limits in its settings."""
    return stage.restarted(limits=TIGHTER)


def test_the_first_judgement_writes_the_limits_down_and_every_verdict_cites_them(tmp_path):
    stage = judged(tmp_path)
    [event] = stage.events(E.LIMITS_SET)
    assert (event.payload["version"], event.payload["changed"]) == (1, [])
    assert json.loads(stage.row("limits")["limits"])["max_order_value"] == "100000"
    verdicts = stage.events(E.RISK_EVALUATED)
    assert [event.payload["stage"] for event in verdicts] == ["proposal", "gate"]
    assert {(event.payload["account_limits_version"], event.payload["limits_version"]) for event in verdicts} == {(1, 1)}
    assert stage.verifies()


def test_the_same_limits_are_no_new_fact(tmp_path):
    stage = judged(tmp_path)
    stage.go(OPEN.replace(day=29)).cycle()
    assert len(stage.events(E.LIMITS_SET)) == 1


@pytest.mark.parametrize("limits", [TIGHTER, AccountLimits(max_open_orders=20)], ids=["tighter", "looser"])
def test_a_change_voids_what_waits_for_a_person(tmp_path, limits):
    stage = judged(tmp_path, mode=Mode.APPROVAL)
    changed = stage.restarted(limits=limits)
    changed.release()
    assert [event.payload["version"] for event in stage.events(E.LIMITS_SET)] == [1, 2]
    assert stage.row("approvals")["state"] == "voided"
    assert "limits changed" in stage.row("approvals")["reason"]
    assert stage.rows("orders") == []
    assert stage.row("limits")["version"] == 2
    assert stage.verifies()


def test_a_proposal_cannot_be_approved_under_other_limits(tmp_path):
    stage = judged(tmp_path, mode=Mode.APPROVAL)
    with pytest.raises(Conflict, match="voided"):
        approvals.approve(tightened(stage).desk, stage.row("approvals")["action_id"], actor=PERSON)
    assert stage.row("approvals")["state"] == "voided"


def test_what_was_approved_before_the_change_is_not_sent_after_it(tmp_path):
    stage = judged(tmp_path, mode=Mode.APPROVAL)
    approvals.approve(stage.desk, stage.row("approvals")["action_id"], actor=PERSON)
    tightened(stage).release()
    assert stage.row("actions")["state"] == "voided"
    assert stage.broker.orders() == []


def test_an_intent_that_a_crash_left_is_denied_under_other_limits(tmp_path):
    """C2: the approval is consumed, nothing was sent, and the limits are no longer those that were shown."""
    stage = judged(tmp_path, mode=Mode.APPROVAL)
    approvals.approve(stage.desk, stage.row("approvals")["action_id"], actor=PERSON)
    before = stage.desk.ledger.head()[0]
    for nth in range(1, 12):
        with crashing(stage.desk.ledger, "transaction", nth), suppress(Killed):
            stage.release()
        if "order.intent" in stage.types(before):
            break
    assert stage.row("orders")["state"] == OrderState.INTENT.value
    tightened(stage).release()
    assert stage.row("orders")["state"] == OrderState.DENIED.value
    assert "approval" in stage.denials()


def test_the_change_says_what_changed():
    tighter = replace(TIGHTER, forbidden_symbols=frozenset({"TQQQ"}))
    told = ["forbidden_symbols from none to TQQQ", "max_order_value from 100000 to 5000"]
    assert changes(encode(AccountLimits()), encode(tighter)) == told


def test_a_limit_that_an_older_version_did_not_know_is_a_change_like_any_other():
    older = {name: value for name, value in encode(AccountLimits()).items() if name != "max_bar_gap"}
    assert changes(older, encode(AccountLimits())) == ["max_bar_gap from none to 0.5"]
