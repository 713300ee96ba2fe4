"""Which process carries a run, as a run tag: so that a run whose process is gone can be told from a slow one.

The tag names its run too: Dagster copies the tags of a run to its re-execution, which another process carries.
"""

import dagster as dg
import psutil

PROCESS_TAG = ".dagster/trading_process"


def mark(context: dg.AssetExecutionContext) -> None:
    """Name this process on the run of a step, unless that is done."""
    if context.run.run_id not in _marked and process_of(context.run) is None:
        mark_run(context.instance, context.run)


def mark_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Name this process on a run."""
    _marked.add(run.run_id)
    instance.add_run_tags(run.run_id, {PROCESS_TAG: f"{this_process()}/{run.run_id}"})


_marked: set[str] = set()


def process_of(run: dg.DagsterRun) -> str | None:
    """The process that a run names, as `this_process` does; None when it names none, or that of the run it repeats."""
    process, _, owner = run.tags.get(PROCESS_TAG, "").partition("/")
    return process if process and owner in ("", run.run_id) else None


def this_process() -> str:
    """This process: its id and when it began, so that a reused id is not taken for it."""
    process = psutil.Process()
    return f"{process.pid}@{process.create_time():.2f}"


def alive(named: str) -> bool:
    """Whether a process named by `this_process` still runs."""
    pid, _, began = named.partition("@")
    try:
        process = psutil.Process(int(pid))
        return f"{process.create_time():.2f}" == began and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
