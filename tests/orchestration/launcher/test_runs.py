"""The warm run launcher on real processes: a home, its code server, a parent, runs forked from it; from the question to the run."""

import json
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.launcher.base import LaunchRunContext
from dagster._core.storage.tags import GRPC_INFO_TAG

from resources.launcher.protocol import MOST_BYTES
from resources.launcher.run_launcher import WarmRunLauncher
from resources.run_process import process_of
from tests.orchestration.launcher.house import CANARY, LauncherHouse, kill, stopped
from tests.waiting import until

pytestmark = pytest.mark.slow
STATUS = dg.DagsterRunStatus
MEGABYTE = 1 << 20


def launcher_at(house: LauncherHouse, path: Path, seconds: float = 15.0) -> WarmRunLauncher:
    launcher = WarmRunLauncher(str(path), answer_seconds=seconds)
    launcher.register_instance(house.instance)
    return launcher


def launch_by(house: LauncherHouse, launcher: WarmRunLauncher, job: str) -> str:
    """Launch a run with a launcher of the test's own."""
    run_id = house.create(job)
    launcher.launch_run(LaunchRunContext(house.run(run_id), house.workspace))
    return run_id


# A run


def test_a_warm_run_succeeds_and_shows_which_process_carries_it(house: LauncherHouse) -> None:
    parent = house.ready()
    run_id = house.launch("quick")
    assert house.finished(run_id) is STATUS.SUCCESS
    report, run = house.report(run_id), house.run(run_id)
    assert report["parent"] == parent.pid
    assert f"A warm process carries the run (pid: {report['pid']})" in house.messages(run_id)
    assert str(process_of(run)).startswith(f"{report['pid']}@")
    assert GRPC_INFO_TAG not in run.tags


def test_a_run_finds_a_free_slot_without_a_daemon_and_waits_behind_whoever_waits(house: LauncherHouse) -> None:
    house.ready()
    prompt = house.create("quick")
    house.instance.submit_run(prompt, house.workspace)
    assert house.finished(prompt) is STATUS.SUCCESS
    waiting = house.create("quick", {"dagster/priority": "10"})
    house.instance.report_dagster_event(dg.DagsterEvent.job_enqueue(house.run(waiting)), run_id=waiting)
    later = house.create("quick")
    assert house.instance.submit_run(later, house.workspace).status is STATUS.QUEUED
    for run_id in (waiting, later):
        house.instance.run_coordinator.cancel_run(run_id)


def test_a_run_that_takes_a_pool_queues_and_runs_that_take_none_pass_it(house: LauncherHouse) -> None:
    """Backtests wait for each other; whatever trades waits for none of them."""
    house.ready()
    backtest = house.create("pooled")
    assert house.instance.submit_run(backtest, house.workspace).status is STATUS.QUEUED
    cycle = house.create("quick")
    house.instance.submit_run(cycle, house.workspace)
    assert house.finished(cycle) is STATUS.SUCCESS
    assert house.run(backtest).status is STATUS.QUEUED
    house.instance.run_coordinator.cancel_run(backtest)


def test_a_run_queues_when_all_slots_are_taken(house: LauncherHouse) -> None:
    house.ready()
    taken = [house.create("quick") for _ in range(4)]
    for run_id in taken:
        house.instance.report_dagster_event(dg.DagsterEvent("PIPELINE_STARTING", job_name="quick"), run_id=run_id)
    fifth = house.create("quick")
    assert house.instance.submit_run(fifth, house.workspace).status is STATUS.QUEUED
    house.instance.run_coordinator.cancel_run(fifth)
    for run_id in taken:
        house.instance.report_run_failed(house.run(run_id))


def test_a_run_of_the_whole_chain_imports_nothing_in_its_process(house: LauncherHouse) -> None:
    house.ready()
    run_id = house.launch("cycle", house.cycle_tags)
    assert house.finished(run_id) is STATUS.SUCCESS, house.messages(run_id)
    pid = str(process_of(house.run(run_id))).partition("@")[0]
    told = house.reports / f"imports-{pid}"
    imported = told.read_text().split() if told.exists() else []
    assert imported == []


# What a process inherits


def test_no_secret_that_a_run_does_not_need_reaches_it(house: LauncherHouse) -> None:
    """9, T16."""
    parent = house.ready()
    run_id = house.launch("quick")
    house.finished(run_id)
    given = set(house.report(run_id)["environment"])
    assert house.environment()["AWS_SECRET_ACCESS_KEY"] == CANARY
    assert "AWS_SECRET_ACCESS_KEY" not in given
    assert {"PATH", "HOME", "TRADING_HOME", "DAGSTER_HOME", "PYTHONPATH", "AGENT_API_KEY"} <= given
    assert "AWS_SECRET_ACCESS_KEY" not in parent.environ()


def test_the_parent_has_one_thread_and_nothing_open_that_a_fork_would_share(house: LauncherHouse) -> None:
    parent = house.ready(2)
    assert parent.num_threads() == 1
    assert parent.net_connections("inet") == []
    # The listener, the two ends that wake it, and one end a child.
    assert len(parent.net_connections("unix")) == 1 + 2 + len(parent.children())


def test_the_socket_is_ours_alone_and_its_answers_carry_no_secret(house: LauncherHouse) -> None:
    house.ready()
    assert stat.S_IMODE(house.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(house.socket.parent.stat().st_mode) == 0o700
    assert set(house.ask("tell")) == {"pid", "runs", "spares"}


def test_a_socket_in_a_folder_that_others_may_enter_is_refused(house: LauncherHouse) -> None:
    public = house.folder / "public"
    public.mkdir()
    public.chmod(0o755)
    command = [sys.executable, "-m", "resources.launcher.parent", str(public / "runs.sock"), "no.module"]
    done = subprocess.run(command, env=house.environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, "not private" in done.stderr) == (2, True)


def test_fifty_runs_leave_no_growth_no_zombie_and_no_descriptor_behind(house: LauncherHouse) -> None:
    parent = house.ready(2)
    house.finished(house.launch("quick"))
    house.ready(2)
    before, descriptors = parent.memory_full_info().uss, parent.num_fds()
    spare = psutil.Process(house.ask("tell")["spares"][0]).memory_full_info().uss
    for _ in range(50):
        run_id = house.create("quick")
        assert "accepted" in house.ask("launch", run_id)
        until(lambda run_id=run_id: run_id not in house.ask("tell")["runs"], "the run's process has ended")
    house.ready(2)
    assert parent.memory_full_info().uss - before < 10 * MEGABYTE
    assert psutil.Process(house.ask("tell")["spares"][0]).memory_full_info().uss - spare < 10 * MEGABYTE
    assert parent.num_fds() == descriptors
    assert [child.status() for child in parent.children()].count(psutil.STATUS_ZOMBIE) == 0


# Questions


def test_of_two_parents_the_second_ends_and_the_first_goes_on_serving(house: LauncherHouse) -> None:
    parent = house.ready()
    assert house.start_parent().wait(60) == 2
    assert house.ask("tell")["pid"] == parent.pid
    assert house.finished(house.launch("quick")) is STATUS.SUCCESS


def test_who_connects_and_says_nothing_holds_up_nobody_and_is_hung_up_on(house: LauncherHouse) -> None:
    house.ready()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(house.socket))
        assert house.finished(house.launch("quick")) is STATUS.SUCCESS
        silent.settimeout(60)
        assert silent.recv(1) == b""


def test_a_question_may_come_in_parts(house: LauncherHouse) -> None:
    house.ready()
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(house.socket))
        slow.sendall(b'{"do": "te')
        assert house.ask("tell")
        slow.sendall(b'll"}\n')
        assert "spares" in json.loads(slow.recv(MOST_BYTES))


@pytest.mark.parametrize("nonsense", [b"\x00\xff\n", b"[1]\n", b'{"do": "sing"}\n', b"x" * 200_000])
def test_nonsense_ends_its_own_connection_only(house: LauncherHouse, nonsense: bytes) -> None:
    parent = house.ready()
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(house.socket))
        other.settimeout(60)
        try:
            other.sendall(nonsense)
            assert other.recv(MOST_BYTES) in (b"", b'{"refused": "that is no question"}\n')
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert house.ask("tell")["pid"] == parent.pid


# Before acceptance, and after


def test_where_nobody_listens_a_process_of_its_own_carries_the_run_and_says_why(house: LauncherHouse) -> None:
    run_id = launch_by(house, launcher_at(house, house.folder / "nobody.sock"), "quick")
    assert house.finished(run_id) is STATUS.SUCCESS
    assert "A process of its own carries the run: nobody listens at" in house.messages(run_id)
    assert GRPC_INFO_TAG in house.run(run_id).tags


@contextmanager
def fake_parent(house: LauncherHouse, answer: bytes | None) -> Iterator[Path]:
    """Accepts and reads one question, then answers; an empty answer is a closed connection, None is silence."""
    path, silence = house.socket.with_name("fake.sock"), threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(MOST_BYTES)
            if answer is None:
                silence.wait()
            else:
                connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            silence.set()
            thread.join()
            path.unlink()


def test_a_refused_run_goes_the_default_way_with_the_reason(house: LauncherHouse) -> None:
    with fake_parent(house, b'{"refused": "it rains"}\n') as path:
        run_id = launch_by(house, launcher_at(house, path), "quick")
    assert "A process of its own carries the run: it rains." in house.messages(run_id)
    assert GRPC_INFO_TAG in house.run(run_id).tags
    assert house.finished(run_id) is STATUS.SUCCESS


def test_a_refused_run_that_is_over_is_not_begun_the_default_way(house: LauncherHouse) -> None:
    run_id = house.create("quick")
    asked = LaunchRunContext(house.run(run_id), house.workspace)
    house.instance.report_run_failed(house.run(run_id))
    with fake_parent(house, b'{"refused": "it rains"}\n') as path:
        launcher_at(house, path).launch_run(asked)
    assert "The run is not begun: it rains." in house.messages(run_id)
    assert GRPC_INFO_TAG not in house.run(run_id).tags


@pytest.mark.parametrize("answer", [None, b"", b"not JSON\n", b'{"accep'], ids=["silence", "closed", "nonsense", "half"])
def test_without_an_answer_it_is_unknown_whether_the_run_began_and_nobody_begins_it_again(
    house: LauncherHouse, answer: bytes | None
) -> None:
    with fake_parent(house, answer) as path:
        run_id = launch_by(house, launcher_at(house, path, seconds=0.1), "quick")
    assert "Whether the run began is unknown, so it is not begun again" in house.messages(run_id)
    assert GRPC_INFO_TAG not in house.run(run_id).tags
    house.instance.report_run_failed(house.run(run_id))


def test_a_run_that_was_taken_is_never_begun_twice(house: LauncherHouse) -> None:
    house.ready()
    run_id = house.launch("waiter")
    house.report(run_id)
    assert house.ask("launch", run_id) == {"taken": run_id}
    house.release(run_id)
    assert house.finished(run_id) is STATUS.SUCCESS
    until(lambda: run_id not in house.ask("tell")["runs"], "its process has ended")
    assert house.ask("launch", run_id) == {"taken": run_id}
    launcher_at(house, house.socket).launch_run(LaunchRunContext(house.run(run_id), house.workspace))
    assert GRPC_INFO_TAG not in house.run(run_id).tags
    assert house.messages(run_id).count("Started execution of run") == 1


def test_ready_and_accepted_may_arrive_together(house: LauncherHouse) -> None:
    fresh, parent, run_id = house.fresh_children(), house.parent(), house.create("quick")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(house.ask, "launch", run_id, 60)
        until(lambda: run_id in house.ask("tell")["runs"], "a child has its order")
        with stopped(parent):
            for child in fresh:
                child.resume()
            assert house.finished(run_id) is STATUS.SUCCESS
        assert "accepted" in answer.result()


def test_a_parent_that_wakes_up_late_begins_no_run_that_is_over(house: LauncherHouse) -> None:
    parent = house.ready(2)
    launcher = launcher_at(house, house.socket, seconds=0.1)
    with stopped(parent):
        cancelled, failed = launch_by(house, launcher, "quick"), launch_by(house, launcher, "quick")
        house.instance.report_run_canceled(house.run(cancelled))
        house.instance.report_run_failed(house.run(failed))
    house.ready(2)
    assert (house.run(cancelled).status, house.run(failed).status) == (STATUS.CANCELED, STATUS.FAILURE)
    for run_id in (cancelled, failed):
        assert "unknown" in house.messages(run_id)
        assert "carries the run" not in house.messages(run_id)


def test_a_spare_that_dies_with_an_order_has_not_touched_the_run(house: LauncherHouse) -> None:
    fresh, run_id = house.fresh_children(), house.create("quick")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(house.ask, "launch", run_id, 60)
        pid = until(lambda: house.ask("tell")["runs"].get(run_id), "a child has its order")
        for child in fresh:
            kill(child)
        assert answer.result() == {"refused": "the process that should carry it ended"}
        assert pid in [child.pid for child in fresh]
    assert house.run(run_id).status is STATUS.NOT_STARTED
    house.instance.report_run_failed(house.run(run_id))
