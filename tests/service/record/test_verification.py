"""What verifying says of a ledger without a database, from rows in hand: what was compared, and the first difference."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evidence.mutations import Rows
from tests.histories import AT, created, funded, small_day, trade
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.derivation import Difference
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.projections import TABLES
from trading_pipeline.errors import LedgerCorrupt
from trading_pipeline.service.record.verification import ANCHOR_RULE, TABLE_RULE, compare_rows, verify, verify_newest

histories = st.lists(
    st.tuples(
        st.integers(1, 6), st.sampled_from(["AAPL", "IBM"]), st.sampled_from(["buy", "sell"]), st.integers(1, 50),
        st.decimals("0.5", "900", places=4), st.integers(0, 7),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(histories, st.integers(1, 30))
def test_however_a_history_is_cut_into_transactions_the_rebuilt_tables_are_the_same(
    history: list[tuple[int, str, str, int, Decimal, int]], batch: int
) -> None:
    """5: on memory; repeated numbers meet the key's no-op, cut ones leave orders open."""
    events: list[NewEvent] = [funded(), created()]
    seen = set()
    for number, symbol, side, quantity, price, length in history:
        if number not in seen:
            events += list(trade(number, symbol=symbol, side=side, quantity=quantity, price=str(price)))[:length]
            seen.add(number)
    whole, cut = MemoryLedger("demo"), MemoryLedger("demo")
    with whole.transaction() as transaction:
        transaction.append(*events, *events[:3])
    for first in range(0, len(events), batch):
        with cut.transaction() as transaction:
            transaction.append(*events[first : first + batch])
    before = {name: list(whole.dump(name)) for name in TABLES}
    assert {name: list(cut.dump(name)) for name in TABLES} == before
    assert whole.rebuild() == len(events) + 1
    assert {name: list(whole.dump(name)) for name in TABLES} == before
    assert verify(whole).ok


@pytest.fixture
def day() -> Rows:
    """The rows of a small day of trading: 24 events, 12 rows."""
    ledger = MemoryLedger("demo", opened_at=AT)
    with ledger.transaction() as transaction:
        transaction.append(*small_day())
    return Rows.of(ledger)


def difference_in(rows: Rows, anchors: list[tuple[int, bytes]] | None = None) -> Difference | None:
    return verify(rows, anchors or []).difference  # type: ignore[arg-type]


def test_a_report_says_to_scripts_what_was_compared(day: Rows) -> None:
    assert verify(day).as_json() == {  # type: ignore[arg-type]
        "verified": True, "environment": "demo", "events": 24, "rows": 12, "head_seq": 24, "head_hash": day.newest[1].hex(),
        "difference": None,
    }
    assert gc.isenabled()
    spoilt = [row | {"quantity": 16} for row in day.tables["positions"]]
    report = verify(replace(day, tables={**day.tables, "positions": tuple(spoilt)}))  # type: ignore[arg-type]
    # 1 strategy, 3 actions, 3 orders and 3 fills stand before it.
    assert report.as_json() == {
        "verified": False, "environment": "demo", "events": 24, "rows": 10, "head_seq": 24, "head_hash": day.newest[1].hex(),
        "difference": {
            "seq": 24, "table": "positions", "key": ["trend", "AAPL"], "column": "quantity", "rule": TABLE_RULE, "stored": "16",
            "derived": "15",
        },
    }


def test_a_broken_chain_is_told_before_any_table(day: Rows) -> None:
    changed = (*day.events[:11], day.events[11] | {"actor": "somebody else"}, *day.events[12:])
    report = verify(replace(day, events=changed, tables={**day.tables, "positions": ()}))  # type: ignore[arg-type]
    assert report.difference is not None
    assert (report.difference.seq, report.difference.column, report.events, report.rows) == (12, "hash", 11, 0)


@pytest.mark.parametrize(
    ("seq", "kept", "place", "says"),
    [(26, 24, 25, ("events up to 24", "events up to 26")), (20, 24, 21, ("events up to 24", "events up to 20")),
     (24, 20, 21, ("events up to 20", "events up to 24"))],
    ids=["a head that runs ahead", "a head that lags", "a cut tail"],
)
def test_a_head_of_another_number_than_the_newest_event_is_told(
    day: Rows, seq: int, kept: int, place: int, says: tuple[str, str]
) -> None:
    found = difference_in(replace(day, events=day.events[:kept], newest=(seq, day.newest[1])))
    assert found == Difference("the newest event is the head", *says, place, column="seq")


def test_a_head_of_another_hash_than_the_newest_event_is_told_with_both(day: Rows) -> None:
    found = difference_in(replace(day, newest=(24, b"\x01" * 32)))
    assert found == Difference("the newest event is the head", "01" * 32, day.newest[1].hex(), 24, column="hash")


def test_a_chain_that_ends_before_the_newest_anchor_is_told(day: Rows) -> None:
    """4."""
    anchors = [(24, day.newest[1]), (30, b"\x02" * 32)]
    assert difference_in(day, anchors) == Difference(ANCHOR_RULE, "events up to 24", "events up to 30", 25, column="seq")
    assert difference_in(day, anchors[:1]) is None
    assert difference_in(day, [(7, b"\x02" * 32)]) == Difference(ANCHOR_RULE, day.events[6]["hash"].hex(), "02" * 32, 7, column="hash")


def test_the_stamp_is_held_to_the_first_fact(day: Rows) -> None:
    assert difference_in(replace(day, environment="live")) == Difference(
        "the environment is the one the ledger was opened for", "live", "demo", 1, column="environment"
    )
    nothing = replace(day, events=(), newest=(0, bytes(32)), tables=dict.fromkeys(day.tables, ()))
    found = difference_in(nothing)
    assert found is not None
    assert (found.stored, found.derived) == ("demo", "None")


def test_an_event_that_cannot_be_read_is_a_difference_at_its_place(day: Rows) -> None:
    unreadable = (*day.events[:9], day.events[9] | {"payload": "no json"}, *day.events[10:])
    found = difference_in(replace(day, events=unreadable))
    assert found is not None
    assert (found.seq, found.derived) == (10, "an event that can be read")
    assert "Event 10 cannot be read" in found.stored
    assert found.rule == "an event has a type this version knows and a payload in JSON"
    gone = (*unreadable[:8], *unreadable[9:])
    found = difference_in(replace(day, events=gone))
    assert found is not None
    assert found.seq == 10, "it has its own number, whatever is missing before it"


class Nameless(Rows):
    """The tenth event cannot be read, and nobody says which it is."""

    def scan(self, first: int = 1, last: int | None = None) -> Iterator[Event]:
        for event in super().scan(first, last):
            if event.seq == 10:
                raise LedgerCorrupt("An event cannot be read.", rule="instants lie in the years 1 to 9999")
            yield event


def test_an_event_that_nobody_can_name_is_the_next_one(day: Rows) -> None:
    found = difference_in(Nameless(day.environment, day.events, day.tables, day.newest))
    assert found == Difference("instants lie in the years 1 to 9999", "An event cannot be read.", "an event that can be read", 10)


@dataclass(frozen=True)
class Growing(Rows):
    """What it has more once the head is locked than it had before."""

    later: "Rows | None" = None

    @contextmanager
    def transaction(self) -> Iterator[Rows]:
        assert self.later is not None
        for name in ("events", "tables", "newest"):
            object.__setattr__(self, name, getattr(self.later, name))
        yield self


def test_what_came_while_the_bulk_was_read_is_verified_under_the_lock(day: Rows) -> None:
    def growing(later: Rows) -> Growing:
        ten = day.events[:10]
        return Growing(day.environment, ten, day.tables, (10, ten[-1]["hash"]), later)

    assert verify(growing(day)).as_json() == verify(day).as_json()  # type: ignore[arg-type]
    spoilt = (*day.events[:20], day.events[20] | {"schema": 2}, *day.events[21:])
    found = difference_in(growing(replace(day, events=spoilt)))
    assert found is not None
    assert (found.seq, found.column) == (21, "hash")
    assert difference_in(growing(day), [(20, b"\x03" * 32)]) == Difference(
        ANCHOR_RULE, day.events[19]["hash"].hex(), "03" * 32, 20, column="hash"
    )


def test_a_ledger_that_is_shorter_than_its_head_says_is_a_difference_behind_its_end(day: Rows) -> None:
    found = difference_in(replace(day, events=day.events[:20]))
    assert found is not None
    assert (found.seq, found.rule) == (21, "the newest event is the head")
    assert verify(day, [(24, day.newest[1])]).ok  # type: ignore[arg-type]


HELD = {"strategy": "trend", "quantity": 10, "cost": Decimal(1_000), "realised": Decimal(0), "opened_at": None}
POSITIONS = [HELD | {"symbol": symbol, "last_seq": seq} for symbol, seq in (("AAPL", 7), ("IBM", 9), ("MSFT", 8))]


def test_tables_that_are_alike_are_counted() -> None:
    assert compare_rows("positions", POSITIONS, POSITIONS) == (3, None)
    assert compare_rows("positions", [], []) == (0, None)


def test_a_row_that_differs_is_told_by_table_key_column_both_values_and_its_last_event() -> None:
    """5."""
    stored = [POSITIONS[0], POSITIONS[1] | {"quantity": 11}, POSITIONS[2]]
    expected = Difference(TABLE_RULE, "11", "10", 9, "positions", ("trend", "IBM"), "quantity")
    assert compare_rows("positions", stored, POSITIONS) == (1, expected)
    fill = dict.fromkeys(TABLES["fills"].columns) | {"execution_id": "E1", "quantity": 5, "seq": 10}
    expected = Difference(TABLE_RULE, "6", "5", 10, "fills", ("E1",), "quantity")
    assert compare_rows("fills", [fill | {"quantity": 6}], [fill]) == (0, expected)


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_row_that_is_missing_or_too_many_is_told_by_its_key(gone: int) -> None:
    left = [row for number, row in enumerate(POSITIONS) if number != gone]
    key = ("trend", POSITIONS[gone]["symbol"])
    missing = Difference(TABLE_RULE, "no row", "a row", POSITIONS[gone]["last_seq"], "positions", key)
    assert compare_rows("positions", left, POSITIONS) == (gone, missing)
    too_many = Difference(TABLE_RULE, "a row", "no row", None, "positions", key)
    assert compare_rows("positions", POSITIONS, left) == (gone, too_many)


class Told:
    """A ledger of just these events."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events

    def head(self) -> tuple[int, bytes]:
        return len(self._events), self._events[-1].hash

    def events(self, after: int) -> list[Event]:
        return self._events[after:]


def test_a_look_at_all_events_begins_with_the_first_link() -> None:
    """3."""
    ledger = MemoryLedger("demo")
    with ledger.transaction() as transaction:
        transaction.append(*small_day())
    events = ledger.events()
    events[1] = replace(events[1], actor="somebody else")
    assert verify_newest(Told(events), 1_000) == "event 2 (account.funded funded) does not follow from event 1"  # type: ignore[arg-type]
    assert verify_newest(Told(events), 24) != ""  # type: ignore[arg-type]


OTHER = {
    "seq": 19, "stream": "elsewhere", "stream_seq": 99, "key": "forged", "type": EventType.BAR_RECEIVED, "schema": 2, "cause": 1,
    "actor": "nobody", "payload_text": "{}", "previous_hash": b"x" * 32, "hash": b"x" * 32,
}


@pytest.mark.parametrize("field", [*OTHER, "at"])
def test_a_look_at_the_newest_events_finds_any_field_of_the_chain_that_was_changed(field: str) -> None:
    """3: and only among those it was asked to look at."""
    ledger = MemoryLedger("demo")
    with ledger.transaction() as transaction:
        transaction.append(*small_day())
    events = ledger.events()
    assert [verify_newest(Told(events), count) for count in (1, 5, 24, 1_000)] == [""] * 4  # type: ignore[arg-type]
    changed = events[19]
    events[19] = replace(changed, **{field: OTHER.get(field, changed.at + timedelta(microseconds=1))})
    said = f"event {events[19].seq} ({events[19].type} {events[19].key}) does not follow from event 19"
    assert verify_newest(Told(events), 6) == said  # type: ignore[arg-type]
    assert verify_newest(Told(events), 4) == ""  # type: ignore[arg-type]
