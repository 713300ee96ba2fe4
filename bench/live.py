"""`make bench-live`: from the trigger to the end of a run of the whole chain, by the warm launcher and by Dagster's default one.

Two homes side by side, each with all that `trading up` starts, one with launcher = "default". In turns each is asked, over Dagster's
GraphQL, to run the cycle of its next session: 5 symbols, 2 strategies, rules agent, 5 charts. Times are what Dagster's event log says,
counted from just before the question. Medians; the first round, which archives the history, is left out. `ROUNDS=n`, else 7.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.live_home import LiveHome, Run, live_home
from bench.strategies import ANALYZER, CHART, EXPRESSION

STRATEGIES = (("autonomous", ANALYZER + CHART), ("approval", EXPRESSION))
PAUSE_SECONDS = 2.0
"""Before and after a run: its process ends, and the launcher makes the next spare."""


def main(rounds: int) -> int:
    """Measure and print the figures."""
    found: dict[str, list[Run]] = {"warm": [], "default": []}
    with tempfile.TemporaryDirectory(prefix="trading-bench-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        homes: dict[str, LiveHome] = {}
        for launcher in found:
            place = Path(folder) / launcher
            place.mkdir()
            homes[launcher] = stack.enter_context(live_home(place, launcher=launcher, strategies=STRATEGIES))
        for turn in range(rounds + 1):
            for launcher, home in homes.items():
                time.sleep(PAUSE_SECONDS)
                run = home.run_cycle(settle_seconds=PAUSE_SECONDS)
                print(f"{launcher:8} {run}", file=sys.stderr)
                if turn:
                    found[launcher].append(run)

    def median(launcher: str, figure: str) -> float:
        return float(statistics.median(getattr(run, figure) for run in found[launcher]))

    total, default = median("warm", "total_s"), median("default", "total_s")
    figures = {
        "total_s": total, "default_total_s": default, "ratio": total / default, "first_step_s": median("warm", "first_step_s"),
        "default_first_step_s": median("default", "first_step_s"), "cpu_s": median("warm", "cpu_s"),
        "default_cpu_s": median("default", "cpu_s"),
    }
    print("RESULT " + json.dumps({name: round(value, 3) for name, value in figures.items()} | {"rounds": rounds}))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(os.environ.get("ROUNDS") or 7)))
