"""A search as both ledgers get it: its table, and values that a driver knows."""

import pytest

from tests.histories import AT
from trading_pipeline.adapters.ledger.selection import plain, selection
from trading_pipeline.domain.orders import OrderState, Side
from trading_pipeline.domain.projections import TABLES


def test_a_search_names_its_table_and_its_order_ends_with_the_key():
    found = selection("positions", ("opened_at", AT), "quantity", True, 3, {"symbol": "AAPL"})
    assert found.table is TABLES["positions"]
    assert (found.order, found.descending, found.limit) == (("quantity", "strategy", "symbol"), True, 3)
    assert (found.since, found.conditions) == (("opened_at", AT), (("symbol", ("AAPL",)),))
    assert selection("positions", None, "symbol", False, None, {}).order == ("symbol", "strategy")
    assert selection("positions", None, None, False, None, {}).order == ("strategy", "symbol")


@pytest.mark.parametrize(
    ("asked", "values"), [(Side.BUY, ("buy",)), ([OrderState.INTENT, "filled"], ("intent", "filled")), (None, (None,))],
)
def test_members_of_closed_sets_become_their_plain_values(asked, values):
    [(_, found)] = selection("orders", None, None, False, None, {"state": asked}).conditions
    assert found == values
    assert {type(value) for value in found} <= {str, type(None)}
    assert [type(value) for value in plain((Side.SELL, 7))] == [str, int]
