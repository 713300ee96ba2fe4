"""The ledger in memory and the one in PostgreSQL, written to alike: what one answers, the other answers; and what two write at once."""

import threading
from collections.abc import Sequence
from contextlib import suppress

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.conftest import RESET, execute
from tests.histories import AT, E, created, fact, funded, step, trade
from tests.state_machines.walking import walk
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.domain.events import Event, NewEvent
from trading_pipeline.domain.projections import TABLES
from trading_pipeline.errors import IllegalTransition
from trading_pipeline.ports import Ledger
from trading_pipeline.service.record.verification import verify

TRADES = {number: list(trade(number)) for number in range(3)}
FACTS = [
    *(step(number, stream) for number in range(4) for stream in ("market", "account")), funded("100", "more"), funded("7", "still more"),
    created(), created("other"), fact(E.STRATEGY_STARTING, "starting", "strategy:trend", strategy="trend"),
    fact(E.STRATEGY_STARTED, "started", "strategy:trend", strategy="trend"), *(each for events in TRADES.values() for each in events),
]
"""Facts by key, many of which follow only from others: batches of them are legal or not."""
batches = st.lists(st.sampled_from(range(len(FACTS))), min_size=1, max_size=6).map(lambda chosen: [FACTS[number] for number in chosen])


class RolledBack(Exception):
    """A caller's own trouble within a transaction."""


def heads(ledger: Ledger) -> list[tuple[str, int, bytes]]:
    return [(event.key, event.seq, event.hash) for event in ledger.scan()]


class Ledgers(RuleBasedStateMachine):
    """Both ledgers, opened at one instant, so that their hashes are the same as well."""

    def __init__(self, server: EmbeddedPostgres, database: str) -> None:
        super().__init__()
        execute(server.superuser_url(database), RESET.format(deletes=" ".join(f"DELETE FROM {table};" for table in TABLES)))
        self.memory = MemoryLedger("demo", opened_at=AT)
        self.postgres = PostgresLedger.open(server.app_url(database), "demo", opened_at=AT)
        self.known: list[str] = ["ledger.opened"]
        self._both([funded()])

    def _append(self, ledger: Ledger, batch: Sequence[NewEvent], *, fail: bool = False) -> tuple[list[Event] | None, list[bool]]:
        """What came back and which were new; None when the batch was refused."""
        try:
            with ledger.transaction() as tx:
                events = tx.append(*batch)
                new = [tx.is_new(event) for event in events]
                if fail:
                    raise RolledBack
        except IllegalTransition:
            return None, []
        return events, new

    def _both(self, batch: Sequence[NewEvent]) -> None:
        told = [self._append(ledger, batch) for ledger in (self.memory, self.postgres)]
        assert [event.key for event in told[0][0] or ()] == [event.key for event in told[1][0] or ()]
        assert told[0][1] == told[1][1]
        assert (told[0][0] is None) is (told[1][0] is None)
        if told[0][0] is not None:
            assert [event.key for event in told[0][0]] == [event.key for event in batch]
            self.known += dict.fromkeys(event.key for event in batch if event.key not in self.known)

    @rule(batch=batches)
    def append(self, batch: list[NewEvent]) -> None:
        """All of it or nothing; a key that is known changes nothing."""
        self._both(batch)

    @rule(number=st.sampled_from(sorted(TRADES)), upto=st.integers(1, 7))
    def trade(self, number: int, upto: int) -> None:
        """The beginning of a legal story."""
        self._both([created(), *TRADES[number][:upto]])

    @rule(batch=batches)
    def roll_back(self, batch: list[NewEvent]) -> None:
        """The caller's exception takes everything back."""
        for ledger in (self.memory, self.postgres):
            with suppress(RolledBack):
                assert self._append(ledger, batch, fail=True)[0] is None

    @rule(ours=batches, theirs=batches)
    def write_at_once(self, ours: list[NewEvent], theirs: list[NewEvent]) -> None:
        """Two writers with some of the same keys take turns in some order; memory is told in the order that it was."""
        before = self.postgres.head()[0]
        answers: dict[int, list[Event] | None] = {}

        def write(number: int, batch: list[NewEvent]) -> None:
            answers[number] = self._append(self.postgres, batch)[0]

        threads = [threading.Thread(target=write, args=each) for each in enumerate((ours, theirs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        written = self.postgres.events(after=before)
        told = [event.key for batch in (answers[0], answers[1]) for event in batch or ()]
        assert {event.key for event in written} <= set(told), "what nobody was told of was written"
        self.known += [event.key for event in written]
        assert set(told) <= set(self.known), "what was acknowledged is not there"
        self._append(self.memory, [NewEvent(e.type, e.stream, e.key, e.payload, e.at, e.actor, e.cause, e.schema) for e in written])

    @rule()
    def rebuild(self) -> None:
        """The tables derived anew are those that there were."""
        assert self.memory.rebuild() == self.postgres.rebuild() == len(self.known)

    @invariant()
    def they_hold_the_same_events(self) -> None:
        assert heads(self.memory) == heads(self.postgres)
        assert [key for key, _, _ in heads(self.postgres)] == self.known
        assert [seq for _, seq, _ in heads(self.postgres)] == list(range(1, len(self.known) + 1))

    @invariant()
    def they_hold_the_same_tables(self) -> None:
        for name in TABLES:
            assert list(self.memory.dump(name)) == list(self.postgres.dump(name))

    def teardown(self) -> None:
        report = verify(self.postgres)
        assert report.ok, report.difference
        self.postgres.close()


def test_both_ledgers_keep_the_same_record_whatever_is_written_and_rolled_back(postgres: EmbeddedPostgres, ledger_database: str) -> None:
    """1, 3, 5, 10, 17, fault 29."""
    walk(lambda: Ledgers(postgres, ledger_database), examples=5, steps=12)
