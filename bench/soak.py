"""`make day-soak`: a simulated day, the 390 cycles of a session of one-minute bars back to back through the warm launcher, then a purge.

The market stands from one minute's close to the next, everything else is real; the purge is the nightly one with all of the day due.
Memory, descriptors and zombies of each long-lived process are those after the last cycle against those after the tenth. The database is
Dagster's: `db_mb` is what a day leaves for good, its rows after the purge, packed; `file_mb` are the files as they lie there, at the
start, then at the end of each day and after its purge. `DAYS=2` shows that a second day uses the room of the first, `CYCLES=1000` stops
after so many cycles.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from rich.progress import track
from sqlalchemy import Connection, create_engine, text

from bench.live_home import MINUTES, LiveHome, live_home
from bench.strategies import ANALYZER, CHART, EXPRESSION
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.ports import Home

SESSION = 390
"""Minutes."""
SETTLED = 10
NAMES = {
    "resources.launcher.parent": "launcher", "dagster._daemon": "daemon", "resources.webserver": "webserver", "grpc": "code_server",
    "trading_pipeline.faces.cli": "desk",
}
LIMITS = """
[limits]
max_order_value = 2000
max_position_value = 2000
max_orders_per_hour = 500
cool_off_minutes = "off"
recovery_size = "off"
revenge_wait_minutes = "off"
"""
"""So that it trades all day."""
STRATEGIES = (("autonomous", ANALYZER + CHART + LIMITS), ("approval", EXPRESSION + LIMITS))
_SIZES = """
    SELECT relname, pg_total_relation_size(oid) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC LIMIT 6
"""


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds; `zombies` are ended children that it has not waited for."""

    resident_mb: float
    descriptors: int
    zombies: int


def held(home: LiveHome) -> dict[str, Held]:
    """By each long-lived process; of the launcher's family the oldest is the parent."""
    found: dict[str, psutil.Process] = {}
    for process in home.processes():
        command = process.cmdline()
        name = next((name for part, name in NAMES.items() if part in command and "guard.py" not in " ".join(command)), None)
        if name is not None and (name not in found or process.create_time() < found[name].create_time()):
            found[name] = process
    return {name: _held(process) for name, process in found.items()}


def _held(process: psutil.Process) -> Held:
    zombies = [child.status() for child in process.children()].count(psutil.STATUS_ZOMBIE)
    return Held(process.memory_info().rss / 2**20, process.num_fds(), zombies)


@contextmanager
def database(folder: Path) -> Iterator[Connection]:
    """Dagster's."""
    engine = create_engine(EmbeddedPostgres.start(Home(folder).database).dagster_url(), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def file_mb(connection: Connection) -> float:
    """What its files take."""
    return round(float(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()) / 2**20, 1)


def packed_mb(folder: Path) -> float:
    """What its rows take when nothing else is in the files; a user's database is never packed so."""
    with database(folder) as connection:
        connection.execute(text("VACUUM FULL"))
        for table, size in connection.execute(text(_SIZES)):
            print(f"{table}: {size / 2**20:.1f} MB", file=sys.stderr)
        return file_mb(connection)


def purged(folder: Path) -> dict[str, Any]:
    """The nightly purge with everything due, and how it went."""
    import dagster as dg

    from resources.retention import purge

    begun = time.monotonic()
    with dg.DagsterInstance.from_config(str(Home(folder).dagster)) as instance:
        done = purge(instance, datetime.now(UTC) + timedelta(days=1))
    return {"runs": done.deleted, "kept": done.kept, "seconds": round(time.monotonic() - begun, 1)}


def main(cycles: int) -> int:
    """Run the days and print the figures."""
    with (
        tempfile.TemporaryDirectory(prefix="trading-bench-", ignore_cleanup_errors=True) as folder,
        live_home(Path(folder), strategies=STRATEGIES, market=MINUTES) as home,
    ):
        failed, seconds, purges = 0, [], []
        before = packed_mb(home.folder)
        sizes = [before]
        settled: dict[str, Held] = {}
        for number in track(range(1, cycles + 1), "cycles"):
            try:
                seconds.append(home.run_cycle().total_s)
            except AssertionError as error:
                failed += 1
                print(error, file=sys.stderr)
            if number == SETTLED:
                settled = held(home)
            if number % SESSION == 0 or number == cycles:
                ended = held(home)
                with database(home.folder) as connection:
                    sizes.append(file_mb(connection))
                    purges.append(purged(home.folder))
                    sizes.append(file_mb(connection))
        lasting = packed_mb(home.folder) - before
    grown = {name: round(ended[name].resident_mb - one.resident_mb, 1) for name, one in settled.items()}
    figures = {
        "cycles": cycles, "failed": failed, "growth_mb": max(grown.values()), "db_mb": round(lasting / (cycles / SESSION), 1),
        "growth_mb_by_process": grown,
        "descriptors": {name: ended[name].descriptors - one.descriptors for name, one in settled.items()},
        "zombies": sum(one.zombies for one in ended.values()), "file_mb": sizes, "purges": purges,
        "slowest_s": round(max(seconds), 2), "load": round(os.getloadavg()[2], 1),
    }
    print("RESULT " + json.dumps(figures))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(int(os.environ.get("CYCLES") or SESSION * int(os.environ.get("DAYS") or 1))))
