"""`trading replay`: derive every decision of a session again, fold every state again, and name the first difference.

The ledger is read from its first event on, because a state follows from all that came before it; decisions are derived from the
session's open to the next one. At the end the tables as folded are compared with those stored, by a hash over all their rows. Asks
no broker, no market and no model: `rederiving` says how.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.derivation import Difference, collector_paused
from trading_pipeline.domain.events import Event, EventType, canonical_payload
from trading_pipeline.domain.projections import TABLES, Row
from trading_pipeline.errors import UnknownName
from trading_pipeline.service.record.past_desk import Record
from trading_pipeline.service.record.rederiving import Finding, Rederiver
from trading_pipeline.service.record.verification import compare_rows


@dataclass(frozen=True, slots=True)
class Rederivation:
    """What was derived again of one session; `difference` is the first one, None when there is none."""

    session: date
    strategy: str | None
    first_seq: int
    last_seq: int
    derived: Mapping[str, int]
    """Decisions that came out as they are stored, by kind."""
    underivable: Mapping[str, Mapping[str, int]]
    """Decisions that cannot be derived, by reason and kind."""
    differences: int
    difference: Difference | None
    state_hash: str
    """Over all tables after the session's last event."""
    head_seq: int
    head_hash: str
    """Over all tables after the newest event, as folded."""
    stored_hash: str
    """The same of the tables as stored; empty where the events themselves do not hold."""

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return self.difference is None

    def as_json(self) -> dict[str, Any]:
        """The same for scripts."""
        found = self.difference
        return {
            "session": self.session.isoformat(), "strategy": self.strategy, "replayed": self.ok, "first_seq": self.first_seq,
            "last_seq": self.last_seq, "derived": dict(self.derived),
            "underivable": {reason: dict(kinds) for reason, kinds in self.underivable.items()}, "differences": self.differences,
            "difference": None if found is None else {
                "seq": found.seq, "field": found.column, "table": found.table, "key": [str(part) for part in found.key],
                "rule": found.rule, "stored": found.stored, "derived": found.derived,
            },
            "state_hash": self.state_hash, "head_seq": self.head_seq, "head_hash": self.head_hash, "stored_hash": self.stored_hash,
        }


def rederive(record: Record, session: date, strategy: str | None = None) -> Rederivation:
    """Derive a session again.

    Args:
        record: Its past is at the beginning.
        strategy: Only decisions of this one; states are those of all.

    Raises:
        CalendarError: The exchange was closed on that day.
        UnknownName: The ledger has nothing of that session, or no such strategy.
    """
    opens, ends = record.calendar.session(session).open, record.calendar.next(session).open
    with collector_paused():
        walk = _Walk(record, strategy, opens, ends)
        fault = walk.go(record.ledger.scan())
        head, stored = "", ""
        if fault is None:
            # Only the end of it holds writers up.
            with record.ledger.transaction():
                fault = walk.go(record.ledger.scan(walk.seq + 1))
                if fault is None:
                    walk.end()
                    head, stored = _tables_hash(record.past.dump), _tables_hash(record.ledger.dump)
                    if head != stored:
                        fault = _first_row(record)
        if fault is not None:
            walk.differences.append(fault)
    if not walk.last_seq:
        _nothing_of(record, session)
    if strategy is not None and record.past.get("strategies", strategy) is None:
        raise UnknownName(
            f"There is no strategy {strategy!r}.", value=strategy, rule="a strategy is named as it was created",
            remedy="list them with `trading strategy list`",
        )
    first = min(walk.differences, key=lambda each: each.seq or walk.seq, default=None)
    return Rederivation(
        session, strategy, walk.first_seq, walk.last_seq, dict(walk.derived), walk.underivable, len(walk.differences), first,
        walk.state_hash or head, walk.seq, head, stored,
    )


class _Walk:
    """Through the events, from the first on."""

    def __init__(self, record: Record, strategy: str | None, opens: datetime, ends: datetime) -> None:
        self._past, self._strategy, self._opens, self._ends = record.past, strategy, opens, ends
        self._again = Rederiver(record)
        self.seq = self.first_seq = self.last_seq = 0
        self.state_hash = ""
        self.derived: Counter[str] = Counter()
        self.underivable: dict[str, Counter[str]] = {}
        self.differences: list[Difference] = []

    def go(self, events: Iterable[Event]) -> Difference | None:
        """On to the last of them, or to the first that does not follow from those before it."""
        for event in events:
            if event.at >= self._ends:
                self.end()
            elif event.at >= self._opens:
                self.first_seq = self.first_seq or event.seq
                self.last_seq = event.seq
                if self._strategy is None or event.payload.get("strategy") in (None, self._strategy):
                    self._count(self._again.check(event))
            fault = self._past.add(event)
            if fault is not None:
                return fault
            self.seq = event.seq
        return None

    def end(self) -> None:
        """Once, after the session's last event."""
        if not self.state_hash:
            self._count(self._again.missing())
            self.state_hash = _tables_hash(self._past.dump)

    def _count(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if finding.difference is not None:
                self.differences.append(finding.difference)
            elif finding.underivable:
                self.underivable.setdefault(finding.underivable, Counter())[finding.kind] += 1
            else:
                self.derived[finding.kind] += 1


def _tables_hash(rows: Callable[[str], Iterable[Row]]) -> str:
    """SHA-256 in hex over every row of every table, in order; money that is equal counts as equal, however it is written."""
    content = hashlib.sha256()
    for name, table in TABLES.items():
        content.update(f"{name}\n".encode())
        for row in rows(name):
            content.update(canonical_payload({column: _plain(row[column]) for column in table.columns}).encode() + b"\n")
    return content.hexdigest()


def _plain(value: Any) -> Any:
    # Zero has a sign and trailing digits that a database does not keep.
    return value.normalize() + 0 if isinstance(value, Decimal) else value


def _first_row(record: Record) -> Difference | None:
    for table in TABLES:
        difference = compare_rows(table, record.ledger.dump(table), record.past.dump(table))[1]
        if difference is not None:
            return difference
    return None


def _nothing_of(record: Record, session: date) -> None:
    opened = [event.payload["session"] for event in record.ledger.events(types=(EventType.SESSION_OPENED,))]
    raise UnknownName(
        f"The ledger has nothing of the session {session}.", value=session, rule="a session is replayed from the facts of its time",
        remedy=f"name one of {opened[0]} to {opened[-1]}" if opened else "trade one first",
    )
