"""`make bench-wide`: one cycle for many symbols through the asset graph, by the warm launcher, as `trading up` runs it.

500 symbols, one strategy, rules agent, no charts; and 100 symbols with a chart each. Daily bars of a synthetic market; the first
cycle, which archives two and a half years, is left out. Medians of three.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from bench.live_home import Run, live_home
from bench.strategies import ANALYZER, CHART

ROUNDS = 3


def wide(symbols: int, agent: str) -> Run:
    """The median run."""
    with (
        tempfile.TemporaryDirectory(prefix="trading-bench-", ignore_cleanup_errors=True) as folder,
        live_home(Path(folder), symbols=symbols, strategies=(("autonomous", agent),)) as home,
    ):
        runs = [home.run_cycle() for _ in range(ROUNDS + 1)]
    print(f"{symbols} symbols: {runs}", file=sys.stderr)
    return Run(*(statistics.median(getattr(run, name) for run in runs[1:]) for name in ("first_step_s", "total_s", "cpu_s")))


def main() -> int:
    """Measure and print the figures."""
    plain, charts = wide(500, ANALYZER), wide(100, ANALYZER + CHART)
    figures = {
        "symbols500_s": plain.total_s, "symbols500_cpu_s": plain.cpu_s, "symbols100_charts_s": charts.total_s,
        "symbols100_charts_cpu_s": charts.cpu_s,
    }
    print("RESULT " + json.dumps({name: round(value, 2) for name, value in figures.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
