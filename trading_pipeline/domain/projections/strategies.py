"""The family `strategy.*`: what a strategy is and in which state (INVARIANTS 3.3)."""

from collections.abc import Mapping
from typing import Any

from trading_pipeline.domain import strategies
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.projections.rows import Handler, Touched, blank, json_text, move, require
from trading_pipeline.domain.projections.tables import Key, Tables
from trading_pipeline.domain.strategies import StrategyState
from trading_pipeline.errors import IllegalTransition


def _strategy_created(event: Event, tables: Tables) -> None:
    name = event.payload["strategy"]
    if tables.get("strategies", (name,)) is not None:
        raise IllegalTransition(
            f"The strategy {name} exists already.", value=name, rule="a strategy's name is used once, for good",
            remedy="choose another name",
        )
    tables.put(
        "strategies",
        blank(
            "strategies", name=name, state=StrategyState.DRAFT.value, reason="", spec=json_text(event.payload["spec"]),
            limits_version=1, created_at=event.at, state_since=event.at, actor=event.actor, last_seq=event.seq,
        ),
    )


def _strategy_revised(event: Event, tables: Tables) -> None:
    row = require(tables, "strategies", (event.payload["strategy"],), event)
    if not strategies.TRANSITIONS[StrategyState(row["state"])]:
        raise IllegalTransition(
            f"The strategy {row['name']} is {row['state']} and cannot be revised.", value=row["name"],
            rule="a finished strategy is history", remedy="create a new strategy",
        )
    row.update(spec=json_text(event.payload["spec"]), limits_version=row["limits_version"] + 1, actor=event.actor, last_seq=event.seq)
    tables.put("strategies", row)


def _strategy_moves(target: StrategyState) -> Handler:
    def handler(event: Event, tables: Tables) -> None:
        row = require(tables, "strategies", (event.payload["strategy"],), event)
        to = StrategyState(event.payload["state"]) if "state" in event.payload else target
        move(StrategyState(row["state"]), to, strategies.TRANSITIONS, f"The strategy {row['name']}", event)
        row.update(state=to.value, reason=event.payload.get("reason", ""), state_since=event.at, actor=event.actor, last_seq=event.seq)
        tables.put("strategies", row)

    return handler


def _touched(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    return (("strategies", (data["strategy"],)),)


HANDLERS: dict[EventType, Handler] = {
    EventType.STRATEGY_CREATED: _strategy_created,
    EventType.STRATEGY_REVISED: _strategy_revised,
    EventType.STRATEGY_STARTING: _strategy_moves(StrategyState.STARTING),
    EventType.STRATEGY_STARTED: _strategy_moves(StrategyState.RUNNING),
    EventType.STRATEGY_NOT_READY: _strategy_moves(StrategyState.NOT_READY),
    EventType.STRATEGY_PAUSED: _strategy_moves(StrategyState.PAUSED_USER),
    EventType.STRATEGY_RESUMED: _strategy_moves(StrategyState.RUNNING),
    EventType.STRATEGY_FINISHED: _strategy_moves(StrategyState.FINISHED),
    EventType.STRATEGY_EMERGENCY_STOPPED: _strategy_moves(StrategyState.EMERGENCY_STOPPED),
}
TOUCHED: dict[EventType, Touched] = dict.fromkeys(HANDLERS, _touched)
