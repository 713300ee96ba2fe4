"""Steps orders and fills: what goes out and when, what is too late, and what a crash left behind."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from tests.desks import ALWAYS, DAY, OPEN, PERSON, at, bars, floor, market, strategy
from tests.service.minutes import MINUTES, approved, bracketed, decided, intended, minute_bars
from tests.service.replaying import replayed
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.adapters.brokers.paper_faults import Call, NotReady
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import CycleKind, follow_up
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.events import NewEvent
from trading_pipeline.domain.orders import OrderClass, Side
from trading_pipeline.domain.risk import Quote
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode
from trading_pipeline.errors import LedgerUnavailable
from trading_pipeline.service import controls, execution
from trading_pipeline.service.execution import collect_fills, parts_of, place, place_orders, withdrawn
from trading_pipeline.service.judging.book import intent_of
from trading_pipeline.service.orders.gate import intents_of
from trading_pipeline.service.record.judgement import judge
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.submitter.handover import lease_name

# Who does it


def test_a_step_that_was_done_is_answered_from_the_record(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    first = stage.cycle()
    for step, again in (("orders", place_orders(stage.desk, stage.due())), ("fills", collect_fills(stage.desk, stage.due()))):
        assert (again.counts, again.seqs, again.replayed) == (first[step].counts, first[step].seqs, True)
    with stage.desk.ledger.lease(lease_name(stage.desk)) as fence:
        assert place(stage.desk, fence, stage.due()).replayed, "whoever waited for the lease finds it done"


def test_a_backfill_places_nothing_and_asks_the_broker_nothing(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    cycle = replace(stage.due(), kind=CycleKind.BACKFILL)
    stage.faults.on_call(Call.EXECUTIONS, NotReady())
    for step in (place_orders, collect_fills):
        assert step(stage.desk, cycle).notes == ("a backfill places nothing",)
    assert [event.payload["step"] for event in stage.events(E.STEP_COMPLETED)] == ["orders", "fills"]


def test_a_lease_that_somebody_else_holds_is_waited_for_and_then_the_run_fails(tmp_path, monkeypatch):
    """22."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    cycle = decided(stage)
    asked = []
    lease = stage.desk.ledger.lease

    def counted(name: str, wait_seconds: float = 10.0) -> object:
        asked.append((name, wait_seconds))
        return lease(name, 0.01)

    monkeypatch.setattr(stage.desk.ledger, "lease", counted)
    monkeypatch.setattr(execution, "LEASE_WAIT_SECONDS", 0.05)
    with lease(lease_name(stage.desk)), pytest.raises(LedgerUnavailable, match="submitter:PAPER-1"):
        place_orders(stage.desk, cycle)
    assert len(asked) > 1, "a desk that is just coming up answers in a moment"
    assert set(asked) == {("submitter:PAPER-1", 1)}
    assert stage.events(E.ORDER_INTENT) == []
    assert place_orders(stage.desk, cycle).counts["submitted"] == 1


def test_a_broker_that_is_not_ready_is_told_and_what_crashed_is_taken_up_all_the_same(tmp_path):
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    cycle = decided(stage)
    intended(stage, cycle)
    stage.faults.on_call(Call.ORDERS, NotReady())
    done = place_orders(stage.desk, cycle)
    assert (done.counts["broker_not_ready"], done.counts["submitted"]) == (1, 1)
    assert len(done.notes) == 1 and done.notes[0]


def test_an_entry_that_nobody_can_compare_does_not_wait_for_it_as_an_exit_does(tmp_path):
    """27: the gate says no, on the record; the next bar decides anew."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    cycle = decided(stage)
    stage.faults.on_call(Call.POSITIONS, *[NotReady()] * 9)
    assert place_orders(stage.desk, cycle).counts["denied"] == 1
    order = stage.row("orders")
    assert (order["state"], order["reason"], stage.broker.orders()) == ("denied", "unknown_order", [])


# What a crash left behind


@pytest.mark.parametrize(("seconds", "state"), [(29.999, "accepted"), (30, "denied")])
def test_an_intent_that_was_never_sent_goes_out_within_thirty_seconds_and_is_stale_after(tmp_path, seconds, state):
    """C2."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    cycle = decided(stage)
    intended(stage, cycle)
    stage.go(at(10, 0, 1 + seconds))
    done = place_orders(stage.desk, cycle)
    assert {row["state"] for row in stage.rows("orders")} == {state}
    if state == "denied":
        assert {row["reason"] for row in stage.rows("orders")} == {"stale: the intent was never sent"}
        assert (done.counts, stage.events(E.ORDER_SUBMITTED)) == ({"denied": 1}, [])


def test_the_crash_of_a_run_is_taken_up_in_the_order_in_which_it_was_written_down(tmp_path):
    stage = floor(tmp_path, minute_bars("AAPL", "IBM"), at(10, 0, 1), strategy("z", **MINUTES), strategy("a", symbols=("IBM",), **MINUTES))
    cycle = decided(stage)
    for name in ("z", "a"):
        row = stage.row("actions", strategy=name)
        with stage.desk.ledger.transaction() as tx:
            tx.append(*intents_of(intent_of(row), cycle.cycle_id, cycle.session, stage.clock.now(), row["last_seq"]))
    place_orders(stage.desk, cycle)
    gates = [event.payload["strategy"] for event in stage.events(E.RISK_EVALUATED) if event.payload["stage"] == "gate"]
    assert gates == ["z", "a"]


# What is withdrawn


def test_entries_of_a_strategy_that_has_paused_are_cancelled_and_nothing_else_is(tmp_path):
    """D10, 57: an entry whose answer came after the pause; its stop and the orders of another strategy stay."""
    thin = {at(9, 59): 200.0} | {at(10, minute): 0.0 for minute in range(10)}
    stage = floor(
        tmp_path, minute_bars("AAPL", "IBM", volumes=thin), at(10, 0, 1), bracketed(), bracketed(name="other", symbols=("IBM",)),
    )
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 3)).release()
    row = stage.row("strategies", name="buyer")
    with stage.desk.ledger.transaction() as tx:
        paused = NewEvent(E.STRATEGY_PAUSED, "strategy:buyer", "paused", {"strategy": "buyer", "reason": "x"}, stage.clock.now(), PERSON)
        tx.append(paused)
    assert stage.row("strategies", name="buyer")["state"] != row["state"]
    tally = Tally("orders", stage.due(Interval.MIN1))
    withdrawn(stage.desk, tally)
    told = stage.events(E.ORDER_CANCEL_REQUESTED)
    entry = stage.row("orders", strategy="buyer", part="entry")
    assert [(event.payload["client_id"], event.payload["reason"], event.actor) for event in told] == [
        (entry["client_id"], "its strategy does not run", "desk")
    ]
    assert entry["state"] == "canceled"
    assert {row["state"] for row in stage.rows("orders", strategy="buyer", order_class="P")} == {"accepted"}
    assert stage.row("orders", strategy="other", part="entry")["state"] == "partial"


# When it is too late, or too early


@pytest.mark.parametrize(("seconds", "state"), [(29.999, "consumed"), (30, "expired")])
def test_what_was_approved_is_sent_within_thirty_seconds_or_not_at_all(tmp_path, seconds, state):
    """D20."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(mode=Mode.APPROVAL, **MINUTES))
    stage.cycle(Interval.MIN1)
    name = approved(stage)
    stage.go(at(10, 0, 1 + seconds))
    done = place_orders(stage.desk, follow_up((name,), DAY, stage.clock.now(), "release"))
    action = stage.row("actions")
    assert action["state"] == state
    if state == "expired":
        assert action["reason"] == "approved, and not sent within 30 s of 14:00:01 UTC"
        assert done.counts == {"expired": 1}
        [told] = stage.events(E.ACTION_EXPIRED)
        assert (told.actor, told.payload["action_id"], told.payload["symbol"]) == ("rulebook", name, "AAPL")


@pytest.mark.parametrize("early", [True, False])
def test_what_is_ready_is_sent_until_just_before_its_time_is_over(tmp_path, early):
    """D20."""
    stage = floor(tmp_path, minute_bars("AAPL", "IBM"), at(10, 0, 1), strategy(symbols=("AAPL", "IBM"), **MINUTES))
    stage.cycle(Interval.MIN1)
    waiting = stage.row("actions", state="ready")
    stage.go(waiting["expires_at"] - timedelta(milliseconds=1 if early else 0))
    done = place_orders(stage.desk, follow_up((waiting["action_id"],), DAY, stage.clock.now(), "release"))
    action = stage.row("actions", action_id=waiting["action_id"])
    if early:
        assert action["state"] == "consumed"
    else:
        assert (action["state"], done.counts) == ("expired", {"expired": 1})
        assert action["reason"] == f"ready, and not sent before {waiting['expires_at']:%H:%M:%S} UTC"


def test_a_follow_up_sends_exactly_what_it_names(tmp_path):
    stage = floor(tmp_path, minute_bars("AAPL", "IBM"), at(10, 0, 1), strategy("a", **MINUTES), strategy("b", symbols=("IBM",), **MINUTES))
    decided(stage)
    place_orders(stage.desk, follow_up((), DAY, stage.clock.now(), "nothing"))
    assert stage.rows("orders") == []
    [named] = stage.rows("actions", strategy="b")
    assert named["not_before"] > stage.clock.now()
    place_orders(stage.desk, follow_up((named["action_id"],), DAY, stage.clock.now(), "too early"))
    assert stage.rows("orders") == []
    stage.go(named["not_before"])
    place_orders(stage.desk, follow_up((named["action_id"],), DAY, stage.clock.now(), "release"))
    assert [row["symbol"] for row in stage.rows("orders")] == ["IBM"]


@pytest.mark.parametrize(("last", "state"), [(99.0, "consumed"), (101.0, "consumed"), (98.99, "voided"), (101.01, "voided")])
def test_an_action_is_void_outside_the_band_around_the_price_it_was_decided_at(tmp_path, last, state):
    """48: 1 % to either side, the ends included."""
    moved = {at(10, minute): (last,) * 4 for minute in range(1, 10)}
    stage = floor(tmp_path, minute_bars(at=moved), at(10, 0, 1), strategy(**MINUTES))
    cycle = decided(stage)
    stage.go(at(10, 1, 1))
    place_orders(stage.desk, cycle)
    action = stage.row("actions")
    assert action["state"] == state
    if state == "voided":
        assert action["reason"] == f"the price moved to {Decimal(str(last))}, outside 99.0000 to 101.0000"
        [voided] = stage.events(E.ACTION_VOIDED)
        [ready] = stage.events(E.ACTION_READY)
        assert voided.cause == ready.seq


class Meddling:
    """A market during whose questions something happens, or which has no answer."""

    def __init__(self, market: object, meanwhile: Callable[[], object] | None = None) -> None:
        self._market, self._meanwhile = market, meanwhile

    def __getattr__(self, name: str) -> object:
        return getattr(self._market, name)

    def quotes(self, symbols: Sequence[str], now: datetime) -> dict[str, Quote]:
        if self._meanwhile is None:
            return {}
        meanwhile, self._meanwhile = self._meanwhile, lambda: None
        meanwhile()
        return dict(self._market.quotes(symbols, now))  # type: ignore[attr-defined]


def test_what_is_taken_back_at_the_last_moment_is_not_written_down_as_an_order(tmp_path):
    """44, D10: the action is looked at once more in the transaction of its intent."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    cycle = decided(stage)
    meddling = Meddling(stage.desk.market, lambda: controls.pause(stage.desk, "buyer", actor=PERSON))
    place_orders(replace(stage.desk, market=meddling), cycle)  # type: ignore[arg-type]
    assert stage.row("actions")["state"] == "voided"
    assert stage.rows("orders") == []


@pytest.mark.parametrize(("seconds", "state"), [(29.999, "consumed"), (30, "expired")])
def test_an_approval_that_runs_out_while_the_broker_is_asked_becomes_no_order(tmp_path, seconds, state):
    """47: its time is looked at once more in the transaction of its intent."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(mode=Mode.APPROVAL, **MINUTES))
    stage.cycle(Interval.MIN1)
    name, now = approved(stage), at(10, 0, 1)
    meddling = Meddling(stage.desk.market, lambda: stage.go(now + timedelta(seconds=seconds)))
    place_orders(replace(stage.desk, market=meddling), follow_up((name,), DAY, now, "release"))  # type: ignore[arg-type]
    assert stage.row("actions")["state"] == state
    assert len(stage.rows("orders")) == (state == "consumed")
    assert judge(stage.desk.ledger).violations == ()


@pytest.mark.parametrize(("seconds", "state"), [(29.999, "accepted"), (30, "denied")])
def test_an_intent_that_grows_old_while_the_broker_is_asked_is_not_sent(tmp_path, seconds, state):
    """47: half a minute from the intent to the submission, and no more."""

    class Slow(LatchedBroker):
        def positions(self):
            found = super().positions()
            if stage.rows("orders", state="intent"):
                stage.go(at(10, 0, 1) + timedelta(seconds=seconds))
            return found

    volumes = {at(10, minute): 0.0 for minute in range(-1, 20)}
    stage = floor(tmp_path, minute_bars(volumes=volumes), at(10, 0, 1), strategy(**MINUTES))
    stage = stage.restarted(broker=Slow(stage.broker, stage.desk.latch))
    stage.cycle(Interval.MIN1)
    order = stage.row("orders")
    assert (order["state"], order["reason"]) == (state, "stale: not sent within 30 s" if state == "denied" else "")
    assert judge(stage.desk.ledger).violations == ()
    assert replayed(stage).difference is None


def test_without_a_price_the_band_says_nothing_and_the_gate_denies(tmp_path):
    """33."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    cycle = decided(stage)
    place_orders(replace(stage.desk, market=Meddling(stage.desk.market)), cycle)  # type: ignore[arg-type]
    assert (stage.row("actions")["state"], stage.row("orders")["state"]) == ("consumed", "denied")
    assert stage.events(E.ORDER_SUBMITTED) == []


@pytest.mark.parametrize(("mode", "state"), [(Mode.APPROVAL, "voided"), (Mode.AUTONOMOUS, "consumed")])
def test_an_exit_that_a_person_approved_is_void_outside_its_band_and_one_that_nobody_has_to_approve_is_not(tmp_path, mode, state):
    """48: the gate's collar bounds the other."""
    fallen = {at(10, minute): (98.5,) * 4 for minute in range(3, 10)}
    agent = ExpressionAgent(ALWAYS, ALWAYS)
    stage = floor(tmp_path, minute_bars(at=fallen), at(10, 0, 1), strategy(mode=mode, agent=agent, **MINUTES))
    stage.cycle(Interval.MIN1)
    if mode is Mode.APPROVAL:
        approved(stage)
        stage.release()
    stage.go(at(10, 2, 1))
    cycle = decided(stage)
    out = stage.row("actions", side="sell")
    stage.go(at(10, 3, 1))
    if mode is Mode.APPROVAL:
        approved(stage)
        cycle = follow_up((out["action_id"],), DAY, stage.clock.now(), "release")
    place_orders(stage.desk, cycle)
    out = stage.row("actions", side="sell")
    assert out["state"] == state
    assert ("the price moved to 98.5, outside 99.0000 to 101.0000" in out["reason"]) is (state == "voided")


def test_the_last_share_is_sold_too(tmp_path):
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(sizing=FractionSizing(fraction=Decimal("0.001")), **MINUTES))
    stage.cycle(Interval.MIN1)
    assert stage.row("positions")["quantity"] == 1
    out = replace(intent_of(stage.row("actions")), order_class=OrderClass.EXIT, side=Side.SELL)
    assert [(part.part, part.quantity) for part in parts_of(stage.desk.ledger, out)] == [("exit", 1)]
    assert parts_of(stage.desk.ledger, replace(out, symbol="IBM")) == []
