"""The fault rows 60-62: a stop in the middle of everything, with things down, and again. Each ends in `World.wrong`.

A process that is killed is a forked one and dies by SIGKILL; whoever boots next goes on. A stop that races a submitter runs beside
it: the submitter is held at a place until the latch is on the disk, then both go on.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tests.conftest import connect, execute
from tests.desks import PERSON
from tests.evidence.crashing.points import POINTS, Trap
from tests.evidence.crashing.processes import run
from tests.evidence.crashing.rounds import backup, restore
from tests.evidence.stopping.world import Pressing, World
from trading_pipeline.adapters.brokers.paper_faults import Call, FaultPlan, NotReady
from trading_pipeline.adapters.ledger.embedded_passwords import APP
from trading_pipeline.adapters.stop_files import keep_reserve
from trading_pipeline.errors import TradingError
from trading_pipeline.service.stopping import emergency
from trading_pipeline.service.stopping.stop_orders import Report
from trading_pipeline.service.submitter.recovery import resume_stop

Scenario = Callable[[World], list[str]]
NOT_PASSED = "before commit order.unknown"
"""Only where a reply is lost, which is the crash sweep's business."""
SUBMITTING = tuple(
    place for point in ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C9") for place in POINTS[point] if place != NOT_PASSED
)
"""Where a submitter may be when somebody presses."""
STOPPING = (
    "before commit account.latched", "after commit account.latched", "after commit order.cancel_requested", "cancel: before the call",
    "cancel: before the broker's commit", "cancel: after the broker's commit", "cancel: after the call", "before commit order.canceled",
    "after commit order.canceled", "before commit stop.reported", "after commit stop.reported",
)
"""Where the stop itself may be when it dies (C10, C11)."""


def press(world: World, **given: object) -> Report:
    """A stop by a process of its own, so far as ports go."""
    with world.desk(emergency=True) as desk:
        return emergency.stop(desk, reason="drill", actor=PERSON, **given)  # type: ignore[arg-type]


# 60: during each step of an order


def raced(place: str) -> Scenario:
    """Pressed while a submitter is at the place, which then goes on."""

    def scenario(world: World) -> list[str]:
        stopper = threading.Thread(target=press, args=(world,))

        def begin() -> None:
            stopper.start()
            _until((world.stops / "ACCOUNT.json").exists, 10)

        trap = Pressing(place, begin)
        # A submitter that is fenced, or finds its order changed, ends: that is what a stop is for.
        with suppress(TradingError):
            world.cycle(trap)
        if not trap.pressed:
            return [f"nobody came by {place}"]
        stopper.join(60)
        return world.wrong()

    return scenario


def killed_then_stopped(place: str) -> Scenario:
    """The submitter is killed at the place; the stop finds what it left."""

    def scenario(world: World) -> list[str]:
        ended = run(lambda: world.cycle(Trap(place)))
        if not ended.killed:
            return [f"nobody died at {place}: {ended}"]
        press(world)
        return world.wrong()

    return scenario


def stop_killed(place: str, *, again: bool = False) -> Scenario:
    """The stop itself is killed at the place, and the boot that goes on with it too, if it comes by it again (C13)."""

    def scenario(world: World) -> list[str]:
        world.cycle()

        def stopping() -> None:
            with world.desk(Trap(place)) as desk:
                emergency.stop(desk, reason="drill", actor=PERSON)

        def booting() -> None:
            with world.desk(Trap(place)) as desk:
                resume_stop(desk)

        ended = run(stopping)
        if not ended.killed:
            return [f"nobody died at {place}: {ended}"]
        if again:
            run(booting)
        return world.wrong()

    return scenario


# 61: with things down


def ledger_locked(world: World) -> list[str]:
    """Another process holds the ledger's head and does not let go."""
    world.cycle()
    with closing(connect(world.server.superuser_url(world.database))) as holder, holder.cursor() as cursor:
        cursor.execute("BEGIN; SELECT * FROM ledger_head FOR UPDATE")
        report = press(world)
        cursor.execute("ROLLBACK")
    found = [] if (report.record, len(report.ended), report.clean) == ("journal", 4, False) else [f"locked: {report}"]
    return [*found, *world.wrong()]


def ledger_read_only(world: World) -> list[str]:
    """The application may not append any more."""
    world.cycle()
    url = world.server.superuser_url(world.database)
    with world.desk() as desk:
        execute(url, f"REVOKE INSERT ON events FROM {APP}")
        report = emergency.stop(desk, reason="drill", actor=PERSON)
    execute(url, f"GRANT INSERT ON events TO {APP}")
    found = [] if (report.record, report.clean) == ("journal", True) else [f"read-only: {report}"]
    return [*found, *world.wrong()]


def database_killed(world: World) -> list[str]:
    """The server is killed before, and is started again by the stop itself."""
    world.cycle()
    _kill_server(world)
    return [*([] if press(world, wait_seconds=60).clean else ["the stop did not bring the server back"]), *world.wrong()]


def database_gone(world: World) -> list[str]:
    """The server is killed and cannot be started: latched now, cancelled when it is back."""
    world.cycle()
    folder, aside = world.server.data_dir, world.server.data_dir.with_name("gone")
    with world.desk() as desk:
        _kill_server(world)
        folder.rename(aside)
        folder.touch()
        try:
            report = emergency.stop(desk, reason="drill", actor=PERSON)
        finally:
            folder.unlink()
            aside.rename(folder)
    world.revive()
    found = ["it was called done with nothing to ask"] if report.clean or report.record == "ledger" else []
    return [*found, *world.wrong()]


def broker_not_ready(world: World) -> list[str]:
    """The broker has no session: latched now, cancelled when it is back."""
    world.cycle()
    faults = FaultPlan()
    for call in (Call.CANCEL, Call.ORDERS, Call.EXECUTIONS):
        faults.on_call(call, *[NotReady()] * 200)
    with world.desk(faults=faults) as desk:
        report = emergency.stop(desk, reason="drill", actor=PERSON)
    found = ["it was called done without the broker"] if report.clean else []
    return [*found, *world.wrong()]


def disk_full(world: World) -> list[str]:
    """No byte is left where the latches and the journal are: the reserve is used."""
    world.cycle()
    world.stops.mkdir(parents=True, exist_ok=True)
    with _small_disk(world.stops) as mounted:
        if not mounted:
            return [SKIPPED]
        keep_reserve(world.stops)
        _fill(world.stops)
        report = press(world)
        found = [] if report.clean and (world.stops / "ACCOUNT.json").exists() else ["no latch on a full disk"]
        for file in world.stops.glob("fill*"):
            file.unlink()
        return [*found, *world.wrong()]


SKIPPED = "skipped: a small file system could not be mounted here"


# 62: twice, at once, restarted, restored


def twice_and_restored(world: World) -> list[str]:
    """Pressed by two processes at once and once more, then a restart, then the ledger of before."""
    with world.desk() as desk:
        head = desk.ledger.head()[0]
    backup(world.server, world.database)
    world.cycle()
    threads = [threading.Thread(target=press, args=(world,)) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    found = [] if press(world).clean else ["the third press is not clean"]
    found += world.wrong()
    restore(world.server, world.database)
    with world.desk() as desk:
        resume_stop(desk)
        states = {row["state"] for row in desk.ledger.find("strategies")}
        found += [] if states == {"emergency_stopped"} else [f"restored to {head}: {states}"]
        found += [] if desk.latch.standing("any") else ["restored, and not latched"]
    return found


FAULTS: dict[str, Scenario] = {
    **{f"60 raced at {place}": raced(place) for place in SUBMITTING},
    **{f"60 submitter killed at {place}": killed_then_stopped(place) for place in SUBMITTING},
    **{f"60 stop killed at {place}": stop_killed(place) for place in STOPPING},
    **{f"60 stop and boot killed at {place}": stop_killed(place, again=True) for place in STOPPING},
    "61 ledger locked": ledger_locked, "61 ledger read-only": ledger_read_only, "61 database killed": database_killed,
    "61 database gone": database_gone, "61 broker not ready": broker_not_ready, "61 disk full": disk_full,
    "62 twice, at once, restarted, restored": twice_and_restored,
}


def _until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.001)


def _kill_server(world: World) -> None:
    pid = int((world.server.data_dir / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    done = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False,
    ).returncode == 0
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path) -> None:
    with suppress(OSError), (folder / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 512)
