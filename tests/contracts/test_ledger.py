"""What every ledger promises, run against the one in memory and the one in PostgreSQL."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from tests.contracts.ledgers import InMemory, OnPostgres, append, tables
from tests.histories import AT, E, created, fact, funded, small_day, step, trade
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.domain.events import GENESIS, EventType, NewEvent, canonical_payload, event_hash
from trading_pipeline.ports import Ledger
from trading_pipeline.service.record.verification import verify


class LedgerContract:
    """Inherited by one class an adapter."""

    def test_a_new_ledger_begins_with_the_fact_that_it_was_opened(self, ledger: Ledger) -> None:
        first = ledger.event(1)
        assert first is not None
        assert (first.type, first.key, first.payload) == (E.LEDGER_OPENED, "ledger.opened", {"environment": "demo"})
        assert first.previous_hash == GENESIS
        assert ledger.head() == (1, first.hash)
        assert ledger.environment == "demo"

    def test_what_is_appended_comes_back_with_its_envelope(self, ledger: Ledger) -> None:
        before = datetime.now(UTC)
        at = datetime(2012, 10, 15, 16, 0, 0, 1, tzinfo=UTC)
        (event,) = append(
            ledger, NewEvent(E.BAR_RECEIVED, "market", "bar:é1", {"price": Decimal("1.50"), "note": "naïve 😀\x00"}, at, "cycle", 1, 2)
        )
        assert ledger.event(2) == event == ledger.event_by_key("bar:é1")
        assert (event.seq, event.stream_seq, event.cause, event.schema, event.actor, event.at) == (2, 1, 1, 2, "cycle", at)
        assert event.payload == {"price": "1.50", "note": "naïve 😀\x00"}
        assert event.payload_text == canonical_payload(event.payload)
        assert before <= event.recorded_at <= datetime.now(UTC)

    def test_what_a_driver_might_read_as_its_own_is_text_like_any_other(self, ledger: Ledger) -> None:
        odd = "100 % %s %(name)s :name ? {0} \\ ' \" ; -- $$"
        event, _ = append(ledger, NewEvent(E.STEP_COMPLETED, odd, odd, {odd: odd}, AT, odd), created(odd))
        assert ledger.event_by_key(odd) == event == ledger.events(stream=odd)[0]
        assert (event.payload, event.actor) == ({odd: odd}, odd)
        assert [row["name"] for row in ledger.find("strategies", name=odd)] == [odd]

    def test_each_hash_covers_the_one_before(self, ledger: Ledger) -> None:
        """3."""
        append(ledger, *small_day())
        previous = GENESIS
        for event in ledger.scan():
            previous = event_hash(
                previous, event.seq, event.stream, event.stream_seq, event.key, event.type.value, event.schema, event.cause,
                event.actor, event.at, event.payload_text,
            )
            assert event.hash == previous
        assert ledger.head() == (24, previous)
        assert ledger.count() == 24

    def test_seqs_have_no_gaps_over_all_and_within_a_stream(self, ledger: Ledger) -> None:
        """1."""
        append(ledger, step(1, "market"), step(2, "account"), step(3, "market"))
        append(ledger, step(4, "market"), step(5, "account"))
        assert [event.seq for event in ledger.scan()] == [1, 2, 3, 4, 5, 6]
        assert [event.stream_seq for event in ledger.events(stream="market")] == [1, 2, 3]
        assert [event.stream_seq for event in ledger.events(stream="account")] == [1, 2]

    def test_a_key_appended_again_returns_the_stored_event_and_changes_nothing(self, ledger: Ledger) -> None:
        """10."""
        (first,) = append(ledger, funded("100"))
        with ledger.transaction() as transaction:
            again, new = transaction.append(funded("999"), step(1))
            assert again == first
            assert (transaction.is_new(again), transaction.is_new(new)) == (False, True)
        assert ledger.head()[0] == 3
        assert ledger.find("cash")[0]["cash"] == Decimal(100)

    def test_a_key_twice_in_one_batch_is_one_event(self, ledger: Ledger) -> None:
        one, two = append(ledger, funded("100"), funded("999"))
        assert one == two
        assert ledger.find("cash")[0]["cash"] == Decimal(100)

    def test_an_exception_rolls_everything_back(self, ledger: Ledger) -> None:
        with pytest.raises(ZeroDivisionError), ledger.transaction() as transaction:
            transaction.append(funded())
            raise ZeroDivisionError
        assert ledger.head()[0] == 1
        assert ledger.find("cash") == []
        assert append(ledger, step(1))[0].seq == 2

    def test_a_transaction_sees_its_own_writes_and_others_do_not(self, ledger: Ledger) -> None:
        with ledger.transaction() as transaction:
            transaction.append(funded("100"), created())
            assert transaction.get("cash", "PAPER") == transaction.find("cash")[0]
            transaction.append(funded("1", key="more"))
            assert transaction.find("cash", cash=Decimal(101))[0]["last_seq"] == 4
            assert transaction.head()[0] == 4
            assert [event.key for event in transaction.events(after=2)] == ["created:trend", "more"]
            assert transaction.event_by_key("more") == transaction.event(4)
            assert ledger.head()[0] == 1
            assert ledger.get("cash", "PAPER") is None
            assert ledger.find("cash") == []
            assert ledger.event(2) is None
        assert ledger.get("cash", "PAPER") is not None

    def test_a_transaction_asks_as_others_do_over_what_is_stored_and_what_is_its_own(self, ledger: Ledger) -> None:
        append(ledger, funded(), created(), *trade(2))
        with ledger.transaction() as transaction:
            transaction.append(*trade(1, symbol="IBM"), *trade(3))

            def ids(**query: object) -> list[str]:
                return [row["client_id"] for row in transaction.find("orders", **query)]  # type: ignore[arg-type]

            assert ids() == ["Ctrend-1", "Ctrend-2", "Ctrend-3"]
            assert ids(order_by="symbol") == ["Ctrend-2", "Ctrend-3", "Ctrend-1"]
            assert ids(order_by="intent_at", descending=True, limit=2) == ["Ctrend-3", "Ctrend-2"]
            assert ids(symbol="AAPL", since=("intent_at", AT + timedelta(minutes=3))) == ["Ctrend-3"]
            fills = transaction.events(types=[E.ORDER_FILLED])
            assert [event.key for event in fills] == ["order.filled:trend-2", "order.filled:trend-1", "order.filled:trend-3"]
            assert transaction.events(types=[E.ORDER_FILLED], limit=2) == fills[:2]
            assert [event.key for event in transaction.events(stream="account")] == ["funded"]
            assert [event.key for event in transaction.events(stream="account", limit=1)] == ["funded"]
            assert [event.seq for event in transaction.events()] == list(range(1, 25))
            assert transaction.event_by_key("funded") == ledger.event(2)
            assert transaction.get("cash", "NOBODY") is None
        assert [event.seq for event in ledger.events()] == list(range(1, 25))

    def test_a_row_that_no_event_of_the_transaction_touched_is_read_as_it_is_stored(self, ledger: Ledger) -> None:
        append(ledger, *small_day())
        with ledger.transaction() as transaction:
            assert transaction.get("positions", "trend", "AAPL") == ledger.get("positions", "trend", "AAPL")
            assert transaction.get("orders", "Ctrend-9") is None

    def test_a_day_of_trading_leaves_the_tables_a_bookkeeper_would_write(self, ledger: Ledger) -> None:
        append(ledger, *small_day())
        assert ledger.get("cash", "PAPER") == {
            # 100000 - 10 x 101.75 - 10 x 103 + 5 x 110 - 3 x 1
            "account": "PAPER", "cash": Decimal("98499.5"), "deposited": Decimal(100000), "commissions": Decimal(3), "last_seq": 24,
        }
        position = ledger.get("positions", "trend", "AAPL")
        assert position is not None
        assert position["quantity"] == 15
        assert [row["quantity"] for row in ledger.find("fills", order_by="execution_id")] == [10, 10, 5]
        assert {row["state"] for row in ledger.find("orders")} == {"filled"}
        assert ledger.find("strategies")[0]["created_at"] == AT

    def test_rows_are_found_by_value_set_null_instant_and_come_in_order(self, ledger: Ledger) -> None:
        append(ledger, funded(), created(), *trade(2), *trade(1, symbol="IBM"), *list(trade(10))[:4])

        def ids(**query: object) -> list[str]:
            return [row["client_id"] for row in ledger.find("orders", **query)]  # type: ignore[arg-type]

        assert ids() == ["Ctrend-1", "Ctrend-10", "Ctrend-2"]
        assert ids(symbol="AAPL") == ["Ctrend-10", "Ctrend-2"]
        assert ids(state=["intent", "filled"], symbol=("IBM",)) == ["Ctrend-1"]
        assert ids(state=()) == []
        assert ids(submitted_at=None) == ["Ctrend-10"]
        assert ids(submitted_at=AT + timedelta(minutes=1)) == ["Ctrend-1"], "NULL is no instant"
        assert ids(submitted_at=[None, AT + timedelta(minutes=1)]) == ["Ctrend-1", "Ctrend-10"]
        assert ids(since=("intent_at", AT + timedelta(minutes=2))) == ["Ctrend-10", "Ctrend-2"]
        assert ids(since=("submitted_at", AT)) == ["Ctrend-1", "Ctrend-2"]
        assert ids(order_by="intent_at") == ["Ctrend-1", "Ctrend-2", "Ctrend-10"]
        assert ids(order_by="submitted_at") == ["Ctrend-1", "Ctrend-2", "Ctrend-10"]
        assert ids(order_by="submitted_at", descending=True, limit=2) == ["Ctrend-10", "Ctrend-2"]
        assert ids(order_by="symbol", descending=True) == ["Ctrend-1", "Ctrend-2", "Ctrend-10"]
        assert ids(order_by="symbol") == ["Ctrend-10", "Ctrend-2", "Ctrend-1"], "ties by key, not as they came"

    def test_events_are_found_after_a_seq_of_types_and_of_a_stream(self, ledger: Ledger) -> None:
        append(ledger, *small_day())
        fills = ledger.events(types=[EventType.ORDER_FILLED])
        assert [event.seq for event in fills] == [10, 17, 24]
        orders = ledger.events(types=[EventType.ORDER_FILLED, EventType.ORDER_INTENT], after=10, limit=2)
        assert orders == [ledger.event(14), ledger.event(17)]
        assert [event.key for event in ledger.events(stream="account")] == ["funded"]
        assert ledger.events(after=24) == ledger.events(stream="nobody's") == []
        of_both = ledger.events(types=[EventType.LEDGER_OPENED, EventType.ACCOUNT_FUNDED], stream="account")
        assert [event.key for event in of_both] == ["funded"]

    def test_a_scan_gives_a_range_of_events_in_order(self, ledger: Ledger) -> None:
        append(ledger, *(step(number) for number in range(1200)))
        assert [event.seq for event in ledger.scan()] == list(range(1, 1202))
        assert [event.seq for event in ledger.scan(500, 1001)] == list(range(500, 1002))
        assert [event.seq for event in ledger.scan(1200, 5000)] == [1200, 1201]
        assert [event.seq for event in ledger.scan(0, 2)] == [1, 2]
        assert list(ledger.scan(7, 6)) == list(ledger.scan(1202)) == []

    def test_an_event_that_does_not_exist_is_none(self, ledger: Ledger) -> None:
        append(ledger, step(1))
        with ledger.transaction() as transaction:
            transaction.append(step(2))
            for reader, newest in ((ledger, 2), (transaction, 3)):
                assert [reader.event(seq) is not None for seq in (-1, 0, 1, newest, newest + 1)] == [False, False, True, True, False]
                assert reader.event_by_key("step:3") is None
                assert [event.seq for event in reader.events(after=-5)] == list(range(1, newest + 1))
                assert [event.seq for event in reader.events(after=newest - 1)] == [newest]
                assert reader.events(after=newest) == reader.events(limit=0) == []
                assert [event.seq for event in reader.events(limit=1)] == [1]

    def test_what_is_read_belongs_to_the_reader(self, ledger: Ledger) -> None:
        """A row that somebody changes in his hands changes nothing that is stored, and nothing that others read."""
        append(ledger, funded("100"), created())
        with ledger.transaction() as transaction:
            transaction.append(funded("1", "more"))
            for row in (transaction.get("cash", "PAPER"), *transaction.find("cash"), *transaction.find("strategies")):
                assert row is not None
                row.clear()
            assert transaction.find("strategies")[0]["name"] == "trend"
            transaction.append(funded("1", "still more"))
        for row in (ledger.get("cash", "PAPER"), *ledger.find("cash"), *ledger.dump("cash")):
            assert row is not None
            row.clear()
        assert ledger.get("cash", "PAPER") == ledger.find("cash")[0] == next(iter(ledger.dump("cash")))
        assert ledger.find("cash")[0]["cash"] == Decimal(102)

    def test_a_rebuild_writes_the_same_tables(self, ledger: Ledger) -> None:
        """5."""
        append(ledger, *small_day(), created("tab\there\nback\\slash"))
        before = tables(ledger)
        assert ledger.rebuild() == 25
        assert tables(ledger) == before
        assert verify(ledger).ok

    def test_a_cause_may_be_the_fact_right_before_in_the_same_batch(self, ledger: Ledger) -> None:
        _, second = append(ledger, step(1), fact(E.STEP_COMPLETED, "step", cause=2))
        assert (second.seq, second.cause) == (3, 2)

    def test_an_instant_is_kept_in_utc_whatever_zone_it_came_in(self, ledger: Ledger) -> None:
        """3: the same instant has the same hash."""
        local = AT.astimezone(timezone(timedelta(hours=-4)))
        (event,) = append(ledger, fact(E.STEP_COMPLETED, "step", at=local))
        assert (event.at, event.at.utcoffset()) == (AT, timedelta(0))

    def test_all_of_one_append_was_recorded_at_one_instant(self, ledger: Ledger) -> None:
        one, two = append(ledger, step(1), step(2))
        assert one.recorded_at == two.recorded_at

    def test_names_of_two_hundred_characters_are_taken(self, ledger: Ledger) -> None:
        (event,) = append(ledger, NewEvent(E.STEP_COMPLETED, "s" * 200, "k" * 200, {}, AT, "a" * 200))
        assert ledger.event_by_key("k" * 200) == event == ledger.events(stream="s" * 200)[0]


class TestMemoryLedger(InMemory, LedgerContract):
    """In memory."""


class TestPostgresLedger(OnPostgres, LedgerContract):
    """In PostgreSQL."""


def test_recorded_at_and_the_opening_come_from_the_clocks_handed_in(
    make_clocked: Callable[[datetime, datetime], Ledger],
) -> None:
    wall, market = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2012, 10, 15, tzinfo=UTC)
    first = make_clocked(wall, market).event(1)
    assert first is not None
    assert (first.recorded_at, first.at) == (wall, market)


@pytest.fixture(params=["memory", "postgres"])
def make_clocked(request: pytest.FixtureRequest) -> Callable[[datetime, datetime], Ledger]:
    def make(wall: datetime, market: datetime) -> Ledger:
        if request.param == "memory":
            return MemoryLedger("demo", lambda: wall, opened_at=market)
        url = request.getfixturevalue("postgres").app_url(request.getfixturevalue("ledger_database"))
        ledger = PostgresLedger.open(url, "demo", clock_wall=lambda: wall, opened_at=market)
        request.addfinalizer(ledger.close)
        return ledger

    return make
