"""The composed desk on the real PostgreSQL gives the facts that the desk in memory gives, and survives being opened again."""

import itertools
import secrets
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests.conftest import execute
from tests.desks import PERSON, floor, samples, strategy
from trading_pipeline.adapters.clocks import SteppedClock
from trading_pipeline.bootstrap import open_desk
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.homes import packaged_strategies
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.accounting import compare_with_broker
from trading_pipeline.service.cycle import run_cycle, run_follow_up
from trading_pipeline.service.record.verification import verify
from trading_pipeline.service.submitter.closing import close_session
from trading_pipeline.service.timetable import newest_cycle
from trading_pipeline.settings import Settings

FIRST = datetime(2012, 10, 15, 13, 30, tzinfo=UTC)


def three_sessions(desk, clock):
    """Both packaged strategies, a person who approves all, every release on the way, the close."""
    for spec in packaged_strategies():
        controls.create(desk, spec, actor=PERSON)
        controls.start(desk, spec.name, actor=PERSON)
    for _ in range(3):
        session = desk.calendar.at(clock.now())
        run_cycle(desk, newest_cycle(desk, Interval.DAY1))
        for row in desk.ledger.find("approvals", state="pending", order_by="requested_seq"):
            approvals.approve(desk, row["action_id"], actor=PERSON)
        while (instant := approvals.next_instant(desk)) is not None and instant < session.close:
            clock.advance_to(instant)
            due = approvals.due(desk)
            approvals.expire(desk, due.overdue)
            run_follow_up(desk, follow_up(due.released, session.day, instant, "release"))
        clock.advance_to(session.close)
        close_session(desk, session)
        clock.advance_to(desk.calendar.next(session.day).open)


def told(ledger):
    """Every fact; under which number of a lease an order went depends on who else has held it."""
    return [(e.seq, e.stream, e.key, e.type, e.cause, e.actor, e.at, e.payload | {"lease": None}) for e in ledger.events()]


@pytest.fixture
def given(postgres, ledger_database, tmp_path):
    """Settings of a home whose database is an empty one on the server of this run."""
    yield Settings(
        home=tmp_path / "home", environment="demo", database_url=postgres.app_url(ledger_database).render_as_string(hide_password=False),
        owner_database_url=postgres.owner_url(ledger_database).render_as_string(hide_password=False),
        market={"clock": "replay", "source": "samples"},
    )
    execute(postgres.superuser_url(ledger_database), "DROP SCHEMA IF EXISTS paper CASCADE")


def test_three_sessions_on_postgresql_are_those_in_memory(given, tmp_path, monkeypatch):
    """5."""
    ledgers = {}
    numbers = itertools.count()
    monkeypatch.setattr(secrets, "token_hex", lambda size: f"{next(numbers):0{2 * size}}")
    stage = floor(tmp_path / "memory", samples(), FIRST)
    three_sessions(stage.desk, stage.clock)
    ledgers["memory"] = told(stage.desk.ledger)

    numbers = itertools.count()
    clock = SteppedClock(FIRST)
    with open_desk(given, clock) as desk:
        three_sessions(desk, clock)
        ledgers["postgresql"] = told(desk.ledger)
        assert verify(desk.ledger).ok
    assert ledgers["postgresql"] == ledgers["memory"]

    with open_desk(given, SteppedClock(clock.now() + timedelta(seconds=1))) as again:
        assert told(again.ledger) == ledgers["memory"]
        booked = {row["symbol"]: 0 for row in again.ledger.find("positions")}
        for row in again.ledger.find("positions"):
            booked[row["symbol"]] += row["quantity"]
        assert {symbol: many for symbol, many in booked.items() if many} == again.broker.positions()
        assert again.broker.positions(), "something was bought in three sessions"


def test_a_split_on_postgresql_is_the_one_in_memory_even_when_each_session_is_a_process(given, tmp_path):
    """Apple's two for one of 2005-02-28, held with a stop and a target."""
    sizing = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"), target=Decimal("0.10"))
    opens = [datetime(2005, 2, 25, 14, 30, tzinfo=UTC), datetime(2005, 2, 28, 14, 30, tzinfo=UTC)]
    stage = floor(tmp_path / "memory", samples(), opens[0], strategy(sizing=sizing))
    for instant in opens:
        stage.go(instant).cycle()

    for instant in opens:
        with open_desk(given, SteppedClock(instant)) as desk:
            if instant == opens[0]:
                controls.create(desk, strategy(sizing=sizing), actor=PERSON)
                controls.start(desk, "buyer", actor=PERSON)
            run_cycle(desk, newest_cycle(desk, Interval.DAY1))
            assert compare_with_broker(desk) == []
    with open_desk(given, SteppedClock(instant)) as desk:
        assert told(desk.ledger) == told(stage.desk.ledger)
        assert [e.type for e in desk.ledger.events(types=[EventType.CORPORATE_ACTION_SPLIT])] == [EventType.CORPORATE_ACTION_SPLIT]
        assert verify(desk.ledger).ok
        assert [order.ticket.quantity for order in desk.broker.orders()] == [desk.broker.positions()["AAPL"]] * 2
