"""`make bench-desk-start`: how long `trading desk` takes until it is ready, beside Python alone and the libraries that it stands on.

The database of a new home is up, as it is under `trading up`, and nobody holds the account's lease. A desk counts from its process's start
until it says that it is ready: connected, the ledger checked, the account reconciled. In turns, `N=rounds`, 7 by default; medians.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.clocks import ReplayClock
from trading_pipeline.adapters.replay_file import Pace
from trading_pipeline.bootstrap import open_desk
from trading_pipeline.settings import Settings

FIRST, LAST = date(2012, 10, 15), date(2013, 3, 1)
LIBRARIES = "import numpy, psycopg2, pydantic_settings, sqlalchemy, typer"


def main() -> None:
    """Measure in turns, and print the medians."""
    took: dict[str, list[float]] = {"python": [], "libraries": [], "desk": []}
    with tempfile.TemporaryDirectory(prefix="tp-") as folder, open_desk(Settings.load(made(Path(folder)))):
        for _ in range(int(os.environ.get("N") or 7)):
            for name, code in (("python", "pass"), ("libraries", LIBRARIES)):
                begin = time.perf_counter()
                subprocess.run([sys.executable, "-c", code], check=True)
                took[name].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            with ready(Path(folder)):
                took["desk"].append(time.perf_counter() - begin)
    seconds = {name: statistics.median(each) for name, each in took.items()}
    measured = {f"{name}_s": round(each, 3) for name, each in seconds.items()}
    measured["after_python_s"] = round(seconds["desk"] - seconds["python"], 3)
    measured["of_libraries"] = round(seconds["desk"] / seconds["libraries"], 2)
    print("RESULT", json.dumps(measured))


def made(home: Path) -> Path:
    """A home over the sample market, whose replay has begun."""
    (home / "trading.toml").write_text('environment = "demo"\n[market]\nclock = "replay"\nsource = "samples"\n', encoding="utf-8")
    calendar = load_calendar(home / "cache")
    start, end = calendar.session(FIRST).open, calendar.session(LAST).close
    ReplayClock.create(home / "clock.json", market="samples", pace=Pace.DAILY, start=start, end=end, calendar=calendar)
    return home


@contextmanager
def ready(home: Path) -> Iterator[None]:
    """A desk's process from when it has said that it is ready until it has ended.

    Raises:
        RuntimeError: It ended without having said so.
    """
    command = [sys.executable, "-P", "-m", "trading_pipeline.faces.cli", "--home", str(home), "desk"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            if not any(line.startswith("Ready") for line in iter(process.stdout.readline, "")):
                raise RuntimeError("The desk ended before it was ready.")
            yield
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
