"""What stops cover, through splits, partial fills, broken brackets and errors on the way; found by attacking the desk (C12, F6)."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import at, floor, strategy
from tests.oracle.forging import record
from tests.service.minutes import bracketed, minute_bars
from tests.service.orders.test_protection import leaving
from tests.service.orders.test_splits import BEFORE, PROTECTED, holding, stepping
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.strategies import RiskSizing
from trading_pipeline.errors import MarketDataError
from trading_pipeline.oracle import check
from trading_pipeline.service import approvals
from trading_pipeline.service.cycle import run_follow_up
from trading_pipeline.service.orders.gaps import gaps


def dropped(stage, *parts):
    """The broker cancels stops and targets by itself."""
    for row in stage.rows("orders", order_class="P"):
        if not parts or row["part"] in parts:
            stage.broker.cancel(row["client_id"])


def covered(stage, strategy_name="buyer"):
    """Shares under stops at work, as the broker has them."""
    return sum(order.ticket.quantity for order in stage.broker.orders() if order.ticket.stop_price is not None)


def test_a_stop_that_rested_through_a_split_is_placed_again_for_all_the_new_shares(tmp_path):
    """C12, fault 23: fifty shares have become two hundred."""
    stage = holding(tmp_path, 4)
    stage.go(at(9, 30, 5)).cycle()
    dropped(stage)
    stage.go(at(9, 40)).release()
    stage.go(at(9, 41)).release()
    [stop] = stage.rows("orders", order_type="stop", state="accepted")
    assert stop["quantity"] == stage.row("positions")["quantity"] == 200
    assert gaps(stage.desk.ledger) == []
    assert check(record(stage.desk.ledger)) == []


@pytest.mark.parametrize(("ratio", "price"), [(4, Decimal("23.75")), (0.25, Decimal(380))])
def test_a_stop_that_ended_before_a_split_comes_back_at_the_new_price(tmp_path, ratio, price):
    """C12, fault 23: that it ended was learnt of after the split; 95 in a market at 25 would sell at once."""
    stage = floor(tmp_path, stepping(ratio), at(9, 30, 5, day=BEFORE), strategy(sizing=PROTECTED))
    stage.cycle()
    stage.go(at(9, 40, day=BEFORE)).release()
    stage.go(at(15, 59, day=BEFORE))
    dropped(stage)
    stage.go(at(9, 30, 5)).cycle()
    stage.go(at(9, 41)).release()
    [stop] = stage.rows("orders", order_type="stop", state="accepted")
    assert (stop["stop_price"], stop["quantity"]) == (price, stage.row("positions")["quantity"])


def test_an_entry_that_loses_a_stop_while_it_fills_is_ended_and_what_it_bought_protected(tmp_path):
    """C12: of two brackets one is gone; which of the rest the other stands for, only the entry's end can tell."""
    thin = {at(hour, minute): 100.0 for hour, minute in [*((9, m) for m in range(30, 60)), *((10, m) for m in range(30))]}
    spec = bracketed(sizing=RiskSizing(targets=(Decimal(1), Decimal(2))))
    stage = floor(tmp_path, minute_bars(volumes=thin), at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    dropped(stage, "stop-1", "target-1")
    for minute, second in ((0, 20), (0, 30), (5, 30), (6, 30), (7, 30)):
        stage.go(at(10, minute, second)).release()
    assert stage.row("orders", part="entry")["state"] == "canceled"
    assert covered(stage) == stage.row("positions")["quantity"] > 0
    assert gaps(stage.desk.ledger) == []
    assert check(record(stage.desk.ledger)) == []


def test_an_exit_left_behind_by_an_error_in_the_gate_protects_nothing(tmp_path):
    """C2, C12, fault 63: its stops were cancelled for it; a source that failed once must not leave the position naked."""
    stage, _ = leaving(tmp_path)
    source, failed = stage.desk.market, []

    class Failing:
        def __getattr__(self, name):
            return getattr(source, name)

        def quotes(self, symbols, now):
            if stage.rows("orders", part="exit") and not failed:
                failed.append(now)
                raise MarketDataError("the source does not answer", value="x")
            return source.quotes(symbols, now)

    turn = follow_up(approvals.due(stage.desk).released, stage.desk.today(), stage.desk.now(), "release")
    with pytest.raises(MarketDataError):
        run_follow_up(replace(stage.desk, market=Failing()), turn)
    assert failed
    for second in (10, 20, 45, 60):
        stage.go(at(10, 2, 30) + timedelta(seconds=second)).release()
    held = stage.row("positions")["quantity"]
    assert held == 0 or covered(stage) == held
    assert stage.rows("orders", state="intent") == []
