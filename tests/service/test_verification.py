"""Every way to tamper with a ledger that the ledger itself can tell is found, and named."""

import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import connect
from tests.evidence.mutations import Rows, event_row
from tests.histories import AT, created, funded, small_day, step, trade
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.domain.derivation import Difference
from trading_pipeline.domain.events import Event, EventType, NewEvent, canonical_payload, event_hash
from trading_pipeline.domain.projections import TABLES
from trading_pipeline.errors import LedgerCorrupt
from trading_pipeline.service.verification import (
    ANCHOR_RULE,
    TABLE_RULE,
    compare_rows,
    exported,
    judge,
    require_verified,
    verify,
    verify_newest,
)


@pytest.fixture
def traded(postgres_ledger: PostgresLedger) -> PostgresLedger:
    """A ledger with a small day of trading: 24 events."""
    with postgres_ledger.transaction() as transaction:
        transaction.append(*small_day())
    return postgres_ledger


def tamper(postgres: EmbeddedPostgres, database: str, statement: str, *values: object) -> None:
    """As a superuser who has switched the triggers off."""
    connection = connect(postgres.superuser_url(database))
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement, values or None)
    connection.close()


def test_an_untouched_ledger_verifies_and_says_what_was_compared(traded: PostgresLedger) -> None:
    report = verify(traded)
    assert report.ok
    # 1 strategy, 3 actions, 3 orders, 3 fills, 1 position, 1 account
    assert (report.environment, report.events, report.rows, report.head_seq) == ("demo", 24, 12, 24)
    assert report.head_hash == traded.head()[1].hex()
    assert require_verified(traded).as_json()["verified"] is True


MUTATIONS = {
    "edit": (
        "UPDATE events SET {column} = {change} WHERE seq = %s",
        [
            ("payload", "replace(payload, '}', ',\"x\":1}')"), ("actor", "actor || 'x'"), ("at", "at + interval '1 microsecond'"),
            ("event_key", "event_key || 'x'"), ("cause", "coalesce(cause, 0) + 1"), ("schema", "schema + 1"), ("stream", "stream || 'x'"),
            ("type", "'bar.dropped'"), ("type", "'nonsense'"), ("stream_seq", "stream_seq + 100"), ("seq", "seq + 100"),
            ("hash", "sha256(hash)"), ("previous_hash", "sha256(previous_hash)"), ("payload", "'no json'"),
        ],
    ),
    "delete": ("DELETE FROM events WHERE seq = %s", [("", "")]),
    "insert": (
        "INSERT INTO events SELECT 25, stream, 99, 'forged', type, schema, cause, actor, at, at, payload, previous_hash, hash "
        "FROM events WHERE seq = %s",
        [("", "")],
    ),
    "swap": (
        "UPDATE events SET payload = other.payload FROM events other WHERE events.seq IN (%s, 24) AND other.seq = {swapped} - events.seq",
        [("", "")],
    ),
}


def test_fifty_random_mutations_are_all_found(postgres: EmbeddedPostgres, ledger_database: str, traded: PostgresLedger) -> None:
    """3, T17, fault 33: every mutation is undone from a copy before the next."""
    chance = random.Random(20121015)
    tamper(postgres, ledger_database, "CREATE TABLE untouched AS TABLE events")
    missed = []
    for number in range(50):
        kind = list(MUTATIONS)[number % 4]
        statement, variants = MUTATIONS[kind]
        column, change = chance.choice(variants)
        seq = chance.randint(1, 23)
        tamper(postgres, ledger_database, statement.format(column=column, change=change, swapped=seq + 24), seq)
        report = verify(traded)
        if report.difference is None or report.difference.seq != (25 if kind == "insert" else seq):
            missed.append((kind, column, change, seq, str(report.difference)))
        tamper(postgres, ledger_database, "DELETE FROM events; INSERT INTO events SELECT * FROM untouched")
    tamper(postgres, ledger_database, "DROP TABLE untouched")
    assert missed == []
    assert verify(traded).ok


def test_a_truncated_tail_is_found_by_the_head(postgres: EmbeddedPostgres, ledger_database: str, traded: PostgresLedger) -> None:
    tamper(postgres, ledger_database, "DELETE FROM events WHERE seq > 20")
    difference = verify(traded).difference
    assert difference is not None
    assert (difference.seq, difference.rule) == (21, "the newest event is the head")


def test_a_head_with_another_hash_is_found(postgres: EmbeddedPostgres, ledger_database: str, traded: PostgresLedger) -> None:
    tamper(postgres, ledger_database, "UPDATE ledger_head SET hash = sha256(hash)")
    difference = verify(traded).difference
    assert difference is not None
    assert (difference.seq, difference.column) == (24, "hash")


def test_another_environment_in_the_stamp_is_found(postgres: EmbeddedPostgres, ledger_database: str, traded: PostgresLedger) -> None:
    traded.close()
    tamper(postgres, ledger_database, "UPDATE ledger_head SET environment = 'live'")
    ledger = PostgresLedger.open(postgres.app_url(ledger_database), "live")
    difference = verify(ledger).difference
    ledger.close()
    assert difference is not None
    assert (difference.seq, difference.column, difference.stored, difference.derived) == (1, "environment", "live", "demo")


@pytest.mark.parametrize(
    ("statement", "table", "key", "column"),
    [
        ("UPDATE cash SET cash = cash + 0.01", "cash", ("PAPER",), "cash"),
        ("UPDATE orders SET state = 'canceled' WHERE client_id = 'Ctrend-2'", "orders", ("Ctrend-2",), "state"),
        ("UPDATE strategies SET state_since = state_since + interval '1 s'", "strategies", ("trend",), "state_since"),
        ("UPDATE actions SET admitted = NULL WHERE action_id = 'Atrend-3'", "actions", ("Atrend-3",), "admitted"),
        ("DELETE FROM fills WHERE execution_id = 'Etrend-3'", "fills", ("Etrend-3",), ""),
        ("INSERT INTO positions (strategy, symbol, quantity) VALUES ('trend', 'AAAA', 7)", "positions", ("trend", "AAAA"), ""),
    ],
)
def test_a_changed_table_is_found_with_key_and_column(
    postgres: EmbeddedPostgres, ledger_database: str, traded: PostgresLedger, statement: str, table: str, key: tuple[str, ...], column: str
) -> None:
    tamper(postgres, ledger_database, statement)
    difference = verify(traded).difference
    assert difference is not None
    assert (difference.table, difference.key, difference.column) == (table, key, column)
    traded.rebuild()
    assert verify(traded).ok


def test_the_difference_tells_stored_and_derived(postgres: EmbeddedPostgres, ledger_database: str, traded: PostgresLedger) -> None:
    tamper(postgres, ledger_database, "UPDATE positions SET quantity = 16")
    with pytest.raises(LedgerCorrupt) as caught:
        require_verified(traded)
    assert "table positions, key trend/AAPL, column quantity" in caught.value.message
    assert "stored 16, derived 15" in caught.value.message


def test_a_history_rewritten_with_right_hashes_is_found_by_the_tables(
    postgres: EmbeddedPostgres, ledger_database: str, traded: PostgresLedger
) -> None:
    """Whoever recomputes the whole chain must also know what follows from it."""
    text = '{"account":"PAPER","amount":"200000"}'
    previous = traded.event(1).hash  # type: ignore[union-attr]
    for event in list(traded.scan(2)):
        payload = text if event.seq == 2 else event.payload_text
        hash_ = event_hash(
            previous, event.seq, event.stream, event.stream_seq, event.key, event.type.value, event.schema, event.cause, event.actor,
            event.at, payload,
        )
        tamper(
            postgres, ledger_database, "UPDATE events SET payload = %s, previous_hash = %s, hash = %s WHERE seq = %s",
            payload, previous, hash_, event.seq,
        )
        previous = hash_
    tamper(postgres, ledger_database, "UPDATE ledger_head SET hash = %s", previous)
    difference = verify(traded).difference
    assert difference is not None
    assert (difference.table, difference.column) == ("cash", "cash")


def anchored(ledger: PostgresLedger | MemoryLedger, *seqs: int) -> list[tuple[int, bytes]]:
    """Heads as they were written down when the chain was so long."""
    found = [ledger.event(seq) for seq in seqs]
    return [(event.seq, event.hash) for event in found if event is not None]


def test_a_tail_cut_off_together_with_the_head_is_found_by_the_newest_anchor(
    postgres: EmbeddedPostgres, ledger_database: str, traded: PostgresLedger
) -> None:
    """4, fault 34: the tables are rebuilt, too, so that nothing within the database is wrong."""
    anchors = anchored(traded, 10, 23)
    tamper(postgres, ledger_database, "DELETE FROM events WHERE seq > 20")
    tamper(
        postgres, ledger_database, "UPDATE ledger_head SET (seq, hash) = (SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1)",
    )
    traded.rebuild()
    assert verify(traded).ok
    difference = verify(traded, anchors).difference
    assert difference is not None
    assert (difference.seq, difference.stored, difference.derived) == (21, "events up to 20", "events up to 23")
    assert verify(traded, anchors[:1]).ok


def test_a_chain_written_anew_from_some_event_on_is_found_by_the_first_anchor_behind_it() -> None:
    """4, fault 34: every hash fits, and the tables follow from the events."""
    honest, forged = MemoryLedger("demo", opened_at=small_day()[0].at), MemoryLedger("demo", opened_at=small_day()[0].at)
    for ledger, amount in ((honest, "100000"), (forged, "200000")):
        with ledger.transaction() as transaction:
            transaction.append(funded(amount), *small_day()[1:])
    assert verify(forged).ok
    difference = verify(forged, anchored(honest, 1, 12, 24)).difference
    assert difference is not None
    assert (difference.seq, difference.column) == (12, "hash")
    assert verify(honest, anchored(honest, 1, 12, 24)).ok
    with pytest.raises(LedgerCorrupt, match="anchor"):
        require_verified(forged, anchored(honest, 24))


def test_a_judgement_says_what_it_looked_at_and_what_it_found() -> None:
    ledger = MemoryLedger("demo")
    with ledger.transaction() as transaction:
        transaction.append(*small_day())
    found = judge(ledger, 3, 20)
    assert (found.first, found.last, found.events, found.looked[3]) == (3, 20, 18, 18)
    assert not found.ok, "its orders have names of their own choice"
    assert found.as_json()["violations"][0].keys() == {"invariant", "seq", "says"}
    assert {violation.seq for violation in found.violations} <= set(range(3, 21))
    assert 31 in found.unseen and judge(ledger, 1, 1).ok
    told = found.as_json()
    assert (told["kept"], told["first"], told["last"], told["events"], told["checks"]) == (False, 3, 20, 18, sum(found.looked.values()))
    assert (told["invariants"], told["looked"]["3"]) == (len(found.looked), 18)
    whole, tail = judge(ledger), judge(ledger, 20)
    assert (whole.first, whole.last, whole.events, tail.last, tail.events) == (1, 24, 24, 24, 5)
    assert {violation.seq for violation in tail.violations} == {v.seq for v in whole.violations if v.seq >= 20}


def test_a_rebuild_refuses_events_that_do_not_verify_and_changes_nothing(
    postgres: EmbeddedPostgres, ledger_database: str, traded: PostgresLedger
) -> None:
    tamper(postgres, ledger_database, "UPDATE events SET payload = '{\"account\":\"PAPER\",\"amount\":\"1\"}' WHERE seq = 2")
    with pytest.raises(LedgerCorrupt, match="event 2, hash"):
        traded.rebuild()
    assert traded.find("cash")[0]["deposited"] == Decimal(100000)


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


# The same without a database: what a ledger stores, as rows in hand


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


def test_a_ledger_that_must_verify_and_does_not_says_where_and_what_can_be_done(day: Rows) -> None:
    with pytest.raises(LedgerCorrupt, match="does not verify: event 21, seq: the newest event is the head") as refused:
        require_verified(replace(day, events=day.events[:20]))  # type: ignore[arg-type]
    assert (refused.value.value, refused.value.rule) == (21, "the newest event is the head")
    assert require_verified(day, [(24, day.newest[1])]).ok  # type: ignore[arg-type]


def test_an_exported_event_has_every_field_of_its_envelope(day: Rows) -> None:
    ledger = MemoryLedger("demo", opened_at=AT)
    with ledger.transaction() as transaction:
        [event] = transaction.append(replace(step(1), cause=1, schema=2))
    told = exported(event)
    row = event_row(event)
    assert told.pop("payload") == {"name": "1"}
    assert told.pop("key") == row.pop("event_key")
    assert row.pop("payload") == canonical_payload({"name": "1"})
    del row["previous_hash"]
    assert told == row | {"at": event.at.isoformat(), "recorded_at": event.recorded_at.isoformat(), "hash": event.hash.hex()}
    assert (told["at"], told["cause"], told["schema"]) == ("2012-10-15T20:00:00+00:00", 1, 2)


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
