"""What a forked child does: connect, say so, wait for a run, carry it, end.

It connects to the ledger and to Dagster's storage before it is asked, so that a run begins with its first query. The run's
status is read again before it is accepted: one that was cancelled or declared lost meanwhile is not begun. Once it is
accepted it ends in the event log, whatever happens, but for a kill -9, which the health check sees.
"""

import logging
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._grpc.impl import core_execute_run
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster._utils.interrupts import capture_interrupts

from resources.desk import process_desk
from resources.launcher.protocol import MOST_BYTES, Lines, packed
from resources.run_process import mark_run

BEFORE_THE_FIRST_STEP = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)
_NOBODYS_RUN = "00000000-0000-0000-0000-000000000000"


def work(channel: socket.socket) -> None:
    """A child's life."""
    with suppress(KeyboardInterrupt):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the parent held them back while it forked
        with dg.DagsterInstance.get() as instance:
            instance.get_run_by_id(_NOBODYS_RUN)
            process_desk()
            channel.sendall(packed({"ready": os.getpid()}))
            lines = Lines()
            while part := channel.recv(MOST_BYTES):
                for order in lines.feed(part):
                    # An interrupt is kept for the first step, where Dagster takes it for what it is.
                    with capture_interrupts():
                        _carry(instance, order["run_id"], channel)
                    return


def _carry(instance: dg.DagsterInstance, run_id: str, channel: socket.socket) -> None:
    run = instance.get_run_by_id(run_id)
    if run is None or run.status not in BEFORE_THE_FIRST_STEP or run.job_code_origin is None:
        state = "not of this home" if run is None else run.status.value
        channel.sendall(packed({"refused": f"the run is {state}, or does not say which code it runs"}))
        return
    channel.sendall(packed({"accepted": os.getpid()}))
    try:
        mark_run(instance, run)
        pid = os.getpid()
        instance.report_engine_event(f"A warm process carries the run (pid: {pid}).", run, EngineEventData.in_process(pid))
        job: Any = recon_job_from_origin(run.job_code_origin)
        for _ in core_execute_run(job, run, instance, inject_env_vars=False):
            pass
    except BaseException as error:  # noqa: BLE001 -- whatever a run raises, it ends in the event log
        traceback.print_exc()
        left = instance.get_run_by_id(run_id)
        if left is not None and not left.is_finished:
            instance.report_run_failed(left, f"Its process could not go on: {error!r}")
    logging.shutdown()
    sys.stdout.flush()
