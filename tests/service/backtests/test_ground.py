"""What the ground tells of bars is what live reads of them."""

from datetime import date
from decimal import Decimal

import pytest

from tests.desks import calendar
from tests.service.backtests.random_plans import scenario
from tests.service.backtests.rough_market import rough_minutes
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.volatility import BARS_NEEDED, SESSIONS, breaker
from trading_pipeline.service.backtests.columnar.asking import NOWHERE
from trading_pipeline.service.backtests.columnar.ground import Prices, ground_of

D = Decimal


def five_minutes() -> BarTable:
    """Of more sessions than the breaker measures by."""
    markets = (table for plan, tables in map(scenario, range(99)) if plan.interval is Interval.MIN5 for table in tables.values())
    return next(table for table in markets if len(set(table.session_days.tolist())) > SESSIONS + 1)


def prices_of(table: BarTable, first: date) -> Prices:
    return ground_of({table.symbol: table}, {}, calendar(), first, table.session_days[-1].astype(object)).prices[table.symbol]


@pytest.mark.parametrize("limits", [AccountLimits(), AccountLimits(volatility_trip=D("1.5"), volatility_clear=D("1.2"))])
@pytest.mark.parametrize(
    "table", [five_minutes(), rough_minutes("AAA", 3, date(2023, 10, 30), date(2023, 11, 24), calendar())], ids=["5-minute", "minutes"],
)
def test_the_breaker_of_a_session_is_that_of_the_bars_up_to_each_of_its_closes(table, limits):
    days = table.session_days
    prices = prices_of(table, days[days < days[-1]][-1].astype(object))
    tripped = []
    for at in range(0, len(prices.grid), 3):
        row = prices.first + at + 1
        live = breaker(table.rows(max(0, row - BARS_NEEDED[table.interval]), row), limits.volatility_trip, limits.volatility_clear)
        assert prices.volatility(at, limits) == live
        first = prices.calm_until(limits.volatility_trip)(prices.grid.session_of.item(at))
        assert live is None or at >= first or (not live.tripped and live.ratio < limits.volatility_trip)
        tripped.append(live is not None and live.tripped)
        assert first == NOWHERE or 0 <= first < len(prices.grid)
    if limits.volatility_trip < 2:
        assert any(tripped)
        assert not all(tripped)
