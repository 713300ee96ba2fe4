"""`make bench-cycle`: what a cycle, the ledger, charts and indicators cost; the last line is `RESULT {json}`.

Every figure is the median of several runs on the real parts: the embedded PostgreSQL with durable commits, the Parquet
archive, the paper broker, and for the wide cycle the asset graph on a persistent Dagster instance. CPU seconds stand
beside wall seconds because machines are noisy.
"""

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from bench.strategies import ANALYZER, EXPRESSION, start_strategies, symbol_names

FIRST, LAST = date(2010, 1, 4), date(2012, 12, 31)
START = date(2012, 10, 15)


@contextmanager
def _desk(symbols: int, strategies: tuple[tuple[str, str], ...]) -> Iterator[tuple[Any, Any]]:
    """A desk on a home of its own over a synthetic market, and its stepped clock; everything is gone afterwards."""
    from trading_pipeline.adapters.calendar import load_calendar
    from trading_pipeline.adapters.clocks import SteppedClock
    from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
    from trading_pipeline.bootstrap import open_desk
    from trading_pipeline.ports import Home
    from trading_pipeline.settings import Settings

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        home.mkdir()
        market = {"clock": "replay", "source": "synthetic", "symbols": symbol_names(symbols), "first": FIRST, "last": LAST}
        settings = Settings.load(home, environment="demo", market=market)
        server = EmbeddedPostgres.start(Home(home).database)
        calendar = load_calendar(home / "cache")
        clock = SteppedClock(calendar.session(START).open)
        try:
            with open_desk(settings, clock) as desk:
                start_strategies(desk, symbols, strategies)
                yield desk, clock
        finally:
            server.stop()


def cycle_ms(repeats: int = 15) -> dict[str, float]:
    """5 symbols x 2 strategies, rules agent, no charts, straight through run_cycle."""
    from trading_pipeline.service.cycle import run_cycle
    from trading_pipeline.service.timetable import newest_cycle, running_intervals

    walls, cpus = [], []
    with _desk(5, (("autonomous", ANALYZER), ("approval", EXPRESSION))) as (desk, clock):
        day = desk.calendar.session(START).day
        for _ in range(repeats):
            session = desk.calendar.session(day)
            clock.advance_to(session.open + timedelta(seconds=5))
            cycle = newest_cycle(desk, running_intervals(desk)[0])
            assert cycle is not None
            wall, cpu = time.perf_counter(), time.process_time()
            run_cycle(desk, cycle)
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
            day = desk.calendar.next(day).day
    return {"cycle_ms": round(statistics.median(walls) * 1000, 1), "cycle_cpu_ms": round(statistics.median(cpus) * 1000, 1)}


def wide_cycle(symbols: int = 500, repeats: int = 3) -> dict[str, Any]:
    """500 symbols, one strategy, rules agent, no charts, through the asset graph in process; where the time goes by step."""
    import dagster as dg

    from trading_pipeline.adapters.dagster_home import render

    walls: list[float] = []
    cpus: list[float] = []
    steps: dict[str, list[float]] = {}
    with _desk(symbols, (("autonomous", ANALYZER),)) as (desk, clock):
        home = desk.archive.root.parent
        os.environ["TRADING_HOME"] = str(home)
        os.environ.update(render(home, os.environ).environment())

        from assets.partitions import tags_of
        from trading_pipeline.definitions import defs
        from trading_pipeline.service.timetable import newest_cycle, running_intervals

        instance, job = dg.DagsterInstance.get(), defs.resolve_job_def("cycle")
        day = desk.calendar.session(START).day
        for _ in range(repeats + 1):
            session = desk.calendar.session(day)
            clock.advance_to(session.open + timedelta(seconds=5))
            cycle = newest_cycle(desk, running_intervals(desk)[0])
            assert cycle is not None
            wall, cpu = time.perf_counter(), time.process_time()
            result = job.execute_in_process(
                instance=instance, partition_key=session.day.isoformat(), tags=tags_of(desk, cycle), resources={"desk": desk},
                run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
            )
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
            for event in result.all_events:
                if event.event_type_value == "STEP_SUCCESS" and event.step_key is not None:
                    steps.setdefault(event.step_key, []).append(event.step_success_data.duration_ms / 1000)
            day = desk.calendar.next(day).day
        instance.dispose()
    # The first cycle archives the whole history: reported apart.
    slowest = {name: round(statistics.median(times[1:]), 2) for name, times in sorted(steps.items(), key=lambda item: -sum(item[1]))}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "symbols500_s": round(statistics.median(walls[1:]), 2), "symbols500_cpu_s": round(statistics.median(cpus[1:]), 2),
        "symbols500_first_s": round(walls[0], 2), "symbols500_mb": round(peak), "symbols500_steps_s": slowest,
    }


def main() -> int:
    """Measure everything and print the figures."""
    from bench.charts import charts_per_s
    from bench.indicators import indicators500_cpu_s
    from bench.ledger import figures as ledger_figures

    figures: dict[str, Any] = {}
    for measure in (cycle_ms, wide_cycle, ledger_figures):
        figures |= measure()
        print(f"{measure.__name__}: {figures}", file=sys.stderr)
    figures["charts_per_s"] = round(charts_per_s(), 1)
    figures["indicators500_cpu_s"] = round(indicators500_cpu_s(), 3)
    print("RESULT " + json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
