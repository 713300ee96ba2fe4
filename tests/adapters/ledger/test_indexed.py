"""Searches by index against the same searches row by row."""

from datetime import UTC, datetime, timedelta
from itertools import product
from random import Random
from typing import Any

import pytest

from trading_pipeline.adapters.ledger.indexed import FEW, IndexedTables
from trading_pipeline.adapters.ledger.selection import Selection, select_rows, selection
from trading_pipeline.domain.projections import TABLES, Row

BEGAN = datetime(2024, 3, 1, 14, 30, tzinfo=UTC)
EQUALS: tuple[dict[str, Any], ...] = (
    {}, {"state": "filled"}, {"state": ("accepted", "partial", "accepted")}, {"state": "never"}, {"parent": None},
    {"parent": (None, "C1"), "strategy": "a"}, {"client_id": ["C3", "C200", "C999"]}, {"strategy": "b", "symbol": "IBM", "quantity": 2},
)
ORDERS = ((None, False), ("intent_seq", True), ("submitted_at", False), ("submitted_at", True), ("symbol", True), ("client_id", False))


def order(dice: Random, number: int) -> Row:
    return dict.fromkeys(TABLES["orders"].columns) | {
        "client_id": f"C{number}", "state": dice.choice(("accepted", "partial", "filled", "filled")), "quantity": dice.randint(1, 3),
        "strategy": dice.choice("ab"), "symbol": dice.choice(("IBM", "AAPL")), "parent": dice.choice((None, "C1", "C2")),
        "submitted_at": dice.choice((None, BEGAN + timedelta(minutes=dice.randint(0, 90)))), "intent_seq": number,
    }


def test_a_search_by_index_finds_what_a_look_at_every_row_finds_while_rows_come_and_change():
    dice, tables = Random(7), IndexedTables()
    for many in (FEW, 150, 300):
        for _ in range(many):
            tables.put("orders", order(dice, dice.randint(1, 260)))
        searches = product(EQUALS, ORDERS, (None, 1, 5), (None, ("submitted_at", BEGAN + timedelta(minutes=70))))
        for equals, (order_by, descending), limit, since in searches:
            wanted = selection("orders", since, order_by, descending, limit, equals)
            assert tables.select(wanted) == select_rows(tables.values("orders"), wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        selection("orders", None, None, False, None, {"state": "partial"}),
        selection("orders", ("submitted_at", BEGAN + timedelta(minutes=45)), None, False, None, {}),
    ],
    ids=["by value alone", "in order alone"],
)
def test_one_kind_of_index_is_kept_up_to_date_without_the_other(wanted: Selection):
    dice, tables = Random(7), IndexedTables()
    for _ in range(3):
        for _ in range(4 * FEW):
            tables.put("orders", order(dice, dice.randint(1, 5 * FEW)))
        assert tables.select(wanted) == select_rows(tables.values("orders"), wanted) != []


def test_rows_can_be_left_out_of_a_search_and_do_not_count_for_its_limit():
    tables = IndexedTables()
    for number in range(2 * FEW):
        tables.put("orders", order(Random(number), number))
    newest = [f"C{number}" for number in range(2 * FEW - 1, -1, -1)]
    wanted = selection("orders", None, "intent_seq", True, 3, {})
    assert [row["client_id"] for row in tables.select(wanted)] == newest[:3]
    assert [row["client_id"] for row in tables.select(wanted, {(newest[0],), (newest[2],)})] == [newest[1], newest[3], newest[4]]
    everything = selection("orders", None, "intent_seq", True, None, {"quantity": (1, 2, 3)})
    assert [row["client_id"] for row in tables.select(everything, {(newest[0],)})] == newest[1:]
