"""What the day may still cost: the loss so far, and what everything would lose between its price and its stop.

`max_day_loss` stops entries once so much is lost; what is held can fall on. `max_day_risk` reckons ahead: were everything sold at its
stop, the day's loss would not exceed it. What nothing bounds counts whole: shares without a stop, and those whose stop the price has
passed. A gain of the day allows no more. How far below its stop an order fills, and commissions to come, are not reckoned.
"""

from collections.abc import Iterable
from decimal import Decimal

from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import OrderIntent


def at_stake(quantity: int, price: Decimal, stops: Iterable[tuple[int, Decimal]]) -> Decimal:
    """USD that so many shares lose from a price to their stops.

    Args:
        quantity: Shares, at least 0.
        price: USD a share, above zero.
        stops: How many shares each stands for, and where, USD a share. Where they stand for more shares than there are, the lowest
            count: nobody knows which shares are left.
    """
    each = sorted(((price - stop if ZERO < stop < price else price, shares) for shares, stop in stops if shares > 0), reverse=True)
    bare = max(0, quantity - sum(shares for _, shares in each))
    lost, left = bare * price, quantity - bare
    for loss, shares in each:
        taken = min(left, shares)
        lost, left = lost + taken * loss, left - taken
    return lost


def at_stake_in(intent: OrderIntent) -> Decimal:
    """USD that an entry loses from its worst price to the stops that go with it."""
    return at_stake(intent.quantity, intent.worst_price, ((bracket.quantity, bracket.stop) for bracket in intent.brackets))


def risk_left(limit: Decimal, granted: Decimal, day_pnl: Decimal, open_risk: Decimal) -> Decimal:
    """USD that an entry may add, negative where the day has too much at stake already.

    Args:
        limit: `max_day_risk`.
        granted: What a person lets the day lose beyond it.
        day_pnl: Signed, realised and open.
        open_risk: At stake in what is held and in entries under way.
    """
    return limit + granted - max(ZERO, -day_pnl) - open_risk
