"""A ledger that was put back to before a submission, against a broker that goes on from where it was (C14)."""

import copy
from datetime import date, timedelta
from decimal import Decimal

from tests.desks import DAY, OPEN, at, bars, floor, market, strategy
from trading_pipeline.adapters.brokers.paper_faults import ShowLate
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import client_id
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.service.cycle import STEPS, run_cycle

E = EventType
NAME = client_id(action_id("buyer", "1d@2024-08-27T20:00Z", "AAPL"), "entry")
STOPPED = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"))
"""Each entry has a child."""


def trading(tmp_path):
    return floor(tmp_path, market(bars()), OPEN, strategy(sizing=STOPPED))


def before_its_orders(stage, interval=Interval.DAY1):
    """The ledger as a backup has it that was made before the newest cycle's orders; they are sent after that."""
    due = stage.due(interval)
    for step in ("bars", "indicators", "charts", "signals", "verdicts"):
        STEPS[step](stage.desk, due)
    backup = MemoryLedger("demo", opened_at=OPEN)
    backup._store = copy.deepcopy(stage.desk.ledger._store)
    run_cycle(stage.desk, due)
    return backup


def test_a_name_that_the_broker_has_already_puts_the_order_in_doubt_and_the_account_on_hold(tmp_path):
    """C14, fault 35: the ledger is put back to before a submission that the broker hides, and sends it for the first time again."""
    stage = trading(tmp_path)
    stage.faults.on_submit(NAME, ShowLate(timedelta(seconds=90)))
    stage.cycle()
    older = stage.restarted(ledger=MemoryLedger("demo", opened_at=OPEN)).go(OPEN + timedelta(seconds=2))
    older.run(strategy(sizing=STOPPED))
    older.cycle()
    assert (older.row("orders", part="entry")["state"], older.events(E.ORDER_REJECTED)) == ("unknown", [])
    assert (older.row("latches")["state"], "has an order" in older.row("latches")["reason"]) == ("latched", True)
    assert [each.actor for each in older.desk.latch.stops()] == ["recovery"]

    older.go(OPEN + timedelta(seconds=95)).release()
    assert (older.row("orders", part="entry")["state"], older.row("orders", part="stop-1")["state"]) == ("filled", "accepted")
    assert older.broker.positions() == {"AAPL": older.row("positions")["quantity"]}
    older.go(at(9, 30, day=date(2024, 8, 29))).cycle()
    assert len(older.events(E.ORDER_SUBMITTED)) == len(stage.events(E.ORDER_SUBMITTED)), "nothing else is sent before a person has looked"
    assert older.verifies()


def test_an_action_whose_order_the_broker_has_is_not_sent_again_by_an_older_ledger(tmp_path):
    """C14, fault 35: its stop works at the broker and is taken over under the name that the action would give it."""
    stage = trading(tmp_path)
    older = stage.restarted(ledger=before_its_orders(stage)).go(OPEN + timedelta(seconds=2))
    assert older.row("actions")["state"] == "ready"
    older.release()
    assert (older.row("actions")["state"], older.row("latches")["state"]) == ("voided", "latched")
    assert [(row["part"], row["strategy"]) for row in older.rows("orders")] == [("adopted", "EXTERNAL")]
    assert len(older.broker.orders([NAME])) == 1
    assert older.verifies()


def test_an_order_that_an_older_ledger_takes_over_has_what_it_filled(tmp_path):
    """C14: the entry has bought part of its shares and works on."""
    first = date(2024, 8, 27)
    thin = market(bars("AAPL", Interval.MIN1, first, DAY, volume=100))
    spec = strategy(interval=Interval.MIN1, sizing=STOPPED)
    stage = floor(tmp_path, thin, at(10, 0, 1), spec)
    backup = before_its_orders(stage, Interval.MIN1)
    known = stage.row("orders", part="entry")
    assert 0 < known["filled_quantity"] < known["quantity"]
    older = stage.restarted(ledger=backup).go(at(10, 0, 3))
    older.release()
    adopted = older.row("orders", client_id=known["client_id"])
    assert (adopted["state"], adopted["filled_quantity"], adopted["strategy"]) == ("partial", known["filled_quantity"], "EXTERNAL")
    assert older.row("latches")["state"] == "latched"
    assert older.verifies()
