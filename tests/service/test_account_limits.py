"""48, D17: the account's limits are facts: versions, cited by every verdict, and what was judged under others is void."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import OPEN, PERSON, Killed, bars, crashing, floor, market, strategy
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.orders import OrderState
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.errors import Conflict, InputError, PermissionRequired
from trading_pipeline.service import approvals
from trading_pipeline.service.account_limits import changes, confirm, in_force, standing

E = EventType
TIGHTER = AccountLimits(max_order_value=Decimal(5_000))
LOOSER = AccountLimits(max_open_orders=20)


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


def test_tighter_settings_void_what_waits_for_a_person(tmp_path):
    """48, D17, fault 59."""
    stage = judged(tmp_path, mode=Mode.APPROVAL)
    tightened(stage).release()
    assert [event.payload["version"] for event in stage.events(E.LIMITS_SET)] == [1, 2]
    assert stage.row("approvals")["state"] == "voided"
    assert "limits changed" in stage.row("approvals")["reason"]
    assert stage.rows("orders") == []
    assert stage.row("limits")["version"] == 2
    assert stage.verifies()


def test_looser_settings_change_nothing_until_a_person_confirms_them(tmp_path):
    stage = judged(tmp_path, mode=Mode.APPROVAL)
    looser = stage.restarted(limits=LOOSER)
    looser.release()
    assert (len(stage.events(E.LIMITS_SET)), stage.row("approvals")["state"]) == (1, "pending")
    loosened = standing(looser.desk, looser.desk.ledger).unconfirmed
    assert loosened == ["max_open_orders from 10 to 20"]
    event = confirm(looser.desk, actor=PERSON, confirmed=loosened)
    assert (event.payload["version"], event.payload["changed"], event.actor) == (2, loosened, PERSON)
    assert stage.row("approvals")["state"] == "voided"
    now = standing(looser.desk, looser.desk.ledger)
    assert (now.effective, now.unconfirmed) == (LOOSER, [])
    assert stage.verifies()


@pytest.mark.parametrize(("actor", "confirmed"), [
    (PERSON, []), (PERSON, ["max_open_orders from 10 to 15"]), ("settings", ["max_open_orders from 10 to 20"]),
    ("user: ", ["max_open_orders from 10 to 20"]),
])
def test_only_a_person_who_typed_every_looser_value_loosens(tmp_path, actor, confirmed):
    looser = judged(tmp_path).restarted(limits=LOOSER)
    with pytest.raises(PermissionRequired, match="max_open_orders from 10 to 20"):
        confirm(looser.desk, actor=actor, confirmed=confirmed)
    assert len(looser.events(E.LIMITS_SET)) == 1


def test_there_is_nothing_to_confirm_when_the_settings_are_tighter(tmp_path):
    with pytest.raises(Conflict, match="in force already"):
        confirm(tightened(judged(tmp_path)).desk, actor=PERSON)


def test_a_process_with_older_settings_judges_by_the_limits_a_person_has_tightened(tmp_path):
    """fault 68: the run that was under way when trading.toml was edited: it neither sizes nor records by what it was started with."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    for desk in (stage.desk, stage.restarted(limits=AccountLimits(max_order_value=Decimal(1_000))).desk):
        with desk.ledger.transaction() as tx:
            in_force(desk, tx)
    stage.cycle()
    assert (stage.denials(), stage.rows("orders")) == (["order_value"], [])
    assert [event.payload["version"] for event in stage.events(E.LIMITS_SET)] == [1, 2]
    assert {event.payload["account_limits_version"] for event in stage.events(E.RISK_EVALUATED)} == {2}


def test_processes_with_different_settings_agree_after_each_has_looked_once(tmp_path):
    """Each is looser than the other in something: the tighter of each holds, and no turn after the first writes or voids anything."""
    stage = judged(tmp_path, mode=Mode.APPROVAL)
    some = stage.restarted(limits=AccountLimits(max_order_value=Decimal(5_000), max_open_orders=20, min_order_gap=timedelta(seconds=2)))
    other = stage.restarted(limits=AccountLimits(max_spread=Decimal("0.01"), forbidden_symbols=frozenset({"TQQQ"})))
    for desk in (some.desk, other.desk):
        with desk.ledger.transaction() as tx:
            in_force(desk, tx)
    head = stage.desk.ledger.head()
    for desk in (some.desk, other.desk, stage.desk) * 3:
        with desk.ledger.transaction() as tx:
            assert in_force(desk, tx) == 3
    assert stage.desk.ledger.head() == head
    held = standing(stage.desk, stage.desk.ledger).effective
    assert held == AccountLimits(
        max_order_value=Decimal(5_000), min_order_gap=timedelta(seconds=2), max_spread=Decimal("0.01"),
        forbidden_symbols=frozenset({"TQQQ"}),
    )


def test_the_same_number_written_otherwise_is_no_change(tmp_path):
    other = judged(tmp_path, mode=Mode.APPROVAL).restarted(limits=AccountLimits(max_concentration=Decimal("0.2")))
    other.release()
    assert len(other.events(E.LIMITS_SET)) == 1
    assert standing(other.desk, other.desk.ledger).unconfirmed == []


def test_a_shell_with_looser_settings_approves_under_the_limits_in_force(tmp_path):
    stage = judged(tmp_path, mode=Mode.APPROVAL)
    approvals.approve(stage.restarted(limits=LOOSER).desk, stage.row("approvals")["action_id"], actor=PERSON)
    assert stage.row("approvals")["state"] == "approved"


def test_a_proposal_cannot_be_approved_under_other_limits(tmp_path):
    stage = judged(tmp_path, mode=Mode.APPROVAL)
    with pytest.raises(Conflict, match="voided"):
        approvals.approve(tightened(stage).desk, stage.row("approvals")["action_id"], actor=PERSON)
    assert stage.row("approvals")["state"] == "voided"


def test_what_was_approved_before_the_change_is_not_sent_after_it(tmp_path):
    """48, fault 59."""
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


def recorded_by_hand(stage, limits):
    """What another version of the code has written down."""
    account = stage.desk.broker.account_id
    payload = {"account": account, "version": 1, "limits": limits, "changed": []}
    with stage.desk.ledger.transaction() as tx:
        tx.append(NewEvent(E.LIMITS_SET, "account", f"limits.set:{account}:1", payload, stage.desk.now(), "settings"))


def test_a_limit_that_the_record_does_not_know_begins_as_it_is_configured(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    recorded_by_hand(stage, {name: value for name, value in encode(AccountLimits()).items() if name != "max_bar_gap"})
    stage.cycle()
    assert stage.events(E.LIMITS_SET)[-1].payload["changed"] == ["max_bar_gap from none to 0.5"]
    assert stage.row("limits")["version"] == 2


def test_code_older_than_the_record_judges_nothing_instead_of_forgetting_a_limit(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    recorded_by_hand(stage, encode(AccountLimits()) | {"max_moonlight": "3"})
    with pytest.raises(InputError, match="AccountLimits"):
        stage.cycle()
    assert (len(stage.events(E.LIMITS_SET)), stage.rows("orders")) == (1, [])
