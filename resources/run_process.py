"""Which process carries a run, as a run tag: so that a run whose process is gone can be told from a slow one."""

import dagster as dg
import psutil

PROCESS_TAG = ".dagster/trading_process"
_marked: set[str] = set()


def mark(context: dg.AssetExecutionContext) -> None:
    """Name this process on the run, once a run."""
    if context.run.run_id not in _marked:
        _marked.add(context.run.run_id)
        context.instance.add_run_tags(context.run.run_id, {PROCESS_TAG: this_process()})


def this_process() -> str:
    """This process: its id and when it began, so that a reused id is not taken for it."""
    process = psutil.Process()
    return f"{process.pid}@{process.create_time():.2f}"


def alive(named: str) -> bool:
    """Whether the process that a tag names still runs."""
    pid, _, began = named.partition("@")
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == began
    except psutil.NoSuchProcess:
        return False
