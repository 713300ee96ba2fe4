"""Bars, and tables of bars as columns."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from trading_pipeline.domain.bars import Bar, BarTable, Interval, instant_ns, instant_of, table_of
from trading_pipeline.errors import InputError

START = datetime(2024, 8, 28, 13, 30, tzinfo=UTC)


def minute(index: int, close: str = "100.25") -> Bar:
    start = START + timedelta(minutes=index)
    end = start + timedelta(minutes=1)
    return Bar("NVDA", Interval.MIN1, start, end, Decimal("100.10"), Decimal("100.50"), Decimal("99.90"), Decimal(close), 1200)


def minutes(*indices: int) -> BarTable:
    return table_of("NVDA", Interval.MIN1, [minute(index) for index in indices])


def test_an_instant_survives_the_way_to_nanoseconds_and_back():
    assert instant_ns(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)) == 1_000_000_000
    at = datetime(2024, 8, 28, 9, 30, 0, 123456, tzinfo=ZoneInfo("America/New_York"))
    assert instant_of(instant_ns(at)) == at
    assert instant_ns(datetime(1962, 1, 2, tzinfo=UTC)) < 0
    assert instant_of(instant_ns(datetime(1962, 1, 2, tzinfo=UTC))) == datetime(1962, 1, 2, tzinfo=UTC)


def test_a_bar_survives_the_way_into_a_table_and_out():
    assert minutes(0, 1).bar(1) == minute(1)
    assert list(minutes(0, 1)) == [minute(0), minute(1)]


def test_a_table_is_in_order_of_start_whatever_order_the_bars_came_in():
    assert minutes(2, 0, 1) == minutes(0, 1, 2)


def test_a_price_that_is_none_cannot_become_a_bar():
    table = minutes(0)
    broken = BarTable(
        table.symbol, table.interval, table.start, table.end, table.open, table.high, table.low, np.array([np.nan]), table.volume
    )
    with pytest.raises(InputError, match="no price"):
        broken.bar(0)


def test_bars_until_an_instant_have_closed_by_then():
    table = minutes(0, 1, 2)
    assert len(table.until(START + timedelta(minutes=2))) == 2
    assert len(table.until(START + timedelta(minutes=2) - timedelta(microseconds=1))) == 1


def test_bars_since_an_instant_start_at_or_after_it():
    table = minutes(0, 1, 2)
    assert len(table.since(START + timedelta(minutes=1))) == 2
    assert len(table.since(START + timedelta(seconds=61))) == 1


def test_a_tail_longer_than_the_table_is_the_table():
    assert minutes(0, 1).tail(5) == minutes(0, 1)
    assert minutes(0, 1, 2).tail(1) == minutes(2)
    assert len(minutes(0).tail(0)) == 0


def test_joining_keeps_what_was_there_and_adds_what_is_newer():
    assert minutes(0, 1).joined(minutes(1, 2)) == minutes(0, 1, 2)
    empty = BarTable.empty("NVDA", Interval.MIN1)
    assert empty.joined(minutes(0)) == minutes(0)
    assert minutes(0).joined(empty) == minutes(0)


def test_tables_are_equal_when_every_row_is():
    assert minutes(0, 1) == minutes(0, 1)
    assert minutes(0, 1) != minutes(0, 2)
    assert minutes(0) != table_of("NVDA", Interval.MIN1, [minute(0, close="100.26")])
    assert minutes(0) != "a table"


def test_rows_can_be_chosen_by_mask_and_by_position():
    assert minutes(0, 1, 2).where(np.array([True, False, True])) == minutes(0, 2)
    assert minutes(0, 1, 2).where(np.array([2, 0])).start.tolist() == [instant_ns(minute(2).start), instant_ns(minute(0).start)]


def test_the_session_of_a_bar_is_its_date_in_new_york_in_summer_and_winter():
    for day, opened, closed in (("2024-07-03", 13, 17), ("2024-12-02", 14, 21)):
        first = datetime.fromisoformat(f"{day}T{opened}:30+00:00")
        last = datetime.fromisoformat(f"{day}T{closed}:00+00:00") - timedelta(minutes=1)
        starts = np.array([instant_ns(first), instant_ns(last)])
        floats = np.ones(2)
        table = BarTable("A", Interval.MIN1, starts, starts + 60_000_000_000, floats, floats, floats, floats, floats)
        assert [str(each) for each in table.session_days] == [day, day]


def test_the_newest_bar_says_when_the_table_ends():
    assert minutes(0, 1).last_end == START + timedelta(minutes=2)
    with pytest.raises(IndexError):
        _ = BarTable.empty("NVDA", Interval.MIN1).last_end
