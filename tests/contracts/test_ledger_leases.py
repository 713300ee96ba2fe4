"""Leases and health that every ledger keeps: one holder, a higher fence each time, the last thing said; in memory and in PostgreSQL."""

import pytest

from tests.contracts.ledgers import InMemory, OnPostgres, append
from tests.histories import step
from trading_pipeline.errors import Fenced, LedgerUnavailable
from trading_pipeline.ports import Fence, Ledger


class LeaseContract:
    """Inherited by one class an adapter."""

    def test_a_lease_has_one_holder(self, ledger: Ledger) -> None:
        """22, T20."""
        with ledger.lease("broker:PAPER"), ledger.lease("another"):
            with pytest.raises(LedgerUnavailable, match="broker:PAPER"), ledger.lease("broker:PAPER", wait_seconds=0.05):
                pass
            append(ledger, step(1))
        with ledger.lease("broker:PAPER", wait_seconds=0):
            pass

    def test_each_holder_has_a_higher_fence_and_the_one_before_is_refused(self, ledger: Ledger) -> None:
        """22."""
        with ledger.lease("broker:PAPER") as first, ledger.transaction() as transaction:
            transaction.require(first)
        with ledger.lease("broker:PAPER") as second:
            assert second.token > first.token
            with pytest.raises(Fenced), ledger.transaction() as transaction:
                transaction.append(step(1))
                transaction.require(first)
            with pytest.raises(Fenced):
                ledger.renew(first)
            ledger.renew(second)
        assert ledger.head()[0] == 1, "what stood in the refused transaction is gone with it"

    def test_a_lease_that_nobody_has_taken_is_nobodys(self, ledger: Ledger) -> None:
        """22."""
        with pytest.raises(Fenced, match="broker:PAPER is no longer held under number 1"):
            ledger.renew(Fence("broker:PAPER", 1))
        with pytest.raises(Fenced), ledger.transaction() as transaction:
            transaction.require(Fence("broker:PAPER", 1))

    def test_a_revoked_lease_submits_nothing_more(self, ledger: Ledger) -> None:
        """52."""
        with ledger.lease("broker:PAPER") as fence:
            ledger.revoke("broker:PAPER")
            with pytest.raises(Fenced), ledger.transaction() as transaction:
                transaction.require(fence)

    def test_a_health_row_says_the_last_thing_and_its_age(self, ledger: Ledger) -> None:
        assert ledger.health("desk:PAPER") is None
        ledger.beat("desk:PAPER", {"state": "starting"})
        ledger.beat("desk:PAPER", {"state": "ready"})
        health = ledger.health("desk:PAPER")
        assert health is not None
        assert health.content == {"state": "ready"}
        assert 0 <= health.age < 60

    def test_a_lease_is_let_go_by_an_exception(self, ledger: Ledger) -> None:
        with pytest.raises(ZeroDivisionError), ledger.lease("x"):
            raise ZeroDivisionError
        with ledger.lease("x", wait_seconds=0.05):
            pass


class TestMemoryLedger(InMemory, LeaseContract):
    """In memory."""


class TestPostgresLedger(OnPostgres, LeaseContract):
    """In PostgreSQL."""
