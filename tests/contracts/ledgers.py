"""The ledgers that contracts are run against: a contract's class is inherited together with one of these."""

import pytest

from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.domain.events import Event, NewEvent
from trading_pipeline.domain.projections import TABLES
from trading_pipeline.ports import Ledger


def append(ledger: Ledger, *events: NewEvent) -> list[Event]:
    """In a transaction of their own."""
    with ledger.transaction() as transaction:
        return transaction.append(*events)


def tables(ledger: Ledger) -> dict[str, list[dict[str, object]]]:
    """Every table as it stands."""
    return {name: list(ledger.dump(name)) for name in TABLES}


class InMemory:
    """The ledger in memory."""

    @pytest.fixture
    def ledger(self) -> MemoryLedger:
        return MemoryLedger("demo")


class OnPostgres:
    """The ledger in PostgreSQL."""

    @pytest.fixture
    def ledger(self, postgres_ledger: PostgresLedger) -> PostgresLedger:
        return postgres_ledger
