"""A ledger that was put back to before a submission, against a broker that goes on from where it was (C14)."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import DAY, OPEN, PERSON, at, bars, floor, market, strategy
from tests.faults.restored import backup, before_its_orders
from tests.service.booting import booted
from tests.service.minutes import decided, intended
from tests.service.orders.settlement.scripted import scripted, settled
from tests.service.replaying import replayed
from trading_pipeline.adapters.anchor_file import AnchorFile
from trading_pipeline.adapters.brokers.paper_book import MemoryBook, PaperSettings
from trading_pipeline.adapters.brokers.paper_faults import Call, CancelAfter, NotReady, ShowLate
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import client_id
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode
from trading_pipeline.ports import BrokerStatus
from trading_pipeline.service import approvals
from trading_pipeline.service.cycle import run_cycle
from trading_pipeline.service.orders.settlement import settle
from trading_pipeline.service.record.anchoring import anchor, restored
from trading_pipeline.service.record.verification import verify
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.stopping import emergency, stop_review
from trading_pipeline.service.submitter.recovery import resume_stop

E = EventType
NAME = client_id(action_id("buyer", "1d@2024-08-27T20:00Z", "AAPL"), "entry")
STOPPED = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"))
"""Each entry has a child."""


def trading(tmp_path):
    return floor(tmp_path, market(bars()), OPEN, strategy(sizing=STOPPED))


def test_a_name_that_the_broker_has_already_puts_the_order_in_doubt_and_the_account_on_hold(tmp_path):
    """C14, fault 35: the ledger is put back to before a submission that the broker hides, and sends it for the first time again."""
    stage = trading(tmp_path)
    stage.faults.on_submit(NAME, ShowLate(timedelta(seconds=90)))
    stage.cycle()
    older = stage.restarted(ledger=MemoryLedger("demo", opened_at=OPEN)).go(OPEN + timedelta(seconds=2))
    older.run(strategy(sizing=STOPPED))
    older.cycle()
    assert (older.row("orders", part="entry")["state"], older.events(E.ORDER_REJECTED)) == ("unknown", [])
    assert (older.row("latches")["state"], "has an order" in older.row("latches")["reason"]) == ("latched", True)
    assert [each.actor for each in older.desk.latch.stops()] == ["recovery"]

    older.go(OPEN + timedelta(seconds=95)).release()
    assert (older.row("orders", part="entry")["state"], older.row("orders", part="stop-1")["state"]) == ("filled", "accepted")
    assert older.broker.positions() == {"AAPL": older.row("positions")["quantity"]}
    older.go(at(9, 30, day=date(2024, 8, 29))).cycle()
    assert len(older.events(E.ORDER_SUBMITTED)) == len(stage.events(E.ORDER_SUBMITTED)), "nothing else is sent before a person has looked"
    assert older.verifies()


def test_an_order_of_a_lost_stretch_that_nobody_shows_is_known_before_anything_is_sent(tmp_path):
    """C14, fault 35: nothing is to be seen at the broker yet, but the order was anchored before it went out."""
    stage = trading(tmp_path)
    anchor(stage.desk)
    stage.faults.on_submit(NAME, ShowLate(timedelta(seconds=90)))
    older = stage.restarted(ledger=before_its_orders(stage)).go(OPEN + timedelta(seconds=2))
    assert older.broker.orders() == []
    resume_stop(older.desk)
    assert (older.row("latches")["state"], "was restored" in older.row("latches")["reason"]) == ("latched", True)
    older.release()
    assert older.events(E.ORDER_SUBMITTED) == []
    assert older.verifies()


def test_a_desk_that_runs_on_an_older_ledger_does_not_hide_that_it_was_restored(tmp_path):
    """4, C14: its own facts go past the newest anchor, start by start; the person who looks next is told, and begins the anchors anew."""
    stage = trading(tmp_path)
    anchor(stage.desk)
    older = stage.restarted(ledger=before_its_orders(stage)).go(OPEN + timedelta(seconds=2))
    lost = older.desk.anchors.newest()
    while older.desk.ledger.head()[0] <= lost.seq:
        booted(older)
    assert older.desk.anchors.newest() == lost
    assert any("was restored" in step for step in stop_review.review(older.desk)["next"])
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    assert restored(older.desk) == ""
    assert verify(older.desk.ledger, [(each.seq, each.hash) for each in older.desk.anchors.all()]).ok


def test_an_order_goes_out_where_no_anchor_can_be_kept_and_the_step_says_so(tmp_path):
    """C14: what a broker shows of a lost stretch is still found; a full disk beside the ledger keeps no stop from going out."""
    stage = trading(tmp_path)
    (tmp_path / "anchors.jsonl").mkdir()
    stage.cycle()
    assert stage.row("orders", part="entry")["state"] == "filled"
    [note] = [note for fact in stage.events(E.STEP_COMPLETED) for note in fact.payload["notes"] if "submission" in note]
    assert NAME in note and "could not be kept" in note


def test_an_action_whose_order_the_broker_has_is_not_sent_again_by_an_older_ledger(tmp_path):
    """C14, fault 35: its stop works at the broker and is taken over under the name that the action would give it."""
    stage = trading(tmp_path)
    older = stage.restarted(ledger=before_its_orders(stage)).go(OPEN + timedelta(seconds=2))
    assert older.row("actions")["state"] == "ready"
    older.release()
    assert (older.row("actions")["state"], older.row("latches")["state"]) == ("voided", "latched")
    assert [(row["part"], row["strategy"]) for row in older.rows("orders")] == [("adopted", "EXTERNAL")]
    assert len(older.broker.orders([NAME])) == 1
    assert older.verifies()


def test_an_order_that_an_older_ledger_takes_over_has_what_it_filled(tmp_path):
    """C14: the entry has bought part of its shares and works on."""
    first = date(2024, 8, 27)
    thin = market(bars("AAPL", Interval.MIN1, first, DAY, volume=100))
    spec = strategy(interval=Interval.MIN1, sizing=STOPPED)
    stage = floor(tmp_path, thin, at(10, 0, 1), spec)
    earlier = before_its_orders(stage, Interval.MIN1)
    known = stage.row("orders", part="entry")
    assert 0 < known["filled_quantity"] < known["quantity"]
    older = stage.restarted(ledger=earlier).go(at(10, 0, 3))
    older.release()
    adopted = older.row("orders", client_id=known["client_id"])
    assert (adopted["state"], adopted["filled_quantity"], adopted["strategy"]) == ("partial", known["filled_quantity"], "EXTERNAL")
    assert older.row("latches")["state"] == "latched"
    assert older.verifies()

    older, broker = scripted(older)
    more = known["filled_quantity"] + 1
    broker.restate = lambda order: replace(order, status=BrokerStatus.CANCELED, filled_quantity=more)
    settled(older)
    assert older.row("orders", client_id=known["client_id"])["state"] == "canceled", "some of it may be from before the book began"


def named(stage, client_id):
    """Orders that the broker has under a name."""
    return stage.broker.orders([client_id])


@pytest.mark.parametrize("deduplicates", [True, False])
def test_an_approval_of_a_lost_stretch_whose_order_filled_is_not_sent_again(tmp_path, deduplicates):
    """C14, 14, fault 35: of the order only its execution is told; a person approves the same action once more."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(mode=Mode.APPROVAL), settings=PaperSettings(deduplicates=deduplicates))
    stage.cycle()
    pending = backup(stage)
    action = stage.row("approvals")["action_id"]
    approvals.approve(stage.desk, action, actor=PERSON)
    stage.go(OPEN + timedelta(seconds=2)).release()
    older = stage.restarted(ledger=pending).go(OPEN + timedelta(seconds=60))
    older.release()
    assert (older.row("fills")["strategy"], older.row("latches")["state"]) == ("EXTERNAL", "latched")
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")

    approvals.approve(older.desk, action, actor=PERSON)
    older.go(OPEN + timedelta(seconds=70)).release()
    voided = older.row("actions")
    assert (voided["state"], NAME in voided["reason"]) == ("voided", True)
    assert (older.rows("orders"), older.events(E.ORDER_SUBMITTED)) == ([], [])
    assert (len(named(older, NAME)), older.broker.positions()) == (1, {"AAPL": 50})
    assert older.verifies()


@pytest.mark.parametrize("deduplicates", [True, False])
def test_an_action_that_is_ready_in_an_older_ledger_and_whose_order_filled_is_not_sent_again(tmp_path, deduplicates):
    """C14, 14, fault 35: its execution is booked as a stranger's before it is released, and a person has cleared the latch."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(), settings=PaperSettings(deduplicates=deduplicates))
    older = stage.restarted(ledger=before_its_orders(stage)).go(OPEN + timedelta(seconds=20))
    settle(older.desk, Tally("fills", older.due()))
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    assert older.row("actions")["state"] == "ready"
    older.go(OPEN + timedelta(seconds=40)).release()
    assert (older.row("actions")["state"], older.events(E.ORDER_SUBMITTED)) == ("voided", [])
    assert (len(named(older, NAME)), older.broker.positions()) == (1, {"AAPL": 50})
    assert older.verifies()


def test_a_name_whose_order_ended_unfilled_in_a_lost_stretch_is_not_sent_again(tmp_path):
    """C14, 14, fault 35: the broker shows nothing open, executed nothing, and would take the name twice."""
    stage = resting(tmp_path)
    older = stage.restarted(ledger=before_its_orders(stage, Interval.MIN1)).go(at(10, 0, 3))
    entry = stage.row("orders", part="entry")["client_id"]
    stage.broker.cancel(entry)
    for second in (3, 8):
        older.go(at(10, 0, second)).release()
    assert (older.row("latches")["state"], older.events(E.ORDER_SUBMITTED), len(named(older, entry))) == ("latched", [], 1)
    assert [row["state"] for row in older.rows("orders", order_by="intent_seq")] == ["canceled", "canceled"], "the entry and its stop"
    assert older.verifies()
    assert replayed(older).difference is None


@pytest.mark.parametrize("blind", [1, 2, 3, 4])
def test_nothing_is_lost_when_a_broker_that_takes_a_name_twice_cannot_be_asked_for_one(tmp_path, blind):
    """14, fault 10: whichever of the looks before the first order fails, it goes out once, in this turn or in a later one."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(), settings=PaperSettings(deduplicates=False))
    stage.faults.on_call(Call.ORDERS, *[None] * (blind - 1), NotReady())
    stage.cycle()
    stage.go(OPEN + timedelta(seconds=5)).release()
    assert len(named(stage, NAME)) == 1
    assert [row["state"] for row in stage.rows("orders")] == ["filled"]
    assert stage.verifies()


@pytest.mark.parametrize("volume", [0.0, 50_000_000.0])
def test_an_exit_of_which_the_broker_had_a_later_slice_is_not_sent_again(tmp_path, volume):
    """C14, 14, D1: of two slices the first was cancelled unfilled; the second works, or has filled, and what is left is one slice."""
    risen = {at(10, minute): (100.0 + minute,) * 4 for minute in range(1, 32)}
    idle = {at(10, 30): volume, at(10, 31): volume}
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, volume=50_000_000, at=risen, volumes=idle))
    spec = strategy(
        interval=Interval.MIN1, sizing=FractionSizing(fraction=Decimal("0.09")), agent=ExpressionAgent("close < 101", "close > 129"),
        limits=StrategyLimits(max_order_value=Decimal(100_000), max_position_value=Decimal(200_000)),
    )
    rich = PaperSettings(cash=Decimal(1_000_000), deduplicates=False)
    stage = floor(tmp_path, source, at(10, 0, 1), limits=AccountLimits(max_position_value=Decimal(200_000)), settings=rich)
    stage.book = MemoryBook("PAPER-1", Decimal(1_000_000))
    stage = stage.restarted().run(spec)
    stage.cycle(Interval.MIN1)
    due = decided(stage.go(at(10, 31, 1)))
    earlier = backup(stage)
    action = stage.row("actions", side="sell")["action_id"]
    first, second = (client_id(action, part) for part in ("exit", "exit-2"))
    stage.faults.on_submit(first, CancelAfter(0))
    run_cycle(stage.desk, due)
    assert [row["quantity"] for row in stage.rows("orders", side="sell", order_by="intent_seq")] == [727, 173]
    stage.broker.cancel(first)

    older = stage.restarted(ledger=earlier).go(at(10, 31, 5))
    booted(older)
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    before = older.broker.positions()
    older.go(at(10, 31, 10)).release()
    voided = older.row("actions", side="sell")
    assert (voided["state"], second in voided["reason"]) == ("voided", True)
    assert ([len(named(older, name)) for name in (first, second)], older.broker.positions()) == ([1, 1], before)
    assert older.verifies()


def resting(tmp_path, *, deduplicates=False):
    """Minutes in which nothing trades from shortly before the cycle on: its order rests."""
    idle = {at(9, 59): 0.0} | {at(10, minute): 0.0 for minute in range(10)}
    thin = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, volumes=idle))
    spec = strategy(interval=Interval.MIN1, sizing=STOPPED)
    return floor(tmp_path, thin, at(10, 0, 1), spec, settings=PaperSettings(deduplicates=deduplicates))


def test_nothing_is_sent_while_nobody_can_look_what_a_broker_has_that_takes_a_name_twice(tmp_path):
    """C14, 14: the entry rests at the broker, is ready in the older ledger, and the query for orders fails once."""
    stage = resting(tmp_path)
    older = stage.restarted(ledger=before_its_orders(stage, Interval.MIN1)).go(at(10, 0, 3))
    name = stage.row("orders", part="entry")["client_id"]
    older.faults.on_call(Call.ORDERS, NotReady())
    [blind] = [result for step, result in older.release().items() if step == "orders"]
    assert (blind.counts, older.events(E.ORDER_SUBMITTED), older.row("actions")["state"]) == ({"broker_not_ready": 1}, [], "ready")
    older.go(at(10, 0, 8)).release()
    assert (older.row("actions")["state"], older.row("latches")["state"]) == ("voided", "latched")
    assert len(named(older, name)) == 1
    assert older.verifies()


@pytest.mark.parametrize("deduplicates", [True, False])
def test_a_desk_that_comes_up_takes_over_what_its_ledger_has_only_meant_before_it_sends_it_again(tmp_path, deduplicates):
    """C2, C14, 14, 82: the backup was made between intent and submission, and is of the whole home: no anchor tells."""
    stage = resting(tmp_path, deduplicates=deduplicates)
    intended(stage, decided(stage))
    older = stage.restarted(ledger=backup(stage), anchors=AnchorFile(tmp_path / "put_back.jsonl"))
    stage.release()
    entry = stage.row("orders", part="entry")
    assert entry["state"] == "accepted"
    booted(older.go(at(10, 0, 3)))
    assert (older.row("orders", part="entry")["state"], older.events(E.ORDER_SUBMITTED)) == ("accepted", [])
    assert older.row("latches")["state"] == "latched"
    assert len(named(older, entry["client_id"])) == 1
    assert older.verifies()
