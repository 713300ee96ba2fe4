"""fault 2, fault 26, fault 45: A7 in the situations that make work late: a machine asleep, a dead daemon, a starved processor."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import DAY, PERSON, Floor, at, bars, calendar, floor, market, strategy
from tests.service.minutes import bracketed, minute_bars
from trading_pipeline.domain.bars import Interval, instant_ns
from trading_pipeline.domain.events import EventType, instant_from
from trading_pipeline.domain.missed_work import MISSED_WORK, WhenMissed, treated
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.errors import TradingError
from trading_pipeline.service import approvals
from trading_pipeline.service.cycle import STEPS, run_cycle
from trading_pipeline.service.timetable import record_missed

E = EventType


def wake(stage: Floor, interval: Interval) -> None:
    """What the sensors do when they tick again: expire, release, record what was missed, run what is due."""
    stage.release()
    due = stage.due(interval)
    record_missed(stage.desk, due)
    run_cycle(stage.desk, due)


def bars_are_complete(stage: Floor, interval: Interval, symbols: tuple[str, ...]) -> bool:
    """Every bar of the session so far, as the calendar counts them."""
    session = calendar().session(DAY)
    expected = [instant_ns(slot.end) for slot in calendar().slots(session, interval) if slot.end <= stage.desk.now()]
    return all(
        stage.desk.archive.read(symbol, interval, until=stage.desk.now()).since(session.open).end.tolist() == expected for symbol in symbols
    )


def test_every_step_has_a_policy_and_the_policies_are_those_of_the_product():
    assert tuple(MISSED_WORK) == (*STEPS, "outcomes", "model_report")
    assert treated(WhenMissed.REFILLED) == ("bars", "indicators", "charts")
    assert treated(WhenMissed.SKIPPED) == ("signals", "verdicts")
    assert treated(WhenMissed.NEVER_LATE) == ("orders",)


def test_a_machine_asleep_for_an_hour_trades_nothing_stale_and_has_every_bar_afterwards(tmp_path):
    """72, fault 26, fault 45."""
    symbols, five = ("AAPL", "IBM"), Interval.MIN5
    source = market(*(bars(symbol, five, date(2024, 8, 27), DAY) for symbol in symbols))
    stage = floor(
        tmp_path, source, at(10, 0, 1), strategy("own", symbols=symbols, interval=five),
        strategy("asks", mode=Mode.APPROVAL, interval=five),
    )
    stage.cycle(five)
    sent = stage.row("orders")
    [paced] = [row for row in stage.rows("actions", state="ready") if row["action_id"] != sent["action_id"]]
    asked = stage.row("approvals", state="pending")

    stage.go(at(11, 0, 30))
    with pytest.raises(TradingError):
        approvals.approve(stage.desk, asked["action_id"], actor=PERSON)
    wake(stage, five)

    assert stage.row("actions", action_id=paced["action_id"])["state"] == "expired"
    assert stage.row("approvals", action_id=asked["action_id"])["state"] == "expired"
    before = {sent["action_id"], paced["action_id"], asked["action_id"]}
    late = [event for event in stage.events(E.ORDER_SUBMITTED) if event.at > at(10, 1)]
    assert not before & {event.payload["action_id"] for event in late}
    assert all(stage.row("actions", action_id=event.payload["action_id"])["bar_end"] == at(11) for event in late)

    missed = stage.events(E.CYCLE_MISSED)
    assert [instant_from(event.payload["bar_end"]) for event in missed] == [at(10, minute) for minute in range(5, 60, 5)]
    assert all(event.payload["reason"] for event in missed)
    assert missed[0].payload["skipped"] == ["signals", "verdicts"]
    assert bars_are_complete(stage, five, symbols)


def test_while_a_daemon_is_dead_for_ten_minutes_stops_work_and_their_fills_are_caught_up_once(tmp_path):
    """20, fault 2."""
    crash = at(10, 4)
    source = minute_bars(at={crash: (100, 100, 90, 92)})
    stage = floor(tmp_path, source, at(10), bracketed())
    stage.cycle(Interval.MIN1)
    for minute in (1, 2):
        stage.go(at(10, minute, 1))
        stage.cycle(Interval.MIN1)
    [bought] = stage.rows("fills", side="buy")

    stage.go(at(10, 12, 1))
    back = stage.restarted()
    wake(back, Interval.MIN1)
    [sold] = back.rows("fills", side="sell")
    assert sold["quantity"] == bought["quantity"]
    assert crash < sold["at"] <= crash + timedelta(minutes=1), "at its own time, not when it was found"
    assert Decimal("94") < sold["price"] <= Decimal("95"), "the stop 5 % below 100, less spread and slippage"
    missed = [instant_from(event.payload["bar_end"]) for event in back.events(E.CYCLE_MISSED)]
    assert missed == [at(10, minute) for minute in range(3, 12)]
    assert bars_are_complete(back, Interval.MIN1, ("AAPL",))
    wake(back, Interval.MIN1)
    assert [row["execution_id"] for row in back.rows("fills", side="sell")] == [sold["execution_id"]]
    assert len(back.events(E.CYCLE_MISSED)) == 9


def test_a_cycle_that_a_starved_processor_begins_after_its_signals_have_died_trades_nothing(tmp_path):
    stage = floor(tmp_path, minute_bars(), at(10), strategy(interval=Interval.MIN1))
    due = stage.due(Interval.MIN1)
    stage.go(at(10, 2))
    run_cycle(stage.desk, due)
    [missed] = stage.events(E.SIGNAL_MISSED)
    assert missed.payload["reason"].startswith("stale: due at 14:00:00 UTC, begun at 2024-08-28 14:02:00")
    assert stage.events(E.ORDER_INTENT, E.ORDER_SUBMITTED) == []
    wake(stage, Interval.MIN1)
    assert [event.payload["cycle"] for event in stage.events(E.CYCLE_MISSED)] == ["1min@2024-08-28T14:01Z"]
    assert bars_are_complete(stage, Interval.MIN1, ("AAPL",))


@pytest.mark.parametrize("starved_before", ["verdicts", "orders"])
def test_a_cycle_that_starves_on_its_way_sends_nothing_after_its_time(tmp_path, starved_before):
    """74, fault 26."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(interval=Interval.MIN1))
    due = stage.due(Interval.MIN1)
    for name, step in STEPS.items():
        if name == starved_before:
            stage.go(at(10, 2))
        step(stage.desk, due)
    assert stage.events(E.ORDER_SUBMITTED) == []
    if starved_before == "verdicts":
        assert stage.denials() == ["signal_ttl"]
    else:
        stage.release()
        assert stage.row("actions")["state"] == "expired"
    assert stage.verifies()
