"""A stop that was meant to be sent when its process died, and a split before the next one comes up."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import DAY, Killed, at, bars, calendar, floor, market, strategy
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.service.orders import protection
from trading_pipeline.service.orders.settlement import settle
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.submitter.handover import lease_name

BEFORE = DAY - timedelta(days=1)


@pytest.mark.parametrize(("ratio", "quantity", "price"), [(1, 50, "95.00"), (4, 200, "23.75")])
def test_it_is_placed_on_the_new_scale_or_goes_out_as_it_was_meant(tmp_path, monkeypatch, ratio, quantity, price):
    """C2, C12, 31: at its old price it would sell at once, whatever the market does."""
    after = {session.open: (100 / ratio,) * 4 for session in calendar().between(DAY, date(2024, 9, 6))}
    splits = [Split("AAPL", DAY, Decimal(ratio))] if ratio > 1 else []
    spec = strategy(sizing=FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05")))
    stage = floor(tmp_path, market(bars(at=after), splits=splits), at(9, 30, 5, day=BEFORE), spec)
    stage.cycle()
    stage.go(at(15, 59, 50, day=BEFORE)).broker.cancel(stage.row("orders", part="stop-1")["client_id"])
    tally = Tally("test", follow_up((), BEFORE, stage.desk.now(), "test"))
    settle(stage.desk, tally)

    def dying(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed), stage.desk.ledger.lease(lease_name(stage.desk)) as fence:
        patched.setattr(protection, "gate_and_submit", dying)
        protection.protect(stage.desk, fence, tally)
    assert stage.row("orders", part="stop-1.2")["state"] == "intent"

    stage = stage.restarted().go(at(9, 30, 5))
    stage.cycle()
    stage.go(at(9, 30, 10)).release()
    assert [(order.ticket.quantity, order.ticket.stop_price) for order in stage.broker.orders()] == [(quantity, Decimal(price))]
    assert stage.rows("fills", side="sell") == []
    assert stage.row("orders", part="stop-1.2")["reason"] == ("AAPL was split 4 for 1 before it was sent" if ratio > 1 else "")
    assert stage.verifies()
