"""10, 12, fault 27, fault 28: the connection to PostgreSQL breaks at a COMMIT in the middle of sending an order, on a real server.

Whether the server heard of it or not: the outcome is looked up by the event's key, and whatever came of it the order exists once.
"""

from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import OPEN, bars, floor, market, strategy
from tests.faults.cutting_proxy import CuttingProxy
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import client_id
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.errors import LedgerUnavailable
from trading_pipeline.service.cycle import STEPS, run_cycle

NAME = client_id(action_id("buyer", "1d@2024-08-27T20:00Z", "AAPL"), "entry")
COMMITS = range(1, 7)
"""The commits of the step that sends: of the limits in force, which writes nothing here, up to what the broker answered."""


@pytest.fixture
def proxy(postgres, ledger_database, short_home):
    proxy = CuttingProxy(short_home, postgres.app_url(ledger_database))
    yield proxy
    proxy.close()


@pytest.fixture
def stage(proxy, tmp_path):
    """A desk whose ledger is behind the proxy, about to send an entry with a stop."""
    ledger = PostgresLedger.open(proxy.url, "demo", opened_at=OPEN)
    sizing = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"))
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=sizing), ledger=ledger)
    for step in ("bars", "indicators", "charts", "signals", "verdicts"):
        STEPS[step](stage.desk, stage.due())
    yield stage
    ledger.close()


@pytest.mark.parametrize("commit", COMMITS)
def test_a_commit_that_was_done_and_not_answered_is_found_to_be_done(stage, proxy, commit):
    proxy.cut(commit, answered=True)
    run_cycle(stage.desk, stage.due())
    assert proxy.cuts == 1
    assert stage.row("orders", part="entry")["state"] == "filled"
    check_the_record(stage)


@pytest.mark.parametrize("commit", COMMITS[1:])
def test_a_commit_that_never_arrived_is_taken_up_by_the_next_run_and_sends_nothing_twice(stage, proxy, commit):
    proxy.cut(commit, answered=False)
    with pytest.raises(LedgerUnavailable):
        run_cycle(stage.desk, stage.due())
    assert proxy.cuts == 1
    again = stage.restarted().go(OPEN + timedelta(seconds=2))
    run_cycle(again.desk, again.due())
    for seconds in (62, 68, 75):
        again.go(OPEN + timedelta(seconds=seconds)).release()
    assert stage.row("orders", part="entry")["state"] == "filled"
    check_the_record(stage)


def check_the_record(stage):
    """One order, sent once, booked once."""
    assert len(stage.broker.orders([NAME])) == 1
    assert [event.payload["client_id"] for event in stage.events(EventType.ORDER_SUBMITTED)].count(NAME) == 1
    assert stage.row("positions")["quantity"] == stage.broker.positions()["AAPL"] == 50
    assert stage.verifies()


def test_the_proxy_lets_everything_else_through(stage, proxy):
    with suppress(LedgerUnavailable):
        run_cycle(stage.desk, stage.due())
    assert proxy.cuts == 0
    check_the_record(stage)
