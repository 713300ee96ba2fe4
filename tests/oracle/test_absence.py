"""When the oracle holds that an order was never there: what counts as a look, how many there must be, and how far apart."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.desks import OPEN, PERSON, Floor, Killed, bars, crashing, floor, market, strategy
from tests.oracle.forging import Fact, Forgery, later, record
from tests.service.orders.settlement.scripted import NAME, settled, tally
from trading_pipeline.adapters.brokers.paper_faults import LoseRequest
from trading_pipeline.oracle import check
from trading_pipeline.service.orders.settlement import cancel

NO_ANSWER, LOOK, TWICE = "no answer came", "absent 60 s after its submission", "absent twice"


def heard(forgery: Forgery, *told: tuple[float, str, str]) -> None:
    """Of the first entry nothing is heard but this, each so many seconds after its answer was due: (seconds, type, reason)."""
    fact = forgery.find("order.accepted")
    name = {key: fact["payload"][key] for key in ("client_id", "action_id", "strategy", "symbol")}
    forgery.facts = forgery.facts[: forgery.facts.index(fact)]
    for number, (wait, type_, reason) in enumerate(((0.0, "order.unknown", NO_ANSWER), *told)):
        made = forgery.add(forgery.facts[-1], type_, f"heard {number}", actor="broker:paper", **name, reason=reason)
        made["at"] = fact["at"]
        later(made, wait)


def given_up(*looks: float, at: float) -> Callable[[Forgery], None]:
    """Looked for after so many seconds each, and then given up."""
    return lambda forgery: heard(forgery, *((wait, "order.unknown", LOOK) for wait in looks), (at, "order.not_placed", TWICE))


def cancelled(*looks: float, at: float, reason: str = TWICE) -> Callable[[Forgery], None]:
    """Asked to be cancelled at once, looked for after so many seconds each, and then said to be cancelled."""
    asked = ((wait, "order.cancel_requested", LOOK) for wait in looks)
    return lambda forgery: heard(forgery, (1, "order.cancel_requested", "enough"), *asked, (at, "order.canceled", reason))


CASES = {
    "an order is given up before the broker could show it": (15, given_up(10, at=20)),
    "an order is given up after one look": (15, given_up(at=61)),
    "an order is given up after a look before the broker could show it": (15, given_up(59, at=66)),
    "two looks of one moment are one": (15, given_up(61, at=65.999)),
    "an answer that never came is no look": (
        15, lambda f: heard(f, (61, "order.unknown", NO_ANSWER), (66, "order.not_placed", TWICE)),
    ),
    "an order that was seen between two looks is given up": (
        15,
        lambda f: heard(
            f, (61, "order.unknown", LOOK), (62, "order.accepted", ""), (63, "order.unknown", ""), (70, "order.not_placed", TWICE),
        ),
    ),
    "a cancel is taken as confirmed before the broker could show its order": (15, cancelled(10, at=20)),
    "a cancel is taken as confirmed after one look": (15, cancelled(at=66)),
}
ALLOWED = {
    "two looks five seconds apart": given_up(61, at=66),
    "a cancel whose order is absent twice": cancelled(61, at=66),
    "a cancel that the broker confirms": cancelled(at=2, reason="canceled on request"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_found_that(name, lived):
    number, forge = CASES[name]
    forgery = Forgery(lived)
    forge(forgery)
    assert number in {violation.number for violation in check(forgery.chained())}


@pytest.mark.parametrize("name", ALLOWED)
def test_it_is_allowed_that(name, lived):
    forgery = Forgery(lived)
    ALLOWED[name](forgery)
    assert [violation for violation in check(forgery.chained()) if violation.number == 15] == []


@pytest.fixture
def stage(tmp_path) -> Floor:
    return floor(tmp_path, market(bars()), OPEN, strategy())


def test_what_a_restart_finds_without_an_answer_was_not_looked_for_yet(stage):
    """15, C3: the process died before it sent the order, and its successor came after the window."""
    with crashing(stage.desk.broker, "submit"), pytest.raises(Killed):
        stage.cycle()
    for seconds in (70, 75):
        stage.go(OPEN + timedelta(seconds=seconds)).release()
    assert stage.row("orders")["state"] == "not_placed"
    facts = record(stage.desk.ledger)
    assert check(facts) == []
    assert without_its_look(facts) == [15]


def test_a_cancel_is_judged_as_every_other_proof_of_absence(stage):
    """15, 53: the order never arrived, and was to be cancelled."""
    stage.faults.on_submit(NAME, LoseRequest())
    stage.cycle()
    cancel(stage.desk, stage.rows("orders"), "enough", PERSON, tally(stage))
    for seconds in (60, 65):
        settled(stage, OPEN + timedelta(seconds=seconds))
    assert stage.row("orders")["state"] == "canceled"
    facts = record(stage.desk.ledger)
    assert check(facts) == []
    assert without_its_look(facts) == [15]


def without_its_look(facts: list[Fact]) -> list[int]:
    """What the oracle finds where the first look is left out."""
    forgery = Forgery(facts)
    [look] = [fact for fact in forgery.facts if fact["payload"].get("reason", "").startswith("absent 60 s")]
    return [violation.number for violation in check(forgery.drop(look).chained())]
