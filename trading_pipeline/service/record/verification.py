"""`trading verify`: derive chain and tables from the events alone and name the first place where what is stored differs.

Writers are held up only for the end: the bulk of the events is read without any lock, then the head is locked, what came
meanwhile is added, and the tables are compared. A tail cut off together with the head row, or a chain written anew from some
event on, is beyond what the ledger can tell of itself: anchors, heads kept outside the database, tell. Whether what it
says was allowed is another question: `judgement`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from trading_pipeline.domain.derivation import Derivation, Difference, collector_paused
from trading_pipeline.domain.events import event_hash
from trading_pipeline.domain.projections import TABLES, Row
from trading_pipeline.errors import LedgerCorrupt
from trading_pipeline.ports import Ledger

Anchored = tuple[int, bytes]
"""seq and hash of a head of the chain, as it was written down outside the database."""
TABLE_RULE = "a table is what its events make of it"
ANCHOR_RULE = "the chain goes through every anchor kept outside the database"


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What was compared; `difference` is the first one found, None when there is none."""

    environment: str
    events: int
    rows: int
    head_seq: int
    head_hash: str
    difference: Difference | None

    @property
    def ok(self) -> bool:
        """Whether chain and tables verify."""
        return self.difference is None

    def as_json(self) -> dict[str, Any]:
        """The same for scripts."""
        found = self.difference
        return {
            "verified": self.ok, "environment": self.environment, "events": self.events, "rows": self.rows, "head_seq": self.head_seq,
            "head_hash": self.head_hash,
            "difference": None if found is None else {
                "seq": found.seq, "table": found.table, "key": [str(part) for part in found.key], "column": found.column,
                "rule": found.rule, "stored": found.stored, "derived": found.derived,
            },
        }


def verify(ledger: Ledger, anchors: Sequence[Anchored] = ()) -> VerificationReport:
    """Compare everything stored with what follows from the events.

    Args:
        anchors: Heads of the chain kept outside, the newest last; the chain must go through each of them.

    Raises:
        LedgerUnavailable: The ledger cannot be read, or its head is not had in time. A corrupt ledger is a report, not an exception.
    """
    with collector_paused():
        return _verify(ledger, dict(anchors))


def _verify(ledger: Ledger, anchors: Mapping[int, bytes]) -> VerificationReport:
    derivation = Derivation()
    rows = 0
    difference = _add(derivation, ledger, None, anchors)
    head = ledger.head()
    if difference is None:
        with ledger.transaction() as transaction:
            head = transaction.head()
            difference = (
                _add(derivation, ledger, derivation.seq + 1, anchors) or _head_difference(derivation, head)
                or _end_difference(derivation, anchors) or _stamp_difference(ledger)
            )
            for table in TABLES:
                if difference is None:
                    count, difference = compare_rows(table, ledger.dump(table), derivation.tables.rows(table))
                    rows += count
    return VerificationReport(ledger.environment, derivation.seq, rows, head[0], head[1].hex(), difference)


def _add(derivation: Derivation, ledger: Ledger, first: int | None, anchors: Mapping[int, bytes]) -> Difference | None:
    try:
        for event in ledger.scan() if first is None else ledger.scan(first):
            difference = derivation.add(event)
            if difference is not None:
                return difference
            anchored = anchors.get(event.seq)
            if anchored is not None and anchored != event.hash:
                return Difference(ANCHOR_RULE, event.hash.hex(), anchored.hex(), event.seq, column="hash")
    except LedgerCorrupt as error:
        seq = error.value if isinstance(error.value, int) else derivation.seq + 1
        return Difference(error.rule, error.message, "an event that can be read", seq)
    return None


def _head_difference(derivation: Derivation, head: tuple[int, bytes]) -> Difference | None:
    if head[0] != derivation.seq:
        return Difference(
            "the newest event is the head", f"events up to {derivation.seq}", f"events up to {head[0]}", min(head[0], derivation.seq) + 1,
            column="seq",
        )
    if head[1] != derivation.hash:
        return Difference("the newest event is the head", head[1].hex(), derivation.hash.hex(), head[0], column="hash")
    return None


def _end_difference(derivation: Derivation, anchors: Mapping[int, bytes]) -> Difference | None:
    newest = max(anchors, default=0)
    if newest <= derivation.seq:
        return None
    return Difference(ANCHOR_RULE, f"events up to {derivation.seq}", f"events up to {newest}", derivation.seq + 1, column="seq")


def _stamp_difference(ledger: Ledger) -> Difference | None:
    first = ledger.event(1)
    opened = None if first is None else first.payload.get("environment")
    if opened == ledger.environment:
        return None
    return Difference("the environment is the one the ledger was opened for", ledger.environment, str(opened), 1, column="environment")


def compare_rows(table: str, stored: Iterable[Row], derived: Iterable[Row]) -> tuple[int, Difference | None]:
    """The number of rows alike, and the first that is not; both sides come in key order."""
    key = TABLES[table].key
    rows = 0
    left, right = iter(stored), iter(derived)
    while True:
        have, want = next(left, None), next(right, None)
        if have == want:
            if have is None:
                return rows, None
            rows += 1
            continue
        have_key = None if have is None else tuple(have[column] for column in key)
        want_key = None if want is None else tuple(want[column] for column in key)
        if have is not None and want is not None and have_key == want_key:
            column = next(name for name in TABLES[table].columns if have[name] != want[name])
            return rows, Difference(TABLE_RULE, repr(have[column]), repr(want[column]), _seq_of(want), table, have_key or (), column)
        if want_key is None or (have_key is not None and have_key < want_key):
            return rows, Difference(TABLE_RULE, "a row", "no row", None, table, have_key or ())
        return rows, Difference(TABLE_RULE, "no row", "a row", _seq_of(want), table, want_key)


def _seq_of(row: Row | None) -> int | None:
    """The last event that changed a row."""
    return None if row is None else row.get("last_seq", row.get("seq"))


def verify_newest(ledger: Ledger, count: int) -> str:
    """Recompute the chain over the newest events; the first fault in words, empty when there is none. Cheap enough for every cycle."""
    head, _ = ledger.head()
    events = ledger.events(after=max(0, head - count))
    for before, event in pairwise(events):
        derived = event_hash(
            before.hash, event.seq, event.stream, event.stream_seq, event.key, event.type.value, event.schema, event.cause, event.actor,
            event.at, event.payload_text,
        )
        if event.seq != before.seq + 1 or event.previous_hash != before.hash or event.hash != derived:
            return f"event {event.seq} ({event.type} {event.key}) does not follow from event {before.seq}"
    return ""
