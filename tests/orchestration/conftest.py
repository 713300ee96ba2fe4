"""The definitions, loaded once in a home of their own, and what executes them in this process."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.desks import Floor

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture(scope="session")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    """Everything Dagster knows."""
    before = os.environ.get("TRADING_HOME")
    os.environ["TRADING_HOME"] = str(tmp_path_factory.mktemp("home"))
    try:
        from trading_pipeline.definitions import defs
    finally:
        if before is None:
            del os.environ["TRADING_HOME"]
        else:
            os.environ["TRADING_HOME"] = before
    return defs


@pytest.fixture(scope="session")
def repository(defs: dg.Definitions) -> dg.RepositoryDefinition:
    """The same, resolved."""
    return defs.get_repository_def()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        yield instance


class House:
    """Evaluates sensors and executes jobs against a desk of the test's."""

    def __init__(self, repository: dg.RepositoryDefinition, instance: dg.DagsterInstance) -> None:
        self.repository, self.instance = repository, instance

    def tick(self, name: str, stage: Floor) -> list[dg.RunRequest]:
        """What a sensor asks for now."""
        sensor = self.repository.get_sensor_def(name)
        with dg.build_sensor_context(instance=self.instance, repository_def=self.repository, resources={"desk": stage.desk}) as context:
            return list(sensor.evaluate_tick(context).run_requests or [])

    def strike(self, name: str, stage: Floor) -> list[dg.RunRequest]:
        """What a schedule asks for now."""
        schedule = self.repository.get_schedule_def(name)
        with dg.build_schedule_context(instance=self.instance, repository_def=self.repository, resources={"desk": stage.desk}) as context:
            # A schedule opens its instance by reference, and one in memory has none.
            context._instance_ref, context._instance = self.instance.run_storage, self.instance
            said = schedule(context)
        return said if isinstance(said, list) else []

    def launch(self, request: dg.RunRequest, job: str, stage: Floor) -> dg.ExecuteInProcessResult:
        """Execute what a sensor asked for."""
        return self.run(job, stage, dict(request.tags), request.partition_key, dict(request.run_config))

    def run(
        self, job: str, stage: Floor, tags: dict[str, str], partition: str | None = None, config: dict[str, object] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Execute a job in this process; a failure is a result."""
        return self.repository.get_job(job).execute_in_process(
            instance=self.instance, partition_key=partition, tags=tags, resources={"desk": stage.desk},
            run_config={**QUIET, **(config or {})}, raise_on_error=False,
        )

    def tick_and_launch(self, sensor: str, job: str, stage: Floor) -> list[dg.ExecuteInProcessResult]:
        """A sensor's tick and the runs that it asks for."""
        return [self.launch(request, job, stage) for request in self.tick(sensor, stage)]


@pytest.fixture
def house(repository: dg.RepositoryDefinition, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> House:
    """Sensors and jobs at hand; the market's minutes are not the wall clock's, whenever the test runs."""
    monkeypatch.setattr("sensors.bar_close.minutes_coincide", lambda _desk: False)
    return House(repository, instance)
