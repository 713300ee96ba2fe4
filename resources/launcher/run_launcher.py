"""Dagster's run launcher that asks the warm parent first and Dagster's own way second.

A run is started the default way only when the parent has certainly not begun it: it was not reached, or it refused. When a
question was sent and no answer came, the run is left alone: if it never begins, run monitoring fails it within its start timeout, and the
sensors launch it again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import dagster as dg
from dagster._config import UserConfigSchema
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._serdes import ConfigurableClassData

from resources.launcher.protocol import NoAnswer, NotAsked, ask
from resources.run_process import PROCESS_TAG, alive


class WarmRunLauncher(DefaultRunLauncher):
    """Launches a run in a process forked from one that has everything imported."""

    def __init__(self, socket: str, inst_data: ConfigurableClassData | None = None) -> None:
        """Launch through the parent at a Unix socket."""
        super().__init__(inst_data)
        self._socket = Path(socket)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """`socket`: the parent's Unix socket."""
        return {"socket": dg.Field(dg.StringSource)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """As Dagster makes it from dagster.yaml."""
        return cls(config_value["socket"], inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Begin a run: warm, or the default way when the parent does not take it."""
        run = context.dagster_run
        try:
            answer = ask(self._socket, {"do": "launch", "run_id": run.run_id})
        except NotAsked as error:
            self._fall_back(context, str(error))
        except NoAnswer as error:
            self._tell(run, f"{error}. Whether the run began is unknown, so it is not begun again; it fails by itself if it did not.")
        else:
            if "accepted" in answer:
                self._run_ids.add(run.run_id)
            else:
                self._fall_back(context, str(answer.get("refused", answer)))

    def terminate(self, run_id: str) -> bool:
        """Interrupt a run; its step gets the chance to end its transaction."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        try:
            answer = ask(self._socket, {"do": "terminate", "run_id": run_id})
        except (NotAsked, NoAnswer):
            answer = {}
        if not answer.get("terminated"):
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: run monitoring asks."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process that the run names still lives; a run that names none yet is given time."""
        named = run.tags.get(PROCESS_TAG)
        if named is None or alive(named):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its process {named} is gone")

    def _fall_back(self, context: LaunchRunContext, reason: str) -> None:
        self._tell(context.dagster_run, f"A process of its own carries the run: {reason}.")
        super().launch_run(context)

    def _tell(self, run: dg.DagsterRun, message: str) -> None:
        self._instance.report_engine_event(message, run, cls=self.__class__)
