"""The stop drill: how fast a stop latches, blocks and cancels, and every fault row 60-62, on a real PostgreSQL and the paper broker.

    make stop-drill                  the last line is RESULT {json}; N=100 resting orders are cancelled
    ONLY="61" make stop-drill        the faults whose names contain it

Times are of this machine and told, not judged; what is judged is the order of facts in the ledger and what the broker still works
on. `latch_ms` is a median with its fsync, `blocked_ms` the latest commit of a submission after the press of all rounds.
"""

import mmap
import os
import shutil
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.conftest import execute
from tests.desks import PERSON, calendar
from tests.evidence import report
from tests.evidence.crashing.points import Trap
from tests.evidence.crashing.processes import Child
from tests.evidence.crashing.rounds import TEMPLATE, server
from tests.evidence.stopping.faults import FAULTS, SKIPPED
from tests.evidence.stopping.world import World, hurried, resting, source
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.stop_files import keep_reserve
from trading_pipeline.ports import Stop
from trading_pipeline.service.stopping import emergency

LATCHES = 200
BLOCKED_ROUNDS = 5
HAMMERED = 12
FEW = 2


def latch_times(many: int) -> list[float]:
    """Milliseconds of a latch, each in a folder of its own that was opened before, as a home is."""
    folder, found = Path(tempfile.mkdtemp(prefix="tp-", dir=os.environ.get("DRILL_FOLDER"))), []
    for number in range(many):
        keep_reserve(folder / str(number) / "stops")
        latch = LatchFiles(folder / str(number) / "stops")
        stop = Stop(None, "drill", PERSON, datetime.now(UTC))
        began = time.perf_counter()
        latch.stop(stop)
        found.append((time.perf_counter() - began) * 1000)
    shutil.rmtree(folder)
    return found


class Stamping(Trap):
    """Notes in shared memory how many submissions were committed, and when the last one was."""

    def __init__(self) -> None:
        super().__init__()
        self._memory = mmap.mmap(-1, 16)

    @property
    def seen(self) -> tuple[int, float]:
        """(submissions, monotonic seconds of the newest)."""
        many, at = struct.unpack("<qd", self._memory[:16])
        return many, at

    def at(self, place: str) -> None:
        """Come by a place."""
        if place == "after commit order.submitted":
            self._memory[:16] = struct.pack("<qd", self.seen[0] + 1, time.monotonic())


def blocked_times(running: EmbeddedPostgres, folder: Path, rounds: int) -> list[float]:
    """Milliseconds from the press to the last commit of a submission, by a process that submits all the time."""
    found = []
    for number in range(rounds):
        with home(running, folder, f"blocked_{number}", HAMMERED) as world:
            world.begin(hurried(HAMMERED))
            trap = Stamping()
            child = Child(lambda world=world, trap=trap: world.cycle(trap))  # type: ignore[misc]
            with world.desk() as desk:
                while trap.seen[0] < 2 + number % 3:
                    time.sleep(0.0005)
                pressed = time.monotonic()
                emergency.stop(desk, reason="drill", actor=PERSON)
            child.wait()
            found.append(max(0.0, (trap.seen[1] - pressed) * 1000))
            for wrong in world.wrong():
                report.progress(f"FAIL blocked: {wrong}")
        report.progress(f"blocked after {found[-1]:.1f} ms; {trap.seen[0]} of {HAMMERED} orders had been sent")
    return found


def cancel_times(running: EmbeddedPostgres, folder: Path, many: int) -> tuple[float, float]:
    """Milliseconds from the press until so many cancels were taken by the broker, and until each was confirmed and booked."""
    sent: list[float] = []
    with home(running, folder, "cancels", many) as world:
        world.begin(resting(many))
        world.cycle()
        with world.desk() as desk:
            working, cancel = len(desk.broker.orders(None)), desk.broker.cancel

            def timed(client_id: str) -> None:
                cancel(client_id)
                sent.append(time.perf_counter())

            desk.broker.cancel = timed  # type: ignore[method-assign]
            began = time.perf_counter()
            ended = emergency.stop(desk, reason="drill", actor=PERSON)
            whole = (time.perf_counter() - began) * 1000
    if (working, len(sent), len(ended.ended), ended.clean) != (many, many, many, True):
        report.progress(f"FAIL cancels: {working} working, {len(sent)} sent, {len(ended.ended)} confirmed, clean {ended.clean}")
    return (max(sent) - began) * 1000, whole


def play_faults(running: EmbeddedPostgres, folder: Path, only: str) -> tuple[int, int, int]:
    """(played, skipped, wrong)."""
    played = skipped = wrong = 0
    for number, (name, scenario) in enumerate(each for each in FAULTS.items() if only in each[0]):
        with home(running, folder, f"fault_{number}", FEW) as world:
            world.begin(hurried(FEW))
            found = scenario(world)
        if found == [SKIPPED]:
            skipped += 1
            report.progress(f"{name}: {SKIPPED}")
            continue
        played += 1
        wrong += bool(found)
        report.progress(f"{name}: {'; '.join(found[:4]) if found else 'ok'}")
    return played, skipped, wrong


@contextmanager
def home(running: EmbeddedPostgres, folder: Path, name: str, many: int) -> Iterator[World]:
    """A world of its own, gone afterwards: a server that was killed syncs every database it has before it answers."""
    running.ensure_database(name, template=TEMPLATE)
    yield World(running, name, folder / name, source(many))
    execute(running.superuser_url(), f"DROP DATABASE {name} WITH (FORCE)")
    shutil.rmtree(folder / name, ignore_errors=True)


def main() -> int:
    """Measure, play every fault, and tell; 0 when nothing was wrong."""
    many, only = report.size(100), os.environ.get("ONLY", "")
    calendar()
    latched = latch_times(LATCHES)
    with server() as (running, folder):
        blocked = blocked_times(running, folder, BLOCKED_ROUNDS)
        sent, whole = cancel_times(running, folder, many)
        played, skipped, wrong = play_faults(running, folder, only)
    figures: report.Figures = {
        "latch_ms": round(statistics.median(latched), 2), "blocked_ms": round(max(blocked), 1),
        "cancels_100_ms": round(sent, 1), "faults": played, "skipped": skipped, "wrong": wrong,
    }
    notes = [
        f"The latch is one fsynced file: median of {LATCHES}, the slowest took {max(latched):.1f} ms. Blocked is measured against a process"
        f" that submits through the gate all the time, {BLOCKED_ROUNDS} rounds, from the call of the stop to the last commit of a"
        f" submission; 0 means that none followed it. {many} resting orders were cancelled at the paper broker, which locks its account"
        f" for each: the last cancel was taken after {sent:.0f} ms, and all were confirmed and booked after {whole:.0f} ms.",
        "Faults: the stop pressed while a submitter is at each step of an order (and goes on, or is killed there), the stop killed at each"
        " of its own steps and once more while it is taken up, the ledger locked, read-only, killed and gone, the broker without a"
        " session, a full disk, two stops at once, a restart and a restored ledger. After each the next boots go on until nothing is"
        " open; then the broker works none of our orders, nothing was submitted or asked after the latch, chain and tables verify, and"
        " the oracle finds no invariant broken.",
    ]
    report.finish("stop-drill", "Stop drill: how fast, and with what broken", figures, {"wrong": played}, notes, command="make stop-drill")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
