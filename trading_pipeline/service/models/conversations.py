"""Models asked within one cycle: money reserved, the request a fact, the call, the reply a fact, and what a crash left behind.

Each question of a cycle is asked once, whatever happens: a request that is in the ledger without a reply was lost with its process,
its reservation stays spent, and it is not sent again (INVARIANTS 3.1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from math import ceil
from typing import Any

from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.models import MAX_CALLS
from trading_pipeline.domain.projections.models import OF_A_BUDGET
from trading_pipeline.domain.signals import Abstain
from trading_pipeline.domain.strategies import ModelAgent
from trading_pipeline.errors import InputError, SettingsError, StorageError
from trading_pipeline.ports import Answer, Question, Reader, Transaction
from trading_pipeline.service.desk import Desk, Models
from trading_pipeline.service.models.asking import LONGEST_WAIT, ask_all, reading
from trading_pipeline.service.models.briefing import disguise
from trading_pipeline.service.models.changed_prompts import wait_for_a_person
from trading_pipeline.service.models.decision_facts import Reply, about, discarded, place, requests, responded, stopped_meanwhile
from trading_pipeline.service.models.inquiries import Inquiry, inquire, untriggered
from trading_pipeline.service.models.model_changes import asked_before
from trading_pipeline.service.models.purse import Purse, Refusal, budget_day
from trading_pipeline.service.steps import RUNNING, Tally, spec_of, step_key
from trading_pipeline.service.stopping import emergency

SLACK = timedelta(seconds=60)
"""What a process may need besides the calls themselves."""
_MAY_COME_BACK = OF_A_BUDGET | {"rate"}
"""Reasons of a refusal that replies can take away: they cost less than was reserved."""
_ASKED = (EventType.LLM_REQUESTED, EventType.LLM_RESPONDED, EventType.LLM_DISCARDED, EventType.LLM_LOST)


@dataclass(slots=True)
class Talks:
    """What is being asked in a cycle, with the requests, and what is answered already."""

    asked: list[tuple[Inquiry, Event]] = field(default_factory=list)
    waiting: list[Inquiry] = field(default_factory=list)
    """There is no money for them while so much is reserved: some of it comes back with the replies."""
    answered: list[Reply] = field(default_factory=list)
    changed: dict[str, tuple[str, str, str] | None] = field(default_factory=dict)
    """By strategy: its prompt with the digests of its words now and when it asked last; None where they are the same."""


def held_back(desk: Desk, reader: Reader, strategy: str) -> str:
    """Why nobody is asked for a strategy; read in the transaction of its requests, so that none follows a stop (invariant 54)."""
    if emergency.in_force(desk, reader, strategy) is not None:
        return "an emergency stop is in force"
    row = reader.get("strategies", strategy)
    return "" if row is not None and row["state"] in RUNNING else f"the strategy is {row['state'] if row else 'gone'}"


def draft(desk: Desk, cycle: Cycle, questions: Sequence[Question]) -> dict[str, Inquiry]:
    """What would be sent for each question to a model whose trigger holds, by place."""
    wanted = [each for each in questions if isinstance(each.agent, ModelAgent)]
    if not wanted:
        return {}
    models = _models(desk)
    sweep(desk, models, cycle)
    wanted = [each for each in wanted if _unaskable(models, each) is None and not untriggered(each)]
    if not wanted:
        return {}
    return {place(each.question): each for each in inquire(desk, models, desk.ledger, cycle, wanted, budget_day(models.wall()))}


def begin(
    desk: Desk, tx: Transaction, cycle: Cycle, questions: Sequence[Question], drafts: Mapping[str, Inquiry],
    doubts: Mapping[str, Answer], tally: Tally,
) -> Talks:
    """Reserve for and write down every request; whoever is not asked is a fact too, with the reason.

    Held symbols come first: what is left of a budget goes to exits before entries.
    """
    talks = Talks()
    if not questions:
        return talks
    models, purse = _models(desk), Purse.open(desk, tx)
    earlier = _earlier(tx, cycle)
    wanted: list[Question] = []
    for question in questions:
        if place(question) in earlier:
            tally.saw(_taken_up(desk, tx, question, earlier[place(question)], talks))
        elif (doubt := doubts.get(place(question))) is not None:
            assert isinstance(doubt.decision, Abstain)
            _skip(desk, tx, cycle, question, doubt.decision.reason, doubt.decision.detail, None, purse, tally)
        elif (unaskable := _unaskable(models, question)) is not None:
            _skip(desk, tx, cycle, question, unaskable.reason, unaskable.detail, None, purse, tally)
        elif _reads_otherwise(models, tx, question, talks):
            _skip(desk, tx, cycle, question, "prompt_changed", "its words are not those it was asked with last", None, purse, tally)
        elif why := untriggered(question):
            _skip(desk, tx, cycle, question, "trigger", why, None, purse, tally)
        else:
            wanted.append(question)
    inquiries = []
    for question in wanted:
        drafted = drafts.get(place(question))
        if drafted is None or drafted.question.bars_held != question.bars_held or drafted.on != purse.day:
            # A fill or midnight came between: it is put in words again, as the book stands now, and priced for the day it counts for.
            [drafted] = inquire(desk, models, tx, cycle, [question], purse.day)
        inquiries.append(drafted)
    _send(desk, tx, cycle, sorted(inquiries, key=lambda each: each.question.bars_held is None), talks, purse, tally)
    return talks


def _send(
    desk: Desk, tx: Transaction, cycle: Cycle, inquiries: Sequence[Inquiry], talks: Talks, purse: Purse, tally: Tally,
) -> None:
    """Reserve for as many as there is money for, in order; the rest waits for what comes back, if anything is under way."""
    sent: dict[str, Inquiry] = {}
    refused: list[tuple[Inquiry, Refusal]] = []
    for inquiry in inquiries:
        if inquiry.unseen:
            _skip(desk, tx, cycle, inquiry.question, "no_picture", inquiry.unseen, None, purse, tally)
            continue
        row = tx.get("strategies", inquiry.question.strategy)
        assert row is not None
        refusal = purse.refusal(spec_of(row), inquiry.agent.provider, inquiry.agent.model, inquiry.worst, recorded=inquiry.recorded)
        if refusal is not None:
            refused.append((inquiry, refusal))
            continue
        purse.take(inquiry.question.strategy, inquiry.agent.provider, inquiry.reserved, recorded=inquiry.recorded)
        sent[place(inquiry.question)] = inquiry
    more = {name: _of_model(each, purse) for name, each in sent.items()}
    facts = tally.saw(tx.append(*requests(desk, cycle, [each.question for each in sent.values()], more)))
    tally.count("asked", len(facts))
    talks.asked, talks.waiting = list(zip(sent.values(), facts, strict=True)), []
    for inquiry, refusal in refused:
        if sent and refusal.reason in _MAY_COME_BACK:
            talks.waiting.append(inquiry)
        else:
            _skip(desk, tx, cycle, inquiry.question, refusal.reason, refusal.detail, inquiry, purse, tally)


def carry_on(desk: Desk, cycle: Cycle, talks: Talks, tally: Tally) -> list[Reply]:
    """Ask, and write each reply down as it comes; one that comes after a stop is discarded, one that is given up for it is lost."""
    for strategy, changed in talks.changed.items():
        if changed is not None and (said := wait_for_a_person(desk, strategy, *changed)):
            tally.notes.append(said)
    replies = list(talks.answered)
    while talks.asked:
        replies += _heard(desk, cycle, talks, tally)
        waiting, talks.asked, talks.waiting = talks.waiting, [], []
        if waiting:
            _go_on(desk, cycle, waiting, talks, tally)
    return replies


def _go_on(desk: Desk, cycle: Cycle, waiting: Sequence[Inquiry], talks: Talks, tally: Tally) -> None:
    """Ask those that waited, as things stand now: a strategy may have paused meanwhile, and the day may be another."""
    with desk.ledger.transaction() as tx:
        models, purse = _models(desk), Purse.open(desk, tx)
        going = []
        for inquiry in waiting:
            if why := held_back(desk, tx, inquiry.question.strategy):
                _skip(desk, tx, cycle, inquiry.question, "held_back", why, None, purse, tally)
            else:
                going += [inquiry] if inquiry.on == purse.day else inquire(desk, models, tx, cycle, [inquiry.question], purse.day)
        _send(desk, tx, cycle, going, talks, purse, tally)


def _heard(desk: Desk, cycle: Cycle, talks: Talks, tally: Tally) -> list[Reply]:
    replies: list[Reply] = []
    open_ = {place(inquiry.question): fact for inquiry, fact in talks.asked}
    for batch in ask_all(_models(desk), [inquiry for inquiry, _ in talks.asked], partial(_stopped, desk)):
        with desk.ledger.transaction() as tx:
            for inquiry, answer in batch:
                question, request = inquiry.question, open_.pop(place(inquiry.question))
                stop = emergency.in_force(desk, tx, question.strategy)
                given_up = tx.event_by_key(_key_of_loss(request)) is not None
                if stop is not None or given_up:
                    why = stopped_meanwhile(stop) if stop is not None else "it was given up before it came"
                    tally.saw(tx.append(discarded(desk, cycle, question, answer, request, why)))
                    tally.count("discarded")
                    continue
                [fact] = tally.saw(tx.append(responded(desk, cycle, question, answer, request)))
                replies.append(Reply(question, answer, fact))
    if open_:
        with desk.ledger.transaction() as tx:
            for inquiry, request in talks.asked:
                if place(inquiry.question) in open_:
                    tally.saw(tx.append(_lost(desk, request, "given up for an emergency stop")))
                    tally.count("lost")
    return replies


def _stopped(desk: Desk, inquiry: Inquiry) -> bool:
    return desk.latch.standing(inquiry.question.strategy) is not None


def sweep(desk: Desk, models: Models, cycle: Cycle) -> None:
    """Requests of earlier cycles that no reply can come to any more are lost; what they reserved stays spent."""
    waiting = [row for row in desk.ledger.find("model_calls", state="asked") if row["cycle"] != cycle.cycle_id]
    if not waiting:
        return
    turn = timedelta(seconds=MAX_CALLS * models.budget.timeout_seconds + LONGEST_WAIT)
    asked = {cycle_id: len(desk.ledger.find("model_calls", cycle=cycle_id)) for cycle_id in {row["cycle"] for row in waiting}}
    events = []
    for row in waiting:
        request = desk.ledger.event(row["requested_seq"])
        assert request is not None
        # All of a cycle are written down at once, and then wait for their turn.
        turns = ceil(asked[row["cycle"]] / models.budget.concurrency)
        if datetime.now(UTC) - request.recorded_at > turns * turn + SLACK:
            events.append(_lost(desk, request, "its process did not come back"))
    if events:
        with desk.ledger.transaction() as tx:
            tx.append(*events)


def _earlier(tx: Transaction, cycle: Cycle) -> dict[str, tuple[Event, Event | None]]:
    """What an attempt before this one asked in the same cycle, and what came of it."""
    begun = tx.event_by_key(step_key(cycle, "indicators"))
    found: dict[str, tuple[Event, Event | None]] = {}
    for event in tx.events(after=begun.seq if begun is not None else 0, types=_ASKED):
        data = event.payload
        if data["cycle"] != cycle.cycle_id:
            continue
        name = f"{data['strategy']}:{data['symbol']}"
        if event.type is EventType.LLM_REQUESTED:
            found[name] = (event, None)
        elif name in found:
            found[name] = (found[name][0], event)
    return found


def _taken_up(desk: Desk, tx: Transaction, question: Question, earlier: tuple[Event, Event | None], talks: Talks) -> list[Event]:
    """Go on from what an earlier attempt left: its reply, or the loss of it."""
    request, outcome = earlier
    if outcome is None:
        [outcome] = tx.append(_lost(desk, request, "its process did not come back"))
    if outcome.type is EventType.LLM_RESPONDED:
        data = outcome.payload
        decision = reading(data, question, disguise(question))
        talks.answered.append(Reply(question, Answer(decision, data["provider"], data["model"], data["raw"]), outcome))
    elif outcome.type is EventType.LLM_LOST:
        nothing = Abstain(question.symbol, "lost", "the reply was lost with the process that had asked")
        talks.answered.append(Reply(question, Answer(nothing, request.payload["provider"], request.payload["model"], ""), outcome))
    return [request, outcome]


def _unaskable(models: Models, question: Question) -> Refusal | None:
    """Why a model cannot be asked any more, although it could when the strategy was created; its trouble alone, nobody else's."""
    assert isinstance(question.agent, ModelAgent)
    provider, prompt = question.agent.provider, question.agent.prompt
    if provider not in models.llms:
        return Refusal("no_provider", f"{provider} has no key, or its program is gone: nobody is asked")
    try:
        models.prompts.get(prompt)
    except (InputError, StorageError) as error:
        return Refusal("no_prompt", f"the prompt {prompt} cannot be used: {error.message}")
    return None


def _reads_otherwise(models: Models, tx: Transaction, question: Question, talks: Talks) -> bool:
    """Whether the words changed under a strategy that runs (invariant 64)."""
    assert isinstance(question.agent, ModelAgent)
    strategy, prompt = question.strategy, question.agent.prompt
    if strategy not in talks.changed:
        digest = models.prompts.get(prompt).digest
        before = asked_before(tx, strategy, prompt, digest)
        talks.changed[strategy] = None if before is None else (prompt, digest, before)
    return talks.changed[strategy] is not None


def _skip(
    desk: Desk, tx: Transaction, cycle: Cycle, question: Question, reason: str, detail: str, inquiry: Inquiry | None, purse: Purse,
    tally: Tally,
) -> None:
    agent = question.agent
    assert isinstance(agent, ModelAgent)
    payload = {
        "provider": agent.provider, "model": agent.model, "reason": reason, "detail": detail[:500], "day": purse.day,
        "saved": None if inquiry is None else inquiry.worst,
    }
    tally.saw(tx.append(about(EventType.LLM_SKIPPED, desk, cycle, question, payload, None)))
    tally.count("skipped")


def _of_model(inquiry: Inquiry, purse: Purse) -> dict[str, Any]:
    agent = inquiry.agent
    return {
        "provider": agent.provider, "model": agent.model, "prompt": agent.prompt, "prompt_digest": inquiry.rendered.prompt.digest,
        "rendered": inquiry.text_digest, "request": inquiry.request.digest, "reserved": inquiry.reserved,
        "day": purse.day, "budget": purse.most, "picture": inquiry.request.pictures[0].sha256 if inquiry.request.pictures else None,
    }


def _lost(desk: Desk, request: Event, why: str) -> NewEvent:
    data = request.payload
    payload = {name: data[name] for name in ("cycle", "strategy", "symbol", "provider", "model", "day", "reserved")} | {"reason": why}
    return NewEvent(EventType.LLM_LOST, request.stream, _key_of_loss(request), payload, desk.now(), "cycle", request.seq)


def _key_of_loss(request: Event) -> str:
    return request.key.replace(EventType.LLM_REQUESTED.value, EventType.LLM_LOST.value, 1)


def _models(desk: Desk) -> Models:
    if desk.models is None:
        raise SettingsError(
            "No models can be asked here.", value=desk.environment, rule="this desk has the rules agent only",
            remedy='use provider = "rules", or open the desk with models',
        )
    return desk.models
