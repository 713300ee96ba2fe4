"""What only the ledger in PostgreSQL promises: many writers, roles and triggers, lost connections, the schema."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg2
import pytest
import sqlalchemy as sa

from tests.conftest import connect, execute
from tests.histories import created, fact, funded, small_day, step
from trading_pipeline.adapters.ledger import connecting
from trading_pipeline.adapters.ledger.database_errors import translated
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.migrations import REVISION
from trading_pipeline.adapters.ledger.postgres import PostgresLedger, prepare_database
from trading_pipeline.adapters.ledger.tables import METADATA
from trading_pipeline.domain.events import EventType
from trading_pipeline.errors import EnvironmentMismatch, LedgerCorrupt, LedgerUnavailable, SettingsError, StorageError
from trading_pipeline.service.record.verification import verify

SUMMARY = "SELECT count(*), max(seq), count(DISTINCT event_key) FROM events"


class Boom(Exception):
    """A caller's own trouble within a transaction."""


# Writers


def test_eight_writers_with_rollbacks_leave_no_gap_and_no_double(postgres_ledger: PostgresLedger) -> None:
    """1, 10, fault 29."""

    def write(writer: int) -> int:
        chance, written = random.Random(writer), 0
        for number in range(40):
            try:
                with postgres_ledger.transaction() as transaction:
                    own = [step(f"{writer}-{number}-{part}", f"strategy:{writer % 3}") for part in range(chance.randint(1, 3))]
                    shared = step(f"shared-{number}")
                    events = transaction.append(*own, shared)
                    if chance.random() < 0.1:
                        raise Boom
                    written += sum(map(transaction.is_new, events))
            except Boom:
                pass
        return written

    with ThreadPoolExecutor(8) as pool:
        written = sum(pool.map(write, range(8)))
    seqs = [event.seq for event in postgres_ledger.scan()]
    assert seqs == list(range(1, written + 2))
    assert verify(postgres_ledger).ok


def test_two_ledgers_on_one_database_take_turns(postgres: EmbeddedPostgres, ledger_database: str) -> None:
    first = PostgresLedger.open(postgres.app_url(ledger_database), "demo")
    second = PostgresLedger.open(postgres.app_url(ledger_database), "demo")
    for number in range(6):
        with (first, second)[number % 2].transaction() as transaction:
            transaction.append(step(number, "market"))
    assert [event.stream_seq for event in first.events(stream="market")] == [1, 2, 3, 4, 5, 6]
    assert verify(second).ok
    first.close()
    second.close()


def test_a_held_head_is_a_clear_error_after_the_time_out(
    postgres: EmbeddedPostgres, ledger_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fault 29, fault 30."""
    holder = PostgresLedger.open(postgres.app_url(ledger_database), "demo")
    monkeypatch.setitem(connecting.SESSION, "lock_timeout", "50ms")
    waiter = PostgresLedger.open(postgres.app_url(ledger_database), "demo")
    with holder.transaction() as transaction:
        transaction.append(step(1))
        with pytest.raises(LedgerUnavailable, match="lock timeout") as caught, waiter.transaction():
            pass
        assert "wait for the other process" in caught.value.remedy
    assert waiter.head()[0] == 2
    holder.close()
    waiter.close()


# Roles and triggers


@pytest.mark.parametrize("statement", ["UPDATE events SET payload = '{}'", "DELETE FROM events", "TRUNCATE events"])
@pytest.mark.parametrize("role", ["app", "owner", "superuser"])
def test_events_cannot_be_changed_by_anybody(
    postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger, role: str, statement: str
) -> None:
    """2, T17, T19: the application lacks the right, and a trigger refuses everybody else."""
    url = {"app": postgres.app_url, "owner": postgres.owner_url, "superuser": postgres.superuser_url}[role](ledger_database)
    said = "permission denied for table events" if role == "app" else "events is append-only"
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match=said):
        execute(url, statement)
    assert verify(postgres_ledger).ok


@pytest.mark.parametrize(
    "statement",
    ["UPDATE ledger_head SET seq = 5", "DELETE FROM ledger_head", "DROP TABLE events", "ALTER TABLE events DISABLE TRIGGER ALL",
     "CREATE TABLE mine (a int)", "INSERT INTO ledger_head VALUES (false, 'demo', 0, '')", "UPDATE alembic_version SET version_num = '9'"],
)
def test_the_application_can_neither_move_the_head_nor_change_the_schema(
    postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger, statement: str
) -> None:
    """2."""
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        execute(postgres.app_url(ledger_database), statement)


def test_an_event_that_does_not_continue_the_chain_is_refused_by_the_database(
    postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger
) -> None:
    """3."""
    forged = (
        "INSERT INTO events SELECT {seq}, stream, 2, 'forged', type, schema, cause, actor, at, at, payload, {previous}, hash FROM events"
    )
    for seq, previous in (("3", "hash"), ("2", "previous_hash")):
        with pytest.raises(psycopg2.errors.IntegrityConstraintViolation, match="do not continue the chain at 1"):
            execute(postgres.app_url(ledger_database), forged.format(seq=seq, previous=previous))


def test_the_role_of_dagster_sees_nothing_of_the_ledger(postgres: EmbeddedPostgres, ledger_database: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        connect(postgres.dagster_url(ledger_database))


def test_a_role_that_could_rewrite_history_is_refused(postgres: EmbeddedPostgres, ledger_database: str) -> None:
    """2."""
    with pytest.raises(SettingsError, match="trading_owner may rewrite events"):
        PostgresLedger.open(postgres.owner_url(ledger_database), "demo")


# Opening


def test_a_ledger_keeps_its_environment(postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger) -> None:
    """D31."""
    with pytest.raises(EnvironmentMismatch, match="of the environment demo, and live was asked for"):
        PostgresLedger.open(postgres.app_url(ledger_database), "live")
    assert postgres_ledger.head()[0] == 1


def test_an_unknown_environment_is_refused(postgres: EmbeddedPostgres, ledger_database: str) -> None:
    with pytest.raises(SettingsError, match="prod is no environment"):
        PostgresLedger.open(postgres.app_url(ledger_database), "prod")


def test_a_database_without_a_ledger_is_refused(postgres: EmbeddedPostgres) -> None:
    postgres.ensure_database("empty")
    with pytest.raises(LedgerCorrupt, match="The database has no ledger"):
        PostgresLedger.open(postgres.app_url("empty"), "demo")


def test_a_schema_of_a_later_version_is_refused(postgres: EmbeddedPostgres, ledger_database: str) -> None:
    """fault 67."""
    execute(postgres.superuser_url(ledger_database), "UPDATE alembic_version SET version_num = '9999'")
    try:
        with pytest.raises(LedgerCorrupt, match="revision 9999"):
            PostgresLedger.open(postgres.app_url(ledger_database), "demo")
        with pytest.raises(LedgerCorrupt, match="revision 9999"):
            prepare_database(postgres.owner_url(ledger_database))
    finally:
        execute(postgres.superuser_url(ledger_database), f"UPDATE alembic_version SET version_num = '{REVISION}'")


def test_preparing_twice_changes_nothing(postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger) -> None:
    prepare_database(postgres.owner_url(ledger_database))
    with postgres_ledger.transaction() as transaction:
        transaction.append(*small_day())
    assert verify(postgres_ledger).ok


def test_the_migrations_make_the_schema_that_the_code_expects(postgres: EmbeddedPostgres, ledger_database: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = sa.create_engine(postgres.owner_url(ledger_database))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA) == []
        found = {
            (table, column["name"]): getattr(column["type"], "collation", None)
            for table in METADATA.tables for column in sa.inspect(connection).get_columns(table) if isinstance(column["type"], sa.Text)
        }
    engine.dispose()
    assert set(found.values()) == {"C"}


def test_a_url_of_another_kind_is_refused() -> None:
    for url in ("sqlite:///ledger.db", "not a url"):
        with pytest.raises(SettingsError, match="cannot be used"):
            PostgresLedger.open(url, "demo")


def test_a_server_that_is_not_there_is_a_clear_error_without_the_password() -> None:
    """9."""
    with pytest.raises(LedgerUnavailable, match="Connection refused") as caught:
        PostgresLedger.open("postgresql://trading_app:s3cret@127.0.0.1:1/trading", "demo")
    assert "s3cret" not in str(caught.value) + repr(caught.value.__cause__)


def test_sessions_commit_to_disk_whatever_the_database_says(postgres: EmbeddedPostgres, ledger_database: str) -> None:
    execute(postgres.superuser_url(), f"ALTER DATABASE {ledger_database} SET synchronous_commit = off")
    engine = connecting.engine_for(postgres.app_url(ledger_database))
    with engine.connect() as connection:
        assert connection.execute(sa.text("SHOW synchronous_commit")).scalar() == "on"
    engine.dispose()
    execute(postgres.superuser_url(), f"ALTER DATABASE {ledger_database} RESET synchronous_commit")


def test_names_are_whole_whatever_encoding_clients_are_told_to_use(
    postgres: EmbeddedPostgres, ledger_database: str, monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute(postgres.superuser_url(), f"ALTER DATABASE {ledger_database} SET client_encoding = 'LATIN1'")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    name = "Zo\u00eb \u2014 \u00c3\u00a9 \U0001f4c8"
    ledger = PostgresLedger.open(postgres.app_url(ledger_database), "demo")
    try:
        with ledger.transaction() as transaction:
            [written] = transaction.append(replace(step(1, "market"), key=name, actor=name))
        assert ledger.event_by_key(name) == written
        assert verify(ledger).ok
    finally:
        ledger.close()
        execute(postgres.superuser_url(), f"ALTER DATABASE {ledger_database} RESET client_encoding")


def test_a_database_of_another_encoding_is_refused(postgres: EmbeddedPostgres) -> None:
    execute(postgres.superuser_url(), "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C' OWNER trading_owner")
    try:
        prepare_database(postgres.owner_url("latin"))
        with pytest.raises(SettingsError, match="The database's encoding is LATIN1"):
            PostgresLedger.open(postgres.app_url("latin"), "demo")
    finally:
        execute(postgres.superuser_url(), "DROP DATABASE latin WITH (FORCE)")


# A truncated ledger, and the database's own errors


def test_nothing_is_appended_to_a_ledger_whose_tail_is_gone(
    postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger
) -> None:
    """3, fault 34."""
    with postgres_ledger.transaction() as transaction:
        transaction.append(funded(), created())
    execute(postgres.superuser_url(ledger_database), "SET session_replication_role = replica; DELETE FROM events WHERE seq = 3")
    fresh = PostgresLedger.open(postgres.app_url(ledger_database), "demo")
    with pytest.raises(LedgerCorrupt, match="disagree"), fresh.transaction() as transaction:
        transaction.append(step(1))
    with pytest.raises(LedgerCorrupt, match="disagree"):
        fresh.rebuild()
    fresh.close()


def test_an_event_of_an_unknown_type_is_a_corrupt_ledger(
    postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger
) -> None:
    """fault 67."""
    execute(postgres.superuser_url(ledger_database), "SET session_replication_role = replica; UPDATE events SET type = 'x'")
    with pytest.raises(LedgerCorrupt, match="Event 1 cannot be read"):
        postgres_ledger.event(1)


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("53100", StorageError), ("58030", StorageError), ("42501", StorageError), ("25006", StorageError), ("55P03", LedgerUnavailable),
        ("57014", LedgerUnavailable), ("40P01", LedgerUnavailable), ("40001", LedgerUnavailable), ("57P01", LedgerUnavailable),
        ("57P03", LedgerUnavailable), ("53300", LedgerUnavailable), ("08006", LedgerUnavailable), ("XX001", LedgerCorrupt),
        ("XX002", LedgerCorrupt), ("23505", LedgerCorrupt), ("42P01", LedgerCorrupt),
    ],
)
def test_every_sqlstate_becomes_an_error_that_says_who_acts(
    postgres: EmbeddedPostgres, sqlstate: str, kind: type[Exception]
) -> None:
    """The server raises the state itself. Source: PostgreSQL manual, appendix A."""
    with pytest.raises(psycopg2.Error) as caught:
        execute(postgres.superuser_url(), f"DO $$ BEGIN RAISE EXCEPTION 'as the server says' USING ERRCODE = '{sqlstate}'; END $$")
    error = translated(caught.value)
    assert type(error) is kind
    assert "as the server says" in error.message
    assert error.remedy


def test_the_illegal_cannot_hide_behind_a_swallowed_database_error(
    postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger
) -> None:
    """PostgreSQL answers COMMIT of a failed transaction with ROLLBACK and no error: the ledger must raise it."""
    execute(postgres.superuser_url(ledger_database), "SET session_replication_role = replica; UPDATE ledger_head SET seq = 0")
    with pytest.raises(LedgerCorrupt), postgres_ledger.transaction() as transaction:
        transaction.append(fact(EventType.STEP_COMPLETED, "a", "other"))
        with pytest.raises(LedgerCorrupt):
            transaction.find("cash")
    assert postgres_ledger.event(2) is None
