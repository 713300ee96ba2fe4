"""`make day-soak`: a simulated day, 390 cycles back to back through the warm launcher, purged at its end.

Each cycle is the next session's of a daily market, because it does the same work as a minute's. Memory is the resident size of
each long-lived process after the last cycle against after the tenth; the database is what Dagster's grew by. `CYCLES=n`.
"""

import json
import os
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from rich.progress import track
from sqlalchemy import create_engine, text

from bench.live_home import LiveHome, live_home
from bench.strategies import ANALYZER, CHART, EXPRESSION
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.ports import Home

SETTLED = 10
NAMES = {"resources.launcher.parent": "launcher", "dagster._daemon": "daemon", "resources.webserver": "webserver", "grpc": "code_server"}


def resident_mb(home: LiveHome) -> dict[str, float]:
    """Of each long-lived process; of the launcher's family the oldest is the parent."""
    found: dict[str, psutil.Process] = {}
    for process in home.processes():
        command = process.cmdline()
        name = next((name for part, name in NAMES.items() if part in command and "guard.py" not in " ".join(command)), None)
        if name is not None and (name not in found or process.create_time() < found[name].create_time()):
            found[name] = process
    return {name: process.memory_info().rss / 2**20 for name, process in found.items()}


def database_mb(folder: Path) -> float:
    """Of Dagster's database."""
    engine = create_engine(EmbeddedPostgres.start(Home(folder).database).dagster_url())
    try:
        with engine.connect() as connection:
            return float(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()) / 2**20
    finally:
        engine.dispose()


def main(cycles: int) -> int:
    """Run the day and print the figures."""
    from resources.retention import purge

    strategies = (("autonomous", ANALYZER + CHART), ("approval", EXPRESSION))
    with (
        tempfile.TemporaryDirectory(prefix="trading-bench-", ignore_cleanup_errors=True) as folder,
        live_home(Path(folder), 3941, strategies=strategies) as home,
    ):
        failed, seconds = 0, []
        settled: dict[str, float] = {}
        for number in track(range(cycles), "cycles"):
            if number == SETTLED:
                settled, size = resident_mb(home), database_mb(home.folder)
            try:
                seconds.append(home.run_cycle().total_s)
            except AssertionError as error:
                failed += 1
                print(error, file=sys.stderr)
        grown = {name: after - settled[name] for name, after in resident_mb(home).items() if name in settled}
        day_mb = database_mb(home.folder) - size
        os.environ["DAGSTER_HOME"] = str(Home(home.folder).dagster)
        import dagster as dg

        with dg.DagsterInstance.get() as instance:
            purged = purge(instance, datetime.now(UTC) + timedelta(days=1))
    figures = {
        "cycles": cycles, "failed": failed, "growth_mb": round(max(grown.values()), 1), "db_mb": round(day_mb, 1),
        "growth_mb_by_process": {name: round(value, 1) for name, value in grown.items()}, "purgeable_runs": purged.deleted,
        "slowest_s": round(max(seconds), 2),
    }
    print("RESULT " + json.dumps(figures))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(int(os.environ.get("CYCLES") or 390)))
