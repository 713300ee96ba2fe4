"""Small valid histories for tests: facts as the pipeline writes them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.events import EventType, NewEvent

AT = datetime(2012, 10, 15, 20, 0, tzinfo=UTC)
E = EventType


def fact(type_: EventType, key: str, stream: str = "system", at: datetime = AT, cause: int | None = None, **payload: Any) -> NewEvent:
    """An event with this payload."""
    return NewEvent(type_, stream, key, payload, at, "test", cause)


def step(name: object, stream: str = "system") -> NewEvent:
    """A fact that keeps no table."""
    return fact(E.STEP_COMPLETED, f"step:{name}", stream, name=str(name))


def funded(amount: str = "100000", key: str = "funded") -> NewEvent:
    """Money on the paper account."""
    return fact(E.ACCOUNT_FUNDED, key, "account", account="PAPER", amount=Decimal(amount))


def created(strategy: str = "trend") -> NewEvent:
    """A strategy, in draft."""
    return fact(E.STRATEGY_CREATED, f"created:{strategy}", f"strategy:{strategy}", strategy=strategy, spec={"symbols": ["AAPL"]})


def trade(number: int, strategy: str = "trend", symbol: str = "AAPL", side: str = "buy", quantity: int = 10, price: str = "101.75"
          ) -> Iterator[NewEvent]:
    """An action from its signal to its fill."""
    at = AT + timedelta(minutes=number)
    stream, name = f"strategy:{strategy}", f"{strategy}-{number}"
    action = {"action_id": f"A{name}", "strategy": strategy, "symbol": symbol}
    order = {"client_id": f"C{name}", "strategy": strategy, "symbol": symbol, "account": "PAPER", "side": side, "quantity": quantity}

    def event(type_: EventType, payload: dict[str, Any]) -> NewEvent:
        return NewEvent(type_, stream, f"{type_.value}:{name}", payload, at, "test")

    yield event(
        E.LLM_ACTION_GENERATED,
        {
            **action, "action": side, "confidence": "0.8", "cycle": "2012-10-16", "session": "2012-10-16",
            "bar_end": "2012-10-15T20:00:00.000000Z",
        },
    )
    yield event(E.RISK_EVALUATED, {**action, "stage": "proposal", "passed": True, "order_class": "entry", "reason": "", "verdicts": []})
    yield event(E.ACTION_READY, {**action, "expires_at": "2012-10-16T20:00:00.000000Z"})
    yield event(
        E.ORDER_INTENT,
        {
            **order, "action_id": f"A{name}", "part": "entry", "order_class": "entry", "order_type": "limit", "time_in_force": "day",
            "reference": "101.5", "limit_price": "102", "session": "2012-10-16",
        },
    )
    yield event(E.ORDER_SUBMITTED, order)
    yield event(E.ORDER_ACCEPTED, {**order, "broker_order_id": f"B{name}"})
    yield event(
        E.ORDER_FILLED,
        {
            **order, "execution_id": f"E{name}", "price": price, "commission": "1", "session": "2012-10-16",
            "filled_at": "2012-10-16T14:00:00.000000Z",
        },
    )


def small_day() -> list[NewEvent]:
    """Money, a strategy, two buys and a sell: 23 facts in three streams."""
    return [funded(), created(), *trade(1), *trade(2, price="103"), *trade(3, side="sell", quantity=5, price="110")]
