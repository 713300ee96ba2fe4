"""What only the ledger in memory promises: one process, one writer, events that are there, and a rebuild of what somebody spoilt."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.histories import AT, funded, small_day, step
from trading_pipeline.adapters.ledger import memory
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.events import text_of
from trading_pipeline.domain.projections import TABLES
from trading_pipeline.errors import LedgerCorrupt, LedgerUnavailable, SettingsError
from trading_pipeline.service.record.verification import verify


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger("demo", opened_at=AT)


def fill(ledger: MemoryLedger) -> dict[str, list[dict[str, object]]]:
    """A small day; its tables."""
    with ledger.transaction() as transaction:
        transaction.append(*small_day())
    return {name: list(ledger.dump(name)) for name in TABLES}


def test_a_transaction_within_a_transaction_is_refused_and_not_waited_for_without_end(ledger, monkeypatch):
    monkeypatch.setattr(memory, "WRITER_WAIT_SECONDS", 0.01)
    with ledger.transaction() as transaction:
        with pytest.raises(LedgerUnavailable, match="locked by another transaction") as refused, ledger.transaction():
            pass
        assert refused.value.value == 0.01
        transaction.append(step(1))
    with ledger.transaction() as transaction:
        transaction.append(step(2))
    assert ledger.head()[0] == 3


def test_a_second_writer_waits_for_the_first(ledger):
    began = threading.Event()

    def write() -> None:
        began.set()
        with ledger.transaction() as transaction:
            transaction.append(step(2))

    writer = threading.Thread(target=write)
    with ledger.transaction() as transaction:
        writer.start()
        began.wait()
        transaction.append(step(1))
        assert writer.is_alive()
    writer.join()
    assert [event.key for event in ledger.events(after=1)] == ["step:1", "step:2"]


def test_an_iterator_ends_at_the_head_that_there_was_when_it_was_asked_for(ledger):
    fill(ledger)
    begun: Iterator[object] = ledger.scan(24)
    dumped = ledger.dump("cash")
    with ledger.transaction() as transaction:
        transaction.append(funded("1", "more"), step(1))
    assert len(list(begun)) == 1
    assert next(dumped)["last_seq"] == 24
    with ledger.transaction() as transaction:
        transaction.append(step(2))
        assert len(list(ledger.scan(25))) == 2


def test_a_health_row_grows_old_and_keeps_what_it_was_told(ledger):
    content = {"state": "ready"}
    ledger.beat("desk", content)
    content["state"] = "gone"
    time.sleep(0.02)
    health = ledger.health("desk")
    assert health is not None
    assert (health.name, health.content) == ("desk", {"state": "ready"})
    assert 0.02 <= health.age < 60


def test_a_rebuild_mends_tables_that_somebody_spoilt(ledger):
    """5."""
    right = fill(ledger)
    ledger._committed.tables.put("cash", right["cash"][0] | {"cash": 0})
    assert not verify(ledger).ok
    assert ledger.rebuild() == 24
    assert {name: list(ledger.dump(name)) for name in TABLES} == right
    assert verify(ledger).ok


def test_a_rebuild_refuses_events_that_do_not_verify_and_changes_nothing(ledger):
    """3, 5."""
    fill(ledger)
    ledger._committed.facts[9] = replace(ledger._committed.facts[9], actor="somebody else")
    ledger._committed.tables.put("cash", ledger.find("cash")[0] | {"account": "MINE"})
    spoilt = list(ledger.dump("cash"))
    with pytest.raises(LedgerCorrupt, match="cannot be rebuilt: event 10, hash") as refused:
        ledger.rebuild()
    assert (refused.value.value, refused.value.rule) == (10, "the hash covers every field")
    assert list(ledger.dump("cash")) == spoilt
    with ledger.transaction() as transaction:
        transaction.append(step(1))


def test_a_ledger_of_no_environment_is_not_opened():
    with pytest.raises(SettingsError, match="moon is no environment"):
        MemoryLedger("moon")


def test_facts_taken_down_as_text_are_the_facts_that_were_appended(ledger):
    tables = fill(ledger)
    other = MemoryLedger("demo", opened_at=AT)
    other.take_down([text_of(event) for event in ledger.scan(2)])
    assert other.head() == ledger.head()
    assert [replace(event, recorded_at=AT) for event in other.scan()] == [replace(event, recorded_at=AT) for event in ledger.scan()]
    assert {name: list(other.dump(name)) for name in TABLES} == tables
    assert verify(other).ok


def test_a_reading_that_was_interrupted_begins_anew(ledger, monkeypatch):
    tables, fold, left = fill(ledger), memory.fold, iter(range(3))
    texts = [text_of(event) for event in ledger.scan(2)]
    other = MemoryLedger("demo", opened_at=AT)
    other.take_down(texts[:4])
    assert len(other.events()) == 5
    other.take_down(texts[4:])

    def interrupted(*of: object) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        fold(*of)

    monkeypatch.setattr(memory, "fold", interrupted)
    with pytest.raises(KeyboardInterrupt):
        other.events()
    monkeypatch.setattr(memory, "fold", fold)
    assert other.head() == ledger.head()
    assert [text_of(event) for event in other.scan(2)] == texts
    assert {name: list(other.dump(name)) for name in TABLES} == tables


def test_facts_that_are_kept_are_counted_at_once_and_written_out_once_by_whoever_reads_first(ledger):
    fill(ledger)
    texts = [text_of(event) for event in ledger.scan(2)]
    other, times = MemoryLedger("demo", opened_at=AT), []

    def write_out() -> None:
        times.append(1)
        other.take_down(texts)

    other.keep(lambda: b"what makes them what they are", write_out, len(texts))
    assert (other.count(), times) == (ledger.count(), [])
    assert [text_of(event) for event in other.scan(2)] == texts
    assert (other.head(), times) == (ledger.head(), [1])


@pytest.mark.parametrize("other", ["seq", "stream_seq", "key"])
def test_a_text_that_does_not_belong_where_it_is_taken_down_is_refused_to_whoever_reads(ledger, other):
    fill(ledger)
    newest = list(ledger.scan())[-1]
    following = {"seq": newest.seq + 1, "stream_seq": newest.stream_seq + 1, "key": "another"}
    ledger.take_down([text_of(replace(newest, **following | {other: getattr(newest, other)}))])
    with pytest.raises(LedgerCorrupt, match="does not belong"):
        ledger.event(1)
