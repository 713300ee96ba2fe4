"""The stage of a day: its ports, its processes, and how anything that happens on it is done, survived and looked at.

Runs, people and the desk's process use the real service through ports that may die under them. The desk's process takes its real turns
whenever a run waits for its pulse, one after the other, never in a thread: the same seed gives the same day.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from tests.desks import PERSON, Killed, calendar, floor, market
from tests.evidence.daysim.faults import Fuse, Line, Model, MortalBroker, MortalLedger
from tests.evidence.daysim.plan import Plan, bars_of
from tests.evidence.daysim.watch import Watch
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.adapters.brokers.paper import PaperBroker
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import OrderClass
from trading_pipeline.domain.strategies import StrategySpec
from trading_pipeline.errors import (
    BrokerNotReady,
    Conflict,
    LedgerError,
    MarketDataError,
    PermissionRequired,
    ServiceError,
    StrategyError,
    TradingError,
)
from trading_pipeline.service import controls
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.stopping import emergency, stop_orders
from trading_pipeline.service.submitter import handover
from trading_pipeline.service.submitter.desk_process import _Attendance
from trading_pipeline.service.submitter.pulse import Pulse
from trading_pipeline.service.submitter.recovery import resume_stop

A_RUN_MAY_SAY = (BrokerNotReady, MarketDataError, ServiceError)
"""What a run may fail by while the line is down, a held symbol has no price or a model does not answer."""
A_PERSON_MAY_HEAR = (Conflict, StrategyError, PermissionRequired, BrokerNotReady, MarketDataError)


class Stage:
    """One seed's world."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.dice = plan, Random(plan.seed * 7 + 1)
        self.struck: Counter[str] = Counter()
        self.fuse, self.line = Fuse(self.struck), Line(self.struck, self._is_ended)
        self.limits, self.successors, self.dead_runs = plan.limits, 0, 0
        source = market(*bars_of(plan), splits=plan.splits, name="simulated")
        self.floor = floor(folder, source, plan.sessions[0].open, limits=plan.limits, settings=plan.settings)
        self.ledger = self.floor.desk.ledger
        self.watch = Watch(self.ledger, self.floor.book, self.struck)
        self.model = Model(plan.persona, Random(plan.seed * 7 + 2), self.fuse)
        self.process: _Attendance | None = None
        self._lease, self._turning = ExitStack(), False
        self.desk = self.boot()

    def _is_ended(self, client_id: str) -> bool:
        row = self.ledger.get("orders", client_id) if self.plan.ends_stops else None
        return row is not None and row["order_class"] == OrderClass.PROTECTIVE.value

    # Processes

    def boot(self) -> Desk:
        """What a process that starts opens: ports of its own over the same ledger, account, archive and files."""
        stage = self.floor
        paper = PaperBroker(stage.book, stage.desk.market, stage.clock, calendar(), stage.settings, self.line, stage.desk.splits)
        ledger = _Waited(self.ledger, self.fuse, self)
        broker = LatchedBroker(MortalBroker(paper, self.fuse), stage.desk.latch)
        return replace(stage.desk, ledger=ledger, broker=broker, limits=self.limits, deciders={"rules": self.model})

    def restart(self) -> None:
        """A process that was killed is started again: the stop first, as `open_desk` has it."""
        self.struck["restart"] += 1
        self.desk = self.boot()
        try:
            resume_stop(self.desk)
        except Killed:
            self.desk = self.boot()
            resume_stop(self.desk)

    def turn_of_process(self) -> None:
        """One turn of the desk's process, a new one if the last was killed or lost its lease."""
        if self._turning:
            return
        self._turning = True
        try:
            if self.process is None:
                fence = self._lease.enter_context(self.ledger.lease(handover.lease_name(self.desk)))
                desk = self.boot()
                self.process = _Attendance(desk, fence, lambda _: None, Pulse(desk.ledger, fence, handover.health_name(desk), "starting"))
                self.process._boot()
                self.process._write(EventType.DESK_STARTED)
                self.process._tell(handover.READY)
            self.ledger.renew(self.process.fence)
            self.process.due.clear()
            self.process.turn()
        except Killed:
            self.struck["killed the desk's process"] += 1
            self.end_process()
        except TradingError as lost:
            if isinstance(lost, LedgerError) or not isinstance(lost, (*A_RUN_MAY_SAY, Conflict)):
                self.watch.say(f"the desk's process: {type(lost).__name__}: {lost}", "a turn")
            self.struck["the desk began again"] += 1
            self.end_process()
        finally:
            self._turning = False

    def end_process(self) -> None:
        """Its lease is free."""
        self.process = None
        self._lease.close()

    # What is done

    def run(self, what: str, cycle: Cycle, work: Callable[[], object]) -> None:
        """A run; one that dies is launched again, or is a failed one that pauses what it traded for."""
        for attempt in range(2):
            try:
                work()
                self.watch.step(what)
                return
            except Killed as killed:
                self.watch.step(f"{what}, {killed}")
                self.restart()
                self.watch.step("a restart")
                if attempt or self.dice.random() < 0.5:
                    self.failed(cycle, f"killed {killed}")
                    return
            except A_RUN_MAY_SAY as error:
                self.struck[f"run failed: {type(error).__name__}"] += 1
                self.failed(cycle, error.message)
                return
            except TradingError as error:
                self.watch.say(f"{type(error).__name__}: {error}", what)
                return

    def failed(self, cycle: Cycle, why: str) -> None:
        """A run failed, as the safety sensor writes it down."""
        self.dead_runs += 1
        number = self.dead_runs
        self.step("a failed run", lambda: controls.record_failed_run(self.desk, f"run-{number}", "cycle", why[:200], [cycle]))

    def step(self, what: str, work: Callable[[], object]) -> None:
        """Something that the pipeline does by itself."""
        try:
            work()
        except Killed:
            self.restart()
        except A_RUN_MAY_SAY as error:
            self.struck[f"{what} failed: {type(error).__name__}"] += 1
        except TradingError as error:
            self.watch.say(f"{type(error).__name__}: {error}", what)
        self.watch.step(what)

    def person(self, what: str, work: Callable[[], object]) -> bool:
        """A command of a person, who may hear a refusal; whether it was done."""
        done = False
        try:
            work()
            done = True
        except Killed:
            self.restart()
        except A_PERSON_MAY_HEAR as refused:
            self.struck[f"refused: {type(refused).__name__}"] += 1
        except TradingError as error:
            self.watch.say(f"{type(error).__name__}: {error}", f"a person's {what}")
        self.watch.step(f"a person's {what}")
        return done

    def start(self, spec: StrategySpec) -> None:
        """Create and start a strategy."""
        controls.create(self.desk, spec, actor=PERSON)
        controls.start(self.desk, spec.name, actor=PERSON)


class _Waited(MortalLedger):
    """The ledger of a run: who looks for the pulse of the desk's process lets it take its turn."""

    def __init__(self, inner: Any, fuse: Fuse, stage: Stage) -> None:
        super().__init__(inner, fuse)
        self._stage = stage

    def health(self, name: str) -> Any:
        """As the ledger's; a process that was killed has been silent for long enough, one that lives has spoken just now, however slow
        the machine is that plays the day."""
        if not name.startswith("desk:"):
            return self._inner.health(name)
        if self._stage.process is None:
            return None
        self._stage.turn_of_process()
        found = self._inner.health(name)
        return None if found is None else replace(found, age=0.0)


class _Time:
    """The monotonic clock of who waits for the desk: what it waits for has happened, or will not."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def monotonic(self) -> float:
        """Half a second later each time."""
        self._seconds += 0.5
        return self._seconds

    def sleep(self, seconds: float) -> None:
        """At once."""
        self._seconds += seconds


@contextmanager
def one_after_the_other() -> Iterator[None]:
    """No thread, no waiting, no disk to wait for: the threads of a stop in the order of their names, so that chance is the seed's alone."""

    def together(work: Callable[[str], object], names: Any, **_: Any) -> dict[str, TradingError]:
        failed = {}
        for name in names:
            try:
                work(name)
            except TradingError as error:
                failed[name] = error
        return failed

    def within(_seconds: float, work: Callable[[], Any], _otherwise: object) -> Any:
        return work()

    with ExitStack() as changed:
        for where, what, instead in (
            (stop_orders, "together", together), (stop_orders, "within", within), (emergency, "within", within),
            (handover, "time", _Time()), (os, "fsync", lambda _: None),
        ):
            changed.enter_context(patch.object(where, what, instead))
        yield
