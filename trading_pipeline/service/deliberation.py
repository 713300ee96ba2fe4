"""Step signals: ask each due strategy's decision maker about each symbol, and keep every word of it.

The request is committed before anybody is asked, the reply before anything follows from it. After this
module nothing knows who decided. A reply becomes a `Signal` or an `Abstain`; HOLD is a valid answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.bar_quality import gap
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle, CycleKind, action_id
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.money import price_of
from trading_pipeline.domain.risk import Quote
from trading_pipeline.domain.signals import Abstain, Signal
from trading_pipeline.domain.strategies import StrategySpec
from trading_pipeline.ports import Answer, Question, Reader, Stop
from trading_pipeline.service import emergency, market
from trading_pipeline.service.account_limits import standing
from trading_pipeline.service.breakers import review
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.market import View
from trading_pipeline.service.steps import RUNNING, StepResult, Tally, completed, due_strategies, nothing_to_do


def form_signals(desk: Desk, cycle: Cycle) -> StepResult:
    """One Signal or Abstain per due strategy and symbol; a cycle that comes too late asks nobody (A7)."""
    done = completed(desk.ledger, cycle, "signals")
    if done is not None:
        return done
    specs = due_strategies(desk, cycle)
    if cycle.bar_end is None or not specs:
        return nothing_to_do(desk, cycle, "signals", "no strategy is due")
    late = _why_missed(desk, cycle)
    if late:
        return _missed(desk, cycle, specs, late)
    # Once more, now that the bars are there: nobody is asked for a strategy that may not go on.
    tally = Tally("signals", cycle, notes=review(desk))
    seen = market.views(desk, cycle, specs)
    with desk.ledger.transaction() as tx:
        held_back = {spec.name: why for spec in specs if (why := _held_back(desk, tx, spec))}
        for spec in specs:
            if spec.name in held_back:
                tally.saw(tx.append(_miss(desk, cycle, spec, held_back[spec.name])))
                tally.count("missed")
        asked = questions(desk, tx, cycle, [spec for spec in specs if spec.name not in held_back], seen)
        requested = tally.saw(tx.append(*_requests(desk, cycle, asked)))
    doubts = _doubts(desk, cycle, asked)
    answerable = [question for question in asked if _place(question) not in doubts]
    answers = dict(zip(map(_place, answerable), desk.deciders["rules"].decide(answerable), strict=True))
    answers.update(doubts)
    with desk.ledger.transaction() as tx:
        stops = {name: emergency.in_force(desk, tx, name) for name in sorted({question.strategy for question in asked})}
        for question, request in zip(asked, requested, strict=True):
            if (stop := stops[question.strategy]) is not None:
                tally.saw(tx.append(_discarded(desk, cycle, question, answers[_place(question)], request, stop)))
                tally.count("discarded")
        heard = [(question, request) for question, request in zip(asked, requested, strict=True) if stops[question.strategy] is None]
        asked, requested = [question for question, _ in heard], [request for _, request in heard]
        ordered = [answers[_place(question)] for question in asked]
        responded = tally.saw(tx.append(*_responses(desk, cycle, asked, ordered, requested)))
        decided = tally.saw(tx.append(*decisions(cycle, asked, ordered, responded, desk.now())))
        for event in decided:
            tally.count("abstained" if event.type is EventType.LLM_ABSTAINED else event.payload["action"])
        return tally.complete(tx, desk.now())


def _held_back(desk: Desk, reader: Reader, spec: StrategySpec) -> str:
    """Why nobody is asked for a strategy; read again in the transaction of the requests, so that none follows a stop (invariant 54)."""
    if emergency.in_force(desk, reader, spec.name) is not None:
        return "an emergency stop is in force"
    row = reader.get("strategies", spec.name)
    return "" if row is not None and row["state"] in RUNNING else f"the strategy is {row['state'] if row else 'gone'}"


def _why_missed(desk: Desk, cycle: Cycle) -> str:
    now = desk.now()
    if cycle.kind is CycleKind.BACKFILL:
        return "a backfill refills data; its decisions are history and were missed"
    if now >= cycle.stale_at():
        return f"stale: due at {cycle.due_at:%H:%M:%S} UTC, begun at {now:%Y-%m-%d %H:%M:%S}, too late by {now - cycle.stale_at()}"
    session = desk.calendar.at(now)
    if session is None or session.day != cycle.session:
        return "the session it would trade in is not open"
    if cycle.interval is not None and not cycle.interval.daily and cycle.bar_end is not None and cycle.bar_end >= session.close:
        return "the bar closes with the session (D27)"
    return ""


def _missed(desk: Desk, cycle: Cycle, specs: Iterable[StrategySpec], why: str) -> StepResult:
    tally = Tally("signals", cycle, notes=[why])
    events = [_miss(desk, cycle, spec, why) for spec in specs]
    tally.count("missed", len(events))
    with desk.ledger.transaction() as tx:
        tally.saw(tx.append(*events))
        return tally.complete(tx, desk.now())


def _miss(desk: Desk, cycle: Cycle, spec: StrategySpec, why: str) -> NewEvent:
    payload = {"cycle": cycle.cycle_id, "strategy": spec.name, "symbols": list(spec.symbols), "reason": why}
    key = f"signal.missed:{cycle.cycle_id}:{spec.name}"
    return NewEvent(EventType.SIGNAL_MISSED, f"strategy:{spec.name}", key, payload, desk.now(), "cycle")


def questions(
    desk: Desk, reader: Reader, cycle: Cycle, specs: Iterable[StrategySpec], seen: Mapping[str, View],
) -> list[Question]:
    """What each strategy's decision maker is asked about each symbol, as it is seen."""
    charts = {
        (name, event.payload["symbol"]): event.payload["sha256"]
        for event in market.events_of(desk, completed(desk.ledger, cycle, "charts"))
        for name in event.payload["strategies"]
    }
    positions = {(row["strategy"], row["symbol"]): row for row in reader.find("positions") if row["quantity"] > 0}
    asked = []
    for spec in specs:
        for symbol in spec.symbols:
            view = seen[symbol]
            position = positions.get((spec.name, symbol))
            held = None if position is None else len(view.bars.since(_bar_start(desk, spec, position["opened_at"])))
            asked.append(Question(spec.name, spec.agent, symbol, view.bars, view.columns, held, charts.get((spec.name, symbol))))
    return asked


def _bar_start(desk: Desk, spec: StrategySpec, opened_at: datetime) -> datetime:
    slot = desk.calendar.slot_at(opened_at, spec.interval)
    return slot.start if slot is not None else opened_at


def _doubts(desk: Desk, cycle: Cycle, questions: list[Question]) -> dict[str, Answer]:
    """Nobody is asked about a symbol without the cycle's bar or a quote, or whose newest close and quote cannot both be right."""
    quotes = desk.market.quotes(sorted({question.symbol for question in questions}), desk.now())
    most = standing(desk, desk.ledger).effective.max_bar_gap
    doubts = {}
    for question in questions:
        if not len(question.bars) or question.bars.last_end != cycle.bar_end:
            doubts[_place(question)] = _no_bar(question, cycle)
        elif (quote := quotes.get(question.symbol)) is None:
            doubts[_place(question)] = _no_quote(question, desk.now())
        elif gap(close := price_of(question.bars.close[-1]), quote.last) > most:
            doubts[_place(question)] = _bad_print(most, question, close, quote)
    return doubts


def _bad_print(most: Decimal, question: Question, close: Decimal, quote: Quote) -> Answer:
    detail = (
        f"the newest bar of {question.symbol} closed at {close:f} and its price is now {quote.last:f}: {gap(close, quote.last):.0%} apart, "
        f"at most {most:.0%} is believed. One of them is a bad print, or a split is missing from the split table"
    )
    return Answer(Abstain(question.symbol, "bad_print", detail), "none", "none", "")


def _no_quote(question: Question, now: datetime) -> Answer:
    detail = f"{question.symbol} has no quote at {now:%Y-%m-%d %H:%M:%S} UTC: nothing confirms the close of its newest bar"
    return Answer(Abstain(question.symbol, "no_quote", detail), "none", "none", "")


def _no_bar(question: Question, cycle: Cycle) -> Answer:
    newest = f"the newest closed at {question.bars.last_end:%Y-%m-%d %H:%M} UTC" if len(question.bars) else "there is none"
    detail = f"no bar of {question.symbol} closed at {cycle.bar_end:%Y-%m-%d %H:%M} UTC; {newest}"
    return Answer(Abstain(question.symbol, "no_bar", detail), "none", "none", "")


def _place(question: Question) -> str:
    return f"{question.strategy}:{question.symbol}"


def _requests(desk: Desk, cycle: Cycle, questions: list[Question]) -> list[NewEvent]:
    computed = {
        event.payload["symbol"]: event.seq for event in market.events_of(desk, completed(desk.ledger, cycle, "indicators"))
    }
    charts = {
        event.payload["sha256"]: event.seq for event in market.events_of(desk, completed(desk.ledger, cycle, "charts"))
    }
    events = []
    for question in questions:
        payload = {
            "cycle": cycle.cycle_id, "strategy": question.strategy, "symbol": question.symbol, "provider": "rules",
            "agent": encode(question.agent), "bars": len(question.bars), "bars_held": question.bars_held,
            "bar_end": question.bars.last_end if len(question.bars) else None, "chart": question.chart,
            "indicators_seq": computed.get(question.symbol),
        }
        cause = charts.get(question.chart or "") or computed.get(question.symbol)
        events.append(
            NewEvent(
                EventType.LLM_REQUESTED, f"strategy:{question.strategy}", f"llm.requested:{cycle.cycle_id}:{_place(question)}", payload,
                desk.now(), "cycle", cause,
            )
        )
    return events


def _discarded(desk: Desk, cycle: Cycle, question: Question, answer: Answer, request: Event, stop: Stop) -> NewEvent:
    """A reply that came after an emergency stop: kept with its cost, and nothing follows from it."""
    payload = _replied(cycle, question, answer) | {"reason": f"{stop.strategy or 'the account'} was stopped meanwhile"}
    key = f"llm.discarded:{cycle.cycle_id}:{_place(question)}"
    actor = f"model:{answer.provider}"
    return NewEvent(EventType.LLM_DISCARDED, f"strategy:{question.strategy}", key, payload, desk.now(), actor, request.seq)


def _replied(cycle: Cycle, question: Question, answer: Answer) -> dict[str, Any]:
    return {
        "cycle": cycle.cycle_id, "strategy": question.strategy, "symbol": question.symbol, "provider": answer.provider,
        "model": answer.model, "raw": answer.raw, "tokens_in": answer.tokens_in, "tokens_out": answer.tokens_out, "cost": answer.cost,
    }


def _responses(desk: Desk, cycle: Cycle, questions: list[Question], answers: list[Answer], requested: list[Event]) -> list[NewEvent]:
    return [
        NewEvent(
            EventType.LLM_RESPONDED, f"strategy:{question.strategy}", f"llm.responded:{cycle.cycle_id}:{_place(question)}",
            _replied(cycle, question, answer), desk.now(), f"model:{answer.provider}", request.seq,
        )
        for question, answer, request in zip(questions, answers, requested, strict=True)
    ]


def decisions(
    cycle: Cycle, asked: Sequence[Question], answers: Sequence[Answer], responded: Sequence[Event], at: datetime,
) -> list[NewEvent]:
    """What follows from each answer: `llm.action_generated`, or `llm.abstained`."""
    events = []
    for question, answer, response in zip(asked, answers, responded, strict=True):
        common = {"cycle": cycle.cycle_id, "strategy": question.strategy, "symbol": question.symbol, "session": cycle.session}
        stream = f"strategy:{question.strategy}"
        match answer.decision:
            case Abstain() as abstain:
                payload = common | {"reason": abstain.reason, "detail": abstain.detail}
                key = f"llm.abstained:{cycle.cycle_id}:{_place(question)}"
                events.append(NewEvent(EventType.LLM_ABSTAINED, stream, key, payload, at, f"model:{answer.provider}", response.seq))
            case Signal() as signal:
                payload = common | {
                    "action_id": action_id(question.strategy, cycle.cycle_id, question.symbol), "action": signal.action.value,
                    "confidence": signal.confidence, "rationale": signal.rationale, "score": signal.score, "label": signal.label,
                    "bar_end": cycle.bar_end, "close": format(float(question.bars.close[-1]), ".10g"), "chart": question.chart,
                }
                key = f"llm.action_generated:{cycle.cycle_id}:{_place(question)}"
                actor = f"model:{answer.provider}"
                events.append(NewEvent(EventType.LLM_ACTION_GENERATED, stream, key, payload, at, actor, response.seq))
    return events
