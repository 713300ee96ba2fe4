"""What judging says of a ledger: what it looked at, what it found, and the form in which it is handed the events."""

from dataclasses import replace

from tests.evidence.mutations import event_row
from tests.histories import AT, small_day, step
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.events import canonical_payload
from trading_pipeline.service.record.judgement import exported, judge


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


def test_an_exported_event_has_every_field_of_its_envelope() -> None:
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
