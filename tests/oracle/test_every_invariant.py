"""Each row of the oracle's table sees what it is there to see: a real record, one forged fact, the invariant's number."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.oracle import test_absence, test_models
from tests.oracle.forging import Forgery, at, later
from trading_pipeline.oracle import INVARIANTS, Oracle, check

Forge = Callable[[Forgery], object]
FIRST_ENTRY, ASKED_ENTRY, EXIT = {"part": "entry"}, {"part": "entry", "strategy": "asker"}, {"part": "exit"}


def named(forgery: Forgery, **where: Any) -> str:
    """The client id of an intent."""
    name: str = forgery.find("order.intent", **where)["payload"]["client_id"]
    return name


def strategy_limits(forgery: Forgery, name: str, **changes: Any) -> None:
    forgery.find("strategy.created", strategy=name)["payload"]["spec"]["limits"].update(changes)


def account_limits(forgery: Forgery, **changes: Any) -> None:
    forgery.find("limits.set")["payload"]["limits"].update(changes)


def stop_before(forgery: Forgery, fact: dict[str, Any], strategy: str = "buyer") -> None:
    forgery.add(fact, "strategy.emergency_stopped", "stop", before=True, actor="user:anna", strategy=strategy, reason="by hand")


def resubmitted_later(forgery: Forgery, seconds: float) -> None:
    """The buyer's second entry goes out so long after its first filled, and the action that led to it is as much earlier."""
    second = forgery.find("order.submitted", 6)
    assert second["payload"]["client_id"] == named(forgery, number=2, part="entry")
    filled = forgery.find("order.filled")
    for fact in (second, forgery.find("risk.evaluated", 6)):
        at(fact, filled["at"])
        later(fact, seconds)


def moved_action(forgery: Forgery, seconds: float) -> None:
    """The buyer's first action came so long before its second entry went out."""
    second = forgery.find("order.submitted", 6)
    first = forgery.find("llm.action_generated", strategy="buyer")
    at(first, second["at"])
    later(first, -seconds)


def by_hand(forgery: Forgery, before: dict[str, Any], side: str, quantity: int) -> None:
    """Somebody else trades AAPL in the account."""
    forgery.add(
        before, "external.filled", "fill:BY-HAND", before=True, actor="broker:paper", execution_id="BY-HAND", client_id="", side=side,
        strategy="EXTERNAL", account="PAPER-1", symbol="AAPL", quantity=quantity, price="100", commission="0", session="2024-08-28",
        filled_at="2024-08-28T14:07:00.000000Z",
    )


def corrected(forgery: Forgery, **changes: Any) -> None:
    """The broker restates the first fill, 50 MSFT at 100.0333 with a commission of 1, from 100.0333 to 101."""
    fact = forgery.find("portfolio.snapshotted")
    fill = forgery.find("order.filled")["payload"]
    assert (fill["quantity"], fill["commission"]) == (50, "1.0000")
    forgery.facts = forgery.facts[: forgery.facts.index(fact)]
    facts = {"price": "101", "price_before": fill["price"], "commission_before": "1.0000", "cost": "5051.0000", "realised": "0"}
    forgery.add(forgery.facts[-1], "fill.corrected", "corrected", actor="broker:paper", **(fill | facts | changes))
    held = {"strategy": "buyer", "symbol": "MSFT", "quantity": 50, "cost": "5051.00", "mark": "101", "value": "5050.00"}
    forgery.add(
        forgery.facts[-1], "portfolio.snapshotted", "snapshot", actor="cycle", account="PAPER-1", session="2024-08-28",
        cash="94949.00", equity="99999.00", market_value="5050.00", realised="0", unrealised="-1.00", day_pnl="-1.00",
        positions={"held": [held]},
    )


def revised(forgery: Forgery, actor: str, **limits: Any) -> None:
    """The second revision of the buyer."""
    spec = forgery.find("strategy.revised")["payload"]["spec"]
    forgery.add(
        forgery.find("strategy.revised"), "strategy.revised", "again", actor=actor, strategy="buyer",
        spec=spec | {"limits": spec["limits"] | limits},
    )


def at_the_loss(forgery: Forgery) -> None:
    """The gate measures a thousand dollars lost before the first entry."""
    verdicts = forgery.find("risk.evaluated", stage="gate")["payload"]["verdicts"]
    next(each for each in verdicts if each["rule"] == "account_day_loss").update(measured="$1,000.00")


def priced(forgery: Forgery, **changes: Any) -> None:
    """The first entry, its intent and ticket with other prices or quantity."""
    forgery.edit("order.intent", where=FIRST_ENTRY, **changes)


CASES: dict[str, tuple[int, Forge]] = {
    "a fact is missing in a stream": (1, lambda f: f.drop(f.find("llm.responded"))),
    "a payload says something else than was hashed": (3, lambda f: f.edit("account.funded", amount="100001")),
    "a key is used twice": (10, lambda f: f.again(f.find("step.completed"), f.find("step.completed")["key"])),
    "the broker takes an order that was never submitted": (11, lambda f: f.drop(f.find("order.submitted"))),
    "the broker takes an order that was never intended": (11, lambda f: f.drop(f.find("order.intent"))),
    "an order has two numbers at the broker": (
        12, lambda f: f.again(f.find("order.accepted"), "accepted again", broker_order_id="P-PAPER-1-99")
    ),
    "an order is submitted twice": (12, lambda f: f.again(f.find("order.submitted"), "submitted again")),
    "an order has a name of its own choice": (13, lambda f: f.edit("order.intent", part="entry-7")),
    "a client id is used again": (13, lambda f: f.again(f.find("order.intent"), "intent again")),
    "a sent order is sent again": (14, lambda f: f.again(f.find("order.submitted"), "submitted again")),
    "an entry goes out beside one in doubt": (
        14,
        lambda f: f.add(
            f.find("order.submitted", 6), "order.unknown", "doubt", before=True, client_id=named(f, part="stop-1"),
            action_id="", strategy="buyer", symbol="MSFT",
        ),
    ),
    "the account holds more of a symbol than it may": (16, lambda f: account_limits(f, max_position_value="5000")),
    "an order is cancelled that was filled": (
        17, lambda f: f.again(f.find("order.canceled"), "dead twice", client_id=named(f, part="entry"))
    ),
    "a denied action is made ready": (17, lambda f: f.edit("risk.evaluated", where={"strategy": "buyer"}, passed=False)),
    "a strategy runs that was never started": (17, lambda f: f.drop(f.find("strategy.starting"))),
    "an execution is booked twice": (18, lambda f: f.again(f.find("order.filled"), "fill again")),
    "an execution of no shares": (18, lambda f: f.edit("order.filled", quantity=0)),
    "an execution of another symbol": (18, lambda f: f.edit("order.filled", symbol="IBM")),
    "half an order is called filled": (19, lambda f: f.edit("order.filled", quantity=20)),
    "a ticket is for more than was intended": (
        24, lambda f: f.find("order.submitted")["payload"]["ticket"].update(quantity=51)
    ),
    "an order is sent under a lease that was older than the last one": (22, lambda f: f.edit("order.submitted", lease=9)),
    "more is sold than is held": (26, lambda f: f.edit("order.intent", where=EXIT, quantity=51)),
    "both orders of a pair fill": (
        26,
        lambda f: f.again(f.find("order.filled", part="target-1"), "both", client_id=named(f, part="stop-1"), execution_id="X-1"),
    ),
    "more is sold than somebody else has left": (
        26, lambda f: by_hand(f, f.find("order.submitted", client_id=named(f, part="exit")), "sell", 1)
    ),
    "a correction of a price makes another cost": (27, lambda f: corrected(f, cost="5001.0000")),
    "what somebody else bought is not counted": (27, lambda f: by_hand(f, f.find("portfolio.snapshotted"), "buy", 7)),
    "cash is stated that the executions do not make": (27, lambda f: f.edit("portfolio.snapshotted", 3, cash="1.00")),
    "a holding is stated that nobody bought": (
        27, lambda f: f.find("portfolio.snapshotted")["payload"]["positions"]["held"][0].update(quantity=51)
    ),
    "a price is a float": (29, lambda f: f.edit("order.filled", price=100.05)),
    "a day begins with another equity than the one before ended with": (
        30, lambda f: f.edit("session.opened", 1, baseline_equity="100000.01")
    ),
    "shares appear in a split that does not make them": (
        31,
        lambda f: f.add(
            f.find("portfolio.snapshotted"), "corporate_action.split", "split", symbol="MSFT", ratio="2", account="PAPER-1", in_lieu="0",
            positions=[{"strategy": "buyer", "before": 50, "quantity": 150, "in_lieu": "0"}], orders=[],
        ),
    ),
    "a verdict is six seconds old": (32, lambda f: later(f.find("order.submitted"), 6)),
    "a submission cites another verdict": (32, lambda f: f.edit("order.submitted", verdict_seq=1)),
    "a verdict passes over a denial": (33, lambda f: f.find("risk.evaluated", 1)["payload"]["verdicts"][30].update(outcome="deny")),
    "a verdict passes without a hard rule": (33, lambda f: f.find("risk.evaluated")["payload"]["verdicts"].pop(0)),
    "an order is larger than its strategy allows": (35, lambda f: strategy_limits(f, "buyer", max_order_value="5000")),
    "an entry goes out at the day's loss": (36, at_the_loss),
    # 50 shares from $101.97 to $95 are $348.50; once they cost $5,002.50 they are $252.50, and 50 more from $103.95 are $447.50
    "an entry puts more at stake than the account may lose": (36, lambda f: account_limits(f, max_day_risk="348.49")),
    "two entries put more at stake than the account may lose": (36, lambda f: account_limits(f, max_day_risk="699.99")),
    "an entry puts more at stake than its strategy may lose": (36, lambda f: strategy_limits(f, "buyer", max_day_risk="348.48")),
    "an entry goes out beside shares without a stop": (
        36,
        lambda f: (
            account_limits(f, max_day_risk="1000"),
            f.add(
                f.find("order.submitted", client_id=named(f, **ASKED_ENTRY)), "order.expired", "gone", before=True, actor="broker:paper",
                client_id=named(f, part="stop-1"), action_id="", strategy="buyer", symbol="MSFT",
            ),
        ),
    ),
    "more entries than an hour takes": (37, lambda f: strategy_limits(f, "buyer", max_orders_per_hour=1)),
    "a price off the tick": (38, lambda f: priced(f, limit_price="101.005")),
    "a limit beyond the collar": (38, lambda f: priced(f, limit_price="103.01")),
    "a symbol the strategy does not list": (39, lambda f: f.find("strategy.created", 1)["payload"]["spec"].update(symbols=["IBM"])),
    "a symbol the account forbids": (39, lambda f: account_limits(f, forbidden_symbols=["MSFT"])),
    "a purchase that is no entry": (41, lambda f: priced(f, order_class="P")),
    "an entry that is exempt": (41, lambda f: f.find("risk.evaluated", 1)["payload"]["verdicts"][30].update(outcome="exempt")),
    "cash is spent twice": (42, lambda f: f.edit("account.funded", amount="4999")),
    "orders follow each other too fast": (43, lambda f: account_limits(f, min_order_gap=3600.0)),
    "more orders work than may": (43, lambda f: account_limits(f, max_open_orders=0)),
    "a day's orders come to too much": (43, lambda f: account_limits(f, max_day_notional="9000")),
    "nobody approved": (44, lambda f: f.drop(f.find("approval.approved"))),
    "another limit price than was shown": (44, lambda f: f.edit("order.intent", where=ASKED_ENTRY, limit_price="100.50")),
    "something else was shown than was hashed": (45, lambda f: f.find("approval.requested")["payload"]["shown"].update(quantity=49)),
    "an approval of another hash": (45, lambda f: f.edit("approval.approved", hash="0" * 64)),
    "an approval is used twice": (
        46, lambda f: f.again(f.find("order.intent", **ASKED_ENTRY), "again", part="entry-2", client_id="A" * 20)
    ),
    "an approval that had expired": (47, lambda f: later(f.find("approval.approved"), 300)),
    "an approval that expires early": (47, lambda f: later(f.find("approval.expired"), -1)),
    "a proposal that waits too long": (47, lambda f: f.edit("approval.requested", expires_at="2024-08-28T14:10:02.000000Z")),
    "limits change between proposal and approval": (
        48,
        lambda f: f.add(
            f.find("order.submitted"), "limits.set", "limits.set:2", actor="settings", account="PAPER-1", version=2, changed=[],
            limits=f.find("limits.set")["payload"]["limits"],
        ),
    ),
    "a model approves": (49, lambda f: f.find("approval.approved").update(actor="model:rules")),
    "settings loosen a limit": (
        49,
        lambda f: f.add(
            f.find("session.closed"), "limits.set", "limits.set:2", actor="settings", account="PAPER-1", version=2, changed=[],
            limits=f.find("limits.set")["payload"]["limits"] | {"max_day_loss": "1001"},
        ),
    ),
    "settings switch a rule of discipline off": (49, lambda f: revised(f, "settings", cool_off=None)),
    "settings shorten a rest after losses": (49, lambda f: revised(f, "settings", revenge_wait=60.0)),
    "the system resumes what a person paused": (49, lambda f: f.find("strategy.resumed").update(actor="desk")),
    "the gate was left out": (50, lambda f: f.drop(f.find("risk.evaluated", stage="gate"))),
    "a stopped strategy runs again": (51, lambda f: stop_before(f, f.find("strategy.resumed"))),
    "an order after its strategy was stopped": (52, lambda f: stop_before(f, f.find("order.submitted"))),
    "an order after the account was latched": (
        52,
        lambda f: f.add(
            f.find("order.submitted"), "account.latched", "latch", before=True, actor="user:anna", account="PAPER-1", reason="by hand"
        ),
    ),
    "a stopped strategy's order works on at the close": (
        53,
        lambda f: (
            f.drop(f.find("order.filled", 3)), stop_before(f, f.find("strategy.finished")), f.drop(f.find("strategy.finished")),
        ),
    ),
    "a stopped strategy is asked": (54, lambda f: stop_before(f, f.find("llm.requested", 1))),
    "a paused strategy is asked": (57, lambda f: f.drop(f.find("strategy.resumed"))),
    "a session closes over an open proposal": (58, lambda f: f.drop(f.find("approval.expired"))),
    "a session closes over a working entry": (58, lambda f: f.drop(f.find("order.filled"))),
    "a strategy outlives the session it lasts for": (58, lambda f: f.drop(f.find("strategy.finished"))),
    "one that was told to start just before the close of its session does": (
        58, lambda f: (f.drop(f.find("strategy.finished")), at(f.find("strategy.starting", strategy="buyer"), "2024-08-28T19:59:59+00:00")),
    ),
    "more than certain": (59, lambda f: f.edit("llm.action_generated", confidence="1.01")),
    "an order above 100,000 USD": (65, lambda f: priced(f, quantity=1000)),
    "an entry below a dollar": (66, lambda f: priced(f, reference="0.9999")),
    "an order at the close": (67, lambda f: at(f.find("order.submitted"), "2024-08-28T20:00:00+00:00")),
    "an order on a holiday": (67, lambda f: at(f.find("order.submitted"), "2024-07-04T15:00:00+00:00")),
    "an order after an early close": (67, lambda f: at(f.find("order.submitted"), "2024-07-03T17:00:00+00:00")),
    "29.999 s after the last trade": (68, lambda f: resubmitted_later(f, 29.999)),
    "59.999 s after the last action": (69, lambda f: moved_action(f, 59.999)),
    "a session on Labor Day": (70, lambda f: f.edit("session.opened", session="2024-09-02")),
    "a bar with its high below its low": (73, lambda f: f.edit("bar.received", high="99", low="101")),
    "a bar that has not closed": (73, lambda f: f.edit("bar.received", end="2024-08-28T14:00:02.000000Z")),
    "a decision that knows tomorrow": (73, lambda f: f.edit("llm.action_generated", bar_end="2024-08-29T14:00:00.000000Z")),
}

ALLOWED: dict[str, tuple[int, Forge]] = {
    "exactly 100,000 USD": (65, lambda f: priced(f, quantity=1000, reference="100", limit_price="100.00")),
    "exactly one dollar": (66, lambda f: priced(f, reference="1", limit_price="1.00")),
    "the first instant of the session": (67, lambda f: at(f.find("order.submitted"), "2024-08-28T13:30:00+00:00")),
    "the last instant of the session": (67, lambda f: at(f.find("order.submitted"), "2024-08-28T19:59:59.999999+00:00")),
    "exactly 30 s after the last trade": (68, lambda f: resubmitted_later(f, 30)),
    "exactly 60 s after the last action": (69, lambda f: moved_action(f, 60)),
    "a verdict that is five seconds old": (32, lambda f: (later(f.find("order.submitted"), 5))),
    "a person loosens a limit": (
        49,
        lambda f: f.add(
            f.find("session.closed"), "limits.set", "limits.set:2", actor="user:anna", account="PAPER-1", version=2, changed=[],
            limits=f.find("limits.set")["payload"]["limits"] | {"max_day_loss": "1001"},
        ),
    ),
    "an order after the latch was cleared": (
        52,
        lambda f: f.add(
            f.add(
                f.find("order.submitted"), "account.latched", "latch", before=True, actor="user:anna", account="PAPER-1", reason="by hand"
            ),
            "account.latch_cleared", "cleared", actor="user:anna", account="PAPER-1", reason="looked",
        ),
    ),
    "shares of a split": (
        31,
        lambda f: f.add(
            f.find("portfolio.snapshotted"), "corporate_action.split", "split", symbol="MSFT", ratio="2", account="PAPER-1", in_lieu="0",
            positions=[{"strategy": "buyer", "before": 50, "quantity": 100, "in_lieu": "0"}], orders=[],
        ),
    ),
    "entries that put at stake all that the account may lose": (36, lambda f: account_limits(f, max_day_risk="700.00")),
    "an entry that puts at stake all that its strategy may lose": (36, lambda f: strategy_limits(f, "buyer", max_day_risk="348.50")),
    "a loss that a person granted": (
        36,
        lambda f: (
            at_the_loss(f),
            f.add(
                f.find("order.intent"), "loss.granted", "granted", before=True, actor="user:anna", strategy=None, session="2024-08-28",
                amount="0.01",
            ),
        ),
    ),
    "a strategy that was told to start at a close goes on when that session is closed late": (
        58, lambda f: (f.drop(f.find("strategy.finished")), at(f.find("strategy.starting", strategy="buyer"), "2024-08-28T20:00:00+00:00")),
    ),
    "a correction of a price": (27, corrected),
    "a person shortens a rest after losses": (49, lambda f: revised(f, "user:anna", revenge_wait=60.0)),
    "settings lengthen a rest after losses": (49, lambda f: revised(f, "settings", revenge_wait=3600.0)),
    "what somebody else bought beside us": (
        26, lambda f: by_hand(f, f.find("order.submitted", client_id=named(f, part="exit")), "buy", 1)
    ),
    "a fact of a type that is not known yet": (17, lambda f: f.add(f.find("order.submitted"), "order.admired", "new", client_id="?")),
}
RAW = (1, 3)
"""Of these the chain itself is the matter: the forged record is not chained again."""


def test_what_was_lived_breaks_nothing(lived):
    assert check(lived) == []


@pytest.mark.parametrize("name", CASES)
def test_it_is_found_that(name, lived):
    number, forge = CASES[name]
    forgery = Forgery(lived)
    forge(forgery)
    found = check(forgery.facts if number in RAW else forgery.chained())
    assert number in {violation.number for violation in found}, found


@pytest.mark.parametrize("name", ALLOWED)
def test_it_is_allowed_that(name, lived):
    number, forge = ALLOWED[name]
    forgery = Forgery(lived)
    forge(forgery)
    assert [violation for violation in check(forgery.chained()) if violation.number == number] == []


def test_every_row_of_the_table_has_a_case():
    numbers = {number for cases in (CASES, test_absence.CASES, test_models.CASES) for number, _ in cases.values()}
    assert {row.number for row in INVARIANTS} == numbers


def test_a_forged_record_still_chains(lived):
    """So that a case finds what it is about, not a chain that its making broke."""
    for name, (number, forge) in CASES.items():
        forgery = Forgery(lived)
        forge(forgery)
        if number not in RAW and name != "a key is used twice":
            assert not {1, 3} & {violation.number for violation in check(forgery.chained())}, name


def test_a_stretch_is_judged_with_what_came_before_it(lived):
    """The second of two orders that follow each other too fast is judged by the first, which is not judged itself."""
    forgery = Forgery(lived)
    account_limits(forgery, min_order_gap=3600.0, max_position_value="5000")
    facts = forgery.chained()
    second = [fact["seq"] for fact in facts if fact["type"] == "order.submitted"][3]
    assert {violation.number for violation in check(facts)} == {16, 43}
    found = check(facts, first=second, last=second)
    assert {(violation.number, violation.seq) for violation in found} == {(16, second), (43, second)}
    assert check(facts, first=second + 1, last=second + 1) == []


def test_how_often_each_invariant_was_looked_at_is_known(lived):
    oracle = Oracle()
    for fact in lived:
        oracle.feed(fact)
    assert oracle.looked[3] == oracle.events == len(lived)
    assert oracle.looked[65] == sum(fact["type"] == "order.submitted" for fact in lived)
    assert oracle.looked[31] == 0, "nothing was split"


def test_nothing_that_can_stand_in_a_line_makes_it_fall(lived):
    """Whatever is in the record, the oracle answers with violations, also when what came before was as strange."""
    strange = [None, "", "x", -1, 1.5, True, [], {}, [1], {"a": None}, "2024-08-28", "NaN", "1e999", 10**30]
    oracle = Oracle()
    first_of_type = {fact["type"]: fact for fact in reversed(lived)}
    for fact in lived:
        oracle.feed(fact)
        if first_of_type[fact["type"]] is fact:
            for name in fact["payload"]:
                for value in strange:
                    oracle.feed(fact | {"payload": fact["payload"] | {name: value}})
    for field in lived[0]:
        for value in strange:
            Oracle().feed(lived[0] | {field: value})
    assert [violation.number for violation in Oracle().feed({})] == [1]
    assert oracle.events > len(lived) * 5
