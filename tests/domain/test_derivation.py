"""What follows from events alone: where the chain breaks and how it is told, and tables that nobody else can touch."""

import gc
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.histories import E, fact, funded, small_day, step
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.derivation import Derivation, Difference, MemoryTables, collector_paused
from trading_pipeline.domain.events import GENESIS, Event, NewEvent, event_hash
from trading_pipeline.domain.projections import TABLES


def written(*events: NewEvent) -> list[Event]:
    """As a ledger seals them, after its opening."""
    ledger = MemoryLedger("demo", opened_at=small_day()[0].at)
    with ledger.transaction() as transaction:
        transaction.append(*events)
    return ledger.events()


def first_difference(events: Sequence[Event]) -> Difference | None:
    derivation = Derivation()
    return next((found for event in events if (found := derivation.add(event)) is not None), None)


def sealed(event: Event, **changes: object) -> Event:
    """The event with changes, under a hash that fits them."""
    new = replace(event, **changes)  # type: ignore[arg-type]
    fitting = event_hash(
        new.previous_hash, new.seq, new.stream, new.stream_seq, new.key, new.type.value, new.schema, new.cause, new.actor, new.at,
        new.payload_text,
    )
    return replace(new, hash=fitting)


def test_a_chain_that_holds_gives_the_tables_and_the_head():
    """3, 5."""
    events, derivation = written(*small_day()), Derivation()
    assert (derivation.seq, derivation.hash) == (0, GENESIS)
    assert [derivation.add(event) for event in events] == [None] * 24
    assert (derivation.seq, derivation.hash) == (24, events[-1].hash)
    assert derivation.streams == {"system": 1, "account": 1, "strategy:trend": 22}
    cash = derivation.tables.get("cash", ("PAPER",))
    assert cash is not None
    assert cash["cash"] == Decimal("98499.5")


def test_a_missing_event_is_told_at_its_place():
    """1."""
    events = written(step(1), step(2), step(3))
    assert first_difference(events[:2] + events[3:]) == Difference("seq has no gaps", "4", "3", 3, column="seq")
    assert first_difference(events[1:]) == Difference("seq has no gaps", "2", "1", 1, column="seq")
    assert first_difference([*events, events[-1]]) == Difference("seq has no gaps", "4", "5", 5, column="seq")


def test_a_gap_in_a_stream_is_told_with_the_stream():
    """1."""
    events = written(step(1, "market"), step(2, "market"))
    events[2] = sealed(events[2], stream_seq=3)
    assert first_difference(events) == Difference("market has no gaps", "3", "2", 3, column="stream_seq")
    events = written(step(1, "market"), step(2, "market"))
    events[1] = sealed(events[1], stream_seq=0)
    assert first_difference(events) == Difference("market has no gaps", "0", "1", 2, column="stream_seq")


def test_another_hash_of_the_one_before_is_told_with_both():
    """3."""
    events = written(step(1), step(2))
    events[1] = sealed(events[1], previous_hash=b"\x01" * 32)
    rule = "each event carries the hash of the one before"
    assert first_difference(events) == Difference(rule, "01" * 32, events[0].hash.hex(), 2, column="previous_hash")


def test_a_changed_field_is_told_by_the_hash_that_it_would_have():
    """3."""
    events = written(step(1), step(2))
    changed = replace(events[1], actor="somebody else")
    fitting = sealed(events[1], actor="somebody else").hash
    assert first_difference([events[0], changed]) == Difference(
        "the hash covers every field", changed.hash.hex(), fitting.hex(), 2, column="hash"
    )


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ({"account": "PAPER"}, "'amount'"), ({"account": "PAPER", "amount": "much"}, "ConversionSyntax"),
        ({"account": "PAPER", "amount": None}, "NoneType"),
    ],
    ids=["a field is missing", "no number", "nothing"],
)
def test_an_event_that_cannot_be_applied_is_a_difference_and_no_crash(payload, says):
    events = written(funded())
    events[1] = replace(events[1], payload=payload)
    found = first_difference(events)
    assert found is not None
    assert (found.rule, found.stored, found.seq) == ("every event follows from those before it", "account.funded funded", 2)
    assert says in found.derived


def test_an_event_that_may_not_follow_is_a_difference():
    """17: an order is filled that nobody wrote down."""
    opening = written()[0]
    new = fact(E.ORDER_ACCEPTED, "accepted", "strategy:trend", client_id="C1")
    event = sealed(replace(opening, previous_hash=opening.hash), seq=2, stream=new.stream, key=new.key, type=new.type, payload=new.payload,
                   payload_text='{"client_id":"C1"}')
    found = first_difference([opening, event])
    assert found is not None
    assert (found.stored, found.seq) == ("order.accepted accepted", 2)


@pytest.mark.parametrize(
    ("difference", "says"),
    [
        (Difference("a rule", "1", "2", 7, column="hash"), "event 7, hash: a rule; stored 1, derived 2"),
        (Difference("a rule", "1", "2", 7), "event 7: a rule; stored 1, derived 2"),
        (
            Difference("a rule", "1", "2", 7, "positions", ("trend", "IBM"), "quantity"),
            "table positions, key trend/IBM, column quantity: a rule; stored 1, derived 2",
        ),
        (Difference("a rule", "a row", "no row", None, "cash", ("PAPER",)), "table cash, key PAPER: a rule; stored a row, derived no row"),
        (Difference("a rule", "a", "b", None, "cash"), "table cash, key whole table: a rule; stored a, derived b"),
    ],
)
def test_a_difference_says_where_it_is(difference, says):
    assert str(difference) == says


def test_the_collector_is_as_it_was_after_a_derivation_and_after_a_failed_one():
    assert gc.isenabled()
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            pass
        assert not gc.isenabled(), "the inner one does not switch it on"
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), collector_paused():
        raise ZeroDivisionError
    assert gc.isenabled()


def cash(account: str, amount: int) -> dict[str, object]:
    return dict.fromkeys(TABLES["cash"].columns) | {"account": account, "cash": Decimal(amount)}


def test_rows_come_out_of_tables_as_copies_in_key_order():
    tables = MemoryTables()
    for account in ("b", "a", "c"):
        tables.put("cash", cash(account, 1))
    got = tables.get("cash", ("a",))
    assert got is not None
    got["cash"] = Decimal(99)
    for row in tables.rows("cash"):
        row["cash"] = Decimal(99)
    assert [(row["account"], row["cash"]) for row in tables.rows("cash")] == [("a", 1), ("b", 1), ("c", 1)]
    assert tables.get("cash", ("d",)) is None
    tables.put("cash", cash("a", 2))
    assert sorted(row["cash"] for row in tables.values("cash")) == [1, 1, 2]
    assert list(tables.rows("positions")) == []


def test_rows_with_keys_of_two_columns_are_kept_apart():
    tables = MemoryTables()
    for strategy, symbol in (("b", "AAPL"), ("a", "MSFT"), ("a", "AAPL")):
        tables.put("positions", dict.fromkeys(TABLES["positions"].columns) | {"strategy": strategy, "symbol": symbol})
    assert [(row["strategy"], row["symbol"]) for row in tables.rows("positions")] == [("a", "AAPL"), ("a", "MSFT"), ("b", "AAPL")]
    found = tables.get("positions", ("a", "MSFT"))
    assert found is not None
    assert found["symbol"] == "MSFT"
