"""The trading floor of the demo: clock, sensors, runs and the person, stepped through time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import dagster as dg

from sensors import approvals as approvals_sensor
from sensors import bar_close, orders, session_close
from trading_pipeline.adapters.clocks import SteppedClock
from trading_pipeline.definitions import defs
from trading_pipeline.domain.sessions import NEW_YORK, Session
from trading_pipeline.service import approvals, queries
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.timetable import running_intervals

LOOK = timedelta(seconds=5)
"""How long after an instant the floor looks: about what the sensors' loop takes."""
PATTERN = ("approve", "reject", "approve", "expire")
"""What the person does with one proposal after another."""
ROUNDS = 20
"""Most rounds of sensors and decisions at one instant."""

ERRORS_ONLY = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
"""The runs' logs are in the UI; the terminal belongs to the progress bar. Sensors are kept as quiet."""

Progress = Callable[[int, int, str], None]
SENSORS = (
    ("cycle", bar_close.bar_close),
    ("follow_up", approvals_sensor.approvals),
    ("follow_up", orders.orders),
    ("session_close", session_close.session_close),
)


@dataclass(slots=True)
class Played:
    """What happened, counted while it did."""

    cycles: int = 0
    runs: int = 0
    failed: list[str] = field(default_factory=list)
    decisions: dict[str, str] = field(default_factory=dict)
    """What the person meant to do, by action."""


class Floor:
    """Evaluates the sensors as the daemon would, and executes what they ask for in this process."""

    def __init__(self, desk: Desk, clock: SteppedClock) -> None:
        """Use a desk whose clock is the one that is stepped."""
        self.played = Played()
        self._desk = desk
        self._clock = clock
        self._instance = dg.DagsterInstance.get()
        self._repository = defs.get_repository_def()
        self._jobs = {name: defs.resolve_job_def(name) for name in {job for job, _ in SENSORS}}

    def trade(self, sessions: tuple[Session, ...], most_closes: int, progress: Progress) -> Played:
        """Step through the sessions: bar closes, releases, expiries, the close.

        Args:
            most_closes: Of each session so many bar closes are traded; then its close comes.
        """
        plan = [(session, self._decision_instants(session)[:most_closes]) for session in sessions]
        done, many = 0, sum(len(instants) for _, instants in plan)
        for session, instants in plan:
            for instant in instants:
                local = instant.astimezone(NEW_YORK)
                progress(done, many, f"{local:%Y-%m-%d %H:%M}{', early close' if session.early_close else ''}")
                self._pass_until(instant)
                self._at(instant + LOOK)
                done += 1
            self._pass_until(session.close)
            self._at(session.close + LOOK)
        progress(many, many, "done")
        return self.played

    def _decision_instants(self, session: Session) -> list[datetime]:
        instants: set[datetime] = set()
        for interval in running_intervals(self._desk):
            if interval.daily:
                instants.add(session.open)
            else:
                instants |= {slot.end for slot in self._desk.calendar.slots(session, interval) if not slot.last_of_session}
        return sorted(instants)

    def _pass_until(self, instant: datetime) -> None:
        """Stop at every release and expiry on the way."""
        while (due := approvals.next_instant(self._desk)) is not None and due < instant:
            self._at(due)

    def _at(self, instant: datetime) -> None:
        self._clock.advance_to(max(instant, self._clock.now()))
        for _ in range(ROUNDS):
            launched = sum(self._evaluate(job, sensor) for job, sensor in SENSORS)
            if not launched and not self._decide():
                return

    def _evaluate(self, job: str, sensor: dg.SensorDefinition) -> int:
        with dg.build_sensor_context(instance=self._instance, repository_def=self._repository, resources={"desk": self._desk}) as context:
            context.log.setLevel("ERROR")
            requests = sensor.evaluate_tick(context).run_requests or []
        for request in requests:
            result = self._jobs[job].execute_in_process(
                instance=self._instance, run_config={**request.run_config, **ERRORS_ONLY}, partition_key=request.partition_key,
                tags=dict(request.tags), resources={"desk": self._desk}, raise_on_error=False,
            )
            self.played.runs += 1
            self.played.cycles += job == "cycle"
            if not result.success:
                if _interrupted(result):
                    raise KeyboardInterrupt  # Dagster took the signal for the run; the person meant the demo
                failure = next((event.message or "" for event in result.all_events if event.is_failure), "")
                self.played.failed.append(f"{job} {request.run_key}: {failure[:300]}")
        return len(requests)

    def _decide(self) -> bool:
        """Play the person; whether anything was decided. What it lets expire it leaves alone."""
        decided = False
        for proposal in queries.pending(self._desk):
            name = proposal["action_id"]
            seen_before = name in self.played.decisions
            what = self.played.decisions.setdefault(name, PATTERN[len(self.played.decisions) % len(PATTERN)])
            if seen_before or what == "expire":
                continue
            if what == "approve":
                approvals.approve(self._desk, name, actor=approvals.DEMO_PERSON, shown_hash=proposal["hash"])
            else:
                approvals.reject(self._desk, name, actor=approvals.DEMO_PERSON, reason="the demo's person says no to some")
            decided = True
        return decided


def _interrupted(result: dg.ExecuteInProcessResult) -> bool:
    errors = (getattr(event.event_specific_data, "error", None) for event in result.all_events)
    return any(error is not None and error.cls_name == "DagsterExecutionInterruptedError" for error in errors)
