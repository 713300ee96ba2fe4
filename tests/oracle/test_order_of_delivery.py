"""Executions reach the ledger in the order in which a line delivers them, which need not be that in which they happened."""

from datetime import date, timedelta
from decimal import Decimal

from tests.desks import OPEN, at, bars, floor, market, strategy
from trading_pipeline.adapters.brokers.paper_faults import Withhold
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.orders import client_id
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing
from trading_pipeline.service.verification import judge

NAME = client_id(action_id("buyer", "1d@2024-08-27T20:00Z", "AAPL"), "entry")
NEXT_OPEN = at(9, 30, day=date(2024, 8, 29))


def test_a_stop_whose_execution_comes_before_its_entrys_is_booked_and_accuses_nobody(tmp_path):
    """19, 26, fault 7: the stream lost the entry's fill and not its stop's; the oracle knows that the entry may have filled."""
    fallen = {NEXT_OPEN: (94.0,) * 4}
    spec = strategy(agent=ExpressionAgent("close == 100"), sizing=FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05")))
    stage = floor(tmp_path, market(bars(at=fallen)), OPEN, spec)
    stage.faults.on_executions(Withhold(NAME))
    stage.cycle()
    stage.go(NEXT_OPEN + timedelta(minutes=1)).release()
    assert stage.row("positions")["quantity"] == -50
    stage.faults.on_executions()
    stage.go(NEXT_OPEN + timedelta(minutes=2)).release()
    assert [row["side"] for row in stage.rows("fills", order_by="seq")] == ["sell", "buy"]
    assert stage.row("positions")["quantity"] == 0
    assert judge(stage.desk.ledger).violations == ()
