"""Dagster's queue, with a way past it: a run that finds a free slot begins at once instead of at the queue's next look."""

from dagster import DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator

WAITING_OR_WORKING = [
    DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING,
]


class PromptRunCoordinator(QueuedRunCoordinator):
    """As QueuedRunCoordinator; launches what need not wait."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Begin the run when there is a slot and nobody waits, else queue it."""
        run = context.dagster_run
        most = self.get_run_queue_config().max_concurrent_runs
        others = self._instance.get_runs_count(RunsFilter(statuses=WAITING_OR_WORKING)) - 1
        if run.status is DagsterRunStatus.NOT_STARTED and (most == -1 or others < most):
            return self._instance.launch_run(run.run_id, context.workspace)
        return super().submit_run(context)
