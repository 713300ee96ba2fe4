"""Two sessions of two strategies, lived once for all tests of the oracle."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.desks import ALWAYS, NEVER, PERSON, at, bars, calendar, floor, market
from tests.oracle.forging import record
from tests.service.minutes import approved, bracketed
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.strategies import ExpressionAgent, Lifetime, Mode
from trading_pipeline.service import controls
from trading_pipeline.service.submitter.closing import close_session

NEXT = date(2024, 8, 29)


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """`asker` asks about AAPL, buys and sells it again; `buyer` buys MSFT twice, its first target is hit, and lasts a session."""
    up = {at(10, 5): (100.0, 106.0, 100.0, 100.0)}
    days = (Interval.MIN1, date(2024, 8, 27), NEXT)
    source = market(bars("AAPL", *days), bars("MSFT", *days, at=up))
    stage = floor(
        tmp_path_factory.mktemp("lived"), source, at(10, 0, 1),
        bracketed(name="asker", mode=Mode.APPROVAL, agent=ExpressionAgent(ALWAYS, NEVER, 3)),
        bracketed(name="buyer", symbols=("MSFT",), lifetime=Lifetime.SESSION),
    )
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 10))
    approved(stage)
    stage.release()
    stage.go(at(10, 6, 1)).release()
    stage.go(at(10, 7, 1)).cycle(Interval.MIN1)
    stage.go(at(10, 7, 20))
    approved(stage)
    stage.release()
    controls.pause(stage.desk, "buyer", actor=PERSON, reason="lunch")
    stage.go(at(10, 30))
    controls.resume(stage.desk, "buyer", actor=PERSON)
    controls.revise(
        stage.desk, bracketed(name="buyer", symbols=("MSFT",), lifetime=Lifetime.SESSION, limits=StrategyLimits(max_day_loss=Decimal(500))),
        actor=PERSON,
    )
    stage.go(at(11, 0, 1)).cycle(Interval.MIN1)
    stage.go(at(11, 5, 1)).release()
    session = stage.desk.calendar.at(stage.clock.now())
    assert session is not None
    stage.go(session.close + timedelta(seconds=5))
    close_session(stage.desk, session)
    stage.go(calendar().session(NEXT).open + timedelta(minutes=1, seconds=1)).cycle(Interval.MIN1)
    return record(stage.desk.ledger)
