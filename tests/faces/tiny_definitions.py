"""A code location for `test_up`: a sensor that launches one run which does not end by itself."""

import os
import time
from pathlib import Path

import dagster as dg


@dg.asset
def endless() -> None:
    (Path(os.environ["TRADING_HOME"]) / "run.pid").write_text(str(os.getpid()))
    time.sleep(600)


job = dg.define_asset_job("endless_job", selection=[endless])


@dg.sensor(job=job, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def once() -> dg.RunRequest:
    return dg.RunRequest(run_key="once")


@dg.schedule(job=job, cron_schedule="0 0 1 1 *", default_status=dg.DefaultScheduleStatus.RUNNING)
def yearly() -> dg.RunRequest:
    return dg.RunRequest()


@dg.sensor(job=job)
def off() -> dg.RunRequest:
    return dg.RunRequest()


defs = dg.Definitions(assets=[endless], jobs=[job], sensors=[once, off], schedules=[yearly], executor=dg.in_process_executor)
