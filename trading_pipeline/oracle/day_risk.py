"""The bound on a day's loss, where an account or a strategy has one: were everything sold at its stop, the day would stay within it (36).

Prices are not needed: what is lost to the market and what lies between it and the stops make up what is lost at the stops, whatever the
market is. Where it is not known which stops are left, the highest count: what is reported is wrong at any price and for any of them.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal

from trading_pipeline.oracle.approvals import sent
from trading_pipeline.oracle.fact import CENT, ZERO, Fact
from trading_pipeline.oracle.invariant import Invariant
from trading_pipeline.oracle.state import Order, State


def _day_risk(state: State, fact: Fact) -> Iterator[str]:
    order = sent(state, fact)
    day = state.sessions.get(order.session) if order is not None else None
    if order is None or day is None or order.kind != "E" or order.account not in state.limits or order.strategy not in state.strategies:
        return
    most = state.limits[order.account].get("max_day_risk")
    if most is not None:
        began = day.equity + state.deposited - day.deposited
        lost = began - state.cash.get(order.account, ZERO) - _at_stops(state, None) + _under_way(state, order, None)
        yield from _beyond("the account", order, lost, Decimal(most) + state.granted.get(("account", order.session), ZERO))
    most = state.strategies[order.strategy].spec["limits"].get("max_day_risk")
    if most is not None:
        own = [position for (name, _), position in state.positions.items() if name == order.strategy]
        made = sum((position.realised - position.cost for position in own), ZERO) + _at_stops(state, order.strategy)
        lost = day.made.get(order.strategy, ZERO) - made + _under_way(state, order, order.strategy)
        # A strategy's profit at the open is on record to the cent.
        granted = state.granted.get((order.strategy, order.session), ZERO)
        yield from _beyond(order.strategy, order, lost, Decimal(most) + granted + CENT)


def _beyond(whose: str, order: Order, lost: Decimal, most: Decimal) -> Iterator[str]:
    if lost > most:
        yield f"with {order.client_id} {whose} may lose {lost:.2f} USD of the day down to its stops, at most {most:.2f} are allowed"


def _at_stops(state: State, strategy: str | None) -> Decimal:
    """USD that the account, or one strategy, gets for what it holds when each stop is hit; nothing for shares without one."""
    return sum(
        (
            _proceeds(position.quantity, _resting(state, name, symbol))
            for (name, symbol), position in state.positions.items() if strategy in (None, name)
        ),
        ZERO,
    )


def _resting(state: State, strategy: str, symbol: str) -> Iterator[tuple[Decimal, int]]:
    for order in state.open.values():
        if (order.strategy, order.symbol, order.order_type) == (strategy, symbol, "stop") and order.stop is not None:
            yield order.stop, min(order.left, max(0, order.quantity - state.oco_filled.get(order.oco or "", 0) + order.pair_filled))


def _under_way(state: State, order: Order, strategy: str | None) -> Decimal:
    """USD from the worst price to the stops, of the order and of every other entry at work."""
    entries = [each for each in state.open.values() if each.side == "buy" and each is not order and each.account == order.account]
    total = ZERO
    for entry in (order, *entries):
        if strategy in (None, entry.strategy):
            stops = ((child.stop, child.quantity) for child in state.children.get(entry.client_id, ()) if child.stop is not None)
            total += entry.left * entry.worst - _proceeds(entry.left, stops)
    return total


def _proceeds(quantity: int, stops: Iterable[tuple[Decimal, int]]) -> Decimal:
    """USD for so many shares at their stops, the highest first."""
    got, left = ZERO, max(0, quantity)
    for stop, shares in sorted(stops, reverse=True):
        sold = min(left, shares)
        got, left = got + sold * stop, left - sold
    return got


INVARIANTS = (Invariant(36, "where a day's loss is bounded, it holds down to the stops of everything", ("order.submitted",), _day_risk),)
