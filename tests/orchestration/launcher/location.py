"""The code location of the launcher's tests: the real one, and jobs that report, wait, ignore an interrupt, ask the ledger.

What happens in a run is told in files of the folder TRADING_TEST_REPORTS. After a fork each import that finds its module not yet
imported is written to `imports-PID`.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import dagster as dg
import launcher_edited  # a module that the tests write and edit

from resources.desk import process_desk
from trading_pipeline import definitions

REPORTS = Path(os.environ["TRADING_TEST_REPORTS"])


class ImportsTold:
    """Stands first in `sys.meta_path` and finds nothing."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        with (REPORTS / f"imports-{os.getpid()}").open("a") as file:
            file.write(f"{name}\n")


os.register_at_fork(after_in_child=lambda: sys.meta_path.insert(0, ImportsTold))


def told(context: dg.OpExecutionContext, **what: object) -> None:
    report = {"pid": os.getpid(), "parent": os.getppid(), "version": launcher_edited.VERSION, "environment": sorted(os.environ), **what}
    path = REPORTS / f"{context.run_id}.new"
    path.write_text(json.dumps(report))
    path.replace(REPORTS / f"{context.run_id}.json")


@dg.op
def tell(context: dg.OpExecutionContext) -> None:
    told(context)


@dg.op(pool="backtests")
def tell_in_the_pool(context: dg.OpExecutionContext) -> None:
    told(context)


@dg.op
def ask_the_ledger(context: dg.OpExecutionContext) -> None:
    told(context, strategies=len(list(process_desk().ledger.find("strategies"))))


@dg.op
def wait(context: dg.OpExecutionContext) -> None:
    told(context)
    while not (REPORTS / f"release-{context.run_id}").exists():
        time.sleep(0.02)


@dg.op
def ignore(context: dg.OpExecutionContext) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told(context)
    time.sleep(600)


def job_of(op: dg.OpDefinition, name: str) -> dg.JobDefinition:
    return dg.GraphDefinition(name=name, node_defs=[op]).to_job(name=name, executor_def=dg.in_process_executor)


JOBS = {"quick": tell, "pooled": tell_in_the_pool, "ledger": ask_the_ledger, "waiter": wait, "deaf": ignore}
defs = dg.Definitions.merge(definitions.defs, dg.Definitions(jobs=[job_of(op, name) for name, op in JOBS.items()]))
