"""How runs and the launcher end, on real processes: terminated, killed with -9, the code or the settings changed, asked to stop."""

import json
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pytest
import yaml
from dagster._core.launcher.base import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from resources.launcher.children import KILL_SECONDS
from resources.launcher.protocol import MOST_BYTES, packed
from tests.orchestration.launcher.house import LauncherHouse, kill, stopped
from tests.waiting import gone, until
from trading_pipeline.adapters.dagster_home import instance_text
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.ports import Home

pytestmark = pytest.mark.slow
STATUS = dg.DagsterRunStatus


# Terminate


def test_a_terminated_run_is_cancelled_even_in_a_step_that_waits(house: LauncherHouse) -> None:
    house.ready()
    run_id = house.launch("waiter")
    house.report(run_id)
    assert house.instance.run_coordinator.cancel_run(run_id)
    assert house.finished(run_id) is STATUS.CANCELED


def test_a_run_that_is_cancelled_before_its_process_has_connected_never_begins(house: LauncherHouse) -> None:
    fresh, run_id = house.fresh_children(), house.create("quick")
    with ThreadPoolExecutor(1) as pool:
        launching = pool.submit(house.instance.launch_run, run_id, house.workspace)
        until(lambda: run_id in house.ask("tell")["runs"], "a child has its order")
        assert house.instance.run_coordinator.cancel_run(run_id)
        for child in fresh:
            child.resume()
        launching.result()
    assert house.finished(run_id) is STATUS.CANCELED
    assert "Started execution of run" not in house.messages(run_id)
    assert GRPC_INFO_TAG not in house.run(run_id).tags


def test_a_step_that_ignores_an_interrupt_is_killed_before_dagster_calls_it_cancelled(house: LauncherHouse) -> None:
    house.ready()
    run_id = house.launch("deaf")
    pid = house.report(run_id)["pid"]
    assert house.instance.run_coordinator.cancel_run(run_id)
    until(lambda: gone(pid), "it is killed")
    assert house.run(run_id).status is STATUS.CANCELING
    assert house.instance.run_launcher.check_run_worker_health(house.run(run_id)).status is WorkerStatus.FAILED
    house.instance.report_run_canceled(house.run(run_id))
    # The parent of these tests has less patience; the constant is what users have.
    assert yaml.safe_load(instance_text(house.folder))["run_monitoring"]["cancel_timeout_seconds"] >= 2 * KILL_SECONDS


# Kill -9


def test_a_killed_run_is_seen_as_failed_and_its_sibling_goes_on(house: LauncherHouse) -> None:
    house.ready(2)
    killed, sibling = house.launch("waiter"), house.launch("waiter")
    house.report(sibling)
    pid = house.report(killed)["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid), "it is dead")
    health = house.instance.run_launcher.check_run_worker_health
    assert health(house.run(killed)).status is WorkerStatus.FAILED
    assert health(house.run(sibling)).status is WorkerStatus.RUNNING
    house.release(sibling)
    assert house.finished(sibling) is STATUS.SUCCESS
    house.instance.report_run_failed(house.run(killed))


def test_runs_outlive_a_killed_parent_spares_do_not_and_a_new_one_takes_over(house: LauncherHouse) -> None:
    parent = house.ready(2)
    ending, cancelled = house.launch("waiter"), house.launch("waiter")
    house.report(ending)
    house.report(cancelled)
    spares = until(lambda: house.ask("tell")["spares"], "a spare waits")
    kill(parent)
    house.wait_parent()
    until(lambda: all(gone(pid) for pid in spares), "spares end by themselves")
    assert house.instance.run_coordinator.cancel_run(cancelled)
    assert house.finished(cancelled) is STATUS.CANCELED
    house.ready()
    house.release(ending)
    assert house.finished(ending) is STATUS.SUCCESS
    assert house.finished(house.launch("quick")) is STATUS.SUCCESS


def test_after_a_kill_of_everything_a_new_start_works_and_the_run_is_seen_as_failed(house: LauncherHouse) -> None:
    parent = house.ready()
    lost = house.launch("waiter")
    house.report(lost)
    everything = [parent, *parent.children()]
    for process in everything:
        process.suspend()
    for process in everything:
        kill(process)
    house.wait_parent()
    until(lambda: all(gone(process.pid) for process in everything), "all are dead")
    assert house.socket.exists()
    house.ready()
    assert house.instance.run_launcher.check_run_worker_health(house.run(lost)).status is WorkerStatus.FAILED
    house.instance.report_run_failed(house.run(lost))
    assert house.finished(house.launch("quick")) is STATUS.SUCCESS


def test_a_spare_notices_that_its_database_was_restarted(house: LauncherHouse) -> None:
    house.ready(2)
    spares = house.ask("tell")["spares"]
    EmbeddedPostgres.start(Home(house.folder).database).stop()
    EmbeddedPostgres.start(Home(house.folder).database)
    run_id = house.launch("ledger")
    assert house.finished(run_id) is STATUS.SUCCESS
    assert house.report(run_id)["strategies"] == 1
    assert house.report(run_id)["pid"] in spares


# Code and settings


def test_changed_code_is_refused_and_carried_after_the_last_old_run_has_ended(house: LauncherHouse) -> None:
    """fault 68."""
    parent = house.ready()
    old = house.launch("waiter")
    house.report(old)
    house.edited.write_text("VERSION = 22\n")
    refused = house.launch("quick")
    assert "A process of its own carries the run: the code or the settings have changed" in house.messages(refused)
    assert (house.finished(refused), house.report(refused)["version"]) == (STATUS.SUCCESS, 22)
    assert house.ask("tell")["runs"].keys() == {old}
    house.release(old)
    assert house.finished(old) is STATUS.SUCCESS
    assert house.ready().pid == parent.pid
    new = house.launch("quick")
    assert house.finished(new) is STATUS.SUCCESS
    assert (house.report(new)["version"], house.report(new)["parent"]) == (22, parent.pid)
    assert "AWS_SECRET_ACCESS_KEY" not in parent.environ()


def test_changed_settings_and_code_that_cannot_be_loaded_are_refused_until_they_can(house: LauncherHouse) -> None:
    house.ready()
    settings = house.folder / "trading.toml"
    settings.write_text(settings.read_text() + "[paper]\ncash = 'much'\n")
    run_id = house.create("quick")
    assert "have changed" in house.ask("launch", run_id)["refused"]
    until(lambda: (told := house.tell()) and not told["spares"], "it begins anew and has no child")
    settings.write_text(settings.read_text().replace("'much'", "50000"))
    refusal = house.ask("launch", run_id)["refused"]
    assert refusal.startswith("the code cannot be loaded: SettingsError") and "paper.cash" in refusal
    house.ready()
    assert "accepted" in house.ask("launch", run_id)
    assert house.finished(run_id) is STATUS.SUCCESS


def test_asked_to_end_it_takes_no_run_and_lets_the_one_in_flight_end(house: LauncherHouse) -> None:
    parent = house.ready()
    run_id = house.launch("waiter")
    house.report(run_id)
    kill(parent, signal.SIGTERM)
    other = house.create("quick")
    until(lambda: house.ask("launch", other) == {"refused": "the launcher is stopping"}, "it takes no run")
    assert parent.is_running() and not house.run(run_id).is_finished
    house.release(run_id)
    assert house.finished(run_id) is STATUS.SUCCESS
    assert house.wait_parent() == 0
    assert not house.socket.exists()
    house.instance.report_run_failed(house.run(other))


def test_who_asks_while_it_ends_is_told_so_and_need_not_wonder(house: LauncherHouse) -> None:
    parent, run_id = house.ready(), house.create("quick")
    with socket.socket(socket.AF_UNIX) as asker:
        with stopped(parent):
            kill(parent, signal.SIGTERM)
            asker.connect(str(house.socket))
            asker.sendall(packed({"do": "launch", "run_id": run_id}))
        assert "refused" in json.loads(asker.recv(MOST_BYTES))
    assert house.run(run_id).status is STATUS.NOT_STARTED
    assert house.wait_parent() == 0
