"""Dagster's queue, with a way past it: a run that finds a free slot begins at once instead of at the queue's next look.

Only a queue in which nobody waits for a slot is passed, so nobody is overtaken and Dagster's own order by priority holds. Runs that take a
pool, such as backtests, always queue, and those in front of a full pool are passed: they wait for each other. Two that
come at the same instant may both find the last slot free: the limit is then exceeded by one, for the length of a run.
"""

from dagster import DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator

QUEUED = [DagsterRunStatus.QUEUED]
WORKING = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]


class PromptRunCoordinator(QueuedRunCoordinator):
    """As QueuedRunCoordinator; launches what need not wait."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Begin the run when it takes no pool, there is a slot and nobody waits for one, else queue it."""
        run = context.dagster_run
        if run.status is DagsterRunStatus.NOT_STARTED and run.run_op_concurrency is None and self._free():
            return self._instance.launch_run(run.run_id, context.workspace)
        return super().submit_run(context)

    def _free(self) -> bool:
        limits = self._instance.get_concurrency_config().run_queue_config or self.get_run_queue_config()
        queued = self._instance.get_runs(RunsFilter(statuses=QUEUED))
        if limits.tag_concurrency_limits or any(run.run_op_concurrency is None for run in queued):
            return False
        # The run itself is among those that are not started.
        most = limits.max_concurrent_runs
        return most == -1 or self._instance.get_runs_count(RunsFilter(statuses=WORKING)) <= most
