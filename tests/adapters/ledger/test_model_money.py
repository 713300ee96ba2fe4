"""The tables of what models cost in PostgreSQL: the same as in memory byte for byte, rebuilt, upgraded to, and held to by threads."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal as D

import pytest
import sqlalchemy as sa

from tests.desks import strategy
from tests.histories import AT, small_day
from tests.model_facts import answered, asked, lost, skipped
from trading_pipeline.adapters.ledger.connecting import engine_for
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.adapters.ledger.migrations import REVISION, revision_of
from trading_pipeline.adapters.ledger.postgres import PostgresLedger, is_prepared, prepare_database
from trading_pipeline.domain.events import NewEvent
from trading_pipeline.domain.models import ModelBudget, Provider
from trading_pipeline.domain.projections.models import CALLS, SPEND
from trading_pipeline.service.models.purse import Purse

WALL = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)


def facts() -> list[list[NewEvent]]:
    """Every kind of fact, a transaction each."""
    return [
        [asked("c1"), asked("c2", reserved="0.123456789"), asked("c3", strategy="swing")], [answered("c1", cost="0.0000425")],
        [lost("c2")], [answered("c3", strategy="swing", trouble="timeout", cost="0")],
        [skipped("c4", "trigger"), skipped("c5", "budget", "0.02"), skipped("c6", "trigger", "0.0042")],
        [asked("c7", reserved="0"), answered("c7", cost="0", replayed=True)],
    ]


def test_both_ledgers_keep_the_same_tables_and_a_rebuild_changes_nothing(postgres: EmbeddedPostgres, ledger_database: str) -> None:
    """4, 5."""
    ledger = PostgresLedger.open(postgres.app_url(ledger_database), "demo", clock_wall=lambda: WALL, opened_at=AT)
    memory = MemoryLedger("demo", lambda: WALL, opened_at=AT)
    try:
        for each in (ledger, memory):
            for events in facts():
                with each.transaction() as tx:
                    tx.append(*events)
        tables = {table: list(ledger.dump(table)) for table in (CALLS, SPEND)}
        assert all(tables.values())
        assert tables == {table: list(memory.dump(table)) for table in tables}
        ledger.rebuild()
        assert {table: list(ledger.dump(table)) for table in tables} == tables
        assert repr({table: list(ledger.dump(table)) for table in tables}) == repr(tables), "every amount with its zeros"
    finally:
        ledger.close()


def test_a_ledger_of_the_version_before_is_upgraded_with_its_history(postgres: EmbeddedPostgres, ledger_database: str) -> None:
    owner = engine_for(postgres.owner_url(ledger_database))
    ledger = PostgresLedger.open(postgres.app_url(ledger_database), "demo", opened_at=AT)
    with ledger.transaction() as tx:
        tx.append(*small_day())
    ledger.close()
    with owner.begin() as connection:
        connection.execute(sa.text("DROP TABLE model_calls, model_spend"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0002'"))
    assert not is_prepared(postgres.app_url(ledger_database))
    prepare_database(postgres.owner_url(ledger_database))
    with owner.connect() as connection:
        assert revision_of(connection) == REVISION
    owner.dispose()
    ledger = PostgresLedger.open(postgres.app_url(ledger_database), "demo")
    try:
        before = list(ledger.dump("orders"))
        ledger.rebuild()
        assert list(ledger.dump("orders")) == before and list(ledger.dump(SPEND)) == []
        with ledger.transaction() as tx:
            tx.append(asked("c1"))
        assert [row["reserved"] for row in ledger.dump(SPEND)] == [D("0.10")]
    finally:
        ledger.close()


@pytest.mark.parametrize("budget", [ModelBudget(per_day=D("1.00"), calls_per_hour=10_000), ModelBudget(per_day=D(100), calls_per_hour=20)])
def test_threads_that_reserve_at_once_keep_within_the_budget(
    postgres: EmbeddedPostgres, ledger_database: str, budget: ModelBudget
) -> None:
    """63, fault 44: 16 threads want 3 questions each of $0.10 (two calls of $0.05): ten fit into $1.00, and ten into 20 calls."""
    ledger = PostgresLedger.open(postgres.app_url(ledger_database), "demo", opened_at=AT)
    spec = strategy("trend")

    def ask(thread: int) -> int:
        taken = 0
        for number in range(3):
            with ledger.transaction() as tx:
                purse = Purse(tx, budget, datetime.now(UTC))
                if purse.refusal(spec, Provider.ANTHROPIC, "claude-haiku-4-5", D("0.05")) is None:
                    purse.take("trend", Provider.ANTHROPIC, D("0.10"))
                    tx.append(asked(f"{thread}-{number}", reserved="0.10", day=purse.day.isoformat()))
                    taken += 1
        return taken

    try:
        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(ask, range(16))) == 10
        [row] = ledger.dump(SPEND)
        assert (row["reserved"], row["asked"]) == (D("1.00"), 10)
    finally:
        ledger.close()
