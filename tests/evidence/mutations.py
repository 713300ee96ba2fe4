"""Ways to tamper with a record, one at a time, on a copy of its rows; each says where whoever verifies must point.

The tamperer is as able as the kind allows: whoever cuts the tail or writes the chain anew also moves the head and derives the
tables again, so that nothing within the database is wrong and only an anchor outside tells. `recorded_at` is left alone: the wall
clock is stored beside the facts and is no part of the chain.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from trading_pipeline.adapters.ledger.queries import event_from
from trading_pipeline.domain.derivation import Derivation, Difference
from trading_pipeline.domain.events import GENESIS, Event, canonical_payload, event_hash
from trading_pipeline.domain.projections import TABLES, Key, Kind, Row
from trading_pipeline.ports import Ledger

EventRow = dict[str, Any]
HASHED = ("seq", "stream", "stream_seq", "event_key", "type", "schema", "cause", "actor", "at", "payload", "previous_hash", "hash")
PRINTABLE = "".join(map(chr, range(32, 127)))


@dataclass(frozen=True)
class Rows:
    """Every row of a ledger in memory; as much of a `Ledger` as verifying reads."""

    environment: str
    events: tuple[EventRow, ...]
    tables: Mapping[str, tuple[Row, ...]]
    newest: tuple[int, bytes]

    @classmethod
    def of(cls, ledger: Ledger) -> "Rows":
        """A copy of what is stored."""
        tables = {name: tuple(ledger.dump(name)) for name in TABLES}
        return cls(ledger.environment, tuple(map(event_row, ledger.scan())), tables, ledger.head())

    def scan(self, first: int = 1, last: int | None = None) -> Iterator[Event]:
        """Events in order of seq, read as the ledger reads them; LedgerCorrupt for one that cannot be."""
        for row in sorted(self.events, key=lambda row: row["seq"]):
            if row["seq"] >= first and (last is None or row["seq"] <= last):
                yield event_from(tuple(row.values()))

    def event(self, seq: int) -> Event | None:
        """One event."""
        return next(self.scan(seq, seq), None)

    def head(self) -> tuple[int, bytes]:
        """What the row of the head says."""
        return self.newest

    def dump(self, table: str) -> Iterator[Row]:
        """Rows in key order."""
        key = TABLES[table].key
        return iter(sorted(self.tables[table], key=lambda row: tuple(row[column] for column in key)))

    @contextmanager
    def transaction(self) -> Iterator["Rows"]:
        """Nobody else writes here."""
        yield self


@dataclass(frozen=True)
class Tampered:
    """Rows after one mutation, and where it must be found: at one of these events, or in this table at one of these keys."""

    kind: str
    what: str
    rows: Rows
    seqs: range = range(0)
    table: str = ""
    keys: frozenset[Key] = field(default=frozenset())

    def pointed_at(self, difference: Difference) -> bool:
        """Whether a difference names the place."""
        if self.table:
            return difference.table == self.table and difference.key in self.keys
        return not difference.table and difference.seq in self.seqs


def event_row(event: Event) -> EventRow:
    """An event as the columns that hold it, in their order."""
    return {
        "seq": event.seq, "stream": event.stream, "stream_seq": event.stream_seq, "event_key": event.key, "type": event.type.value,
        "schema": event.schema, "cause": event.cause, "actor": event.actor, "at": event.at, "recorded_at": event.recorded_at,
        "payload": event.payload_text, "previous_hash": event.previous_hash, "hash": event.hash,
    }


def flipped(chance: random.Random, text: str) -> str:
    """The text with one character another one."""
    if not text:
        return chance.choice(PRINTABLE)
    at = chance.randrange(len(text))
    other = chance.choice(PRINTABLE.replace(text[at], ""))
    return text[:at] + other + text[at + 1 :]


def changed(chance: random.Random, value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return value + chance.choice((-1, 1)) * chance.choice((1, 10, 1000))
        case Decimal():
            return value + chance.choice((Decimal("0.01"), Decimal("-1"), Decimal("0.00000001")))
        case datetime():
            return value + chance.choice((-1, 1)) * chance.choice((timedelta(microseconds=1), timedelta(seconds=1), timedelta(days=1)))
        case bytes():
            at = chance.randrange(len(value))
            return value[:at] + bytes([value[at] ^ 1 << chance.randrange(8)]) + value[at + 1 :]
        case str():
            return flipped(chance, value)
        case _:
            raise TypeError(f"{value!r} has no other value here")


def chained(rows: Sequence[EventRow]) -> tuple[EventRow, ...]:
    """The events numbered and hashed anew, as one who knows how would."""
    streams: dict[str, int] = {}
    previous, done = GENESIS, []
    for seq, row in enumerate(rows, start=1):
        streams[row["stream"]] = stream_seq = streams.get(row["stream"], 0) + 1
        hashed = event_hash(
            previous, seq, row["stream"], stream_seq, row["event_key"], row["type"], row["schema"], row["cause"], row["actor"], row["at"],
            row["payload"],
        )
        done.append({**row, "seq": seq, "stream_seq": stream_seq, "previous_hash": previous, "hash": hashed})
        previous = hashed
    return tuple(done)


def consistent(rows: Rows, events: Sequence[EventRow]) -> Rows:
    """Other events with the head and the tables that follow from them; the tables as they were where nothing follows."""
    derivation = Derivation()
    for row in events:
        if derivation.add(event_from(tuple(row.values()))) is not None:
            return replace(rows, events=tuple(events), newest=(events[-1]["seq"], events[-1]["hash"]))
    tables = {name: tuple(derivation.tables.rows(name)) for name in TABLES}
    return replace(rows, events=tuple(events), tables=tables, newest=(derivation.seq, derivation.hash))


def forged(chance: random.Random, rows: Rows, after: int) -> EventRow:
    """An event that was never appended, with the hash it would have had behind this many."""
    model = chance.choice(rows.events[:after])
    before = rows.events[after - 1]
    stream_seq = 1 + max((row["stream_seq"] for row in rows.events[:after] if row["stream"] == model["stream"]), default=0)
    payload = canonical_payload(json.loads(model["payload"]) | {"note": str(chance.random())})
    row = {
        **model, "seq": after + 1, "stream_seq": stream_seq, "event_key": f"{model['event_key']}:{chance.randrange(10**6)}", "cause": None,
        "at": before["at"], "payload": payload, "previous_hash": before["hash"],
    }
    row["hash"] = event_hash(
        before["hash"], row["seq"], row["stream"], stream_seq, row["event_key"], row["type"], row["schema"], None, row["actor"], row["at"],
        payload,
    )
    return row


# The mutations. `anchors` are the seqs of the anchors, the newest last.


def edit(chance: random.Random, rows: Rows, anchors: Sequence[int]) -> Tampered:
    """One column of one event."""
    at, column = chance.randrange(len(rows.events)), chance.choice(HASHED)
    row = rows.events[at]
    if column in ("seq", "stream_seq"):
        # A number that is taken the database itself refuses.
        value: Any = row[column] + len(rows.events) * chance.randint(1, 9)
    elif column == "cause":
        value = None if row["cause"] is not None and chance.random() < 0.5 else (row["cause"] or 0) + 1
    else:
        value = changed(chance, row[column])
    events = (*rows.events[:at], {**row, column: value}, *rows.events[at + 1 :])
    return Tampered("edit", f"{column} of event {at + 1}", replace(rows, events=events), range(at + 1, at + 2))


def delete(chance: random.Random, rows: Rows, anchors: Sequence[int]) -> Tampered:
    """One event."""
    at = chance.randrange(len(rows.events))
    return Tampered("delete", f"event {at + 1}", replace(rows, events=rows.events[:at] + rows.events[at + 1 :]), range(at + 1, at + 2))


def insert(chance: random.Random, rows: Rows, anchors: Sequence[int]) -> Tampered:
    """A forged event with a right hash: at the end, or in between with every later seq moved up."""
    after = len(rows.events) if chance.random() < 0.3 else chance.randint(1, len(rows.events) - 1)
    moved = tuple({**row, "seq": row["seq"] + 1} for row in rows.events[after:])
    new = forged(chance, rows, after)
    # A stream's numbers are unique in the database: those behind the forgery move up with it.
    moved = tuple({**row, "stream_seq": row["stream_seq"] + 1} if row["stream"] == new["stream"] else row for row in moved)
    events = (*rows.events[:after], new, *moved)
    return Tampered("insert", f"behind event {after}", replace(rows, events=events), range(after + 1, after + 3))


def swap(chance: random.Random, rows: Rows, anchors: Sequence[int]) -> Tampered:
    """Two events trade places, or only what they say."""
    columns = chance.choice((HASHED[1:], ("payload",)))
    one, other = rows.events[0], rows.events[0]
    while all(one[column] == other[column] for column in columns):
        one, other = chance.sample(rows.events, 2)
    traded = {
        one["seq"]: {**one, **{column: other[column] for column in columns}},
        other["seq"]: {**other, **{column: one[column] for column in columns}},
    }
    first = min(traded)
    events = tuple(traded.get(row["seq"], row) for row in rows.events)
    return Tampered("swap", f"events {one['seq']} and {other['seq']}", replace(rows, events=events), range(first, first + 1))


def truncate(chance: random.Random, rows: Rows, anchors: Sequence[int]) -> Tampered:
    """The tail from before the newest anchor on, with head and tables to fit."""
    keep = chance.randint(1, anchors[-1] - 1)
    return Tampered("truncate", f"behind event {keep}", consistent(rows, rows.events[:keep]), range(keep + 1, keep + 2))


def rewrite(chance: random.Random, rows: Rows, anchors: Sequence[int]) -> Tampered:
    """One event edited, dropped or forged, the whole chain hashed anew from there, head and tables to fit."""
    at = chance.randrange(1, anchors[-1])
    row = rows.events[at]
    how = chance.choice(("edited", "dropped", "forged"))
    if how == "edited":
        other = {**row, "payload": canonical_payload(json.loads(row["payload"]) | {"note": "as it should have been"})}
        events = [*rows.events[:at], other, *rows.events[at + 1 :]]
    elif how == "dropped":
        events = [*rows.events[:at], *rows.events[at + 1 :]]
    else:
        events = [*rows.events[:at], forged(chance, rows, at), *rows.events[at:]]
    found = next(anchor for anchor in anchors if anchor > at)
    # The anchor tells at the latest; before it, whatever does not follow from what was made of the events.
    return Tampered("rewrite", f"event {at + 1} {how}", consistent(rows, chained(events)), range(at + 1, found + 1))


def table(chance: random.Random, rows: Rows, anchors: Sequence[int]) -> Tampered:
    """A row of a table that is kept from the events: a column, the whole row, or one more."""
    name = chance.choice([name for name, kept in rows.tables.items() if kept])
    columns = TABLES[name].columns
    kept = list(rows.tables[name])
    at = chance.randrange(len(kept))
    row = kept[at]
    how = chance.choice(("edit", "edit", "edit", "delete", "insert"))
    other = dict(row)
    if how == "delete":
        del kept[at]
    else:
        column = TABLES[name].key[0] if how == "insert" else chance.choice([c for c in columns if row[c] is not None])
        other[column] = _other_value(chance, columns[column], row[column])
        kept[at : at + (how == "edit")] = [other]
    keys = frozenset(tuple(each[column] for column in TABLES[name].key) for each in (row, other))
    what = f"{how} {name} {'/'.join(map(str, tuple(row[column] for column in TABLES[name].key)))}"
    return Tampered("table", what, replace(rows, tables={**rows.tables, name: tuple(kept)}), table=name, keys=keys)


def _other_value(chance: random.Random, kind: Kind, value: Any) -> Any:
    return value + 10**6 if kind is Kind.INTEGER else changed(chance, value)


def head(chance: random.Random, rows: Rows, anchors: Sequence[int]) -> Tampered:
    """The row that says how far the chain goes."""
    seq, hashed = rows.newest
    newest = (seq, changed(chance, hashed)) if chance.random() < 0.5 else (seq + chance.choice((-1, 1)) * chance.randint(1, seq), hashed)
    place = min(newest[0], seq) + (newest[0] != seq)
    return Tampered("head", f"head {newest[0]}", replace(rows, newest=newest), range(place, place + 1))


Mutation = Callable[[random.Random, Rows, Sequence[int]], Tampered]
MUTATIONS: dict[Mutation, int] = {edit: 40, delete: 10, insert: 12, swap: 10, truncate: 8, rewrite: 8, table: 10, head: 2}
"""How often each kind is drawn, in a hundred."""
