"""Orders that are set aside, released and taken over: what the oracle says of each, and that it says nothing of what is legal."""

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.desks import OPEN, PERSON, Floor, at, bars, floor, market, strategy
from tests.oracle.forging import Fact, Forgery, record
from trading_pipeline.adapters.brokers.paper_faults import Overfill
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.orders import client_id
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.oracle import Violation, check
from trading_pipeline.service.orders.releasing import release

NAME = client_id(action_id("buyer", "1d@2024-08-27T20:00Z", "AAPL"), "entry")
NEXT_OPEN = at(9, 30, day=date(2024, 8, 29))


@pytest.fixture
def released(tmp_path) -> Floor:
    """53 shares came of 50; a person released the order, and on the next day another strategy bought the same symbol."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=FractionSizing(fraction=Decimal("0.05"))))
    stage.faults.on_submit(NAME, Overfill(3))
    stage.cycle()
    stage.go(OPEN + timedelta(minutes=2))
    release(stage.desk, NAME, actor=PERSON, typed="AAPL")
    stage.run(strategy("other")).go(NEXT_OPEN).cycle()
    assert len(stage.events(E.ORDER_SUBMITTED)) == 2
    return stage


def test_an_entry_after_the_release_is_no_violation(released):
    """17: the gate let it pass."""
    assert check(record(released.desk.ledger)) == []


def test_an_entry_without_a_release_is_one(released):
    """17: the same record, and nobody released anything."""
    forgery = Forgery(record(released.desk.ledger))
    [found] = check(forgery.drop(forgery.find("order.released")).chained())
    assert (found.number, "is under quarantine" in found.says) == (17, True)


def told(forgery: Forgery, type_: str, actor: str, *, after: str = "order.accepted", **where: Any) -> None:
    """A fact about the first order, or the one of such a part, behind another fact of it."""
    name = forgery.find("order.intent", **(where or {"part": "entry"}))["payload"]["client_id"]
    known = forgery.find(after, client_id=name)
    named = {key: known["payload"][key] for key in ("client_id", "action_id", "strategy", "symbol")}
    forgery.add(known, type_, f"{type_} in between", actor=actor, **named)


def taken_over(forgery: Forgery, after: str) -> None:
    """The broker has the first entry, which this ledger is said never to have sent."""
    meant = forgery.find("order.intent", part="entry")["payload"]
    known = forgery.find(after, client_id=meant["client_id"])
    forgery.add(known, "order.adopted", "adopted", actor="broker:paper", **(meant | {"broker_order_id": "P-PAPER-1-1"}))


FOUND: dict[str, tuple[int, Callable[[Forgery], object]]] = {
    "an order at work is released": (17, lambda f: told(f, "order.released", PERSON, part="stop-1")),
    "an order at work is released by nobody": (49, lambda f: told(f, "order.released", "cycle", part="stop-1")),
    "an order that is over is released": (17, lambda f: told(f, "order.released", PERSON, after="order.filled")),
    "an order is set aside of which there was no intent": (
        11, lambda f: (told(f, "order.quarantined", "broker:paper"), f.edit("order.quarantined", client_id="NOBODYS")),
    ),
    "an order that works is taken over": (17, lambda f: taken_over(f, "order.accepted")),
    "an order that is on its way is taken over": (17, lambda f: taken_over(f, "order.submitted")),
}
LEGAL: dict[str, Callable[[Forgery], object]] = {
    "an order that was never sent is set aside": lambda f: told(f, "order.quarantined", "broker:paper", after="order.intent"),
    "such an order is released": lambda f: (
        told(f, "order.released", PERSON, after="order.intent"), told(f, "order.quarantined", "broker:paper", after="order.intent"),
    ),
    "an order is set aside twice": lambda f: (
        told(f, "order.quarantined", "broker:paper"),
        f.add(f.find("order.quarantined"), "order.quarantined", "once more", **f.find("order.quarantined")["payload"]),
    ),
    "an order that was only meant is taken over": lambda f: taken_over(f, "order.intent"),
}


@pytest.mark.parametrize("what", FOUND)
def test_it_is_found_that(what, lived):
    """By the fact itself: what follows it in the forged record is accused of other things."""
    number, forge = FOUND[what]
    assert number in {violation.number for violation in found_in_the_last(forge, lived)}


@pytest.mark.parametrize("what", LEGAL)
def test_it_is_allowed_that(what, lived):
    assert found_in_the_last(LEGAL[what], lived) == []


def found_in_the_last(forge: Callable[[Forgery], object], lived: list[Fact]) -> list[Violation]:
    """What is wrong with the last of the facts that were put in."""
    forgery = Forgery(lived)
    forge(forgery)
    facts = forgery.chained()
    seq = max(fact["seq"] for fact in facts if fact["type"] in ("order.quarantined", "order.released", "order.adopted"))
    return check(facts, first=seq, last=seq)
