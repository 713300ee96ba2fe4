"""What protects an account goes on in the desk's process while something beside it fails."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.desks import OPEN, PERSON, Floor, at, bars, floor, market, strategy
from tests.service.attending import attended
from tests.service.minutes import MINUTES, bracketed, decided, intended, minute_bars
from tests.waiting import until
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.events import NewEvent
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.errors import BrokerNotReady, MarketDataError
from trading_pipeline.ports import MarketData, Stop


class Unpriced:
    """A source that has no prices of some symbols."""

    def __init__(self, market: MarketData) -> None:
        self._market = market
        self.without: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._market, name)

    def quotes(self, symbols: Collection[str], now: datetime) -> Any:
        if missing := self.without.intersection(symbols):
            raise MarketDataError(f"{min(missing)} has no price.", value=min(missing))
        return self._market.quotes(symbols, now)


def unpriced(stage: Floor) -> tuple[Floor, Unpriced]:
    """A desk on a source of its own, which can lose prices; the broker's keeps them."""
    source = Unpriced(stage.desk.market)
    return replace(stage, desk=replace(stage.desk, market=source)), source


def test_a_stop_is_gone_on_with_while_the_day_cannot_be_reviewed(tmp_path):
    """53, 82: a person's stop has reached its file alone, and what is held has no price."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"))))
    stage.cycle()
    stage, source = unpriced(stage)
    with attended(stage) as said:
        source.without = {"AAPL"}
        until(lambda: any(line.startswith("Review failed") for line in said), "the review fails")
        stage.desk.latch.stop(Stop(None, "enough", PERSON, stage.desk.now()))
        until(lambda: stage.events(E.STOP_REPORTED), "it is reported")
    assert stage.row("strategies")["state"] == "emergency_stopped"
    assert stage.row("latches")["state"] == "latched"


def test_a_position_is_protected_while_another_symbols_intent_cannot_be_judged(tmp_path):
    """C2, C12: an intent of a symbol without a price is left behind, and the broker drops the stop of what is held."""
    stage = floor(tmp_path, minute_bars("AAPL", "IBM"), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage.run(strategy("other", symbols=("IBM",), **MINUTES))
    stage.go(at(10, 1, 1))
    intended(stage, decided(stage), strategy="other")
    stage, source = unpriced(stage)
    source.without = {"IBM"}
    for order in stage.broker.orders():
        stage.broker.cancel(order.client_id)
    with attended(stage, ready=False):
        until(lambda: len(stage.broker.orders()) == 2, "stop and target are there again")
    assert [row["part"] for row in stage.rows("orders", order_type="stop", state="accepted")] == ["stop-1.2"]
    assert stage.row("orders", strategy="other")["state"] == "intent"


def test_an_entry_is_withdrawn_while_the_broker_tells_no_executions(tmp_path):
    """57, D10: the strategy has paused, and what asks for news fails each time."""

    class Silent(LatchedBroker):
        silent = False

        def executions(self, since):
            if self.silent:
                raise BrokerNotReady("No executions just now.", value=since)
            return super().executions(since)

    volumes = {at(10, minute): 0.0 for minute in range(-1, 20)}
    stage = floor(tmp_path, minute_bars(volumes=volumes), at(10, 0, 1), strategy(**MINUTES))
    stage.cycle(Interval.MIN1)
    assert stage.row("orders")["state"] == "accepted"
    broker = Silent(stage.broker, stage.desk.latch)
    stage = stage.restarted(broker=broker)
    with attended(stage):
        broker.silent = True
        paused = NewEvent(E.STRATEGY_PAUSED, "strategy:buyer", "paused", {"strategy": "buyer", "reason": "x"}, stage.clock.now(), PERSON)
        with stage.desk.ledger.transaction() as tx:
            tx.append(paused)
        until(lambda: not stage.broker.orders(), "it is cancelled")
    assert stage.row("orders")["state"] == "cancel_pending"
