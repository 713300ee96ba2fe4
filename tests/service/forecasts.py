"""Facts of models that were asked, written into a desk's ledger as the signals step writes them, so that a test can say who said what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from tests.desks import Floor
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle, action_id, bar_cycle
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.models import Mask, Provider, Sight
from trading_pipeline.domain.strategies import Agent, ModelAgent

E = EventType
CLAUDE = ModelAgent(Provider.ANTHROPIC, "claude-x", "analyst/v1")


def shown(sight: Sight, *masks: Mask, agent: ModelAgent = CLAUDE) -> ModelAgent:
    """The same model with something else before its eyes."""
    return ModelAgent(agent.provider, agent.model, agent.prompt, sight, masks=frozenset(masks))


def daily_cycle(stage: Floor, day: date) -> Cycle:
    """The cycle that runs in a session, on the bar of the one before."""
    calendar = stage.desk.calendar
    [slot] = calendar.slots(calendar.previous(day), Interval.DAY1)
    return bar_cycle(slot, calendar.session(day))


def says(
    stage: Floor, day: date, symbol: str, action: str | None, confidence: str = "0.7", agent: Agent = CLAUDE, *, strategy: str = "asks",
    cost: str = "0.01",
) -> None:
    """A decision of a session's morning; an action of None abstains."""
    cycle = daily_cycle(stage, day)
    common: dict[str, Any] = {"cycle": cycle.cycle_id, "strategy": strategy, "symbol": symbol}
    model = {"provider": agent.provider, "model": agent.model} if isinstance(agent, ModelAgent) else {"provider": "rules"}
    stream, name, at = f"strategy:{strategy}", f"{cycle.cycle_id}:{strategy}:{symbol}", cycle.due_at
    asked = common | model | {"agent": encode(agent)}
    answered = common | model | {"model": model.get("model", "rules"), "raw": "{}", "tokens_in": 900, "tokens_out": 90, "cost": cost}
    if isinstance(agent, ModelAgent):
        asked |= {"prompt": agent.prompt, "reserved": "0.05", "day": day.isoformat(), "request": "0" * 64}
        usage = {"input_tokens": 900, "output_tokens": 90, "cached_tokens": 0, "cache_write_tokens": 0}
        answered |= {"calls": 1, "replayed": False, "day": day.isoformat(), "asked_model": agent.model, "ending": "complete"}
        answered |= {"usage": usage}
    with stage.desk.ledger.transaction() as tx:
        [request] = tx.append(NewEvent(E.LLM_REQUESTED, stream, f"llm.requested:{name}", asked, at, "cycle"))
        [reply] = tx.append(NewEvent(E.LLM_RESPONDED, stream, f"llm.responded:{name}", answered, at, "model:test", request.seq))
        decided = common | {"session": day.isoformat()}
        if action is None:
            decided |= {"reason": "invalid_json", "detail": ""}
            tx.append(NewEvent(E.LLM_ABSTAINED, stream, f"llm.abstained:{name}", decided, at, "model:test", reply.seq))
            return
        decided |= {
            "action_id": action_id(strategy, cycle.cycle_id, symbol), "action": action, "confidence": Decimal(confidence),
            "rationale": "so", "score": None, "label": "", "bar_end": cycle.bar_end, "close": "100", "chart": None,
        }
        tx.append(NewEvent(E.LLM_ACTION_GENERATED, stream, f"llm.action_generated:{name}", decided, at, "model:test", reply.seq))


@dataclass(frozen=True)
class Cutoffs:
    """A price table that knows when each model's training ended, and no price."""

    known: Mapping[str, date] = field(default_factory=dict)

    def price(self, *_: object) -> None:
        return None

    worst = cost = price

    def models(self, _provider: Provider) -> list[str]:
        return []

    def cutoff(self, _provider: Provider, model: str) -> date | None:
        return self.known.get(model)


def instant(day: date, stage: Floor) -> datetime:
    """A session's close."""
    return stage.desk.calendar.session(day).close
