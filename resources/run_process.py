"""Which process carries a run, as a run tag: so that a run whose process is gone can be told from a slow one."""

import dagster as dg
import psutil

PROCESS_TAG = ".dagster/trading_process"


def mark(context: dg.AssetExecutionContext) -> None:
    """Name this process on the run of a step, unless that is done."""
    if PROCESS_TAG not in context.run.tags and context.run.run_id not in _marked:
        mark_run(context.instance, context.run)


def mark_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Name this process on a run."""
    _marked.add(run.run_id)
    instance.add_run_tags(run.run_id, {PROCESS_TAG: this_process()})


_marked: set[str] = set()


def this_process() -> str:
    """This process: its id and when it began, so that a reused id is not taken for it."""
    process = psutil.Process()
    return f"{process.pid}@{process.create_time():.2f}"


def alive(named: str) -> bool:
    """Whether the process that a tag names still runs."""
    pid, _, began = named.partition("@")
    try:
        process = psutil.Process(int(pid))
        return f"{process.create_time():.2f}" == began and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
