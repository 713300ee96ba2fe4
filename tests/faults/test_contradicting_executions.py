"""Executions that contradict what is known: a second one under an id, from another time, of another symbol, or of before the book.

Whatever one of them says, all the others are booked, and what is held stays under its stop.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from tests.desks import DAY, OPEN, PERSON, Floor, at, bars, calendar, floor, market, strategy
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.adapters.brokers.paper_faults import Refuse, Repeat
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.orders import Side, client_id
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.service.accounting import mismatches
from trading_pipeline.service.orders.settlement import news
from trading_pipeline.service.record.judgement import judge
from trading_pipeline.service.stopping import emergency
from trading_pipeline.service.submitter.closing import close_session
from trading_pipeline.service.submitter.desk_process import attend

D = Decimal
STOPPED = FractionSizing(fraction=D("0.05"), stop=D("0.05"))
NAME = client_id(action_id("buyer", "1d@2024-08-27T20:00Z", "AAPL"), "entry")
OTHER = client_id(action_id("other", "1d@2024-08-27T20:00Z", "MSFT"), "entry")
Executions = list[tuple[str, Fill]]


class Telling(LatchedBroker):
    """Tells of executions otherwise than the paper broker behind it, and of holdings beside its own."""

    def __init__(self, stage: Floor, change: Callable[[Executions], Executions], **held: int) -> None:
        super().__init__(stage.broker, stage.desk.latch)
        self.change, self.held = change, held

    def executions(self, since):
        return self.change(super().executions(since))

    def positions(self):
        return super().positions() | self.held


def telling(stage: Floor, change: Callable[[Executions], Executions], **held: int) -> Floor:
    """A fresh process whose broker tells of executions so."""
    return stage.restarted(broker=Telling(stage, change, **held))


def by_hand(symbol: str, quantity: int, price: str, when: datetime, execution_id: str = "H-1") -> tuple[str, Fill]:
    """What the account's owner bought past us."""
    return "HAND-1", Fill(execution_id, "HAND-1", symbol, Side.BUY, quantity, D(price), D(1), when)


def changed(executions: Executions, **changes: object) -> Executions:
    """The same, with the entry's told otherwise."""
    return [(name, replace(fill, **changes) if name == NAME else fill) for name, fill in executions]


def after(stage: Floor, *seconds: float) -> Floor:
    """Follow-ups, so many seconds after the open."""
    for each in seconds:
        stage.go(OPEN + timedelta(seconds=each)).release()
    return stage


def two(tmp_path) -> Floor:
    """One strategy for AAPL and one for MSFT, each under a stop."""
    source = market(bars(), bars("MSFT", price=200.0))
    return floor(tmp_path, source, OPEN, strategy(sizing=STOPPED), strategy("other", symbols=("MSFT",), sizing=STOPPED))


def books(stage: Floor) -> tuple[dict[str, tuple[int, Decimal]], Decimal]:
    """Shares and cost by symbol, and the cash."""
    return {row["symbol"]: (row["quantity"], row["cost"]) for row in stage.rows("positions")}, stage.row("cash")["cash"]


@pytest.mark.parametrize("held", ["one symbol", "both symbols", "both symbols by one strategy"])
def test_an_execution_under_the_id_of_anothers_is_refused_and_costs_and_cash_stay_right(tmp_path, held):
    """18, 20, 27: the broker's numbering begins anew; what was booked under the id is no execution of MSFT at another price."""
    stage = two(tmp_path)
    if held == "one symbol":
        stage.faults.on_submit(OTHER, Refuse("not today"))
    if held == "both symbols by one strategy":
        stage = floor(tmp_path, stage.desk.market, OPEN, strategy(symbols=("AAPL", "MSFT"), sizing=STOPPED))
    stage.cycle()
    before = books(after(stage, 33, 36, 70))
    assert list(before[0]) == (["AAPL"] if held == "one symbol" else ["AAPL", "MSFT"])
    [known] = stage.rows("fills", symbol="AAPL")
    again = by_hand("MSFT", 50, "199", OPEN + timedelta(seconds=80), known["execution_id"])
    stage = after(telling(stage, lambda told: [*told, again]), 90, 95)
    [refused] = stage.events(E.EXECUTION_REFUSED)
    assert refused.payload["reason"] == f"the id of an execution of AAPL by {NAME}"
    assert books(stage) == before
    assert before[1] == stage.broker.account().cash
    assert stage.events(E.FILL_CORRECTED) == []
    assert judge(stage.desk.ledger).violations == ()
    assert stage.verifies()

    stage.broker.cancel(stage.row("orders", symbol="AAPL", order_type="stop")["client_id"])
    after(stage, 100, 105, 110)
    [placed] = stage.rows("orders", symbol="AAPL", order_type="stop", state="accepted")
    assert (placed["part"], placed["quantity"]) == ("stop-1.2", 50)


@pytest.mark.parametrize("first", ["AAPL", "MSFT"])
def test_of_two_executions_that_come_at_once_under_one_id_the_first_is_booked_and_the_other_told(tmp_path, first):
    """18, 20, 27: neither hides the other; one of ours that is refused sets its order aside."""
    stage = two(tmp_path)
    again = by_hand("MSFT", 50, "199", OPEN + timedelta(seconds=1), "PAPER-1-1")
    stage = telling(stage, lambda told: [*told, again] if first == "AAPL" else [again, *told])
    stage.cycle()
    after(stage, 3, 33, 36)
    [refused] = stage.events(E.EXECUTION_REFUSED)
    owner = f"an execution of AAPL by {NAME}" if first == "AAPL" else "an execution of MSFT by HAND-1"
    assert refused.payload["reason"] == f"the id of {owner}"
    assert stage.row("fills", execution_id="PAPER-1-1")["symbol"] == first
    assert stage.row("orders", client_id=NAME)["state"] == ("filled" if first == "AAPL" else "quarantined")
    assert stage.events(E.FILL_CORRECTED) == []
    assert (judge(stage.desk.ledger).violations, stage.verifies()) == ((), True)


TIMES = [datetime(1970, 1, 1, tzinfo=UTC), OPEN + timedelta(days=40), datetime(2124, 8, 29, tzinfo=UTC),
         datetime(9999, 12, 31, 23, 59, tzinfo=UTC)]


@pytest.mark.parametrize("when", TIMES, ids=lambda when: str(when.year))
def test_an_execution_of_somebody_elses_from_another_time_is_refused_and_ours_are_booked(tmp_path, when):
    """18, 20: one instant that no calendar knows, or from which on everything would be asked for, is one execution's alone."""
    stage = two(tmp_path)
    stage = telling(stage, lambda told: [*told, by_hand("AAPL", 1, "100", when)])
    stage.cycle()
    after(stage, 33, 36)
    assert len(stage.events(E.EXECUTION_REFUSED)) == 1
    assert books(stage)[0].keys() == {"AAPL", "MSFT"}
    assert {row["symbol"]: row["state"] for row in stage.rows("orders", order_type="stop")} == {"AAPL": "accepted", "MSFT": "accepted"}
    assert mismatches(stage.desk) == {}
    assert (judge(stage.desk.ledger).violations, stage.verifies()) == ((), True)


@pytest.mark.parametrize("when", TIMES, ids=lambda when: str(when.year))
def test_an_execution_of_ours_from_another_time_sets_its_order_aside_and_others_are_booked(tmp_path, when):
    """18, 27: its shares are no position of ours as long as nobody can say when they came; the symbol waits for a person."""
    stage = two(tmp_path)
    bought = by_hand("MSFT", 3, "200", OPEN + timedelta(seconds=1))
    stage = telling(stage, lambda told: [*changed(told, at=when), bought])
    stage.cycle()
    after(stage, 33, 36)
    [refused] = stage.events(E.EXECUTION_REFUSED)
    assert refused.payload["reason"] == f"an instant of {when:%Y-%m-%d %H:%M:%S}"
    row = stage.row("orders", client_id=NAME)
    assert (row["state"], row["reason"]) == ("quarantined", f"executed with {refused.payload['reason']}")
    assert stage.row("positions", strategy="EXTERNAL")["quantity"] == 3
    assert "AAPL" in mismatches(stage.desk)
    assert (judge(stage.desk.ledger).violations, stage.verifies()) == ((), True)


def test_a_fill_stamped_ahead_of_its_time_hides_no_later_sale(tmp_path):
    """20, 28: a fill is stamped thirty days ahead; what is sold by hand after it is asked for and booked all the same."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage = telling(stage, lambda told: changed(told, at=OPEN + timedelta(days=30)))
    stage.cycle()
    after(stage, 3)
    stage.broker.trade_by_hand("AAPL", Side.SELL, 20, D(100))
    after(stage, 10, 20)
    assert stage.row("orders", client_id=NAME)["state"] == "quarantined"
    assert [(row["strategy"], row["side"], row["quantity"]) for row in stage.rows("fills")] == [("EXTERNAL", "sell", 20)]
    assert mismatches(stage.desk)["AAPL"] == "AAPL: booked -20 shares, the broker states 30"
    assert news(stage.desk) == ""
    assert stage.verifies()


@pytest.mark.parametrize(("change", "why"), [
    ({"symbol": "MSFT"}, "buy MSFT, and the order is to buy AAPL"), ({"side": Side.SELL}, "sell AAPL, and the order is to buy AAPL"),
])
def test_a_fill_of_another_symbol_or_side_than_its_order_is_refused_once_and_the_others_are_booked(tmp_path, change, why):
    """18, 20, 27: the order is set aside, and what somebody bought beside it is booked."""
    stage = two(tmp_path)
    bought = by_hand("MSFT", 3, "200", OPEN + timedelta(seconds=1))
    stage = telling(stage, lambda told: [*changed(told, **change), bought])
    stage.cycle()
    after(stage, 3, 10)
    assert [event.payload["reason"] for event in stage.events(E.EXECUTION_REFUSED)] == [why]
    assert stage.row("orders", client_id=NAME)["state"] == "quarantined"
    assert len(stage.events(E.ORDER_QUARANTINED)) == 1
    assert [(row["strategy"], row["symbol"], row["quantity"]) for row in stage.rows("positions")] == [("EXTERNAL", "MSFT", 3)]
    assert (judge(stage.desk.ledger).violations, stage.verifies()) == ((), True)


def test_a_split_of_what_only_somebody_else_holds_does_not_wait_for_bars_that_nobody_has(tmp_path):
    """20, 28: NVDA is held by hand and splits by the table; settling goes on, and a lost stop of AAPL is placed again."""
    before = DAY - timedelta(days=1)
    opened = OPEN - timedelta(days=1)
    stage = floor(tmp_path, market(bars()), opened, strategy(sizing=STOPPED), splits={"NVDA": (Split("NVDA", DAY, D(10)),)})
    stage.cycle()
    held = by_hand("NVDA", 10, "100", opened + timedelta(seconds=2))
    stage = telling(stage, lambda told: [*told, held], NVDA=10)
    stage.go(opened + timedelta(seconds=5)).release()
    assert stage.row("positions", symbol="NVDA")["quantity"] == 10
    stage.go(at(16, day=before))
    close_session(stage.desk, calendar().session(before))
    stage = after(telling(stage, lambda told: [*told, held], NVDA=100), 5)
    [split] = stage.events(E.CORPORATE_ACTION_SPLIT)
    assert (split.payload["symbol"], D(split.payload["close"]), D(split.payload["in_lieu"])) == ("NVDA", D(100), D(0))
    row = stage.row("positions", symbol="NVDA")
    assert (row["quantity"], row["cost"]) == (100, D(1001)), "a commission of 1 is part of the cost"

    stage.broker.cancel(stage.row("orders", order_type="stop")["client_id"])
    after(stage, 60, 65, 70)
    [placed] = stage.rows("orders", order_type="stop", state="accepted")
    assert (placed["part"], placed["quantity"]) == ("stop-1.2", 50)
    assert stage.events(E.POSITION_UNPROTECTED) == []
    assert (judge(stage.desk.ledger).violations, stage.verifies()) == ((), True)


# An order that works before the book begins


def thin(tmp_path) -> Floor:
    """An entry of fifty shares at work, of which ten were bought before the ledger was lost."""
    source = market(bars("AAPL", Interval.MIN1, date(2024, 8, 27), DAY, volume=100))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN1, sizing=STOPPED))
    stage.cycle(Interval.MIN1)
    (tmp_path / "anchors.jsonl").unlink(missing_ok=True)
    assert stage.broker.positions() == {"AAPL": 10}
    return stage


def booted(stage: Floor) -> str:
    """The desk's process comes up, begins again where something keeps it from that, and ends as if told to; what it said last."""
    told: list[str] = []
    attend(stage.desk, lambda: len(told) > 6 or any(line.startswith("Ready") for line in told), told.append)
    return told[-1]


def begun_anew(tmp_path) -> Floor:
    """A new ledger on that account, whose book a cycle begins a minute later, at twenty shares."""
    stage = thin(tmp_path)
    new = stage.restarted(ledger=MemoryLedger("demo", opened_at=at(10, 0, 3))).go(at(10, 0, 3))
    assert booted(new).startswith("Ready")
    assert (new.rows("orders"), new.row("latches")["state"]) == ([], "latched")
    emergency.clear(new.desk, actor=PERSON, typed="PAPER-1")
    new.run(strategy("fresh", interval=Interval.MIN1, sizing=STOPPED))
    return new.go(at(10, 1, 5))


def test_a_new_ledger_takes_over_an_entry_that_works_without_what_it_filled_before(tmp_path):
    """20, 28, 82, C14: the ledger is lost while an entry of ours is partly filled; the desk comes up, and no share counts twice."""
    new = begun_anew(tmp_path)
    new.faults.on_executions(Repeat())
    new.cycle(Interval.MIN1)
    assert (new.broker.positions(), new.row("latches")["state"]) == ({"AAPL": 20}, "latched")
    adopted = new.row("orders", order_class="E")
    assert (adopted["state"], adopted["quantity"], adopted["filled_quantity"]) == ("accepted", 30, 0)
    assert new.rows("fills") == []
    for minute in (2, 3, 8):
        new.go(at(10, minute, 5)).cycle(Interval.MIN1)
        assert booted(new).startswith("Ready")
    adopted = new.row("orders", order_class="E")
    assert (adopted["state"], adopted["filled_quantity"], adopted["strategy"]) == ("filled", 30, "EXTERNAL")
    assert [row["quantity"] for row in new.rows("fills")] == [10, 10, 10]
    assert mismatches(new.desk) == {"AAPL": "AAPL: booked 30 shares, the broker states 50"}, "twenty are of before the book"
    assert new.row("cash")["cash"] == new.broker.account().cash
    assert new.events(E.ORDER_SUBMITTED) == []
    assert (judge(new.desk.ledger).violations, new.verifies()) == ((), True)


@pytest.mark.parametrize("nonsense", [{"at": at(10).replace(tzinfo=None)}, {"quantity": 10**30}, {"quantity": 0.5}, {"at": TIMES[0]}])
def test_nonsense_among_what_an_order_filled_before_the_book_began_does_not_keep_it_from_being_taken_over(tmp_path, nonsense):
    """18, 20, C14: it is refused like any other, and counts for no share."""
    new = begun_anew(tmp_path)
    entry = new.broker.orders()[0].client_id
    odd = replace(Fill("X-1", entry, "AAPL", Side.BUY, 10, D(100), D(1), at(10)), **nonsense)
    new = telling(new, lambda told: [*told, (entry, odd)])
    new.cycle(Interval.MIN1)
    adopted = new.row("orders", order_class="E")
    assert adopted["quantity"] == 30
    assert booted(new).startswith("Ready")
    assert len(new.events(E.EXECUTION_REFUSED)) == 1
    assert (judge(new.desk.ledger).violations, new.verifies()) == ((), True)
