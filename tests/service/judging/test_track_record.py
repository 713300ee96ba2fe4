"""What was closed in a session, read from the newest fills alone: the same as from all of them."""

from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from types import SimpleNamespace

import pytest

from tests.desks import DAY, at, calendar
from trading_pipeline.adapters.ledger.indexed import IndexedTables
from trading_pipeline.adapters.ledger.selection import selection
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Position
from trading_pipeline.domain.projections import TABLES, Row
from trading_pipeline.domain.round_trips import fold
from trading_pipeline.service.judging.track_record import fill_of_row, track_record

OPENED = at(9, 30)


class Fills:
    """A reader that knows nothing but fills, and how many it gave."""

    def __init__(self, rows: list[Row]) -> None:
        self._tables = IndexedTables()
        for row in rows:
            self._tables.put("fills", row)
        self.given = 0

    def find(self, table, *, since=None, order_by=None, descending=False, limit=None, **equals):
        found = self._tables.select(selection(table, since, order_by, descending, limit, equals))
        self.given += len(found)
        return found

    def events(self, **_):
        return []


def session_of(when: datetime) -> str:
    return (DAY if when >= OPENED else DAY - timedelta(days=1)).isoformat()


def fill(number: int, client_id: str, side: Side, quantity: int, price: Decimal, when: datetime) -> Row:
    return dict.fromkeys(TABLES["fills"].columns) | {
        "execution_id": f"X-{number}", "client_id": client_id, "strategy": "trend", "symbol": "AAPL", "side": side.value,
        "quantity": quantity, "price": price, "commission": Decimal("1.005"), "at": when, "session": session_of(when), "seq": number,
    }


def story(dice: Random, many: int, *, old_order: bool = False) -> list[Row]:
    """Purchases and sales at random, in parts and more than is held, over weeks up to the day; `old_order`: one that always sells on."""
    rows: list[Row] = []
    held, when = 0, OPENED - timedelta(days=40)
    for number in range(1, many + 1):
        when += timedelta(minutes=dice.choice((0, 1, 7)) if dice.random() < 0.9 else 600)
        sells = held > 0 and dice.random() < 0.6
        quantity = (held if dice.random() < 0.7 else dice.randint(1, held + 1)) if sells else dice.randint(1, 5)
        held += -quantity if sells else quantity
        client = "old" if sells and old_order and dice.random() < 0.1 else f"C{number // 2}"
        price = Decimal(dice.randint(9_000, 11_000)) / 100
        rows.append(fill(number, client, Side.SELL if sells else Side.BUY, quantity, price, when))
    late = OPENED + timedelta(minutes=5) - rows[-5]["at"]
    for row in rows:
        row["at"] += late
        row["session"] = session_of(row["at"])
    return rows


def told(rows: list[Row]):
    reader = Fills(rows)
    desk = SimpleNamespace(calendar=calendar(), today=lambda: DAY, now=lambda: at(12))
    held = sum(row["quantity"] if row["side"] == "buy" else -row["quantity"] for row in rows)
    return track_record(desk, reader, [], [Position("trend", "AAPL", held)]), reader


@pytest.mark.parametrize("old_order", [False, True], ids=["each order for itself", "an old order that sells on"])
def test_the_newest_fills_tell_the_same_as_all_of_them(old_order):
    for seed in range(60):
        rows = story(Random(seed), 300, old_order=old_order)
        trips, exits = fold("trend", "AAPL", map(fill_of_row, rows))
        record, _ = told(rows)
        lost = [each.at for each in exits if each.result < 0 and each.at >= OPENED]
        assert list(record.round_trips.get("trend", ())) == [trip for trip in trips if trip.closed_at >= OPENED]
        assert record.losing_exits == ({("trend", "AAPL"): max(lost)} if lost else {})


def test_of_a_long_story_only_the_end_is_read():
    rows = [
        fill(number, f"C{number}", Side.SELL if number % 2 else Side.BUY, 5, Decimal(100), OPENED + timedelta(minutes=number - 1_990))
        for number in range(2_000)
    ]
    record, reader = told(rows)
    assert len(record.round_trips["trend"]) == 5
    assert reader.given < 100
