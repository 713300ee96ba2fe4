"""Dagster's run launcher that asks the warm parent first and Dagster's own way second.

A run is started the default way only when the parent has certainly not begun it: it was not reached, or it refused. When a
question was sent and no answer came, the run is left alone: if it never begins, run monitoring fails it within its start timeout, and the
sensors launch it again.
"""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import dagster as dg
from dagster._config import UserConfigSchema
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._serdes import ConfigurableClassData

from resources.launcher.protocol import ANSWER_SECONDS, Message, NoAnswer, NotAsked, ask
from resources.run_process import alive, process_of


class WarmRunLauncher(DefaultRunLauncher):
    """Launches a run in a process forked from one that has everything imported."""

    def __init__(self, socket: str, inst_data: ConfigurableClassData | None = None, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        """Launch through the parent at a Unix socket."""
        super().__init__(inst_data)
        self._socket = Path(socket)
        self._answer_seconds = answer_seconds

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
            answer = self._ask("launch", run.run_id)
        except NotAsked as error:
            self._fall_back(context, str(error))
        except NoAnswer as error:
            self._tell(run, f"{error}. Whether the run began is unknown, so it is not begun again; it fails by itself if it did not.")
        else:
            if "refused" in answer:
                self._fall_back(context, answer["refused"])
            else:
                self._run_ids.add(run.run_id)

    def terminate(self, run_id: str) -> bool:
        """Interrupt a run; its step gets the chance to end its transaction."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        try:
            if run_id in self._ask("tell").get("runs", ()):
                # Told first: Dagster takes an interrupt that nobody announced for a failure.
                self._instance.report_run_canceling(run)
                return bool(self._ask("terminate", run_id).get("terminated"))
        except (NotAsked, NoAnswer):
            pass
        return bool(super().terminate(run_id)) or _interrupt(run)  # type: ignore[no-untyped-call]

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: run monitoring asks."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process that the run names still lives; a run that names none yet is given time."""
        named = process_of(run)
        if named is None or alive(named):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its process {named} is gone")

    def _ask(self, do: str, run_id: str = "") -> Message:
        return ask(self._socket, {"do": do, "run_id": run_id}, self._answer_seconds)

    def _fall_back(self, context: LaunchRunContext, reason: str) -> None:
        run = self._instance.get_run_by_id(context.dagster_run.run_id) or context.dagster_run
        if run.status is dg.DagsterRunStatus.CANCELING:
            self._instance.report_run_canceled(run, f"Cancelled before it began: {reason}.")
        elif run.status in (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING):
            self._tell(run, f"A process of its own carries the run: {reason}.")
            super().launch_run(context)
        else:
            self._tell(run, f"The run is not begun: {reason}.")

    def _tell(self, run: dg.DagsterRun, message: str) -> None:
        self._instance.report_engine_event(message, run, cls=self.__class__)


def _interrupt(run: dg.DagsterRun) -> bool:
    """Interrupt a run that has outlived the parent it was forked from."""
    named = process_of(run)
    if named is None or not alive(named):
        return False
    os.kill(int(named.partition("@")[0]), signal.SIGINT)
    return True
