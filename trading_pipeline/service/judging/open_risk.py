"""What would be lost if everything held were sold at its stop, and if every entry under way filled and were sold at its own.

A stop counts when the broker is known to have it, for the shares that it can sell. What others hold in the account counts whole: its
loss is the account's, and nothing we know of bounds it. A short position has no bound at all.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from trading_pipeline.domain.day_risk import at_stake
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import OrderState, OrderType, Side
from trading_pipeline.domain.portfolio import EXTERNAL, Portfolio
from trading_pipeline.domain.projections import Row
from trading_pipeline.service.judging.coverage import Coverage

_RESTING = frozenset({OrderState.ACCEPTED.value, OrderState.PARTIAL.value})


def held_risk(portfolio: Portfolio, orders: Sequence[Row], coverage: Coverage, strategy: str | None) -> Decimal | None:
    """USD from the marks to the stops of what is held; None where shares are short.

    Args:
        orders: Working ones of the account.
        coverage: Of the exits among them.
        strategy: None: the account's.
    """
    stops = [row for row in _stops(orders) if row["state"] in _RESTING]
    total = ZERO
    for position in portfolio.positions:
        if not position.quantity or strategy not in (None, position.strategy):
            continue
        if position.quantity < 0:
            # What others sold of ours is gone from what we hold, and counts as held still.
            shares = sum(each.quantity for each in portfolio.positions if each.symbol == position.symbol)
            if position.strategy != EXTERNAL or shares < 0:
                return None
            continue
        place = position.strategy, position.symbol
        own = ((coverage.left(row), row["stop_price"]) for row in stops if (row["strategy"], row["symbol"]) == place)
        total += at_stake(position.quantity, portfolio.marks[position.symbol], own)
    return total


def working_risk(orders: Sequence[Row], coverage: Coverage, but: str) -> Iterator[tuple[str, Decimal]]:
    """(strategy, USD from the worst price to the stops) of what working entries may still buy.

    Args:
        orders: Working and unresolved ones of the account.
        coverage: Of the exits among them.
        but: An action to leave out.
    """
    for row in orders:
        if row["side"] != Side.BUY.value or row["action_id"] == but:
            continue
        children = (stop for stop in _stops(orders) if stop["parent"] == row["client_id"])
        waiting = ((stop["quantity"] - coverage.share(stop), stop["stop_price"]) for stop in children)
        yield row["strategy"], at_stake(unfilled(row), worst_price(row), waiting)


def unfilled(row: Row) -> int:
    """Shares that an order may still trade; one that filled beyond its size gives nothing back."""
    left: int = row["quantity"] - row["filled_quantity"]
    return max(0, left)


def worst_price(row: Row) -> Decimal:
    """What a share of an entry or exit counts at: the reference, or the limit where it is above (D1)."""
    worst: Decimal = max(row["reference"], row["limit_price"] or ZERO)
    return worst


def _stops(orders: Sequence[Row]) -> Iterator[Row]:
    return (row for row in orders if row["order_type"] == OrderType.STOP.value and row["side"] == Side.SELL.value)
