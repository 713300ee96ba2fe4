"""The broker behind the latch: a stop is read in the submission itself; queries and cancels always pass."""

import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tests.desks import OPEN, bars, floor, market, strategy
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.domain.orders import OrderType, Side, TimeInForce
from trading_pipeline.errors import BrokerRefused
from trading_pipeline.ports import Permit, Stop, Ticket

STOP = Stop(None, "enough", "user:anna", datetime(2026, 3, 2, tzinfo=UTC))

TICKET = Ticket("A" * 20, "AAPL", Side.BUY, 1, OrderType.LIMIT, Decimal(100), None, TimeInForce.DAY)


class Recording:
    """Remembers what reaches it."""

    name, account_id = "paper", "PAPER-1"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name):
        return lambda *_args: self.calls.append(name)


def permit(strategy: str = "dips") -> Permit:
    return Permit(
        client_id="A" * 20, digest="", submitted_seq=1, strategy=strategy, good_until=time.monotonic() + 60,
        good_until_wall=time.time() + 60,
    )


@pytest.fixture
def latch(tmp_path) -> LatchFiles:
    return LatchFiles(tmp_path / "stops")


@pytest.mark.parametrize("scope", [None, "dips"])
def test_nothing_is_sent_under_a_stop_and_the_refusal_is_definite(latch, scope) -> None:
    """52: the file alone suffices."""
    inner = Recording()
    latch.stop(Stop(scope, STOP.reason, STOP.actor, STOP.at))
    with pytest.raises(BrokerRefused, match="emergency stop"):
        LatchedBroker(inner, latch).submit(TICKET, permit())
    assert inner.calls == []


@pytest.mark.parametrize("clock", ["monotonic", "time"])
def test_a_permit_lapses_by_whichever_clock_went_on_while_the_other_stood_still(latch, monkeypatch, clock) -> None:
    """32, fault 26: a laptop that slept between the commit and the sending; its monotonic clock stood still, or its wall clock was set."""
    inner, granted = Recording(), permit()
    asleep = getattr(time, clock)() + 3600
    monkeypatch.setattr(f"trading_pipeline.adapters.brokers.latched.time.{clock}", lambda: asleep)
    with pytest.raises(BrokerRefused, match="lapsed"):
        LatchedBroker(inner, latch).submit(TICKET, granted)
    assert inner.calls == []


def test_anothers_stop_keeps_nobody_else(latch) -> None:
    inner = Recording()
    latch.stop(Stop("trend", STOP.reason, STOP.actor, STOP.at))
    LatchedBroker(inner, latch).submit(TICKET, permit())
    assert inner.calls == ["submit"]


def test_cancels_and_queries_pass_under_a_stop(latch) -> None:
    """53."""
    inner = Recording()
    latch.stop(STOP)
    broker = LatchedBroker(inner, latch)
    for call, given in {"cancel": ("A",), "orders": (None,), "executions": (OPEN,), "positions": (), "account": ()}.items():
        getattr(broker, call)(*given)
    assert inner.calls == ["cancel", "orders", "executions", "positions", "account"]


def test_every_desk_has_its_broker_behind_the_latch(tmp_path) -> None:
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    assert isinstance(stage.desk.broker, LatchedBroker)
