"""Bar close: one run per close for everything due, never two, and what was missed is written down (A7).

A schedule and a sensor ask the same question. Dagster looks at schedules a moment after each full minute and at sensors every five
seconds: where market minutes end with the wall clock's, the schedule has a closed bar a second later, and the sensor leaves the
newest closes to it. The first cycle of a session comes after the last session's close, however late that is: the close
reports its own day, and what the new day is measured from is its equity.
"""

import time

import dagster as dg

from assets.partitions import CYCLE_TAG, tags_of
from sensors.attempts import REASON_TAG, given_up, next_attempt
from sensors.jobs import cycle
from sensors.session_close import reason
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.submitter.closing import overdue_closes
from trading_pipeline.service.timetable import due_cycles, record_missed

SCHEDULE_SECONDS = 5.0
"""A close younger than this is the schedule's, where there is one that fits."""
COINCIDES_SECONDS = 1.0

Answer = list[dg.RunRequest] | dg.SkipReason


@dg.sensor(job=cycle, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def bar_close(context: dg.SensorEvaluationContext, desk: dg.ResourceParam[Desk]) -> Answer:
    """Launch the cycle of each newly closed bar; a cycle whose run died is run again and continues where it stopped."""
    due = due_cycles(desk)
    if minutes_coincide(desk):
        due = [each for each in due if (desk.now() - each.due_at).total_seconds() >= SCHEDULE_SECONDS]
    return _requests(context, desk, due)


@dg.schedule(
    job=cycle, cron_schedule="* * * * *", default_status=dg.DefaultScheduleStatus.RUNNING,
    description="A moment after each full minute, when live bars close: quicker than a sensor's five seconds.",
)
def bar_close_by_the_minute(context: dg.ScheduleEvaluationContext, desk: dg.ResourceParam[Desk]) -> Answer:
    """As the sensor, for markets whose minutes are the wall clock's."""
    if not minutes_coincide(desk):
        return dg.SkipReason("this replay's minutes are not the wall clock's: the sensor launches its cycles")
    return _requests(context, desk, due_cycles(desk))


def minutes_coincide(desk: Desk) -> bool:
    """Whether a minute of the market ends when one of the wall clock does."""
    apart = (time.time() - desk.now().timestamp()) % 60
    return min(apart, 60 - apart) < COINCIDES_SECONDS


def _requests(context: dg.SensorEvaluationContext | dg.ScheduleEvaluationContext, desk: Desk, due: list[Cycle]) -> Answer:
    unclosed = [session.day for session in overdue_closes(desk)]
    waited_for = [day for day in unclosed if not given_up(context.instance, REASON_TAG, reason(day.isoformat()))]
    if waited_for:
        return dg.SkipReason(f"the close of {waited_for[0]} comes first")
    requests = []
    for turn in due:
        attempt = next_attempt(context.instance, CYCLE_TAG, turn.cycle_id)
        if attempt is None:
            continue
        missed = record_missed(desk, turn)
        if missed:
            context.log.info(f"{missed} closes before {turn.cycle_id} were missed")
        key = f"{turn.cycle_id}#{attempt}"
        requests.append(dg.RunRequest(run_key=key, partition_key=turn.session.isoformat(), tags=tags_of(desk, turn)))
    shows = f"the market clock shows {desk.now():%Y-%m-%d %H:%M:%S} UTC"
    return requests or dg.SkipReason(f"no bar has closed since the last cycle; {shows}")
