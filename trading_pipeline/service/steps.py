"""What every step of a cycle shares: its result, and how it finds out that it is done already."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from trading_pipeline.domain.codec import decode
from trading_pipeline.domain.cycles import Cycle, CycleKind
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.strategies import StrategySpec, StrategyState
from trading_pipeline.ports import Reader, Transaction
from trading_pipeline.service.desk import Desk


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step did: how many of what, and which facts. `replayed` when it had been done before."""

    step: str
    cycle_id: str
    counts: Mapping[str, int]
    notes: tuple[str, ...] = ()
    seqs: tuple[int, ...] = ()
    replayed: bool = False


Step = Callable[[Desk, Cycle], StepResult]


@dataclass(slots=True)
class Tally:
    """Collects a step's facts while it works."""

    step: str
    cycle: Cycle
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    strategies: tuple[str, ...] = ()

    def count(self, what: str, many: int = 1) -> None:
        """Add to a counter."""
        self.counts[what] = self.counts.get(what, 0) + many

    def saw(self, events: list[Event]) -> list[Event]:
        """Remember facts as this step's own."""
        self.seqs.extend(event.seq for event in events)
        return events

    def complete(self, tx: Transaction, at: datetime) -> StepResult:
        """Append the step's completion; whoever runs the step again gets this result."""
        payload = {
            "cycle": self.cycle.cycle_id, "step": self.step, "counts": self.counts, "notes": self.notes[:50],
            "seqs": sorted(set(self.seqs)),
            "session": self.cycle.session, "strategies": self.strategies,
        }
        tx.append(NewEvent(EventType.STEP_COMPLETED, "system", step_key(self.cycle, self.step), payload, at, "cycle"))
        return StepResult(self.step, self.cycle.cycle_id, dict(self.counts), tuple(self.notes), tuple(sorted(set(self.seqs))))


def step_key(cycle: Cycle, step: str) -> str:
    """The key of a step's completion."""
    return f"step:{cycle.cycle_id}:{step}"


def completed(reader: Reader, cycle: Cycle, step: str) -> StepResult | None:
    """The step's earlier result, if it was completed."""
    event = reader.event_by_key(step_key(cycle, step))
    if event is None:
        return None
    data = event.payload
    return StepResult(step, cycle.cycle_id, data["counts"], tuple(data["notes"]), tuple(data["seqs"]), replayed=True)


def nothing_to_do(desk: Desk, cycle: Cycle, step: str, note: str) -> StepResult:
    """Record that a step had nothing to do in this cycle, and why."""
    tally = Tally(step, cycle, notes=[note])
    with desk.ledger.transaction() as tx:
        return tally.complete(tx, desk.now())


def due_strategies(desk: Desk, cycle: Cycle) -> tuple[StrategySpec, ...]:
    """The strategies this cycle decides for: fixed by its first step, the running ones of its interval before that."""
    first = desk.ledger.event_by_key(step_key(cycle, "bars"))
    if first is not None and cycle.kind is CycleKind.BAR:
        names = first.payload["strategies"]
        return tuple(spec_of(row) for row in desk.ledger.find("strategies", name=names)) if names else ()
    specs = (spec_of(row) for row in desk.ledger.find("strategies", state=LIVE_STATES if cycle.kind is CycleKind.BACKFILL else RUNNING))
    return tuple(spec for spec in specs if spec.interval is cycle.interval)


RUNNING = (StrategyState.RUNNING.value,)
LIVE_STATES = (StrategyState.RUNNING.value, StrategyState.PAUSED_USER.value, StrategyState.PAUSED_RISK.value, StrategyState.NOT_READY.value)


def spec_of(row: Mapping[str, Any]) -> StrategySpec:
    """The strategy in a row of `strategies`."""
    return _spec(row["spec"])


@lru_cache(maxsize=256)
def _spec(text: str) -> StrategySpec:
    return decode(StrategySpec, json.loads(text))
