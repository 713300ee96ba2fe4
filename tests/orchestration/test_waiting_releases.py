"""What a run that did well has left ready is taken up by the next one, as often as it takes until it expires."""

import dagster as dg
import pytest

from tests.desks import at
from tests.faults.test_exits_and_their_stops import leaving
from tests.orchestration.test_sensors import leave_run
from trading_pipeline.adapters.brokers.paper_faults import Call, NotReady
from trading_pipeline.domain.bars import Interval


@pytest.fixture
def waiting(tmp_path):
    """An exit whose stop the broker cannot cancel for the time being."""
    stage = leaving(tmp_path)
    stage.faults.on_call(Call.CANCEL, *[NotReady()] * 7)
    stage.cycle(Interval.MIN1)
    assert stage.row("actions", side="sell")["state"] == "ready"
    return stage


def requests(house, stage):
    """What the sensor asks for, tick by tick."""
    for second in range(5, 60, 5):
        yield from house.tick("orders", stage.go(at(10, 3, second)))


def test_an_exit_that_waits_goes_out_once_the_broker_is_ready(house, waiting):
    """C12, 26: the runs in which it waited have not failed."""
    keys = []
    for request in requests(house, waiting):
        keys.append(request.run_key)
        assert house.launch(request, "follow_up", waiting).success
    assert len(keys) > 3
    assert len({*keys}) == len(keys), "a run key is used once"
    assert waiting.broker.positions() == {}
    assert waiting.verifies()


def test_a_release_whose_runs_fail_is_left_to_a_person_after_three(house, waiting):
    """As any other run that fails."""
    keys = []
    for request in requests(house, waiting):
        keys.append(request.run_key)
        leave_run(house, request, "follow_up", dg.DagsterRunStatus.FAILURE)
    assert [key.rpartition("#")[2] for key in keys] == ["1", "2", "3"]
