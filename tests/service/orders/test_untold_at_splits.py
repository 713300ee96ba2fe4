"""Splits against executions from before them that the broker tells of late."""

from datetime import timedelta

from tests.desks import at, calendar, floor, strategy
from tests.service.orders.test_splits import AT_OPEN, BEFORE, PROTECTED, agrees, resting, stepping
from trading_pipeline.adapters.brokers.paper_faults import Withhold
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.orders import client_id
from trading_pipeline.service.accounting import mismatches
from trading_pipeline.service.orders.settlement import settle
from trading_pipeline.service.record.judgement import judge
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.submitter.closing import close_session

LATE = client_id(action_id("other", "1d@2024-08-26T20:00Z", "AAPL"), "entry")


def test_a_split_waits_for_an_execution_from_before_it_that_the_broker_has_not_told_of(tmp_path):
    """20, 27, 31: two strategies hold AAPL, and of one entry the execution comes only after the open: nobody's shares stay unsplit."""
    day_before = AT_OPEN - timedelta(days=1)
    stage = floor(tmp_path, stepping(4), day_before, strategy(sizing=PROTECTED), strategy("other", sizing=PROTECTED))
    stage.faults.on_executions(Withhold(LATE))
    stage.cycle()
    for seconds in (3, 5, 8):
        stage.go(day_before + timedelta(seconds=seconds)).release()
    assert ([row["quantity"] for row in stage.rows("positions")], stage.broker.positions()) == ([50], {"AAPL": 100})
    stage.go(at(16, day=BEFORE))
    close_session(stage.desk, calendar().session(BEFORE))

    stage.go(AT_OPEN).cycle()
    assert stage.events(E.CORPORATE_ACTION_SPLIT) == []
    tally = Tally("test", stage.due())
    settle(stage.desk, tally)
    [note] = tally.notes
    assert note == f"The broker has filled 50 of the order {LATE} of AAPL and has not told of all of it."
    sent = len(stage.events(E.ORDER_SUBMITTED))

    stage.faults.on_executions()
    stage.go(AT_OPEN + timedelta(seconds=60)).release()
    [split] = stage.events(E.CORPORATE_ACTION_SPLIT)
    assert {part["strategy"]: (part["before"], part["quantity"]) for part in split.payload["positions"]} == {
        "buyer": (50, 200), "other": (50, 200),
    }
    filled = [event for event in stage.events(E.ORDER_FILLED) if event.payload["client_id"] == LATE]
    assert [event.seq < split.seq for event in filled] == [True]
    assert mismatches(stage.desk) == {}
    assert {(row["state"], row["quantity"]) for row in stage.rows("orders", order_class="P")} == {("accepted", 200)}
    assert [quantity for _, quantity, _ in resting(stage)] == [200] * 4
    assert len(stage.events(E.ORDER_SUBMITTED)) == sent, "nothing is placed for shares that looked naked"
    assert judge(stage.desk.ledger).violations == ()
    assert agrees(stage)
