# ruff: noqa: ARG001 - every check has the one signature
"""The hard limits of the founding documents, 65 to 69, held against what was sent. No setting is looked at."""

from collections.abc import Iterator
from datetime import time, timedelta
from decimal import Decimal

from trading_pipeline.oracle.approvals import sent
from trading_pipeline.oracle.exchange import NEW_YORK, closes_at
from trading_pipeline.oracle.fact import Fact
from trading_pipeline.oracle.invariant import Invariant
from trading_pipeline.oracle.state import Order, State

MOST = Decimal(100_000)
LEAST = Decimal(1)
OPENS = time(9, 30)
COOLDOWN = timedelta(seconds=30)
DUPLICATE = timedelta(seconds=60)


def _trade(state: State, fact: Fact) -> Order | None:
    order = sent(state, fact)
    return order if order is not None and order.kind != "P" else None


def _value(state: State, fact: Fact) -> Iterator[str]:
    order = state.orders.get(fact.data["client_id"])
    if order is None:
        return
    value = order.quantity * (order.worst if order.head else max(order.limit or Decimal(0), order.stop or Decimal(0)))
    if value > MOST:
        yield f"{order.client_id} is worth {value:.2f} USD at its worst price, at most {MOST:,} are allowed"


def _penny(state: State, fact: Fact) -> Iterator[str]:
    order = _trade(state, fact)
    if order is not None and order.kind == "E":
        lowest = min(order.reference, order.limit if order.limit is not None else order.reference)
        if lowest < LEAST:
            yield f"{order.client_id} buys {order.symbol} at {lowest} USD a share, at least {LEAST} is asked for"


def _hours(state: State, fact: Fact) -> Iterator[str]:
    local = fact.at.astimezone(NEW_YORK)
    close = closes_at(local.date())
    if close is None:
        yield f"{fact.data['client_id']} is sent on {local:%Y-%m-%d}, when the exchange is closed"
    elif not OPENS <= local.time() < close:
        yield f"{fact.data['client_id']} is sent at {local:%H:%M:%S.%f} New York, allowed is {OPENS:%H:%M} to {close:%H:%M}"


def _cooldown(state: State, fact: Fact) -> Iterator[str]:
    order = _trade(state, fact)
    strategy = state.strategies.get(order.strategy) if order is not None else None
    if order is None or strategy is None:
        return
    last = next((at for at, action in reversed(strategy.submissions) if action != order.action_id), None)
    if last is not None and fact.at - last < COOLDOWN:
        yield f"{order.client_id} is sent {(fact.at - last).total_seconds():.3f} s after {order.strategy}'s last order"
    filled = strategy.last_entry_fill
    if filled is not None and filled[1] != order.action_id and fact.at - filled[0] < COOLDOWN:
        yield f"{order.client_id} is sent {(fact.at - filled[0]).total_seconds():.3f} s after {order.strategy}'s last entry filled"


def _duplicate(state: State, fact: Fact) -> Iterator[str]:
    order = _trade(state, fact)
    if order is None:
        return
    for other in state.admitted.get((order.strategy, order.symbol, order.side), ()):
        if other.action_id != order.action_id and timedelta(0) <= fact.at - other.generated_at < DUPLICATE:
            since = (fact.at - other.generated_at).total_seconds()
            yield f"{order.client_id} is sent {since:.3f} s after action {other.action_id} on the same side of {order.symbol}"


_SUBMITTED = ("order.submitted",)
INVARIANTS = (
    Invariant(65, "no order above 100,000 USD", _SUBMITTED, _value),
    Invariant(66, "no entry below 1 USD a share", _SUBMITTED, _penny),
    Invariant(67, "nothing is sent outside regular hours", _SUBMITTED, _hours),
    Invariant(68, "30 s between a strategy's trades", _SUBMITTED, _cooldown),
    Invariant(69, "60 s between actions on one side of a symbol", _SUBMITTED, _duplicate),
)
