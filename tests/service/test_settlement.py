"""What the broker says of our orders: absence proven to the second, what is new and what it is called, and what is cancelled."""

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from tests.desks import OPEN, PERSON, Floor, at, bars, floor, market, strategy
from tests.service.minutes import MINUTES, bracketed, decided, intended, minute_bars
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.adapters.brokers.paper_faults import Call, DropReply, LoseRequest, NotReady, RejectLater, ShowLate
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import action_id, follow_up
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.events import NewEvent
from trading_pipeline.domain.orders import Side, client_id
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.errors import BrokerNotReady
from trading_pipeline.ports import BrokerOrder, BrokerStatus
from trading_pipeline.service.settlement import cancel, news, settle, settled_mismatches
from trading_pipeline.service.steps import Tally

D = Decimal
NAME = client_id(action_id("buyer", "1d@2024-08-27T20:00Z", "AAPL"), "entry")
MINUTE = client_id(action_id("buyer", "1min@2024-08-28T14:00Z", "AAPL"), "entry")
"""The entry of a strategy on minutes that decides at ten."""


def tally(stage: Floor) -> Tally:
    return Tally("test", follow_up((), stage.desk.today(), stage.desk.now(), "test"))


def settled(stage: Floor, instant: datetime | None = None) -> Tally:
    """Settle, at an instant if one is given; what was counted and noted."""
    found = tally(stage if instant is None else stage.go(instant))
    settle(stage.desk, found)
    return found


def told(stage: Floor, name: str) -> list[tuple[str, str]]:
    """The facts about an order after its submission, with their actors."""
    facts = [event for event in stage.events() if event.payload.get("client_id") == name and event.type.value.startswith("order.")]
    return [(event.type.value, event.actor) for event in facts[2:]]


@pytest.fixture
def lost(tmp_path) -> Floor:
    """An order that never arrived, in doubt since the open."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.faults.on_submit(NAME, LoseRequest())
    stage.cycle()
    return stage


@pytest.fixture
def thin(tmp_path) -> Floor:
    """A bracketed entry that has bought twenty of its fifty shares at ten, and works on."""
    volumes = {at(9, 59): 200.0} | {at(10, minute): 0.0 for minute in range(20)}
    stage = floor(tmp_path, minute_bars(volumes=volumes), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    assert (stage.row("orders", part="entry")["state"], stage.row("positions")["quantity"]) == ("partial", 20)
    return stage


class Scripted(LatchedBroker):
    """Says what it is told to, over what the broker says."""

    def __init__(self, stage: Floor) -> None:
        super().__init__(stage.broker, stage.desk.latch)
        self.cancels: list[str] = []
        self.before_orders: Callable[[], object] = lambda: None
        self.restate: Callable[[BrokerOrder], BrokerOrder | None] = lambda order: order
        self.holds: dict[str, int] | None = None
        self.more: list[tuple[str, Fill]] = []
        self.asked_since: list[datetime] = []
        self.asked_for: list[str] = []
        self.deaf = False

    def orders(self, client_ids: Collection[str] | None = None) -> list[BrokerOrder]:
        self.asked_for += client_ids or ()
        found = super().orders(client_ids)
        self.before_orders()
        return [said for order in found if (said := self.restate(order)) is not None]

    def positions(self) -> dict[str, int]:
        return super().positions() if self.holds is None else self.holds

    def executions(self, since: datetime) -> list[tuple[str, Fill]]:
        self.asked_since.append(since)
        return [*super().executions(since), *self.more]

    def cancel(self, client_id: str) -> None:
        self.cancels.append(client_id)
        if not self.deaf:
            super().cancel(client_id)


def scripted(stage: Floor) -> tuple[Floor, Scripted]:
    broker = Scripted(stage)
    return stage.restarted(broker=broker), broker


# Absence (15)


def test_absence_is_looked_for_a_minute_after_the_submission_and_again_five_seconds_later(lost):
    """15, fault 5: to the second, IBKR's visibility window, and what is written each time."""
    for seconds, state in ((59.999, "unknown"), (60, "unknown"), (64.999, "unknown"), (65, "not_placed")):
        settled(lost, OPEN + timedelta(seconds=seconds))
        assert lost.row("orders")["state"] == state
    assert told(lost, NAME)[1:] == [("order.unknown", "recovery"), ("order.not_placed", "broker:paper")]
    first, second = [event.payload["reason"] for event in lost.events(E.ORDER_UNKNOWN, E.ORDER_NOT_PLACED)][-2:]
    assert first == "absent 60 s after its submission: looked for once more in 5 s"
    assert second == "absent twice from orders, executions and positions, 60 s after its submission and later"


def test_an_answer_that_was_long_on_its_way_counts_from_when_it_was_asked_for(lost):
    """15: it may be from before the order showed."""
    stage, broker = scripted(lost)
    broker.before_orders = lambda: stage.go(OPEN + timedelta(seconds=70))
    settled(stage, OPEN + timedelta(seconds=59))
    assert told(stage, NAME) == [("order.unknown", "broker:paper")]


def test_an_order_that_is_absent_while_the_positions_differ_stays_in_doubt_and_becomes_a_persons(lost):
    """15, 27: shares that nobody has booked may be its own; told once, a quarter of an hour after its submission."""
    stage, broker = scripted(lost)
    broker.holds = {"AAPL": 50}
    for seconds in (60, 70, 899.999):
        assert settled(stage, OPEN + timedelta(seconds=seconds)).notes == []
    assert len(told(stage, NAME)) == 1
    reason = "not resolved within 15 minutes: compare the account with the ledger by hand"
    assert settled(stage, OPEN + timedelta(seconds=900)).notes == [f"the order {NAME} of AAPL: {reason}"]
    assert settled(stage, OPEN + timedelta(seconds=950)).notes == []
    assert (stage.row("orders")["state"], stage.row("orders")["reason"]) == ("unknown", reason)
    assert told(stage, NAME)[1:] == [("order.unknown", "recovery")]
    broker.holds = None
    for seconds in (960, 965):
        settled(stage, OPEN + timedelta(seconds=seconds))
    assert stage.row("orders")["state"] == "not_placed"


def test_a_cancel_in_doubt_that_nobody_can_resolve_becomes_a_persons_and_stays_asked_for(lost):
    """15, 53."""
    stage, broker = scripted(lost)
    cancel(stage.desk, stage.rows("orders"), "test", PERSON, tally(stage))
    broker.holds = {"AAPL": 50}
    found = settled(stage, OPEN + timedelta(seconds=900))
    assert "not resolved within 15 minutes" in found.notes[0]
    assert stage.row("orders")["state"] == "cancel_pending"
    assert told(stage, NAME)[-1] == ("order.cancel_requested", "recovery")


def test_an_order_that_was_to_be_cancelled_and_is_absent_twice_is_canceled(lost):
    """15, 53."""
    cancel(lost.desk, lost.rows("orders"), "test", PERSON, tally(lost))
    settled(lost, OPEN + timedelta(seconds=60))
    assert lost.row("orders")["state"] == "cancel_pending"
    found = settled(lost, OPEN + timedelta(seconds=65))
    assert (lost.row("orders")["state"], found.counts) == ("canceled", {"canceled": 1})
    assert [type_ for type_, _ in told(lost, NAME)] == [
        "order.unknown", "order.cancel_requested", "order.cancel_requested", "order.canceled"
    ]


def test_an_order_in_doubt_that_has_filled_in_part_and_is_absent_is_canceled_not_unplaced(thin):
    """15, 19: it was there."""
    stage, broker = scripted(thin)
    entry = stage.row("orders", part="entry")
    for row in stage.rows("orders"):
        with stage.desk.ledger.transaction() as tx:
            payload = {"client_id": row["client_id"], "reason": "asked for by hand"}
            tx.append(NewEvent(E.ORDER_CANCEL_REQUESTED, "strategy:buyer", f"c:{row['part']}", payload, stage.clock.now(), PERSON))
            tx.append(NewEvent(E.ORDER_UNKNOWN, "strategy:buyer", f"u:{row['part']}", payload, stage.clock.now(), PERSON))
    assert stage.row("orders", part="entry")["state"] == "unknown"
    broker.restate = lambda order: None
    broker.deaf = True
    for seconds in (61, 66):
        settled(stage, at(10, 0, 1 + seconds))
    assert stage.row("orders", part="entry")["state"] == "canceled"
    assert {row["state"] for row in stage.rows("orders", parent=entry["client_id"])} == {"not_placed"}


def test_an_order_in_doubt_that_the_broker_has_as_another_is_set_aside(tmp_path):
    """24: it is not the one that was sent, whatever its name."""
    volumes = {at(10, minute): 0.0 for minute in range(-1, 20)}
    stage = floor(tmp_path, minute_bars(volumes=volumes), at(10, 0, 1), strategy(**MINUTES))
    stage.faults.on_submit(MINUTE, DropReply(), ShowLate(timedelta(seconds=2)))
    stage.cycle(Interval.MIN1)
    stage, broker = scripted(stage)
    broker.restate = lambda order: replace(order, ticket=replace(order.ticket, quantity=500))
    found = settled(stage, at(10, 0, 5))
    reason = "quantity 50 was sent, 500 was heard"
    assert (stage.row("orders")["state"], stage.row("orders")["reason"]) == ("quarantined", reason)
    assert found.notes == [f"the order {MINUTE} is set aside: {reason}"]
    assert broker.cancels == [MINUTE]


def test_an_order_given_up_that_had_ended_before_it_was_seen_is_found_under_the_brokers_number(tmp_path):
    """15."""
    volumes = {at(10, minute): 0.0 for minute in range(-1, 20)}
    stage = floor(tmp_path, minute_bars(volumes=volumes), at(10, 0, 1), strategy(**MINUTES))
    stage.faults.on_submit(MINUTE, ShowLate(timedelta(minutes=3)), DropReply())
    stage.cycle(Interval.MIN1)
    for seconds in (61, 66):
        settled(stage, at(10, 0, 1 + seconds))
    assert stage.row("orders")["state"] == "not_placed"
    stage.broker.cancel(MINUTE)
    settled(stage, at(10, 3, 5))
    [placed] = stage.broker.orders([MINUTE])
    assert [event.payload["broker_order_id"] for event in stage.events(E.ORDER_LATE_FOUND)] == [placed.broker_order_id]
    assert (stage.row("orders")["state"], stage.row("orders")["broker_order_id"]) == ("canceled", placed.broker_order_id)


def test_an_order_that_was_given_up_is_watched_until_the_end_of_the_next_session_and_no_longer(lost):
    """15."""
    stage, broker = scripted(lost)
    for seconds in (60, 65):
        settled(stage, OPEN + timedelta(seconds=seconds))
    assert stage.row("orders")["state"] == "not_placed"
    for instant, watched in ((at(15, 59, day=date(2024, 8, 29)), True), (at(9, 30, day=date(2024, 8, 30)), False)):
        broker.asked_for.clear()
        settled(stage, instant)
        assert (NAME in broker.asked_for) is watched


# Executions


def test_an_execution_is_booked_after_the_last_fact_of_its_order_and_counted_by_what_it_leaves(thin):
    """18: twenty of fifty shares, and then the rest."""
    stage, broker = scripted(thin)
    [first] = stage.events(E.ORDER_PARTIALLY_FILLED)
    accepted = next(event for event in stage.events(E.ORDER_ACCEPTED) if event.payload["client_id"] == MINUTE)
    assert first.cause == accepted.seq
    broker.more = [(MINUTE, Fill("X-1", MINUTE, "AAPL", Side.BUY, 10, D(100), D(1), at(10, 0, 2)))]
    assert settled(stage, at(10, 0, 5)).counts == {"partially_filled": 1}
    broker.more.append((MINUTE, Fill("X-2", MINUTE, "AAPL", Side.BUY, 20, D(100), D(1), at(10, 0, 3))))
    assert settled(stage, at(10, 0, 6)).counts["filled"] == 1
    [whole] = stage.events(E.ORDER_FILLED)
    assert (whole.payload["part"], whole.payload["order_class"], whole.payload["strategy"]) == ("entry", "E", "buyer")


# Ends


@pytest.mark.parametrize(("status", "state"), [("canceled", "canceled"), ("expired", "expired"), ("rejected", "rejected")])
def test_an_end_that_the_broker_states_is_written_down_with_its_words(thin, status, state):
    stage, broker = scripted(thin)
    entry = stage.row("orders", part="entry")["client_id"]
    ended = BrokerStatus(status)
    broker.restate = lambda order: replace(order, status=ended, reason="so it is") if order.client_id == entry else order
    found = settled(stage, at(10, 0, 5))
    row = stage.row("orders", part="entry")
    assert (row["state"], row["reason"], row["filled_quantity"]) == (state, "so it is", 20)
    assert found.counts == {{"expired": "order_expired"}.get(status, status): 1}
    assert told(stage, entry)[-1][1] == "broker:paper"


@pytest.mark.parametrize("status", ["canceled", "expired", "rejected"])
def test_however_an_order_ends_that_was_to_be_cancelled_it_is_canceled(thin, status):
    """C11."""
    stage, broker = scripted(thin)
    entry = stage.row("orders", part="entry")["client_id"]
    broker.deaf = True
    cancel(stage.desk, stage.rows("orders", part="entry"), "test", PERSON, tally(stage))
    assert stage.row("orders", part="entry")["state"] == "cancel_pending"
    ended = BrokerStatus(status)
    broker.restate = lambda order: replace(order, status=ended, reason="so it is") if order.client_id == entry else order
    assert settled(stage, at(10, 0, 5)).counts == {"canceled": 1}
    assert stage.row("orders", part="entry")["state"] == "canceled"


# Cancels


def test_a_cancel_is_asked_for_once_and_sent_until_it_gets_through(thin):
    """53, C10."""
    stage, broker = scripted(thin)
    rows = stage.rows("orders", part="entry")
    broker.deaf = True
    first = tally(stage)
    cancel(stage.desk, rows, "enough", PERSON, first)
    again = tally(stage)
    cancel(stage.desk, rows, "enough", PERSON, again)
    [request] = stage.events(E.ORDER_CANCEL_REQUESTED)
    assert (request.payload["reason"], request.actor) == ("enough", PERSON)
    assert first.counts["cancel_requested"] == again.counts["cancel_requested"] == 1
    assert set(broker.cancels) == {rows[0]["client_id"]}
    assert len(broker.cancels) == 4, "asked for and asked again by the look after it, twice"
    broker.deaf = False
    settled(stage, at(10, 0, 5))
    assert stage.row("orders", part="entry")["state"] == "canceled"


def test_what_is_over_or_was_never_sent_is_not_cancelled(thin):
    stage, broker = scripted(thin)
    rows = stage.rows("orders", part="entry")
    cancel(stage.desk, rows, "enough", PERSON, tally(stage))
    assert stage.row("orders", part="entry")["state"] == "canceled"
    many = len(broker.cancels)
    cancel(stage.desk, [*rows, rows[0] | {"client_id": "NOBODY"}], "enough", PERSON, counted := tally(stage))
    assert (len(broker.cancels), counted.counts.get("cancel_requested")) == (many, None)


@pytest.mark.parametrize("leased", [True, False])
def test_a_submission_on_its_way_is_cancelled_by_whoever_has_the_lease_and_left_alone_by_others(tmp_path, leased):
    """22: without the lease it may be going out at this moment; with it, it is a crashed one."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.faults.on_submit(MINUTE, LoseRequest())
    stage, broker = scripted(stage)
    seen = []

    def submitting(ticket: object, permit: object) -> BrokerOrder:
        rows = stage.rows("orders", part="entry")
        cancel(stage.desk, rows, "enough", PERSON, tally(stage), leased=leased)
        seen.append(stage.row("orders", part="entry")["state"])
        raise BrokerNotReady("busy")

    broker.submit = submitting  # type: ignore[assignment, method-assign]
    stage.cycle(Interval.MIN1)
    assert seen == ["cancel_pending" if leased else "submitted"]
    assert bool(broker.cancels) is leased
    facts = [type_ for type_, _ in told(stage, MINUTE)]
    assert facts[:2] == (["order.unknown", "order.cancel_requested"] if leased else ["order.rejected"])


# From when on it asks


def test_executions_are_asked_for_from_the_calendars_first_day_and_then_from_a_day_before_the_last_one(tmp_path):
    """20: none may lie between two looks."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage, broker = scripted(stage)
    settled(stage)
    assert broker.asked_since[-1] == stage.desk.calendar.first.open
    stage.cycle()
    stage.go(at(9, 30, day=date(2024, 9, 5)))
    settled(stage)
    assert broker.asked_since[-1] == stage.row("fills")["at"] - timedelta(days=1)


def test_executions_of_an_order_that_rests_are_asked_for_from_a_day_before_it_went_out(tmp_path):
    """20, 25: another strategy's fills move the watermark on."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage, broker = scripted(stage)
    sent = stage.row("orders", part="stop-1")["submitted_at"]
    stage.broker.trade_by_hand("IBM", Side.BUY, 1, D(100))
    stage.go(at(12, day=date(2024, 8, 29)))
    broker.more = [("SOMEBODY", Fill("X-1", "SOMEBODY", "IBM", Side.BUY, 1, D(100), D(0), at(12, day=date(2024, 8, 29))))]
    settled(stage)
    assert stage.rows("fills", order_by="at")[-1]["execution_id"] == "X-1"
    settled(stage)
    assert broker.asked_since[-1] == min(sent, stage.rows("fills", order_by="at")[-1]["at"]) - timedelta(days=1)


# News


def test_nothing_new_has_no_name_and_each_thing_new_has_one(tmp_path):
    """A run is launched once for each: what is told is what would be written."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    assert news(stage.desk) == ""
    stage.cycle(Interval.MIN1)
    assert news(stage.desk) == ""
    stage, broker = scripted(stage)
    stop = stage.row("orders", part="stop-1")["client_id"]
    fill = stage.row("fills")
    sold = Fill("X-7", stop, "AAPL", Side.SELL, 50, D(95), D(1), at(10, 0, 2))
    broker.more = [(stop, sold)]
    assert news(stage.desk) == "fill:X-7"
    broker.more = [(stop, sold), (stop, replace(sold, execution_id="X-8"))]
    assert news(stage.desk) == "fill:X-7+fill:X-8"
    broker.more = [(stop, replace(sold, execution_id=f"X-{number}")) for number in (7, 8, 9)]
    three = news(stage.desk)
    assert three.startswith("3:") and len(three) == 18
    broker.more = [(stop, replace(sold, execution_id=f"X-{number}")) for number in (7, 8, 6)]
    assert news(stage.desk) != three, "three other things are other news"
    broker.more = [(MINUTE, Fill(fill["execution_id"], MINUTE, "AAPL", Side.BUY, 50, D("99.5"), D(1), fill["at"]))]
    assert news(stage.desk) == f"restated:{fill['execution_id']}:99.5:1"
    assert len(stage.events()) == stage.desk.ledger.head()[0], "and nothing was written"


def test_an_execution_that_makes_no_sense_is_news_until_it_has_been_refused(tmp_path):
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage, broker = scripted(stage)
    stop = stage.row("orders", part="stop-1")["client_id"]
    broker.more = [(stop, Fill("X-7", stop, "AAPL", Side.SELL, 0, D(95), D(1), at(10, 0, 2)))]
    assert news(stage.desk)
    settled(stage, at(10, 0, 3))
    assert len(stage.events(E.EXECUTION_REFUSED)) == 1
    assert "X-7" not in news(stage.desk)


def test_an_intent_that_nobody_sent_is_news_after_five_seconds(tmp_path):
    """C2: a run may be on its way to it."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    intended(stage, decided(stage))
    assert news(stage.go(at(10, 0, 5.999)).desk) == ""
    assert news(stage.go(at(10, 0, 6)).desk) == f"intent:{MINUTE}"


def test_an_order_in_doubt_is_news_when_it_shows_and_when_its_absence_can_be_looked_for(lost):
    """15."""
    assert news(lost.go(OPEN + timedelta(seconds=59.999)).desk) == ""
    seq = lost.row("orders")["last_seq"]
    assert news(lost.go(OPEN + timedelta(seconds=60)).desk) == f"absent:{NAME}:{seq}"
    settled(lost)
    assert news(lost.go(OPEN + timedelta(seconds=64.999)).desk) == ""
    seq = lost.row("orders")["last_seq"]
    assert news(lost.go(OPEN + timedelta(seconds=65)).desk) == f"absent:{NAME}:{seq}"
    settled(lost)
    assert news(lost.desk) == ""


def test_an_end_at_the_broker_and_an_order_that_works_though_it_is_in_doubt_are_news(tmp_path):
    volumes = {at(10, minute): 0.0 for minute in range(-1, 20)}
    stage = floor(tmp_path, minute_bars(volumes=volumes), at(10, 0, 1), strategy(**MINUTES))
    stage.faults.on_submit(MINUTE, DropReply(), ShowLate(timedelta(seconds=2)))
    stage.cycle(Interval.MIN1)
    assert (stage.row("orders")["state"], news(stage.desk)) == ("unknown", "")
    seq = stage.row("orders")["last_seq"]
    assert news(stage.go(at(10, 0, 4)).desk) == f"working:{MINUTE}:{seq}"
    settled(stage)
    assert (stage.row("orders")["state"], news(stage.desk)) == ("accepted", "")
    stage.broker.cancel(MINUTE)
    seq = stage.row("orders")["last_seq"]
    assert news(stage.go(at(10, 0, 5)).desk) == f"canceled:{MINUTE}:{seq}"
    assert settled(stage).counts == {"canceled": 1}
    assert news(stage.desk) == ""


def test_a_fill_that_no_snapshot_has_looked_at_is_news(tmp_path):
    """The desk's process books without a run."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    stage.faults.on_submit(MINUTE, ShowLate(timedelta(seconds=5)))
    stage.cycle(Interval.MIN1)
    assert stage.rows("fills") == []
    settled(stage, at(10, 0, 10))
    [fill] = stage.rows("fills")
    assert news(stage.desk) == f"snapshot:{fill['execution_id']}"
    stage.release()
    assert news(stage.desk) == ""


# The rest


def test_a_broker_without_a_session_is_a_note_and_no_failure(thin):
    """D23."""
    thin.faults.on_call(Call.EXECUTIONS, NotReady())
    found = settled(thin, at(10, 0, 5))
    assert (found.counts, len(found.notes)) == ({"broker_not_ready": 1}, 1)


def test_a_difference_between_book_and_broker_is_told_only_when_settling_does_not_explain_it(tmp_path):
    """27."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    stage.cycle(Interval.MIN1)
    assert settled_mismatches(stage.desk, tally(stage)) == {}
    stage.broker.trade_by_hand("AAPL", Side.SELL, 10, D(100))
    counted = tally(stage)
    assert settled_mismatches(stage.desk, counted) == {}
    assert stage.row("positions", strategy="EXTERNAL")["quantity"] == -10
    stage, broker = scripted(stage)
    broker.holds = {"AAPL": 17}
    assert list(settled_mismatches(stage.desk, tally(stage))) == ["AAPL"]
    assert broker.asked_since[-1] == stage.rows("fills", order_by="at")[-1]["at"] - timedelta(days=7)


def test_a_venue_that_rejects_what_it_had_accepted_says_why(tmp_path):
    """Fault 19."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    stage.faults.on_submit(MINUTE, RejectLater(timedelta(seconds=30), "halted"))
    stage.cycle(Interval.MIN1)
    assert news(stage.go(at(10, 0, 40)).desk).startswith(f"rejected:{MINUTE}:")
    assert settled(stage).counts == {"rejected": 1}
    assert stage.row("orders")["reason"] == "halted"
