"""`make bench-backfill`: a backfill over a year of sessions beside the engine alone, and once more when everything is done.

252 sessions of 5 symbols, 5-minute bars of a synthetic market, decided by the rules agent: the strategy of `make bench-backtest`, a
tenth of equity a trade. The backfill is Dagster's own: asked for over GraphQL as its page asks, noticed by its daemon, run by the warm
launcher into the home's database. `overhead_s` goes from just before the question to the end of the run, the daemon's wait of up to 30 s
included, less what the engine alone takes in this process; `rerun_s` is the second run, from its creation. `SESSIONS=n` for a small
try.
"""

import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

from bench.live_home import LiveHome, Market, live_home
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.bootstrap import open_backtests, open_desk
from trading_pipeline.bootstrap_backtests import home_plan, open_bench
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import Interval
from trading_pipeline.service.backtests.engines import Backtest, run
from trading_pipeline.service.steps import spec_of
from trading_pipeline.settings import Settings

SYMBOLS, STRATEGY = 5, "strategy-0"
MARKET = Market(Interval.MIN5, date(2010, 12, 1), date(2012, 6, 1), date(2012, 6, 29))
FIRST = date(2011, 1, 3)
DIPS = """form = "expression"
enter_when = "rsi_14 crossed_below 30"
exit_when = "rsi_14 > 55"
max_bars = 60

[sizing]
method = "fraction"
fraction = 0.1
atr_stop = 2

[limits]
max_order_value = 100000
max_position_value = 1000000000
max_day_loss = 1000000000
max_orders_per_hour = 1000000
losing_streak = 100
cool_off_minutes = "off"
recovery_size = "off"
revenge_wait_minutes = "off"
"""
PATIENCE_SECONDS = 1800.0

_ADD = """
mutation ($repository: RepositorySelector!, $key: String!) {
  addDynamicPartition(repositorySelector: $repository, partitionsDefName: "backtest_strategies", partitionKey: $key) { __typename } }
"""
_LAUNCH = """
mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
_BACKFILL = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
  status error { message } runs(limit: 10) { id status creationTime startTime endTime } } } }
"""
_REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "trading_pipeline"}
_ASSETS = ("bars", "signals", "verdicts", "orders", "fills", "portfolio_snapshots", "report")
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")


def backfill(home: LiveHome, days: list[str]) -> dict[str, float]:
    """Ask for a backfill and wait for its one run; seconds from the question."""
    params = {
        "assetSelection": [{"path": [f"backtest_{each}"]} for each in _ASSETS],
        "partitionNames": [f"{day}|{STRATEGY}" for day in days], "fromFailure": False,
    }
    begun = time.time()
    launched = home.ask(_LAUNCH, {"params": params})["launchPartitionBackfill"]
    assert "backfillId" in launched, launched
    while True:
        found: dict[str, Any] = home.ask(_BACKFILL, {"id": launched["backfillId"]})["partitionBackfillOrError"]
        assert time.time() - begun < PATIENCE_SECONDS, found
        if found["runs"] and all(each["status"] in _ENDED for each in found["runs"]):
            break
        time.sleep(0.25)
    [only] = found["runs"]
    assert only["status"] == "SUCCESS", only
    return {
        "waited_s": only["creationTime"] - begun, "run_s": only["endTime"] - only["creationTime"], "total_s": only["endTime"] - begun,
    }


def alone(settings: Settings, plan: BacktestPlan) -> tuple[Backtest, float]:
    """The plan on the engine alone, the better of two: the first one imports."""
    best = float("inf")
    with open_bench(settings, plan) as bench:
        for _ in range(2):
            begun = time.perf_counter()
            done = run(bench, plan)
            best = min(best, time.perf_counter() - begun)
    return done, best


def main(sessions: int) -> int:
    """Measure and print the figures."""
    with tempfile.TemporaryDirectory(prefix="trading-bench-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        place = Path(folder)
        days = [each.day for each in load_calendar(place / "cache").between(FIRST, MARKET.last)][:sessions]
        home = stack.enter_context(live_home(place, symbols=SYMBOLS, strategies=[("autonomous", DIPS)], market=MARKET))
        home.ask(_ADD, {"repository": _REPOSITORY, "key": STRATEGY})
        settings = Settings.load(place)
        with open_desk(settings) as desk:
            spec = spec_of(desk.ledger.find("strategies", name=STRATEGY)[0])
        plan = home_plan(settings, [spec], days[0], days[-1])
        done, engine_s = alone(settings, plan)
        keys = [day.isoformat() for day in days]
        first, second = backfill(home, keys), backfill(home, keys)
        with open_backtests(settings) as databases:
            stored = databases.get(plan.name)
            with databases.reading(stored) as ledger:
                equal = ledger.head() == done.ledger.head()
        print(f"engine alone {engine_s:.2f} s; first {first}; second {second}", file=sys.stderr)
    figures = {
        "overhead_s": first["total_s"] - engine_s, "rerun_s": second["run_s"], "engine_s": engine_s, "run_s": first["run_s"],
        "waited_s": first["waited_s"],
    }
    told = {name: round(value, 2) for name, value in figures.items()}
    print("RESULT " + json.dumps(told | {"same_ledger": equal, "sessions": len(days), "facts": done.ledger.head()[0]}))
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main(int(os.environ.get("SESSIONS") or 252)))
