"""Approvals: bound to what was shown, used once, strictly in time, by a person; and what time decides instead."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import OPEN, PERSON, bars, floor, market, strategy
from trading_pipeline.domain.approvals import proposal_hash
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.errors import Conflict, PermissionRequired, UnknownName
from trading_pipeline.ports import Stop
from trading_pipeline.service import approvals, controls, queries
from trading_pipeline.service.approvals import DEMO_PERSON, approve, reject
from trading_pipeline.service.cycle import run_follow_up
from trading_pipeline.service.orders.voiding import void, void_open

E = EventType


def asking(tmp_path, **options):
    """A desk with one proposal of each symbol waiting."""
    symbols = options.pop("symbols", ("AAPL",))
    stage = floor(tmp_path, market(*(bars(symbol) for symbol in symbols)), OPEN, strategy(mode=Mode.APPROVAL, symbols=symbols), **options)
    stage.cycle()
    return stage


def test_an_approved_proposal_is_sent_and_names_the_person(tmp_path):
    """44."""
    stage = asking(tmp_path)
    [shown] = queries.pending(stage.desk)
    stage.go(OPEN + timedelta(seconds=20))
    event = approve(stage.desk, shown["action_id"], actor=PERSON, shown_hash=shown["hash"])
    assert (event.actor, event.payload["hash"], event.payload["nonce"]) == (PERSON, shown["hash"], shown["shown"]["nonce"])
    stage.release()
    [intent] = stage.events(E.ORDER_INTENT)
    assert stage.desk.ledger.event(intent.cause).type is E.APPROVAL_APPROVED
    assert stage.row("approvals")["state"] == "consumed"
    assert stage.row("positions")["quantity"] == 50


def test_the_hash_covers_exactly_what_is_shown(tmp_path):
    """45."""
    stage = asking(tmp_path)
    [row] = queries.pending(stage.desk)
    assert row["hash"] == proposal_hash(row["shown"])
    covered = {
        "account", "environment", "symbol", "side", "quantity", "order_type", "limit_price", "time_in_force", "regular_hours_only",
        "order_class", "verdict_hash", "limits_version", "estimated_value", "expires_at", "nonce",
    }
    assert covered <= set(row["shown"])
    for name in covered:
        assert proposal_hash(row["shown"] | {name: "something else"}) != row["hash"]


def test_the_hash_is_that_of_one_text_of_what_is_shown():
    """45: by the standard library over a text written out by hand: sorted, without spaces, ASCII."""
    text = '{"limit_price":"101.50","note":"na\\u00efve","quantity":50}'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert proposal_hash({"quantity": 50, "note": "naïve", "limit_price": "101.50"}) == expected


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_never_shown(number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        proposal_hash({"quantity": number})


def test_another_hash_than_the_proposals_is_refused(tmp_path):
    """45, T10, fault 58."""
    stage = asking(tmp_path)
    head = stage.desk.ledger.head()
    with pytest.raises(Conflict, match="not the one that was shown"):
        approve(stage.desk, stage.row("approvals")["action_id"], actor=PERSON, shown_hash="0" * 64)
    assert stage.desk.ledger.head() == head


@pytest.mark.parametrize("second", [approve, reject])
def test_a_proposal_is_decided_once(tmp_path, second):
    """46: the second time is a conflict with no effect."""
    stage = asking(tmp_path)
    name = stage.row("approvals")["action_id"]
    approve(stage.desk, name, actor=PERSON)
    head = stage.desk.ledger.head()
    with pytest.raises(Conflict, match="approved already by user:anna"):
        second(stage.desk, name, actor="user:bert")
    assert stage.desk.ledger.head() == head


def test_an_approval_whose_answer_was_lost_is_repeated_without_effect(tmp_path):
    """46, fault 3: the same person, the same hash and with it the same nonce: the same answer, and nothing is written."""
    stage = asking(tmp_path)
    row = stage.row("approvals")
    first = approve(stage.desk, row["action_id"], actor=PERSON, shown_hash=row["hash"])
    head = stage.desk.ledger.head()
    stage.go(OPEN + timedelta(seconds=400))
    assert approve(stage.desk, row["action_id"], actor=PERSON, shown_hash=row["hash"]) == first
    assert stage.desk.ledger.head() == head


@pytest.mark.parametrize("change", [{"actor": "user:bert"}, {"shown_hash": None}, {"shown_hash": "0" * 64}])
def test_only_the_very_same_approval_is_repeated(tmp_path, change):
    stage = asking(tmp_path)
    row = stage.row("approvals")
    given = {"actor": PERSON, "shown_hash": row["hash"]}
    approve(stage.desk, row["action_id"], **given)
    head = stage.desk.ledger.head()
    with pytest.raises(Conflict, match="approved already by user:anna"):
        approve(stage.desk, row["action_id"], **(given | change))
    assert stage.desk.ledger.head() == head


def test_an_approval_that_was_acted_on_or_taken_back_is_not_repeated(tmp_path):
    """46, fault 58: a replay is a conflict, and no second order comes of it."""
    for what in ("consumed", "voided"):
        stage = asking(tmp_path / what)
        row = stage.row("approvals")
        approve(stage.desk, row["action_id"], actor=PERSON, shown_hash=row["hash"])
        if what == "consumed":
            stage.release()
        else:
            controls.pause(stage.desk, "buyer", actor=PERSON)
        orders = stage.rows("orders")
        with pytest.raises(Conflict, match=f"{what} already"):
            approve(stage.desk, row["action_id"], actor=PERSON, shown_hash=row["hash"])
        assert stage.rows("orders") == orders


def test_nothing_is_approved_for_a_strategy_that_does_not_run(tmp_path):
    """52, 54: between a stop and the voiding of what waits, nobody approves; nor while only the latch knows of the stop."""
    recorded, latched = asking(tmp_path / "a"), asking(tmp_path / "b")
    with recorded.desk.ledger.transaction() as tx:
        payload = {"strategy": "buyer", "reason": "smoke"}
        stopped = NewEvent(E.STRATEGY_EMERGENCY_STOPPED, "strategy:buyer", "stop:1", payload, recorded.desk.now(), PERSON)
        tx.append(stopped)
    latched.desk.latch.stop(Stop("buyer", "smoke", PERSON, latched.desk.now()))
    for stage in (recorded, latched):
        head = stage.desk.ledger.head()
        with pytest.raises(Conflict, match="emergency stop"):
            approve(stage.desk, stage.row("approvals")["action_id"], actor=PERSON)
        assert stage.desk.ledger.head()[0] <= head[0] + 1, "the account's limits are written down, nothing else"
        assert stage.row("approvals")["state"] == "pending"
    with recorded.desk.ledger.transaction() as tx:
        [voided] = void_open(tx, "stopped", recorded.desk.now(), PERSON, strategy="buyer")
        assert voided.type is E.APPROVAL_VOIDED


def test_an_approval_is_refused_under_other_limits_than_were_shown(tmp_path):
    """48: the limits changed, and what waits has not been voided yet."""
    stage = asking(tmp_path)
    tighter = replace(strategy(mode=Mode.APPROVAL), limits=StrategyLimits(max_position_value=Decimal(5_000)))
    revised = {"strategy": "buyer", "spec": encode(tighter), "loosened": []}
    with stage.desk.ledger.transaction() as tx:
        tx.append(NewEvent(E.STRATEGY_REVISED, "strategy:buyer", "revised", revised, stage.clock.now(), PERSON))
    with pytest.raises(Conflict, match="limits of buyer have changed"):
        approve(stage.desk, stage.row("approvals")["action_id"], actor=PERSON)
    assert stage.row("approvals")["state"] == "pending"


def test_what_is_over_is_not_voided_again(tmp_path):
    """Whoever voids may have looked before somebody else decided: that is no error and changes nothing."""
    stage = asking(tmp_path)
    seen = stage.row("actions")
    reject(stage.desk, seen["action_id"], actor=PERSON)
    head = stage.desk.ledger.head()
    with stage.desk.ledger.transaction() as tx:
        assert void(tx, seen, "the price moved", stage.desk.now(), "rulebook") == []
    assert stage.desk.ledger.head() == head


def test_a_proposal_is_valid_until_just_before_it_expires(tmp_path):
    """47, D11: 300 seconds, strictly."""
    early = asking(tmp_path / "a")
    early.go(OPEN + timedelta(seconds=299.999))
    approve(early.desk, early.row("approvals")["action_id"], actor=PERSON)
    late = asking(tmp_path / "b")
    late.go(OPEN + timedelta(seconds=300))
    with pytest.raises(Conflict, match="expired"):
        approve(late.desk, late.row("approvals")["action_id"], actor=PERSON)


def test_what_nobody_decided_expires_and_counts_as_rejected(tmp_path):
    """47, D11."""
    stage = asking(tmp_path)
    stage.go(OPEN + timedelta(seconds=299.999))
    assert approvals.due(stage.desk).overdue == ()
    stage.go(OPEN + timedelta(seconds=300)).release()
    [expired] = stage.events(E.APPROVAL_EXPIRED)
    assert (expired.actor, stage.row("approvals")["state"], stage.row("actions")["state"]) == ("clock", "expired", "expired")
    assert approvals.expire(stage.desk, (stage.row("actions")["action_id"],)) == 0
    assert stage.rows("orders") == []


def test_a_rejection_ends_the_proposal_with_its_reason(tmp_path):
    stage = asking(tmp_path)
    reject(stage.desk, stage.row("approvals")["action_id"], actor=PERSON, reason="earnings tomorrow")
    assert (stage.row("approvals")["state"], stage.row("approvals")["reason"]) == ("rejected", "earnings tomorrow")
    assert stage.release()["orders"].counts == {}


@pytest.mark.parametrize("actor", ["cycle", "model:rules", "dagster", "rulebook", "", "user:", "user: ", "demo:person"])
def test_only_a_person_approves(tmp_path, actor):
    """49, D17: also the demo's person, outside the demo."""
    stage = asking(tmp_path, environment="paper")
    for decide in (approve, reject):
        with pytest.raises(PermissionRequired, match="only a person"):
            decide(stage.desk, stage.row("approvals")["action_id"], actor=actor)
    assert stage.row("approvals")["state"] == "pending"


def test_the_demos_person_decides_in_the_demo(tmp_path):
    stage = asking(tmp_path, environment="demo")
    approve(stage.desk, stage.row("approvals")["action_id"], actor=DEMO_PERSON)
    assert stage.row("approvals")["decided_by"] == "demo:person"


def test_a_proposal_is_found_by_a_beginning_that_only_it_has(tmp_path):
    stage = asking(tmp_path, symbols=("AAPL", "IBM"))
    one, two = (row["action_id"] for row in stage.rows("approvals"))
    length = next(n for n in range(1, 13) if one[:n] != two[:n])
    assert approvals.find(stage.desk.ledger, one[:length].lower())["action_id"] == one
    for wrong in ("", "0", one + "X"):
        with pytest.raises(UnknownName):
            approvals.find(stage.desk.ledger, wrong)
    with pytest.raises(UnknownName, match="proposals begin with"):
        many = asking(tmp_path / "many", symbols=tuple(f"S{n}" for n in range(40)))
        approvals.find(many.desk.ledger, next(row["action_id"][0] for row in many.rows("approvals") if _shares_first(many, row)))


def _shares_first(stage, row):
    return sum(other["action_id"][0] == row["action_id"][0] for other in stage.rows("approvals")) > 1


def test_two_approvals_at_once_are_paced(tmp_path):
    """D3: approved together, sent thirty seconds apart, and each has thirty seconds from its own release."""
    stage = asking(tmp_path, symbols=("AAPL", "IBM"))
    for row in stage.rows("approvals"):
        approve(stage.desk, row["action_id"], actor=PERSON)
    first, second = sorted(stage.rows("actions"), key=lambda row: row["not_before"])
    assert (first["not_before"], second["not_before"]) == (OPEN, OPEN + timedelta(seconds=30))
    assert second["expires_at"] == OPEN + timedelta(seconds=60)
    assert approvals.due(stage.desk).released == (first["action_id"],)
    assert approvals.next_instant(stage.desk) is not None


@pytest.mark.parametrize("what", ["pause", "revise", "finish"])
def test_a_change_of_the_strategy_voids_what_waits(tmp_path, what):
    """48, D10, D17, fault 59."""
    stage = asking(tmp_path)
    if what == "pause":
        controls.pause(stage.desk, "buyer", actor=PERSON)
    elif what == "finish":
        controls.finish(stage.desk, "buyer", actor=PERSON)
    else:
        tighter = StrategyLimits(max_position_value=Decimal(5_000))
        controls.revise(stage.desk, replace(strategy(mode=Mode.APPROVAL), limits=tighter), actor=PERSON)
    [voided] = stage.events(E.APPROVAL_VOIDED)
    assert (voided.actor, stage.row("approvals")["state"]) == (PERSON, "voided")
    with pytest.raises(Conflict, match="voided already"):
        approve(stage.desk, stage.row("approvals")["action_id"], actor=PERSON)


def test_an_approved_action_may_be_voided_before_it_is_sent(tmp_path):
    stage = asking(tmp_path)
    approve(stage.desk, stage.row("approvals")["action_id"], actor=PERSON)
    controls.pause(stage.desk, "buyer", actor=PERSON)
    assert stage.release()["orders"].counts == {}
    assert stage.broker.positions() == {}


def test_an_approved_action_is_due_on_a_clock_that_never_stands_still(tmp_path):
    """Every look at a real clock shows a later instant; a release must not run away from it."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(mode=Mode.APPROVAL))
    stage.cycle()
    name = stage.row("approvals")["action_id"]

    class Moving:
        def now(self):
            stage.clock.advance_to(stage.clock.now() + timedelta(milliseconds=3))
            return stage.clock.now()

    moving = replace(stage.desk, clock=Moving())
    approvals.approve(moving, name, actor=PERSON)
    assert approvals.due(moving).released == (name,)
    turn = follow_up((name,), moving.today(), moving.now(), "approval")
    assert {result.step: result for result in run_follow_up(moving, turn)}["orders"].counts["submitted"] == 1


def test_what_is_due_goes_out_in_the_order_of_its_release(tmp_path):
    """42: of two strategies, the one whose proposal was approved first goes first, whichever was proposed first."""
    specs = [strategy(name, mode=Mode.APPROVAL) for name in ("first", "second")]
    stage = floor(tmp_path, market(bars()), OPEN, *specs)
    stage.cycle()
    names = {row["strategy"]: row["action_id"] for row in stage.rows("approvals")}
    approve(stage.desk, names["second"], actor=PERSON)
    stage.go(OPEN + timedelta(seconds=3))
    assert approvals.due(stage.desk) == approvals.Due((names["second"],), ())
    approve(stage.desk, names["first"], actor=PERSON)
    stage.go(OPEN + timedelta(seconds=5))
    assert approvals.due(stage.desk) == approvals.Due((names["second"], names["first"]), ())


def test_what_was_not_sent_in_time_is_overdue_and_no_longer_due(tmp_path):
    """47: thirty seconds from the release, strictly."""
    stage = asking(tmp_path)
    name = stage.row("approvals")["action_id"]
    approve(stage.desk, name, actor=PERSON)
    assert approvals.next_instant(stage.desk) == OPEN + timedelta(seconds=1), "due already: to be looked at again after the account's gap"
    stage.go(OPEN + timedelta(seconds=29.999))
    assert approvals.due(stage.desk) == approvals.Due((name,), ())
    assert approvals.expire(stage.desk, (name,)) == 0
    stage.go(OPEN + timedelta(seconds=30))
    assert approvals.due(stage.desk) == approvals.Due((), (name,))
    assert approvals.next_instant(stage.desk) is None
    assert approvals.expire(stage.desk, (name,)) == 1
    [expired] = stage.events(E.ACTION_EXPIRED)
    assert (expired.key, expired.actor, expired.stream) == (f"action.expired:{name}", "clock", "strategy:buyer")
    assert expired.payload == {"action_id": name, "strategy": "buyer", "symbol": "AAPL", "reason": "it was not sent in time"}
    assert expired.cause == stage.events(E.APPROVAL_APPROVED)[0].seq


def test_of_many_only_what_is_overdue_expires(tmp_path):
    """What is decided, or not there at all, is passed over, and the rest is seen to."""
    stage = asking(tmp_path, symbols=("AAPL", "IBM", "MSFT"))
    rejected, *waiting = [row["action_id"] for row in stage.rows("approvals")]
    reject(stage.desk, rejected, actor=PERSON)
    assert approvals.next_instant(stage.desk) == OPEN + timedelta(seconds=300)
    assert approvals.expire(stage.desk, tuple(waiting)) == 0
    stage.go(OPEN + timedelta(seconds=300))
    assert approvals.expire(stage.desk, ("NOSUCHACTION", rejected, *waiting)) == 2
    assert [row["state"] for row in stage.rows("actions", order_by="generated_seq")].count("expired") == 2
    assert stage.row("approvals", action_id=rejected)["state"] == "rejected"


def test_a_decision_is_written_with_who_what_and_why(tmp_path):
    """49: the fact names the person, the proposal and the request it answers."""
    stage = asking(tmp_path, symbols=("AAPL", "IBM"))
    yes, no = stage.rows("approvals", order_by="requested_seq")
    stage.go(OPEN + timedelta(seconds=7))
    approved = approve(stage.desk, yes["action_id"], actor=PERSON)
    rejected = reject(stage.desk, no["action_id"], actor="user:bert")
    assert (approved.key, approved.stream, approved.at) == (f"approval.approved:{yes['action_id']}", "strategy:buyer", stage.clock.now())
    assert (rejected.key, rejected.stream, rejected.at) == (f"approval.rejected:{no['action_id']}", "strategy:buyer", stage.clock.now())
    assert (approved.actor, approved.cause) == (PERSON, yes["requested_seq"])
    assert (rejected.actor, rejected.cause) == ("user:bert", no["requested_seq"])
    assert rejected.payload == {"action_id": no["action_id"], "strategy": "buyer", "symbol": no["symbol"], "reason": ""}


@pytest.mark.parametrize(("many", "said"), [(1, "A"), (6, "A, B, C, D, E, F"), (7, "A, B, C, D, E, F and 1 more")])
def test_of_very_many_ids_the_first_six_are_named(many, said):
    assert approvals.named_some(reversed("ABCDEFG"[:many])) == said
