"""Dagster's storage on the embedded PostgreSQL: found without ceremony, pooled, safe to start twice."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from sqlalchemy import QueuePool, create_engine, text

from resources.storage import TradingPostgresStorage
from trading_pipeline.adapters.dagster_home import DagsterHome, render
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.errors import SettingsError
from trading_pipeline.ports import Home


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home with a running server; not under tmp_path, which other users may not pass through."""
    folder = Path(tempfile.mkdtemp(prefix="trading-test-"))
    yield folder
    EmbeddedPostgres.start(Home(folder).database).stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(home: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres.start(Home(home).database)


@pytest.fixture(scope="module")
def dagster_home(home: Path) -> DagsterHome:
    return render(home, {})


@pytest.fixture
def instance(dagster_home: DagsterHome) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(dagster_home.folder)) as instance:
        yield instance


def connections(server: EmbeddedPostgres, database: str) -> int:
    engine = create_engine(server.superuser_url())
    with engine.connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM pg_stat_activity WHERE datname = :name"), {"name": database}).scalar_one()
    engine.dispose()
    return int(count)


def eight_assets() -> dg.Definitions:
    def asset(number: int) -> dg.AssetsDefinition:
        @dg.asset(name=f"a{number}", deps=[f"a{number - 1}"] if number else [])
        def body() -> dg.MaterializeResult:
            return dg.MaterializeResult(metadata={"number": number})

        return body

    return dg.Definitions(
        assets=[asset(number) for number in range(8)], jobs=[dg.define_asset_job("cycle")], executor=dg.in_process_executor
    )


def test_the_rendered_settings_pass_dagsters_schema_and_arrive(instance: dg.DagsterInstance) -> None:
    assert instance.get_ref().storage_data.class_name == "TradingPostgresStorage"
    assert not instance.telemetry_enabled
    assert not instance.nux_enabled
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_max_resume_run_attempts == 0
    assert instance.run_monitoring_start_timeout_seconds == 60
    assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 4
    assert instance.get_concurrency_config().pool_config.default_pool_limit == 1, "backtests run one after the other"
    assert instance.run_coordinator.dequeue_interval_seconds == 1
    assert not instance.run_retries_enabled


def test_local_files_lie_in_the_home(instance: dg.DagsterInstance, dagster_home: DagsterHome) -> None:
    assert Path(instance.root_directory) == dagster_home.folder
    assert dagster_home.folder in Path(instance.storage_directory()).parents
    assert dagster_home.folder in Path(instance.compute_log_manager.get_captured_local_path(["a"], "out")).parents


def test_a_job_runs_and_is_found_by_another_instance(instance: dg.DagsterInstance, dagster_home: DagsterHome) -> None:
    result = eight_assets().resolve_job_def("cycle").execute_in_process(instance=instance)
    assert result.success
    # Dagster holds at most two connections at a time here; NullPool would have opened some two hundred, one after another.
    assert instance.event_log_storage._engine.pool.checkedin() <= 2
    with dg.DagsterInstance.from_config(str(dagster_home.folder)) as other:
        assert other.get_run_by_id(result.run_id).is_success
        event = other.get_latest_materialization_event(dg.AssetKey("a7"))
        assert event.asset_materialization.metadata["number"].value == 7


def test_the_event_log_does_not_wait_for_the_disk_and_the_ledger_does(instance: dg.DagsterInstance, server: EmbeddedPostgres) -> None:
    with instance.run_storage.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "off"
    engine = create_engine(server.owner_url())
    with engine.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
    engine.dispose()


def test_three_storages_share_one_pool_and_let_go_of_it(dagster_home: DagsterHome, server: EmbeddedPostgres) -> None:
    before = connections(server, "dagster")
    with dg.DagsterInstance.from_config(str(dagster_home.folder)) as instance:
        instance.get_runs()
        assert instance.run_storage._engine is instance.event_log_storage._engine is instance.schedule_storage._engine
        assert 1 <= connections(server, "dagster") - before <= 2
    assert connections(server, "dagster") == before


def test_a_restarted_server_is_noticed(instance: dg.DagsterInstance, home: Path) -> None:
    instance.get_runs()
    EmbeddedPostgres.start(Home(home).database).stop()
    EmbeddedPostgres.start(Home(home).database)
    assert instance.get_runs(limit=1) is not None


def test_the_webservers_connections_have_a_timeout_and_are_checked_too(instance: dg.DagsterInstance, home: Path) -> None:
    instance.optimize_for_webserver(statement_timeout=1234, pool_recycle=60, max_overflow=3)
    with instance.run_storage.connect() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "1234ms"
    pool = instance.run_storage._engine.pool
    assert isinstance(pool, QueuePool)
    EmbeddedPostgres.start(Home(home).database).stop()
    EmbeddedPostgres.start(Home(home).database)
    assert instance.get_runs(limit=1) is not None


def test_the_instance_travels_to_other_processes_as_a_reference(instance: dg.DagsterInstance) -> None:
    reference = InstanceRef.from_dict(instance.get_ref().to_dict())
    with dg.DagsterInstance.from_ref(reference) as other:
        assert other.get_runs_count() == instance.get_runs_count()


def test_a_server_by_plain_url_is_reached_with_psycopg2(server: EmbeddedPostgres) -> None:
    server.ensure_database("given", "dagster")
    url = server.dagster_url("given").set(drivername="postgresql").render_as_string(hide_password=False)
    storage = TradingPostgresStorage.from_config_value(None, {"database_url": url})
    assert storage.run_storage._engine.url.drivername == "postgresql+psycopg2"
    assert storage.run_storage.get_runs() == []
    storage.run_storage.dispose()


def test_two_that_come_first_at_once_make_the_tables_once(server: EmbeddedPostgres) -> None:
    server.ensure_database("raced", "dagster")
    url = server.dagster_url("raced").render_as_string(hide_password=False)
    made: list[TradingPostgresStorage] = []
    threads = [threading.Thread(target=lambda: made.append(TradingPostgresStorage(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [storage.run_storage.get_runs() for storage in made] == [[], [], [], []]
    for storage in made:
        storage.run_storage.dispose()


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(SettingsError, match="given as sqlite"):
        TradingPostgresStorage.from_config_value(None, {"database_url": "sqlite:///x.db"})


def test_without_settings_the_demo_is_found_and_stays_the_home(
    home: Path, server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".trading").mkdir()
    (tmp_path / ".trading" / "demo").symlink_to(home)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("TRADING_HOME", "set, so that its value now is put back after the test")
    monkeypatch.delenv("TRADING_HOME")
    storage = TradingPostgresStorage.from_config_value(None, {})
    assert storage.run_storage.get_runs() is not None
    assert os.environ["TRADING_HOME"] == str(tmp_path / ".trading" / "demo")
    storage.run_storage.dispose()


def test_dagster_home_alone_names_the_home_of_the_desk_too(dagster_home: DagsterHome, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_HOME", "set, so that its value now is put back after the test")
    monkeypatch.delenv("TRADING_HOME")
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home.folder))
    with dg.DagsterInstance.get():
        assert os.environ["TRADING_HOME"] == str(home)


def test_an_instance_opened_by_its_folder_leaves_the_environment_alone(dagster_home: DagsterHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRADING_HOME", raising=False)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with dg.DagsterInstance.from_config(str(dagster_home.folder)):
        assert "TRADING_HOME" not in os.environ
