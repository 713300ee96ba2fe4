"""The demo's floor: the terminal belongs to the demo, not to what sensors log."""

import dagster as dg

from tests.desks import OPEN, bars, floor, market
from trading_pipeline.demo.floor import Floor


@dg.sensor(job_name="cycle")
def loud(context: dg.SensorEvaluationContext):
    """Logs as the bar-close sensor does of missed closes."""
    context.log.info("359 closes before 1min@2024-08-27T13:31Z were missed")
    return dg.SkipReason("nothing is due")


def test_what_a_sensor_logs_does_not_reach_the_terminal(tmp_path, monkeypatch, capfd):
    stage = floor(tmp_path, market(bars()), OPEN)
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(dg.DagsterInstance, "get", lambda: instance)
        assert Floor(stage.desk, stage.clock)._evaluate("cycle", loud) == 0
    captured = capfd.readouterr()
    assert "359" not in captured.out + captured.err
