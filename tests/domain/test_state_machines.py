"""17: the three machines of INVARIANTS section 3, every transition that stands there, and no other.

The expected pairs are copied from the diagrams of sections 3.1, 3.2 and 3.3, not from the code.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest

from trading_pipeline.domain import approvals, orders, strategies
from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.events import GENESIS, Event, EventType
from trading_pipeline.domain.orders import OrderState
from trading_pipeline.domain.projections import Key, Row, fold
from trading_pipeline.domain.strategies import StrategyState
from trading_pipeline.errors import IllegalTransition


def pairs(text: str) -> set[tuple[str, str]]:
    """`A B -> C D` on each line: every left to every right state."""
    found = set()
    for line in text.strip().splitlines():
        left, right = line.split("->")
        found |= {(a.lower(), b.lower()) for a in left.split() for b in right.split()}
    return found


ACTIONS = pairs("""
PROPOSED -> DENIED READY PENDING
PENDING -> APPROVED REJECTED EXPIRED
PENDING APPROVED READY -> VOIDED
APPROVED READY -> CONSUMED EXPIRED
""")

ORDERS = pairs("""
INTENT -> DENIED SUBMITTED
SUBMITTED -> ACCEPTED REJECTED UNKNOWN PARTIAL FILLED
UNKNOWN -> ACCEPTED PARTIAL FILLED CANCELED REJECTED EXPIRED NOT_PLACED UNKNOWN
NOT_PLACED -> LATE_FOUND NOT_PLACED
LATE_FOUND -> CANCEL_PENDING
ACCEPTED -> PARTIAL FILLED
PARTIAL -> PARTIAL FILLED
ACCEPTED PARTIAL -> CANCELED EXPIRED REJECTED UNKNOWN
ACCEPTED PARTIAL UNKNOWN LATE_FOUND -> CANCEL_PENDING
CANCEL_PENDING -> CANCELED FILLED
CANCEL_PENDING -> ACCEPTED PARTIAL UNKNOWN LATE_FOUND
CANCELED -> CANCELED FILLED LATE_FOUND
EXPIRED -> EXPIRED FILLED
NOT_PLACED -> NOT_PLACED FILLED
INTENT DENIED SUBMITTED UNKNOWN NOT_PLACED LATE_FOUND ACCEPTED PARTIAL -> QUARANTINED
QUARANTINED -> CANCELED
CANCEL_PENDING CANCELED EXPIRED REJECTED FILLED QUARANTINED -> QUARANTINED
""")
LATE_AND_WHOLE = pairs("LATE_FOUND -> FILLED")
"""Invariant 19: its fills are booked, also the one that fills it before the cancel is asked for."""
SENT_AGAIN = pairs("CANCEL_PENDING -> CANCEL_PENDING")
"""Crash points C10 and C11: the cancel is sent again, and a partial fill in between is booked."""

STRATEGIES = pairs("""
DRAFT -> STARTING
STARTING -> RUNNING NOT_READY
NOT_READY -> STARTING RUNNING PAUSED_USER
RUNNING -> PAUSED_USER PAUSED_RISK NOT_READY
PAUSED_RISK NOT_READY -> PAUSED_RISK PAUSED_USER
PAUSED_USER PAUSED_RISK -> RUNNING
RUNNING PAUSED_USER PAUSED_RISK NOT_READY -> FINISHED
DRAFT STARTING RUNNING PAUSED_USER PAUSED_RISK NOT_READY -> EMERGENCY_STOPPED
""")

MACHINES: list[tuple[str, Mapping[Any, frozenset[Any]], type[StrEnum], set[tuple[str, str]]]] = [
    ("actions", approvals.TRANSITIONS, ActionState, ACTIONS),
    ("orders", orders.TRANSITIONS, OrderState, ORDERS | SENT_AGAIN | LATE_AND_WHOLE),
    ("strategies", strategies.TRANSITIONS, StrategyState, STRATEGIES),
]


@pytest.mark.parametrize(("name", "machine", "states", "expected"), MACHINES, ids=[name for name, *_ in MACHINES])
def test_a_machine_has_the_transitions_of_the_design_and_no_other(
    name: str, machine: Mapping[Any, frozenset[Any]], states: type[StrEnum], expected: set[tuple[str, str]]
) -> None:
    assert set(machine) == set(states)
    assert {(a.value, b.value) for a, following in machine.items() for b in following} == expected


@pytest.mark.parametrize("state", ["denied", "rejected", "expired", "voided", "consumed"])
def test_an_action_that_ended_stays_ended(state: str) -> None:
    assert approvals.TRANSITIONS[ActionState(state)] == frozenset()


@pytest.mark.parametrize("state", ["finished", "emergency_stopped"])
def test_a_strategy_that_ended_stays_ended(state: str) -> None:
    """51."""
    assert strategies.TRANSITIONS[StrategyState(state)] == frozenset()


def test_nothing_that_was_sent_can_be_sent_again() -> None:
    """14: INTENT is the only sendable state, and nothing leads back to it."""
    assert [state for state, following in orders.TRANSITIONS.items() if OrderState.SUBMITTED in following] == [OrderState.INTENT]
    assert not [state for state, following in orders.TRANSITIONS.items() if OrderState.INTENT in following]


class Shelf:
    """Rows in a dictionary: what the fold needs of a store."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, Key], Row] = {}

    def get(self, table: str, key: Key) -> Row | None:
        row = self.rows.get((table, key))
        return None if row is None else dict(row)

    def put(self, table: str, row: Row) -> None:
        key = {"strategies": ("name",), "actions": ("action_id",), "orders": ("client_id",)}[table]
        self.rows[table, tuple(row[column] for column in key)] = dict(row)


AT = datetime(2012, 10, 16, 15, tzinfo=UTC)


def event(type_: EventType, payload: dict[str, Any]) -> Event:
    return Event(7, "test", 1, "key", type_, 1, None, "test", AT, AT, payload, "{}", GENESIS, GENESIS)


ORDER_EVENTS = {
    OrderState.DENIED: EventType.ORDER_DENIED,
    OrderState.SUBMITTED: EventType.ORDER_SUBMITTED,
    OrderState.REJECTED: EventType.ORDER_REJECTED,
    OrderState.UNKNOWN: EventType.ORDER_UNKNOWN,
    OrderState.CANCEL_PENDING: EventType.ORDER_CANCEL_REQUESTED,
    OrderState.CANCELED: EventType.ORDER_CANCELED,
    OrderState.EXPIRED: EventType.ORDER_EXPIRED,
    OrderState.NOT_PLACED: EventType.ORDER_NOT_PLACED,
    OrderState.LATE_FOUND: EventType.ORDER_LATE_FOUND,
    OrderState.QUARANTINED: EventType.ORDER_QUARANTINED,
}


@pytest.mark.parametrize("current", list(OrderState))
@pytest.mark.parametrize("target", list(ORDER_EVENTS))
def test_the_ledger_books_an_order_event_that_follows_and_refuses_any_other(current: OrderState, target: OrderState) -> None:
    shelf = Shelf()
    shelf.put("orders", {"client_id": "C", "state": current.value, "reason": "", "before_cancel": None})
    change = event(ORDER_EVENTS[target], {"client_id": "C"})
    if (current.value, target.value) in ORDERS | SENT_AGAIN:
        fold(change, shelf)
        assert shelf.rows["orders", ("C",)]["state"] == target.value
    else:
        with pytest.raises(IllegalTransition):
            fold(change, shelf)
        assert shelf.rows["orders", ("C",)]["state"] == current.value


@pytest.mark.parametrize("before", [OrderState.ACCEPTED, OrderState.PARTIAL, OrderState.UNKNOWN, OrderState.LATE_FOUND])
def test_a_cancel_that_is_refused_goes_back_to_the_state_before_it(before: OrderState) -> None:
    shelf = Shelf()
    shelf.put("orders", {"client_id": "C", "state": before.value, "reason": "", "before_cancel": None})
    fold(event(EventType.ORDER_CANCEL_REQUESTED, {"client_id": "C"}), shelf)
    fold(event(EventType.ORDER_ACCEPTED, {"client_id": "C"}), shelf)
    assert shelf.rows["orders", ("C",)]["state"] == before.value


@pytest.mark.parametrize("current", list(StrategyState))
@pytest.mark.parametrize("target", list(StrategyState))
def test_the_ledger_moves_a_strategy_as_the_machine_says(current: StrategyState, target: StrategyState) -> None:
    shelf = Shelf()
    shelf.put("strategies", {"name": "trend", "state": current.value})
    change = event(EventType.STRATEGY_PAUSED, {"strategy": "trend", "state": target.value})
    if (current.value, target.value) in STRATEGIES:
        fold(change, shelf)
        assert shelf.rows["strategies", ("trend",)]["state"] == target.value
    else:
        with pytest.raises(IllegalTransition):
            fold(change, shelf)
