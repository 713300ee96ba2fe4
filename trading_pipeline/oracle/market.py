# ruff: noqa: ARG001 - every check has the one signature
"""What decisions were made on: 70, 73; and what a model's answer may be (59)."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation

from trading_pipeline.oracle.exchange import closes_at
from trading_pipeline.oracle.fact import Fact, instant
from trading_pipeline.oracle.invariant import Invariant
from trading_pipeline.oracle.state import State


def _complete(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    strategy = state.strategies.get(data["strategy"])
    if data["action"] not in ("buy", "sell", "hold"):
        yield f"{data['action_id']} proposes to {data['action']!r}"
    if strategy is None or data["symbol"] not in strategy.spec["symbols"]:
        yield f"{data['action_id']} is about {data['symbol']}, which {data['strategy']} does not list"
    try:
        sure = Decimal(data["confidence"])
    except (InvalidOperation, TypeError):
        yield f"{data['action_id']} has the confidence {data['confidence']!r}"
        return
    if not 0 <= sure <= 1:
        yield f"{data['action_id']} has the confidence {sure}"


def _session(state: State, fact: Fact) -> Iterator[str]:
    if closes_at(date.fromisoformat(fact.data["session"])) is None:
        yield f"{fact.data['session']} is opened as a session, and the exchange is closed"


def _closed_bars(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    if fact.type != "bar.received":
        end = data.get("bar_end")
        if end is not None and instant(end) > fact.at:
            yield f"{fact.type} of {data['symbol']} at {fact.at:%Y-%m-%d %H:%M:%S} UTC knows a bar that ends at {end}"
        return
    name = f"the {data['interval']} bar of {data['symbol']} from {data['start']}"
    prices = {each: Decimal(str(data[each])) for each in ("open", "high", "low", "close")}
    volume = Decimal(str(data["volume"]))
    if not all(price.is_finite() and price > 0 for price in prices.values()) or not volume.is_finite() or volume < 0:
        yield f"{name} has {', '.join(f'{each} {value}' for each, value in prices.items())}, volume {volume}"
        return
    if not prices["low"] <= min(prices["open"], prices["close"]) <= max(prices["open"], prices["close"]) <= prices["high"]:
        yield f"{name} has {', '.join(f'{each} {value}' for each, value in prices.items())}"
    end = instant(data["end"])
    if not instant(data["start"]) < end <= fact.at:
        yield f"{name} ends at {data['end']} and is received at {fact.at:%Y-%m-%d %H:%M:%S} UTC"
    before = state.last_bar.get((data["cycle"], data["symbol"], data["interval"]))
    # A correction of a bar that was received before has a key with a number behind.
    if before is not None and end <= before and fact.key.endswith("Z"):
        yield f"{name} ends at {data['end']}, the one before it in its cycle at {before:%Y-%m-%d %H:%M:%S} UTC"


INVARIANTS = (
    Invariant(59, "an action is complete and within the strategy's universe", ("llm.action_generated",), _complete),
    Invariant(70, "a session is a day on which the exchange is open", ("session.opened",), _session),
    Invariant(
        73, "closed bars only, in order, sane, and never from the future",
        ("bar.received", "indicators.computed", "chart.rendered", "llm.requested", "llm.action_generated"), _closed_bars,
    ),
)
