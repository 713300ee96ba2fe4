"""Lineage: the walk from any fact back to the bar it came from, by `cause`, each fact in words."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.money import usd

Find = Callable[[int], Event | None]
MAX_STEPS = 200


def ancestors(event: Event, find: Find) -> list[Event]:
    """The event and everything that led to it, the oldest first."""
    chain, seen = [event], {event.seq}
    while len(chain) < MAX_STEPS:
        cause = chain[-1].cause
        if cause is None or cause in seen:
            break
        previous = find(cause)
        if previous is None:
            break
        chain.append(previous)
        seen.add(previous.seq)
    return chain[::-1]


def sentence(event: Event) -> str:
    """One fact as a person would say it. Model text is bounded and stays text."""
    data = event.payload
    describe = _SENTENCES.get(event.type)
    return describe(data) if describe is not None else data.get("reason") or data.get("strategy") or ""


def _money(text: str | None) -> str:
    return "-" if text is None else usd(Decimal(text))


def _bar(data: Mapping[str, Any]) -> str:
    return (
        f"{data['symbol']} {data['interval']} bar closed at {data['close']} "
        f"(open {data['open']}, high {data['high']}, low {data['low']}, volume {int(data['volume']):,})"
    )


def _indicators(data: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {float(value):.4g}" for name, value in sorted(data["values"].items()) if value is not None)
    return f"{data['symbol']} over {data['bars']} bars: {values[:160]}"


def _signal(data: Mapping[str, Any]) -> str:
    label = f" ({data['label']})" if data.get("label") else ""
    return f"{data['action'].upper()} {data['symbol']}{label}, confidence {Decimal(data['confidence']):.2f}: {data['rationale'][:200]}"


def _verdict(data: Mapping[str, Any]) -> str:
    rules = len(data["verdicts"])
    return f"{data['stage']}: {rules} rules, {'all passed' if data['passed'] else 'denied by ' + data['reason']}"


def _intent(data: Mapping[str, Any]) -> str:
    limit = f", limit {data['limit_price']}" if data.get("limit_price") else ""
    stop = f", stop {data['stop_price']}" if data.get("stop_price") else ""
    return f"{data['part']}: {data['side'].upper()} {data['quantity']} {data['symbol']} {data['order_type']}{limit}{stop}"


def _fill(data: Mapping[str, Any]) -> str:
    return f"{data['side'].upper()} {data['quantity']} {data['symbol']} at {data['price']}, commission {_money(data['commission'])}"


_SENTENCES: dict[EventType, Callable[[Mapping[str, Any]], str]] = {
    EventType.BAR_RECEIVED: _bar,
    EventType.INDICATORS_COMPUTED: _indicators,
    EventType.CHART_RENDERED: lambda data: f"{data['symbol']} chart {data['sha256'][:12]}",
    EventType.LLM_REQUESTED: lambda data: f"{data['strategy']} asks {data['provider']} about {data['symbol']}",
    EventType.LLM_RESPONDED: lambda data: f"{data['provider']} answered, {data['tokens_in'] + data['tokens_out']} tokens, {_money(data['cost'])}",
    EventType.LLM_ACTION_GENERATED: _signal,
    EventType.LLM_ABSTAINED: lambda data: f"no answer on {data['symbol']}: {data['detail'] or data['reason']}",
    EventType.RISK_EVALUATED: _verdict,
    EventType.ACTION_READY: lambda data: f"ready, to be sent from {data['not_before'][11:19]} UTC",
    EventType.APPROVAL_REQUESTED: lambda data: (
        f"{data['shown']['side'].upper()} {data['shown']['quantity']} {data['symbol']}, about {_money(data['shown']['estimated_value'])}: "
        f"asked a person until {data['expires_at'][11:19]} UTC"
    ),
    EventType.APPROVAL_APPROVED: lambda data: f"approved {data['symbol']}, to be sent from {data['not_before'][11:19]} UTC",
    EventType.ORDER_INTENT: _intent,
    EventType.ORDER_SUBMITTED: lambda data: f"sent as {data['client_id']}",
    EventType.ORDER_ACCEPTED: lambda data: f"the broker took it as {data.get('broker_order_id', 'part of its parent')}",
    EventType.ORDER_PARTIALLY_FILLED: _fill,
    EventType.ORDER_FILLED: _fill,
    EventType.PORTFOLIO_SNAPSHOTTED: lambda data: f"equity {_money(data['equity'])}, cash {_money(data['cash'])}, day {_money(data['day_pnl'])}",
}
