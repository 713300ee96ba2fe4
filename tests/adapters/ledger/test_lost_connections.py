"""The ledger in PostgreSQL when connections are lost, idle, within a transaction or at its commit, and leases with them."""

import threading
from collections.abc import Callable
from contextlib import closing

import pytest
import sqlalchemy as sa

from tests.conftest import connect, execute
from tests.histories import funded, step
from trading_pipeline.adapters.ledger import connecting
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.domain.events import EventType
from trading_pipeline.errors import Fenced, LedgerUnavailable
from trading_pipeline.service.record.verification import verify


def cut(postgres: EmbeddedPostgres, database: str) -> None:
    execute(
        postgres.superuser_url(),
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()", database,
    )


def test_connections_that_died_while_idle_are_replaced(
    postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger
) -> None:
    cut(postgres, ledger_database)
    assert postgres_ledger.head()[0] == 1
    cut(postgres, ledger_database)
    with postgres_ledger.transaction() as transaction:
        transaction.append(step(1))
    assert postgres_ledger.head()[0] == 2


@pytest.mark.parametrize(
    "read",
    [
        lambda ledger: ledger.find("strategies", state=("running", None), order_by="name", limit=3),
        lambda ledger: ledger.get("strategies", "nobody"),
        lambda ledger: ledger.event_by_key("nothing"),
        lambda ledger: ledger.events(types=(EventType.ORDER_INTENT,), stream="account"),
        lambda ledger: list(ledger.scan())[1:],
        lambda ledger: list(ledger.dump("strategies")),
    ],
    ids=["find", "get", "event_by_key", "events", "scan", "dump"],
)
def test_a_read_on_a_connection_that_died_while_idle_is_made_on_another(
    postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger, read: Callable[[PostgresLedger], object],
) -> None:
    assert not read(postgres_ledger)
    cut(postgres, ledger_database)
    assert not read(postgres_ledger)


def test_a_read_that_waits_too_long_is_told_as_such_and_the_next_one_works(
    postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger,
) -> None:
    """Neither the statement nor its values are in what is told."""
    with closing(connect(postgres.superuser_url(ledger_database))) as other, other.cursor() as cursor:
        other.autocommit = False
        cursor.execute("LOCK TABLE strategies")
        with (
            pytest.raises(LedgerUnavailable, match=r"due to lock timeout\. Rule: ") as told,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setitem(connecting.SESSION, "lock_timeout", "50ms")
            with closing(PostgresLedger.open(postgres.app_url(ledger_database), "demo")) as hurried:
                hurried.find("strategies", name="a-private-name")
        assert "a-private-name" not in f"{told.value}{told.value.__cause__}"
        other.rollback()
    assert postgres_ledger.find("strategies", name="a-private-name") == []


def test_a_connection_lost_within_a_transaction_loses_it_even_when_swallowed(
    postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger
) -> None:
    with pytest.raises(LedgerUnavailable), postgres_ledger.transaction() as transaction:
        transaction.append(step(1))
        cut(postgres, ledger_database)
        with pytest.raises(LedgerUnavailable):
            transaction.find("cash")
    assert postgres_ledger.head()[0] == 1


@pytest.mark.parametrize("committed", [True, False])
def test_the_outcome_of_a_commit_without_an_answer_is_read_back(
    postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger, committed: bool
) -> None:
    """fault 28: the connection breaks at COMMIT, before or after the server has done it."""
    once = iter([True])

    @sa.event.listens_for(postgres_ledger._engine, "commit")
    def break_at_commit(connection: sa.Connection) -> None:
        if next(once, False):
            if committed:
                connection.connection.dbapi_connection.commit()  # type: ignore[union-attr]
                connection.execute(sa.text("SELECT 1"))
            cut(postgres, ledger_database)

    def write() -> None:
        with postgres_ledger.transaction() as transaction:
            transaction.append(funded())

    if committed:
        write()
    else:
        with pytest.raises(LedgerUnavailable):
            write()
    assert postgres_ledger.head()[0] == (2 if committed else 1)
    assert verify(postgres_ledger).ok


def test_a_lease_that_was_lost_says_so(postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger) -> None:
    """22."""
    with pytest.raises(LedgerUnavailable), postgres_ledger.lease("broker"):
        cut(postgres, ledger_database)


def test_a_lease_of_a_killed_holder_is_free_again(
    postgres: EmbeddedPostgres, ledger_database: str, postgres_ledger: PostgresLedger
) -> None:
    holding, go = threading.Event(), threading.Event()
    other = PostgresLedger.open(postgres.app_url(ledger_database), "demo")

    def hold() -> None:
        with pytest.raises(Fenced), other.lease("broker"):
            holding.set()
            go.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(10)
    cut(postgres, ledger_database)
    with postgres_ledger.lease("broker", wait_seconds=5):
        pass
    go.set()
    thread.join()
    other.close()
