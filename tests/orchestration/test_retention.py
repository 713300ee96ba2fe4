"""Retention (A8): what is purged, what stays, and that the ledger answers everything afterwards."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from sqlalchemy import text

from resources.retention import purge
from tests.desks import OPEN, bars, floor, market, strategy
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.service.record import tracing
from trading_pipeline.service.record.verification import verify

STATUS = dg.DagsterRunStatus
TOMORROW = datetime.now(UTC) + timedelta(days=1)


def run(instance: dg.DagsterInstance, job: str, partition: str, status: dg.DagsterRunStatus = STATUS.SUCCESS) -> str:
    return create_run_for_test(instance, job_name=job, status=status, tags={"dagster/partition": partition}).run_id


@pytest.fixture
def lasting(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance as `trading up` has it: on PostgreSQL, its logs in files."""
    postgres.ensure_database("retention", "dagster")
    storage = {"database_url": postgres.dagster_url("retention").render_as_string(hide_password=False)}
    logs = {"base_dir": str(tmp_path / "storage")}
    settings = {
        "storage": {"custom": {"module": "resources.storage", "class": "TradingPostgresStorage", "config": storage}},
        "compute_logs": {"module": "resources.compute_logs", "class": "DirectLogs", "config": logs},
        "telemetry": {"enabled": False},
    }
    (tmp_path / "dagster.yaml").write_text(json.dumps(settings))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance
        instance.wipe()


def count(instance: dg.DagsterInstance, query: str) -> int:
    with instance.run_storage.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def left(instance: dg.DagsterInstance) -> set[str]:
    return {each.run_id for each in instance.get_runs()}


def test_the_newest_run_of_each_job_and_session_stays(instance):
    old = [run(instance, "cycle", "2024-08-28") for _ in range(3)]
    newest = run(instance, "cycle", "2024-08-28")
    others = {run(instance, "cycle", "2024-08-29"), run(instance, "follow_up", "2024-08-28")}
    done = purge(instance, TOMORROW)
    assert left(instance) == {newest, *others}
    assert (done.deleted, done.kept, done.more) == (len(old), 3, False)


def test_a_failed_newest_run_stays_beside_the_newest_that_succeeded(instance):
    run(instance, "cycle", "2024-08-28")
    good = run(instance, "cycle", "2024-08-28")
    run(instance, "cycle", "2024-08-28", STATUS.FAILURE)
    bad = run(instance, "cycle", "2024-08-28", STATUS.FAILURE)
    purge(instance, TOMORROW)
    assert left(instance) == {good, bad}


@pytest.mark.parametrize("status", [STATUS.STARTING, STATUS.STARTED, STATUS.CANCELING])
def test_what_is_under_way_is_left_alone(instance, status):
    working = run(instance, "cycle", "2024-08-28", status)
    run(instance, "cycle", "2024-08-28")
    run(instance, "cycle", "2024-08-28")
    purge(instance, TOMORROW)
    assert working in left(instance)


def test_young_runs_stay(instance):
    runs = {run(instance, "cycle", "2024-08-28") for _ in range(3)}
    assert purge(instance, datetime.now(UTC) - timedelta(days=1)).deleted == 0
    assert left(instance) == runs


def test_a_purge_is_bounded_and_the_next_one_goes_on(instance):
    for _ in range(5):
        run(instance, "cycle", "2024-08-28")
    assert (purge(instance, TOMORROW, most=3).more, len(left(instance))) == (True, 2)
    assert (purge(instance, TOMORROW, most=3).more, len(left(instance))) == (False, 1)


def test_what_a_purged_run_printed_and_what_its_checks_found_goes_with_it(lasting, tmp_path):
    @dg.asset
    def talks() -> None:
        print("heard")  # noqa: T201

    @dg.asset_check(asset=talks)
    def sound() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    first, second = (dg.materialize([talks, sound], instance=lasting).run_id for _ in range(2))
    assert {path.name for path in (tmp_path / "storage").iterdir()} == {first, second}
    purge(lasting, TOMORROW)
    assert {path.name for path in (tmp_path / "storage").iterdir()} == left(lasting) == {second}
    assert count(lasting, "SELECT count(*) FROM asset_check_executions") == 1


def test_the_room_of_purged_runs_is_there_for_the_next_ones(lasting):
    def a_day() -> int:
        for _ in range(40):
            busy = lasting.get_run_by_id(run(lasting, "cycle", "2024-08-28"))
            for _ in range(5):
                lasting.report_engine_event("x" * 2_000, busy)
        return count(lasting, "SELECT pg_total_relation_size('event_logs')")

    first = a_day()
    purge(lasting, TOMORROW)
    assert a_day() < first * 1.2


def test_after_a_purge_the_catalogue_has_every_session_and_the_ledger_answers_everything(house, tmp_path):
    stage = floor(tmp_path, market(bars("AAPL"), bars("IBM")), OPEN, strategy())
    [request] = house.tick("bar_close", stage)
    assert house.launch(request, "cycle", stage).success
    first = house.instance.get_runs()[0].run_id
    assert house.launch(request, "cycle", stage).success
    events = stage.desk.ledger.events()
    told = [tracing.why(stage.desk, row["client_id"]) for row in stage.desk.ledger.find("orders")]
    assert told
    purge(house.instance, TOMORROW)
    assert first not in left(house.instance)
    for asset in ("bars", "orders", "portfolio_snapshots"):
        assert house.instance.get_materialized_partitions(dg.AssetKey(asset)) == {request.partition_key}
    assert stage.desk.ledger.events() == events
    assert [tracing.why(stage.desk, row["client_id"]) for row in stage.desk.ledger.find("orders")] == told
    assert verify(stage.desk.ledger).ok
