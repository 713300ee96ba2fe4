"""What a forked child does: connect, say so, wait for a run, carry it, end.

It connects to the ledger and to Dagster's storage before it is asked, so that a run begins with its first query. The run's
status is read again before it is accepted: one that was cancelled or declared lost meanwhile is not begun.
"""

import gc
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._grpc.impl import core_execute_run
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster._utils.interrupts import setup_interrupt_handlers

from resources.desk import process_desk
from resources.launcher.protocol import MOST_BYTES, packed, unpacked
from resources.run_process import mark_run

BEFORE_THE_FIRST_STEP = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)


def work(channel: socket.socket) -> int:
    """A child's life; its exit code."""
    gc.enable()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with dg.DagsterInstance.get() as instance:
            instance.get_run_by_id("00000000-0000-0000-0000-000000000000")
            process_desk()
            channel.sendall(packed({"ready": os.getpid()}))
            order = channel.recv(MOST_BYTES)
            return _carry(instance, unpacked(order)["run_id"], channel) if order else 0
    except KeyboardInterrupt:
        return 0


def _carry(instance: dg.DagsterInstance, run_id: str, channel: socket.socket) -> int:
    run = instance.get_run_by_id(run_id)
    refusal = _refusal(run)
    if run is None or refusal:
        channel.sendall(packed({"refused": refusal}))
        return 0
    setup_interrupt_handlers()
    mark_run(instance, run)
    channel.sendall(packed({"accepted": os.getpid()}))
    instance.report_engine_event(f"A warm process carries the run (pid: {os.getpid()}).", run, EngineEventData.in_process(os.getpid()))
    failed = False
    # core_execute_run writes to the event log whatever it raises.
    with suppress(Exception, KeyboardInterrupt):
        job: Any = recon_job_from_origin(run.job_code_origin)  # type: ignore[arg-type]
        for event in core_execute_run(job, run, instance, inject_env_vars=True):
            failed = failed or event.event_type is dg.DagsterEventType.PIPELINE_FAILURE
    logging.shutdown()
    sys.stdout.flush()
    return int(failed)


def _refusal(run: dg.DagsterRun | None) -> str:
    if run is None:
        return "there is no such run in this home"
    if run.status not in BEFORE_THE_FIRST_STEP:
        return f"it is {run.status.value} already"
    if run.job_code_origin is None:
        return "it does not say which code it runs"
    return ""
