"""Facts of models as the pipeline writes them, reduced to what money needs."""

from typing import Any

from tests.histories import AT
from trading_pipeline.domain.events import EventType, NewEvent

E = EventType
USAGE = {"input_tokens": 900, "output_tokens": 120, "cached_tokens": 60, "cache_write_tokens": 40}


def of_model(type_: EventType, cycle: str, symbol: str, strategy: str, payload: dict[str, Any]) -> NewEvent:
    named = {"cycle": cycle, "strategy": strategy, "symbol": symbol}
    return NewEvent(type_, f"strategy:{strategy}", f"{type_.value}:{cycle}:{strategy}:{symbol}", named | payload, AT, "test")


def asked(
    cycle: str, symbol: str = "AAPL", strategy: str = "trend", reserved: str = "0.10", day: str = "2026-11-20", provider: str = "anthropic",
) -> NewEvent:
    payload = {"provider": provider, "model": "claude-haiku-4-5", "prompt": "analyst/v1", "reserved": reserved, "day": day}
    return of_model(E.LLM_REQUESTED, cycle, symbol, strategy, payload)


def answered(
    cycle: str, symbol: str = "AAPL", strategy: str = "trend", cost: str = "0.004", calls: int = 1, type_: EventType = E.LLM_RESPONDED,
    provider: str = "anthropic", **more: Any,
) -> NewEvent:
    payload = {
        "provider": provider, "model": "claude-haiku-4-5-20251001", "day": "2026-11-20", "cost": cost, "calls": calls, "replayed": False,
        "usage": USAGE, "ending": "complete", **more,
    }
    return of_model(type_, cycle, symbol, strategy, payload)


def lost(cycle: str, symbol: str = "AAPL", strategy: str = "trend", day: str = "2026-11-20") -> NewEvent:
    payload = {"provider": "anthropic", "model": "claude-haiku-4-5", "day": day, "reserved": "0"}
    return of_model(E.LLM_LOST, cycle, symbol, strategy, payload)


def skipped(cycle: str, reason: str, saved: str | None = None, symbol: str = "AAPL", strategy: str = "trend", day: str = "2026-11-20"
            ) -> NewEvent:
    payload = {"provider": "anthropic", "model": "claude-haiku-4-5", "reason": reason, "detail": "", "saved": saved, "day": day}
    return of_model(E.LLM_SKIPPED, cycle, symbol, strategy, payload)
