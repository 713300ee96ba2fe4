"""The demo's figures: trades won, and what the same money had made without trading."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from tests.desks import OPEN, at, bars, floor, market, strategy
from trading_pipeline.demo.summary import buy_and_hold, closed_trades
from trading_pipeline.domain.adjustments import Split


def fill(side: str, quantity: int, price: str, symbol: str = "AAPL") -> dict[str, object]:
    return {"symbol": symbol, "side": side, "quantity": quantity, "price": Decimal(price), "commission": Decimal(1)}


def test_a_trade_is_closed_when_nothing_is_left_and_counts_after_commissions():
    fills = [
        fill("buy", 10, "100"), fill("buy", 5, "50", "IBM"), fill("sell", 4, "110"), fill("sell", 6, "90"), fill("buy", 1, "10"),
        fill("sell", 1, "12"),
    ]
    assert closed_trades(fills) == [Decimal(-23), Decimal(0)], "40 - 60 - 3, then 2 - 2; IBM is still held"


def test_buy_and_hold_goes_from_the_first_open_to_the_last_close_split_adjusted(tmp_path):
    rises = {at(9, 30): (100.0, 125.0, 100.0, 120.0), at(9, 30, day=date(2024, 8, 29)): (60.0, 66.0, 60.0, 66.0)}
    falls = {at(9, 30): (100.0, 100.0, 90.0, 95.0), at(9, 30, day=date(2024, 8, 29)): (90.0, 90.0, 90.0, 90.0)}
    source = market(bars("AAPL", at=rises), bars("IBM", at=falls), splits=[Split("AAPL", date(2024, 8, 29), Decimal(2))])
    stage = floor(tmp_path, source, OPEN, strategy(symbols=("AAPL", "IBM")))
    stage.cycle()
    stage.go(datetime(2024, 8, 29, 13, 30, tzinfo=UTC)).cycle()
    stage.go(datetime(2024, 8, 29, 20, 0, tzinfo=UTC) + timedelta(seconds=5))
    held = buy_and_hold(stage.desk, Decimal(100_000))
    assert held is not None
    gain, sessions, symbols = held
    assert (sessions, symbols) == (2, ("AAPL", "IBM"))
    assert gain == Decimal("11000.00"), "half of it +32 % (66 of 50), half of it -10 %"
