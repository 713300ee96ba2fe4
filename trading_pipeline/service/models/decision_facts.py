"""The facts of asking and deciding, as the ledger keeps them: one name and one shape each, for rules agent and models alike."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle, action_id
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.models import Provider
from trading_pipeline.domain.signals import Abstain, Signal
from trading_pipeline.ports import Answer, Question, Stop
from trading_pipeline.service import market
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.steps import completed


class Reply(NamedTuple):
    """An answer to a question, and the fact that it follows from."""

    question: Question
    answer: Answer
    cause: Event


def place(question: Question) -> str:
    """A question's name within its cycle."""
    return f"{question.strategy}:{question.symbol}"


def requests(
    desk: Desk, cycle: Cycle, questions: Sequence[Question], more: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[NewEvent]:
    """`llm.requested` of each question; `more` is what a model's has besides, by place."""
    if not questions:
        return []
    computed = {
        event.payload["symbol"]: event.seq for event in market.events_of(desk, completed(desk.ledger, cycle, "indicators"))
    }
    charts = {
        event.payload["sha256"]: event.seq for event in market.events_of(desk, completed(desk.ledger, cycle, "charts"))
    }
    events = []
    for question in questions:
        payload = {
            "cycle": cycle.cycle_id, "strategy": question.strategy, "symbol": question.symbol, "provider": Provider.RULES.value,
            "agent": encode(question.agent), "bars": len(question.bars), "bars_held": question.bars_held,
            "bar_end": question.bars.last_end if len(question.bars) else None, "chart": question.chart,
            "indicators_seq": computed.get(question.symbol), **((more or {}).get(place(question), {})),
        }
        cause = charts.get(question.chart or "") or computed.get(question.symbol)
        events.append(_event(EventType.LLM_REQUESTED, cycle, question, payload, desk.now(), "cycle", cause))
    return events


def responded(desk: Desk, cycle: Cycle, question: Question, answer: Answer, request: Event) -> NewEvent:
    """What came back, with what it cost."""
    payload = _replied(cycle, question, answer)
    return _event(EventType.LLM_RESPONDED, cycle, question, payload, desk.now(), f"model:{answer.provider}", request.seq)


def stopped_meanwhile(stop: Stop) -> str:
    """Why nothing follows from a reply that came after an emergency stop."""
    return f"{stop.strategy or 'the account'} was stopped meanwhile"


def discarded(desk: Desk, cycle: Cycle, question: Question, answer: Answer, request: Event, why: str) -> NewEvent:
    """A reply that came too late: kept with its cost, and nothing follows from it."""
    payload = _replied(cycle, question, answer) | {"reason": why}
    return _event(EventType.LLM_DISCARDED, cycle, question, payload, desk.now(), f"model:{answer.provider}", request.seq)


def about(type_: EventType, desk: Desk, cycle: Cycle, question: Question, payload: Mapping[str, Any], cause: int | None) -> NewEvent:
    """Any other fact about a question: skipped, lost."""
    named = {"cycle": cycle.cycle_id, "strategy": question.strategy, "symbol": question.symbol}
    return _event(type_, cycle, question, {**named, **payload}, desk.now(), "cycle", cause)


def decisions(cycle: Cycle, replies: Iterable[Reply], at: datetime) -> list[NewEvent]:
    """What follows from each answer: `llm.action_generated`, or `llm.abstained`."""
    events = []
    for question, answer, cause in replies:
        common = {"cycle": cycle.cycle_id, "strategy": question.strategy, "symbol": question.symbol, "session": cycle.session}
        actor = f"model:{answer.provider}"
        match answer.decision:
            case Abstain() as abstain:
                payload = common | {"reason": abstain.reason, "detail": abstain.detail}
                events.append(_event(EventType.LLM_ABSTAINED, cycle, question, payload, at, actor, cause.seq))
            case Signal() as signal:
                payload = common | {
                    "action_id": action_id(question.strategy, cycle.cycle_id, question.symbol), "action": signal.action.value,
                    "confidence": signal.confidence, "rationale": signal.rationale, "score": signal.score, "label": signal.label,
                    "bar_end": cycle.bar_end, "close": format(float(question.bars.close[-1]), ".10g"), "chart": question.chart,
                } | _of_model(signal)
                events.append(_event(EventType.LLM_ACTION_GENERATED, cycle, question, payload, at, actor, cause.seq))
    return events


def _of_model(signal: Signal) -> dict[str, Any]:
    """What only a model says: nothing of it is traded by."""
    said: dict[str, Any] = {}
    if signal.figures:
        said["figures"] = [{"name": figure.name, "value": figure.value} for figure in signal.figures]
    hints = signal.hints
    if hints.limit is not None or hints.stop is not None or hints.targets:
        said["hints"] = {"limit": hints.limit, "stop": hints.stop, "targets": list(hints.targets)}
    if signal.flags:
        said["flags"] = list(signal.flags)
    return said


def _replied(cycle: Cycle, question: Question, answer: Answer) -> dict[str, Any]:
    return {
        "cycle": cycle.cycle_id, "strategy": question.strategy, "symbol": question.symbol, "provider": answer.provider,
        "model": answer.model, "raw": answer.raw, "tokens_in": answer.tokens_in, "tokens_out": answer.tokens_out, "cost": answer.cost,
        **answer.details,
    }


def _event(
    type_: EventType, cycle: Cycle, question: Question, payload: Mapping[str, Any], at: datetime, actor: str, cause: int | None,
) -> NewEvent:
    key = f"{type_.value}:{cycle.cycle_id}:{place(question)}"
    return NewEvent(type_, f"strategy:{question.strategy}", key, payload, at, actor, cause)
