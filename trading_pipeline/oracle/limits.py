"""The limits in force, held against what is sent: 16, 35 to 39, 42, 43.

Prices between facts are not in the record, so what is held is counted at the lowest price at which the collar would still have let
the order's limit go, and equity at the newest prices told: what is reported here is wrong at any price the market can have had.
"""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

from trading_pipeline.oracle.approvals import sent
from trading_pipeline.oracle.fact import ZERO, Fact
from trading_pipeline.oracle.fold import HOUR
from trading_pipeline.oracle.invariant import Invariant
from trading_pipeline.oracle.state import Order, State

AUTONOMOUS_COLLAR = Decimal("0.03")
SLACK = Decimal("1.10")
"""How far equity may have moved since the newest prices that the record tells."""
DAY = timedelta(days=1)


def _entry(state: State, fact: Fact) -> Order | None:
    """The entry that a submission sends, where limits are on record for it."""
    order = sent(state, fact)
    known = order is not None and order.kind == "E" and order.account in state.limits and order.strategy in state.strategies
    return order if known else None


def _trade(state: State, fact: Fact) -> Order | None:
    """The entry or discretionary exit that a submission sends, where limits are on record for it."""
    order = sent(state, fact)
    known = order is not None and order.kind != "P" and order.account in state.limits and order.strategy in state.strategies
    return order if known else None


def collar(state: State, order: Order) -> Decimal:
    """The tightest collar of an order, as a fraction."""
    spec = state.strategies[order.strategy].spec
    tightest = min(state.limit(order.account, "price_collar"), state.spec_limit(order.strategy, "price_collar"))
    return min(tightest, AUTONOMOUS_COLLAR) if spec["mode"] == "autonomous" else tightest


def _lowest(state: State, order: Order) -> Decimal:
    return (order.limit or order.reference) / (1 + collar(state, order))


def _working(state: State, order: Order, strategy: str | None = None, *, everywhere: bool = False) -> Decimal:
    """USD at the worst price of the account's other working entries: of the symbol, or of all."""
    return sum(
        (
            other.left * max(other.reference, other.limit or ZERO)
            for other in state.open.values()
            if other.side == "buy" and other.account == order.account and other is not order
            and (everywhere or other.symbol == order.symbol) and (strategy is None or other.strategy == strategy)
        ),
        ZERO,
    )


def exposure(state: State, order: Order, strategy: str | None = None) -> Decimal:
    """USD in the symbol once the order and all that works have filled, of the account or of one strategy."""
    held = sum(
        position.quantity for (name, symbol), position in state.positions.items()
        if symbol == order.symbol and (strategy is None or name == strategy)
    )
    return held * _lowest(state, order) + _working(state, order, strategy) + order.quantity * order.worst


def _reserved(state: State, fact: Fact) -> Iterator[str]:
    order = _entry(state, fact)
    if order is not None:
        after, most = exposure(state, order), state.limit(order.account, "max_position_value")
        if after > most:
            yield f"with {order.client_id} the account has at least {after:.2f} USD in {order.symbol}, at most {most} are allowed"


def _after_the_fill(state: State, fact: Fact) -> Iterator[str]:
    order = _entry(state, fact)
    if order is None:
        return
    value = order.quantity * order.worst
    most = min(state.limit(order.account, "max_order_value"), state.spec_limit(order.strategy, "max_order_value"))
    if value > most:
        yield f"{order.client_id} is worth {value:.2f} USD, at most {most} are allowed"
    after, most = exposure(state, order, order.strategy), state.spec_limit(order.strategy, "max_position_value")
    if after > most:
        yield f"with {order.client_id} {order.strategy} has at least {after:.2f} USD in {order.symbol}, at most {most} are allowed"
    equity = state.cash.get(order.account, ZERO) + sum(
        (position.quantity * state.prices.get(symbol, ZERO) for (_, symbol), position in state.positions.items()), ZERO
    )
    share = state.limit(order.account, "max_concentration")
    total = exposure(state, order)
    if total > share * equity * SLACK:
        yield f"with {order.client_id} {order.symbol} is {total:.2f} USD of about {equity:.2f}, at most {share:%} are allowed"


def _day_loss(state: State, fact: Fact) -> Iterator[str]:
    order = _entry(state, fact)
    verdict = state.verdicts.get(order.client_id) if order is not None else None
    if order is None or verdict is None:
        return
    most = {
        "account_day_loss": state.limit(order.account, "max_day_loss") + state.granted.get(("account", order.session), ZERO),
        "strategy_day_loss": state.spec_limit(order.strategy, "max_day_loss") + state.granted.get((order.strategy, order.session), ZERO),
    }
    for rule, loss in verdict.losses.items():
        if loss >= most[rule]:
            yield f"{order.client_id} is sent with a loss of the day of {loss} USD ({rule}), it must be below {most[rule]}"


def _per_hour(state: State, fact: Fact) -> Iterator[str]:
    order = _entry(state, fact)
    if order is None:
        return
    before = sum(1 for at, _ in state.strategies[order.strategy].submissions if at > fact.at - HOUR)
    most = state.spec_limit(order.strategy, "max_orders_per_hour")
    if before >= most:
        yield f"{order.client_id} is order {before + 1} of {order.strategy} within an hour, at most {most} are allowed"


def _form(state: State, fact: Fact) -> Iterator[str]:
    order = _trade(state, fact)
    if order is None:
        return
    if order.quantity < 1:
        yield f"{order.client_id} is sent for {order.quantity} shares"
    for price in (order.limit, order.stop):
        if price is not None and price % (Decimal("0.01") if price >= 1 else Decimal("0.0001")) != 0:
            yield f"{order.client_id} is sent at {price}, which is off the tick"
    if order.limit is None:
        yield f"{order.client_id} is sent without a limit"
        return
    beyond = (order.limit - order.reference) / order.reference * (1 if order.side == "buy" else -1)
    if beyond > collar(state, order):
        most = collar(state, order)
        yield f"{order.client_id} is sent at {order.limit}, {beyond:.4%} beyond {order.reference}, at most {most:%} is allowed"


def _universe(state: State, fact: Fact) -> Iterator[str]:
    order = _entry(state, fact)
    if order is None:
        return
    if order.symbol not in state.strategies[order.strategy].spec["symbols"]:
        yield f"{order.client_id} buys {order.symbol}, which {order.strategy} does not list"
    if order.symbol in state.limits[order.account].get("forbidden_symbols", ()):
        yield f"{order.client_id} buys {order.symbol}, which the account forbids"


def _together(state: State, fact: Fact) -> Iterator[str]:
    order = _entry(state, fact)
    if order is None:
        return
    needed = order.quantity * order.worst + _working(state, order, everywhere=True)
    cash = state.cash.get(order.account, ZERO)
    if needed > cash:
        yield f"with {order.client_id} working entries need {needed:.2f} USD, there are {cash:.2f}"


def _pace(state: State, fact: Fact) -> Iterator[str]:
    order = _trade(state, fact)
    if order is None:
        return
    gap = timedelta(seconds=float(state.limit(order.account, "min_order_gap")))
    last = next((at for at, action in reversed(state.last_heads) if action != order.action_id), None)
    if last is not None and fact.at - last < gap:
        yield f"{order.client_id} is sent {(fact.at - last).total_seconds():.3f} s after the account's last order, {gap} must lie between"
    rejects, most = _rejects(state, order), state.limit(order.account, "max_consecutive_rejects")
    if rejects >= most:
        yield f"{order.client_id} is sent after {rejects} rejections in a row, {most} stop a strategy"
    yield from _crossing(state, order)
    if order.kind != "E":
        return
    working = sum(1 for other in state.open.values() if other.head and other.kind != "P")
    most = state.limit(order.account, "max_open_orders")
    if working >= most:
        yield f"{order.client_id} is sent while {working} orders work, at most {most} are allowed"
    notional = state.notional.get(order.session, ZERO) + order.quantity * order.worst
    most = state.limit(order.account, "max_day_notional")
    if notional > most:
        yield f"with {order.client_id} the orders of {order.session} come to {notional:.2f} USD, at most {most} are allowed"


def _rejects(state: State, order: Order) -> int:
    """In a row, up to the newest; a stop and the target that it pairs with are one."""
    recent = state.strategies[order.strategy].recent
    rejected = {other.oco or other.client_id for other in recent if other.state == "rejected"}
    names = list(dict.fromkeys(other.oco or other.client_id for other in reversed(recent)))
    return next((number for number, name in enumerate(names) if name not in rejected), len(names))


def _crossing(state: State, order: Order) -> Iterator[str]:
    for other in state.open.values():
        if (other.account, other.symbol) != (order.account, order.symbol) or other.side == order.side or other.limit is None:
            continue
        parent = state.orders.get(other.parent or "")
        if order.limit is None or other.action_id == order.action_id or (parent is not None and not parent.filled):
            continue
        if order.limit >= other.limit if order.side == "buy" else order.limit <= other.limit:
            yield f"{order.client_id} at {order.limit} can trade with the account's own {other.client_id} at {other.limit}"


_SUBMITTED = ("order.submitted",)
INVARIANTS = (
    Invariant(16, "what works or is in doubt counts in full", _SUBMITTED, _reserved),
    Invariant(35, "order, position and concentration hold after the order has filled", _SUBMITTED, _after_the_fill),
    Invariant(36, "no entry once the day's loss has reached its limit and what a person granted", _SUBMITTED, _day_loss),
    Invariant(37, "entries leave room in the hour", _SUBMITTED, _per_hour),
    Invariant(38, "whole shares, on the tick, within the collar", _SUBMITTED, _form),
    Invariant(39, "only symbols of the strategy, none that is forbidden", _SUBMITTED, _universe),
    Invariant(42, "limits hold over all strategies together: cash is spent once", _SUBMITTED, _together),
    Invariant(43, "the account's pace, open orders, day's value, rejections, and no trade with itself", _SUBMITTED, _pace),
)
