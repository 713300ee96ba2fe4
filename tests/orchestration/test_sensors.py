"""Sensors: what is launched when, once; what a dead run leads to; and what waits for whom."""

import json
import time
from datetime import date, timedelta
from decimal import Decimal

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from resources.run_process import PROCESS_TAG, process_of, this_process
from sensors import bar_close
from tests.desks import ALWAYS, CLOSE, DAY, NEVER, OPEN, PERSON, Killed, at, bars, crashing, floor, market, strategy
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Lifetime, Mode
from trading_pipeline.service import accounting, approvals, controls
from trading_pipeline.service.cycle import run_cycle

E = EventType
STATUS = dg.DagsterRunStatus


@pytest.fixture
def stage(tmp_path):
    return floor(tmp_path, market(bars("AAPL"), bars("IBM")), OPEN, strategy())


def leave_run(house, request, job, status, **tags):
    """A run of a request, as a process left it."""
    return create_run_for_test(house.instance, job_name=job, status=status, tags={**request.tags, **tags})


# Bar close


def test_a_closed_bar_launches_one_run_named_by_the_close(house, stage):
    """71, D21."""
    [request] = house.tick("bar_close", stage)
    assert (request.run_key, request.partition_key) == ("1d@2024-08-27T20:00Z#1", "2024-08-28")
    assert request.tags["cycle"] == "1d@2024-08-27T20:00Z"
    assert house.launch(request, "cycle", stage).success
    assert house.tick("bar_close", stage) == []


@pytest.mark.parametrize("status", [STATUS.NOT_STARTED, STATUS.STARTING, STATUS.STARTED, STATUS.CANCELING])
def test_no_second_run_while_one_is_under_way(house, stage, status):
    [request] = house.tick("bar_close", stage)
    leave_run(house, request, "cycle", status)
    assert house.tick("bar_close", stage) == []


def test_a_cycle_whose_run_died_is_tried_again_and_after_three_it_is_left_to_a_person(house, stage):
    keys = []
    for _ in range(4):
        for request in house.tick("bar_close", stage):
            keys.append(request.run_key)
            leave_run(house, request, "cycle", STATUS.FAILURE)
    assert keys == [f"1d@2024-08-27T20:00Z#{attempt}" for attempt in (1, 2, 3)]


def test_the_second_attempt_goes_on_where_the_first_one_died(house, stage, monkeypatch):
    [request] = house.tick("bar_close", stage)
    with monkeypatch.context() as broken:
        broken.setattr(accounting, "snapshot_payload", None)
        assert not house.launch(request, "cycle", stage).success
    assert stage.row("fills")["quantity"] == 50
    again = stage.restarted()
    [retry] = house.tick("bar_close", again)
    assert house.launch(retry, "cycle", again).success
    assert len(stage.events(E.ORDER_SUBMITTED)) == 1
    assert len(stage.rows("snapshots")) == 1


def test_where_minutes_coincide_the_schedule_takes_a_close_and_the_sensor_what_it_left(house, stage, monkeypatch):
    """71."""
    monkeypatch.setattr("sensors.bar_close.minutes_coincide", lambda _desk: True)
    stage.clock.advance_to(at(9, 30, 2))
    assert house.tick("bar_close", stage) == []
    [request] = house.strike("bar_close_by_the_minute", stage)
    assert request.run_key == "1d@2024-08-27T20:00Z#1"
    leave_run(house, request, "cycle", STATUS.STARTED)
    assert house.strike("bar_close_by_the_minute", stage) == []
    stage.clock.advance_to(at(9, 30, 5))
    assert house.tick("bar_close", stage) == []
    [run] = house.instance.get_runs()
    house.instance.report_run_failed(run)
    assert [again.run_key for again in house.tick("bar_close", stage)] == ["1d@2024-08-27T20:00Z#2"]


def test_a_replay_with_minutes_of_its_own_has_no_schedule(house, stage):
    assert house.strike("bar_close_by_the_minute", stage) == []
    assert len(house.tick("bar_close", stage)) == 1


@pytest.mark.parametrize(
    ("apart", "coincide"), [(0.0, True), (0.9, True), (-0.9, True), (2.0, False), (30.0, False), (59.5, True), (600.0, True)],
)
def test_minutes_coincide_when_they_end_together(stage, monkeypatch, apart, coincide):
    wall = stage.desk.now().timestamp() + apart
    monkeypatch.setattr("sensors.bar_close.time.time", lambda: wall)
    assert bar_close.minutes_coincide(stage.desk) is coincide


def test_a_late_daemon_records_what_it_missed(house, tmp_path):
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(9, 35, 1), strategy(interval=Interval.MIN5))
    house.tick_and_launch("bar_close", "cycle", stage)
    stage.go(at(9, 50, 1))
    [request] = house.tick("bar_close", stage)
    assert request.tags["cycle"] == "5min@2024-08-28T13:50Z"
    assert [event.payload["cycle"] for event in stage.events(E.CYCLE_MISSED)] == ["5min@2024-08-28T13:40Z", "5min@2024-08-28T13:45Z"]


def test_nothing_is_launched_for_strategies_that_do_not_run(house, tmp_path):
    assert house.tick("bar_close", floor(tmp_path, market(bars()), OPEN)) == []


# Approvals


@pytest.fixture
def asking(house, tmp_path):
    stage = floor(tmp_path, market(bars("AAPL"), bars("IBM")), OPEN, strategy(mode=Mode.APPROVAL, symbols=("AAPL", "IBM")))
    house.tick_and_launch("bar_close", "cycle", stage)
    return stage


def test_an_approval_releases_exactly_what_was_approved(house, asking):
    assert house.tick("approvals", asking) == []
    chosen = asking.row("approvals", symbol="IBM")["action_id"]
    approvals.approve(asking.desk, chosen, actor=PERSON)
    [request] = house.tick("approvals", asking)
    assert request.tags["actions"] == chosen
    assert house.tick("orders", asking) == [], "approved actions are not the other sensor's"
    result = house.launch(request, "follow_up", asking)
    assert result.success
    assert {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()} == {"orders", "fills", "portfolio_snapshots"}
    assert [row["symbol"] for row in asking.rows("fills")] == ["IBM"]
    assert asking.row("approvals", symbol="AAPL")["state"] == "pending"
    assert house.tick("approvals", asking) == []


def test_what_nobody_decided_is_expired_by_the_sensor(house, asking):
    asking.go(OPEN + timedelta(seconds=300))
    assert house.tick("approvals", asking) == []
    assert {row["state"] for row in asking.rows("approvals")} == {"expired"}
    assert len(asking.events(E.APPROVAL_EXPIRED)) == 2


def test_an_approval_whose_run_died_is_sent_by_the_next_within_its_time(house, asking):
    """fault 2, D20: approved and not yet intended, and not yet thirty seconds old."""
    approvals.approve(asking.desk, asking.row("approvals", symbol="IBM")["action_id"], actor=PERSON)
    [request] = house.tick("approvals", asking)
    leave_run(house, request, "follow_up", STATUS.STARTED)
    assert house.tick("approvals", asking) == [], "one is under way"
    [run] = house.instance.get_runs(dg.RunsFilter(statuses=[STATUS.STARTED]))
    house.instance.report_run_failed(run)
    [again] = house.tick("approvals", asking)
    assert again.run_key != request.run_key
    house.launch(again, "follow_up", asking)
    assert [row["symbol"] for row in asking.rows("fills")] == ["IBM"]


# Orders


def test_a_paced_action_is_released_when_its_time_has_come(house, tmp_path):
    stage = floor(tmp_path, market(bars("AAPL"), bars("IBM")), OPEN, strategy(symbols=("AAPL", "IBM")))
    house.tick_and_launch("bar_close", "cycle", stage)
    assert len(stage.rows("fills")) == 1
    stage.go(OPEN + timedelta(seconds=29.999))
    assert house.tick("orders", stage) == []
    stage.go(OPEN + timedelta(seconds=30))
    [request] = house.tick("orders", stage)
    assert request.tags["actions"] == stage.row("actions", state="ready")["action_id"]
    assert house.launch(request, "follow_up", stage).success
    assert len(stage.rows("fills")) == 2
    assert house.tick("orders", stage) == []


def test_a_stop_that_was_hit_is_heard_of_and_booked(house, tmp_path):
    fall = {at(10, 5): (90.0,) * 4}
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, at=fall))
    sizing = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN1, sizing=sizing))
    house.tick_and_launch("bar_close", "cycle", stage)
    stage.go(at(10, 4, 59))
    assert house.tick("orders", stage) == []
    stage.go(at(10, 6, 1))
    [result] = house.tick_and_launch("orders", "follow_up", stage)
    assert result.success
    assert stage.row("positions")["quantity"] == 0
    assert stage.row("orders", part="stop-1")["state"] == "filled"
    assert house.tick("orders", stage) == []


def test_news_whose_run_failed_are_not_forgotten(house, stage):
    house.tick_and_launch("bar_close", "cycle", stage)
    _lose_the_answer(stage)
    [request] = house.tick("orders", stage)
    leave_run(house, request, "follow_up", STATUS.FAILURE)
    [again] = house.tick("orders", stage)
    assert again.run_key != request.run_key


def _lose_the_answer(stage):
    """A second strategy's order was placed and the process died before it heard."""
    controls.create(stage.desk, strategy("late", symbols=("IBM",)), actor=PERSON)
    controls.start(stage.desk, "late", actor=PERSON)
    stage.go(at(9, 30, day=date(2024, 8, 29)))
    due = stage.due()
    with pytest.raises(Killed), crashing(stage.desk.ledger, "lease"):
        run_cycle(stage.desk, due)
    submit = stage.desk.broker.submit

    def dying(ticket, permit):
        submit(ticket, permit)
        raise Killed("after the answer")

    stage.desk.broker.submit = dying
    with pytest.raises(Killed):
        run_cycle(stage.desk, due)
    stage.desk.broker.submit = submit


# The session's close


def test_the_close_is_launched_once_when_the_session_has_ended(house, tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(lifetime=Lifetime.SESSION))
    house.tick_and_launch("bar_close", "cycle", stage)
    stage.go(CLOSE - timedelta(seconds=1))
    assert house.tick("session_close", stage) == []
    stage.go(CLOSE)
    [request] = house.tick("session_close", stage)
    assert request.run_key.startswith("close:2024-08-28")
    assert house.launch(request, "session_close", stage).success
    assert (stage.row("sessions")["state"], stage.row("strategies")["state"]) == ("closed", "finished")
    assert house.tick("session_close", stage) == []


def test_a_close_whose_run_died_is_launched_again(house, tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    house.tick_and_launch("bar_close", "cycle", stage)
    stage.go(CLOSE)
    [request] = house.tick("session_close", stage)
    leave_run(house, request, "session_close", STATUS.STARTED)
    assert house.tick("session_close", stage) == [], "one is under way"
    [run] = house.instance.get_runs(dg.RunsFilter(statuses=[STATUS.STARTED]))
    house.instance.report_run_failed(run)
    [again] = house.tick("session_close", stage)
    assert again.run_key != request.run_key
    assert house.launch(again, "session_close", stage).success
    assert stage.row("sessions")["state"] == "closed"


def test_a_session_begins_after_the_last_ones_close_however_late_that_is(house, tmp_path):
    """What the new day is measured from is the last close, and the close reports its own day's fills."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(agent=ExpressionAgent(ALWAYS, "", 1)))
    house.tick_and_launch("bar_close", "cycle", stage)
    stage.go(at(9, 30, day=date(2024, 8, 29)))
    assert house.tick("bar_close", stage) == []
    [closed] = house.tick_and_launch("session_close", "session_close", stage)
    assert closed.success
    house.tick_and_launch("bar_close", "cycle", stage)
    first, second = stage.rows("sessions")
    assert (first["state"], second["state"]) == ("closed", "open")
    assert second["baseline_equity"] == first["closing_equity"]
    assert json.loads(first["report"])["fills"] == 1


def test_a_close_that_fails_for_good_does_not_end_trading(house, tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    house.tick_and_launch("bar_close", "cycle", stage)
    stage.go(at(9, 30, day=date(2024, 8, 29)))
    for _ in range(3):
        assert house.tick("bar_close", stage) == []
        [request] = house.tick("session_close", stage)
        leave_run(house, request, "session_close", STATUS.FAILURE)
    assert house.tick("session_close", stage) == []
    assert len(house.tick("bar_close", stage)) == 1


# Safety


def test_a_failed_run_pauses_what_it_traded_for_and_is_a_fact(house, repository, stage):
    [request] = house.tick("bar_close", stage)
    stage.desk.archive.append = None
    result = house.launch(request, "cycle", stage)
    assert not result.success
    failure = next(event for event in result.all_events if event.event_type is dg.DagsterEventType.RUN_FAILURE)
    context = dg.build_run_status_sensor_context(
        sensor_name="safety", dagster_event=failure, dagster_instance=house.instance, resources={"desk": stage.desk},
        dagster_run=house.instance.get_run_by_id(result.run_id),
    ).for_run_failure()
    repository.get_sensor_def("safety")(context)
    [failed] = stage.events(E.RUN_FAILED)
    assert (failed.payload["job"], failed.payload["strategies"]) == ("cycle", ["buyer"])
    assert stage.row("strategies")["state"] == "paused_risk"
    assert stage.row("strategies")["reason"].startswith("run_failed:")
    assert house.tick("bar_close", stage) == [], "nothing runs for a strategy that is paused"


def test_a_run_whose_process_is_gone_is_reported_as_failed(house, stage):
    [request] = house.tick("bar_close", stage)
    gone = leave_run(house, request, "cycle", STATUS.STARTED, **{PROCESS_TAG: "999999@1.00"})
    alive = leave_run(house, request, "cycle", STATUS.STARTED, **{PROCESS_TAG: this_process()})
    unmarked = leave_run(house, request, "cycle", STATUS.STARTED)
    house.tick("lost_runs", stage)
    status = {run.run_id: run.status for run in house.instance.get_runs()}
    assert status[gone.run_id] is STATUS.FAILURE
    assert status[alive.run_id] is status[unmarked.run_id] is STATUS.STARTED


def test_a_run_of_an_earlier_process_that_never_named_its_own_is_lost(house, stage, monkeypatch):
    """Killed between its start and its first step; runs are children of the process that looks, or of one before it."""
    [request] = house.tick("bar_close", stage)
    orphan = leave_run(house, request, "cycle", STATUS.STARTED)
    house.tick("lost_runs", stage)
    assert house.instance.get_run_by_id(orphan.run_id).status is STATUS.STARTED
    monkeypatch.setattr("sensors.safety._began", lambda: time.time() + 1)
    house.tick("lost_runs", stage)
    assert house.instance.get_run_by_id(orphan.run_id).status is STATUS.FAILURE


def test_a_process_id_that_was_given_again_is_not_taken_for_the_lost_one(house, stage):
    [request] = house.tick("bar_close", stage)
    pid = this_process().split("@")[0]
    reused = leave_run(house, request, "cycle", STATUS.STARTED, **{PROCESS_TAG: f"{pid}@1.00"})
    house.tick("lost_runs", stage)
    assert house.instance.get_run_by_id(reused.run_id).status is STATUS.FAILURE


def test_every_run_carries_its_process(house, stage):
    [request] = house.tick("bar_close", stage)
    result = house.launch(request, "cycle", stage)
    assert process_of(house.instance.get_run_by_id(result.run_id)) == this_process()


def test_a_strategy_that_holds_gets_its_cycles_too(house, tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(agent=ExpressionAgent(NEVER)))
    [result] = house.tick_and_launch("bar_close", "cycle", stage)
    assert result.success
    assert stage.rows("actions") == []


def test_a_run_with_a_cycle_that_the_timetable_does_not_make_does_nothing(house, stage):
    """T28: whoever reaches Dagster's page can write tags."""
    [request] = house.tick("bar_close", stage)
    tags = dict(request.tags)
    whole = json.loads(tags[".dagster/trading_cycle"])
    tomorrow = whole | {"bar_end": "2024-08-28T20:00:00.000000Z"}
    for forged in (tomorrow, whole | {"kind": "backfill"}, whole | {"cycle_id": "1d@2024-08-28T20:00Z"}):
        tags[".dagster/trading_cycle"] = json.dumps(forged)
        assert not house.run("cycle", stage, tags, request.partition_key).success
    assert stage.events(E.STEP_COMPLETED, E.BAR_RECEIVED) == []


def test_an_approval_is_seen_while_the_sensor_waits_for_it(house, asking, monkeypatch):
    monkeypatch.setattr("sensors.bar_close.minutes_coincide", lambda _desk: True)
    chosen = asking.row("approvals", symbol="IBM")["action_id"]
    looks = []

    def person(_seconds):
        looks.append(asking.row("approvals", symbol="IBM")["state"])
        if len(looks) == 3:
            approvals.approve(asking.desk, chosen, actor=PERSON)

    monkeypatch.setattr("sensors.approvals.time.sleep", person)
    [request] = house.tick("approvals", asking)
    assert chosen in request.tags["reason"]
    assert looks == ["pending"] * 3


def test_nobody_is_waited_for_when_nobody_is_asked(house, asking, monkeypatch):
    monkeypatch.setattr("sensors.bar_close.minutes_coincide", lambda _desk: True)
    for row in asking.rows("approvals"):
        approvals.reject(asking.desk, row["action_id"], actor=PERSON)
    monkeypatch.setattr("sensors.approvals.time.sleep", lambda _seconds: pytest.fail("it waits"))
    assert house.tick("approvals", asking) == []
