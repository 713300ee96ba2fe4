"""Leases on a real PostgreSQL: submitters that take, renew, let go, are stopped, killed and fenced, and at most one may submit."""

import itertools
from contextlib import AbstractContextManager, suppress
from functools import partial

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.conftest import connect, execute
from tests.state_machines.walking import walk
from trading_pipeline.adapters.ledger import leases
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.errors import Fenced, LedgerUnavailable
from trading_pipeline.ports import Fence

SUBMITTERS = (0, 1, 2)
_names = itertools.count(1)


class Leases(RuleBasedStateMachine):
    """Three submitters of one account, each with connections of its own, and what the lease's token should be."""

    def __init__(self, server: EmbeddedPostgres, database: str, ledgers: list[PostgresLedger]) -> None:
        super().__init__()
        self.admin = server.superuser_url(database)
        self.ledgers = ledgers
        self.name = f"submitter:{next(_names)}"
        self.holding: dict[int, tuple[AbstractContextManager[Fence], Fence]] = {}
        """Who believes to hold it: the lease to leave, and its fence."""
        self.connected: int | None = None
        """Whose connection has the lock."""
        self.token = self.highest = 0
        """Of the table, and ever given: a table that was put back has a lower one."""
        self.fences: list[Fence] = []

    def _took(self, who: int, lease: AbstractContextManager[Fence], fence: Fence) -> None:
        assert fence.token > self.highest, "a token was given again"
        self.token = self.highest = fence.token
        self.connected = who
        self.holding[who] = (lease, fence)
        self.fences.append(fence)

    @rule(who=st.sampled_from(SUBMITTERS))
    def take(self, who: int) -> None:
        """It is had when nobody has it, and not when somebody who is alive does."""
        if who in self.holding:
            return
        lease = self.ledgers[who].lease(self.name, wait_seconds=0)
        try:
            fence = lease.__enter__()
        except LedgerUnavailable:
            assert self.connected is not None, "nobody has it"
            return
        assert self.connected is None, "two have it"
        self._took(who, lease, fence)

    @rule(who=st.sampled_from(SUBMITTERS))
    def take_from_a_sleeper(self, who: int) -> None:
        """Whoever has not renewed in time loses it."""
        if who in self.holding:
            return
        lease = self.ledgers[who].lease(self.name, wait_seconds=5, life_seconds=0)
        self._took(who, lease, lease.__enter__())

    @rule(who=st.sampled_from(SUBMITTERS))
    def let_go(self, who: int) -> None:
        """Who has lost it learns so on leaving, if it has been taken since."""
        if who not in self.holding:
            return
        lease, fence = self.holding.pop(who)
        if self.connected == who:
            lease.__exit__(None, None, None)
            self.connected = None
            return
        try:
            lease.__exit__(None, None, None)
        except Fenced:
            assert fence.token != self.token
        except LedgerUnavailable:
            assert fence.token == self.token, "killed, and nobody has taken it since"
        else:
            raise AssertionError("it believes to have had it all the time")

    @rule(who=st.sampled_from(SUBMITTERS))
    def kill(self, who: int) -> None:
        """The process is gone, and with it its connection."""
        if self.connected != who:
            return
        execute(
            self.admin, "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = "
            "(SELECT backend FROM leases WHERE name = %s)", self.name,
        )
        self.connected = None

    @rule()
    def revoke(self) -> None:
        """A stop fences the holder without taking the lease."""
        self.ledgers[0].revoke(self.name)
        before, self.token = self.token, self._in_the_table()
        assert self.token > before
        self.highest = max(self.highest, self.token)

    @rule()
    def put_back(self) -> None:
        """The ledger is put back from a backup that was made before anybody had it (C14): nobody's connection outlives that."""
        if self.connected is not None:
            self.kill(self.connected)
        execute(self.admin, "DELETE FROM leases WHERE name = %s", self.name)
        self.token = 0

    @rule(who=st.sampled_from(SUBMITTERS))
    def renew(self, who: int) -> None:
        """Only the one whose token stands is alive."""
        if who not in self.holding:
            return
        _, fence = self.holding[who]
        try:
            self.ledgers[who].renew(fence)
        except Fenced:
            assert fence.token != self.token
        else:
            assert fence.token == self.token

    @invariant()
    def at_most_one_fence_passes(self) -> None:
        """In the transaction of a submission: the newest, unless it was revoked."""
        passing = []
        for fence in self.fences[-4:]:
            with suppress(Fenced), self.ledgers[0].transaction() as tx:
                tx.require(fence)
                passing.append(fence.token)
        assert passing == [fence.token for fence in self.fences[-1:] if fence.token == self.token]

    @invariant()
    def the_token_is_what_it_should_be(self) -> None:
        assert self._in_the_table() == self.token

    def _in_the_table(self) -> int:
        with connect(self.admin) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT token FROM leases WHERE name = %s", (self.name,))
            token = (cursor.fetchone() or (0,))[0]
        connection.close()
        return int(token)

    def teardown(self) -> None:
        for lease, _ in self.holding.values():
            with suppress(Fenced, LedgerUnavailable):
                lease.__exit__(None, None, None)


def test_at_most_one_submitter_passes_and_tokens_only_grow(
    postgres: EmbeddedPostgres, ledger_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """22, 52, C14, fault 25, fault 26, T20."""
    monkeypatch.setattr(leases, "_TRY_SECONDS", 0.02)
    ledgers = [PostgresLedger.open(postgres.app_url(ledger_database), "demo") for _ in SUBMITTERS]
    try:
        walk(partial(Leases, postgres, ledger_database, ledgers), examples=6, steps=15)
    finally:
        for ledger in ledgers:
            ledger.close()
