"""Every way to tamper with a ledger that the ledger itself can tell is found, and named."""

import random
from decimal import Decimal

import pytest

from tests.conftest import connect
from tests.histories import funded, small_day
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.domain.events import event_hash
from trading_pipeline.errors import LedgerCorrupt
from trading_pipeline.service.record.verification import verify


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
    assert report.as_json()["verified"] is True


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
    told = str(verify(traded).difference)
    assert "table positions, key trend/AAPL, column quantity" in told
    assert "stored 16, derived 15" in told


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
    assert "anchor" in str(verify(forged, anchored(honest, 24)).difference)


def test_a_rebuild_refuses_events_that_do_not_verify_and_changes_nothing(
    postgres: EmbeddedPostgres, ledger_database: str, traded: PostgresLedger
) -> None:
    tamper(postgres, ledger_database, "UPDATE events SET payload = '{\"account\":\"PAPER\",\"amount\":\"1\"}' WHERE seq = 2")
    with pytest.raises(LedgerCorrupt, match="event 2, hash"):
        traded.rebuild()
    assert traded.find("cash")[0]["deposited"] == Decimal(100000)
