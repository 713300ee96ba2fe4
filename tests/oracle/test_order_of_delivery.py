"""Executions reach the ledger in the order in which a line delivers them, which need not be that in which they happened."""

from datetime import date, timedelta
from decimal import Decimal

from tests.desks import OPEN, at, bars, floor, market, strategy
from trading_pipeline.adapters.brokers.paper_faults import Overfill, Withhold
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.orders import Side, client_id
from trading_pipeline.domain.portfolio import Fill, Position
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing
from trading_pipeline.service.accounting import portfolio_of, strategy_pnl
from trading_pipeline.service.record.judgement import judge

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
    # 50 bought at 100 and sold at 94, less two commissions and what spread and slippage took: what the account has lost.
    made = strategy_pnl(portfolio_of(stage.desk, stage.desk.ledger))["buyer"]
    assert made == stage.broker.account().cash - 100_000 < -300
    assert stage.row("positions")["cost"] == 0
    assert judge(stage.desk.ledger).violations == ()


def test_what_a_broker_sells_beyond_an_exit_is_booked_and_accuses_nobody(tmp_path):
    """18, 26, fault 18: three shares too many, of a position that is closed."""
    spec = strategy(agent=ExpressionAgent("close == 100", "close == 100"))
    stage = floor(tmp_path, market(bars()), OPEN, spec)
    stage.cycle()
    stage.faults.on_every_submit(Overfill(3))
    stage.go(NEXT_OPEN).cycle()
    assert stage.row("positions")["quantity"] == stage.broker.positions()["AAPL"] == -3
    assert stage.row("orders", order_class="X")["state"] == "quarantined"
    assert judge(stage.desk.ledger).violations == ()


def test_a_purchase_covers_what_was_sold_short_and_the_rest_is_held_at_its_price():
    """27, 28: 18 sold at 100 by somebody else, then 50 bought at 90 under the same name."""
    when = OPEN
    short = Position("EXTERNAL", "AAPL").after(fill("1", Side.SELL, 18, 100, when))
    assert (short.quantity, short.cost, short.realised, short.opened_at) == (-18, -1_799, 0, when)
    later = when + timedelta(minutes=1)
    held = short.after(fill("2", Side.BUY, 50, 90, later))
    # Of $4,501 for 50 shares, 18 cost 1,620.36; 32 cost 2,880.64.
    assert (held.quantity, held.cost, held.realised, held.opened_at) == (32, Decimal("2880.64"), Decimal("178.64"), later)


def fill(name, side, quantity, price, when):
    return Fill(name, name, "AAPL", side, quantity, Decimal(price), Decimal(1), when)
