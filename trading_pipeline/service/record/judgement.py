"""`trading verify --invariants`: not whether the record is whole, but whether what it says was allowed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trading_pipeline.domain.derivation import collector_paused
from trading_pipeline.domain.events import Event
from trading_pipeline.oracle import Oracle, Violation
from trading_pipeline.ports import Ledger


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the oracle found in the events from `first` to `last`, and how often it looked at each invariant."""

    first: int
    last: int
    events: int
    looked: Mapping[int, int]
    violations: tuple[Violation, ...]

    @property
    def ok(self) -> bool:
        """Whether no invariant is broken."""
        return not self.violations

    @property
    def unseen(self) -> tuple[int, ...]:
        """Invariants that nothing in these events concerned: their silence says nothing."""
        return tuple(number for number, many in self.looked.items() if not many)

    def as_json(self) -> dict[str, Any]:
        """The same for scripts."""
        return {
            "kept": self.ok, "first": self.first, "last": self.last, "events": self.events, "invariants": len(self.looked),
            "checks": sum(self.looked.values()), "looked": {str(number): many for number, many in self.looked.items()},
            "violations": [{"invariant": each.number, "seq": each.seq, "says": each.says} for each in self.violations],
        }


def judge(ledger: Ledger, first: int = 1, last: int | None = None) -> Judgement:
    """Hold events against the invariants, by an oracle that shares no code with what wrote them.

    Args:
        first: The first event that is judged; those before it are read for what they lead to.
        last: The last one; the newest when None.

    Raises:
        LedgerCorrupt: An event cannot be read at all.
        LedgerUnavailable: The ledger cannot be read.
    """
    oracle = Oracle()
    violations: list[Violation] = []
    with collector_paused():
        for event in ledger.scan(1, last):
            if event.seq < first:
                oracle.fold(exported(event))
            else:
                violations += oracle.feed(exported(event))
    return Judgement(first, oracle.state.seq, oracle.events, oracle.looked, tuple(violations))


def exported(event: Event) -> dict[str, Any]:
    """An event as one object of the JSONL export: JSON values only."""
    return {
        "seq": event.seq, "stream": event.stream, "stream_seq": event.stream_seq, "key": event.key, "type": event.type.value,
        "schema": event.schema, "cause": event.cause, "actor": event.actor, "at": event.at.isoformat(),
        "recorded_at": event.recorded_at.isoformat(), "payload": event.payload, "hash": event.hash.hex(),
    }
