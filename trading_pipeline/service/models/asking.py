"""Models asked: several at once, each at most twice, every way it can end an `Answer`.

A second call is made for a passing trouble, or to repair a reply that cannot be read: the same prompt and one sentence more that
names the flaw, never the reply itself (invariant 63). What is waited for when an emergency stop falls is given up, and holds up neither
the cycle nor the end of its process.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from functools import partial
from threading import Event
from typing import Any, Final

from trading_pipeline.domain.citations import misquotes
from trading_pipeline.domain.events import storable
from trading_pipeline.domain.masking import Disguise
from trading_pipeline.domain.models import PASSING, Ending, ModelFailure, ModelReply, ModelRequest, Provider, Trouble, Usage
from trading_pipeline.domain.replies import MAX_REPLY, PARSER_VERSION, parse_reply
from trading_pipeline.domain.signals import Abstain, Signal
from trading_pipeline.domain.strategies import ModelAgent
from trading_pipeline.ports import LLM, Answer, Question
from trading_pipeline.service.desk import Models
from trading_pipeline.service.models.inquiries import Inquiry
from trading_pipeline.service.models.patience import begun

OTHER_MODEL: Final = "other_model"
"""The reason of an abstention that pauses its strategy for a person."""
IMPLAUSIBLE: Final = "implausible_usage"
"""The same, for a bill that cannot be."""
LONGEST_WAIT: Final = 15.0
"""Seconds between two calls, whatever the provider asks for."""
_OF_THE_SAME: Final = re.compile(r"(?:-latest|-[0-9]{4}-[0-9]{2}-[0-9]{2}|-[0-9]{3,8})?(?:[:@].*)?")
"""What may follow a model's name in an answer: a date, a number of a release, a tag. `-mini` is another model."""
_UNASKED: Final = frozenset({Trouble.NOT_RECORDED, Trouble.CASSETTE})
"""Nobody was asked."""
_log = logging.getLogger(__name__)
_LOOK_SECONDS: Final = 0.25
"""Between two looks at the latch while replies are waited for."""
REPAIR: Final = (
    "\n\nYour previous reply to this could not be used: {flaw}. Reply again, with exactly one JSON object as described above "
    "and nothing before or after it."
)


def ask_all(
    models: Models, inquiries: Sequence[Inquiry], stopped: Callable[[Inquiry], bool],
) -> Iterator[list[tuple[Inquiry, Answer]]]:
    """The answers in batches, as they come; what is given up because of a stop is in none of them."""
    if not inquiries:
        return
    events = [Event() for _ in inquiries]
    asked = list(zip(inquiries, events, strict=True))
    open_calls = dict(zip(begun([partial(_ask, models, *each) for each in asked], models.budget.concurrency), asked, strict=True))
    try:
        while open_calls:
            done, _ = wait(open_calls, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
            answered = [(open_calls.pop(future)[0], future) for future in [each for each in open_calls if each in done]]
            if answered:
                yield [(inquiry, _outcome(inquiry, future)) for inquiry, future in answered]
            for future in [future for future, (inquiry, _) in open_calls.items() if stopped(inquiry)]:
                future.cancel()
                open_calls.pop(future)[1].set()
    finally:
        for future, (_, given_up) in open_calls.items():
            future.cancel()
            given_up.set()


def _outcome(inquiry: Inquiry, future: "Future[Answer]") -> Answer:
    """What a call came to; an error of ours in the midst of it costs this question its answer, and nobody else theirs."""
    error = future.exception()
    if error is None:
        return future.result()
    if not isinstance(error, Exception):
        raise error
    _log.error("a question to %s broke off", inquiry.request.model, exc_info=error)
    calls = _Calls(count=1, cost=inquiry.worst or Decimal(0))
    failure = ModelFailure(Trouble.BAD_RESPONSE, f"{type(error).__name__} while it was asked; see the log", free=False)
    return _answer(inquiry, failure, None, calls)


@dataclass(slots=True)
class _Calls:
    """What the calls of one question amount to."""

    count: int = 0
    cost: Decimal = Decimal(0)
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0

    def add(self, models: Models, inquiry: Inquiry, came: ModelReply | ModelFailure, recorded: bool) -> None:
        if not (isinstance(came, ModelFailure) and came.trouble in _UNASKED):
            self.count += 1
        self.seconds += came.seconds
        worst = inquiry.worst or Decimal(0)
        if isinstance(came, ModelFailure):
            # Who does not know whether it was paid for takes it as paid.
            self.cost += Decimal(0) if came.free else worst
            return
        was, now = asdict(self.usage), asdict(came.usage)
        self.usage = Usage(**{name: was[name] + now[name] for name in was})
        if not recorded:
            request = inquiry.request
            priced = came.cost if came.cost is not None else models.prices.cost(request.provider, request.model, came.usage, inquiry.on)
            self.cost += worst if priced is None else priced


def _ask(models: Models, inquiry: Inquiry, given_up: Event) -> Answer:
    llm, request, calls = models.llms[inquiry.request.provider], inquiry.request, _Calls()
    came = _call(models, llm, inquiry, request, calls)
    flaw: Abstain | None = None
    if isinstance(came, ModelFailure):
        pause = min(LONGEST_WAIT, max(0.0, came.retry_after if came.retry_after is not None else 1.0))
        if came.trouble in PASSING and not given_up.wait(pause):
            came = _call(models, llm, inquiry, request, calls)
    elif came.ending is Ending.COMPLETE:
        read = parse_reply(kept_text(came.text), inquiry.briefing.symbol, (inquiry.briefing.symbol,))
        again = replace(request, text=request.text + REPAIR.format(flaw=read.reason)) if isinstance(read, Abstain) else None
        # A recorded question has nothing reserved: it is repaired from the records or not at all.
        if again is not None and isinstance(read, Abstain) and not given_up.is_set() and (not inquiry.recorded or llm.recorded(again)):
            flaw, came = read, _call(models, llm, inquiry, again, calls)
    return _answer(inquiry, came, flaw, calls)


def _call(models: Models, llm: LLM, inquiry: Inquiry, request: ModelRequest, calls: _Calls) -> ModelReply | ModelFailure:
    recorded = llm.recorded(request)
    came = llm.ask(request, models.budget.timeout_seconds)
    calls.add(models, inquiry, came, recorded)
    return came


def kept_text(text: str) -> str:
    """A reply as every ledger takes it: one character more than is read of one that is too long."""
    return storable(text, MAX_REPLY + 1)


def _answer(inquiry: Inquiry, came: ModelReply | ModelFailure, flaw: Abstain | None, calls: _Calls) -> Answer:
    details: dict[str, Any] = {
        "asked_model": inquiry.request.model, "calls": calls.count, "usage": asdict(calls.usage), "seconds": round(calls.seconds, 3),
        "replayed": inquiry.recorded, "day": inquiry.on, "parser": PARSER_VERSION,
        "expected_model": inquiry.expected,
    }
    if flaw is not None:
        details["repaired"] = {"flaw": flaw.reason, "detail": flaw.detail}
    match came:
        case ModelFailure():
            raw, model = "", inquiry.request.model
            details |= {"trouble": came.trouble.value, "detail": storable(came.detail, 500)}
        case ModelReply():
            raw, model = kept_text(came.text), storable(came.model, 100)
            details |= {
                "ending": came.ending.value, "request_id": storable(came.request_id, 100), "fingerprint": storable(came.fingerprint, 100),
            }
    if calls.cost > inquiry.reserved and not inquiry.recorded and inquiry.request.provider is not Provider.CLAUDE_CODE:
        details["over"] = True
    responded = details | {"raw": raw, "model": model, "symbol": inquiry.question.symbol}
    decision = reading(responded, inquiry.question, inquiry.briefing.disguise)
    usage = calls.usage
    return Answer(
        decision, inquiry.request.provider.value, model, raw, tokens_in=usage.total_in, tokens_out=usage.output_tokens, cost=calls.cost,
        details=details,
    )


def reading(responded: Mapping[str, Any], question: Question, disguise: Disguise) -> Signal | Abstain:
    """What follows from `llm.responded`, the same whenever it is read: the decision, or why there is none."""
    agent = question.agent
    assert isinstance(agent, ModelAgent)
    symbol = question.symbol
    if responded.get("trouble"):
        return Abstain(symbol, responded["trouble"], responded.get("detail", ""))
    if responded["ending"] != Ending.COMPLETE.value:
        return Abstain(symbol, responded["ending"], f"the reply of {responded['model']} is {responded['ending']}")
    if responded.get("over"):
        return Abstain(symbol, IMPLAUSIBLE, f"{responded['model']} says it used more tokens than there were, or could be")
    if (other := another_model(agent, responded)) is not None:
        return other
    parsed = parse_reply(responded["raw"], disguise.symbol, (disguise.symbol,))
    if isinstance(parsed, Abstain):
        return Abstain(symbol, parsed.reason, parsed.detail)
    signal = disguise.unmasked(parsed)
    wrong = misquotes(signal.figures, question.bars, question.columns)
    if agent.citation_abstain is not None and wrong.worst is not None and wrong.worst > agent.citation_abstain:
        return Abstain(symbol, "misquoted", "; ".join(wrong.words)[:500])
    return replace(signal, flags=wrong.words)


def another_model(agent: ModelAgent, responded: Mapping[str, Any]) -> Abstain | None:
    """The abstention for a model that is not the one asked, or no longer the version that answered last (invariant 64)."""
    asked, answered, expected = responded["asked_model"], responded["model"], responded["expected_model"]
    named = asked.removesuffix("-latest")
    same = answered.startswith(named) and _OF_THE_SAME.fullmatch(answered, len(named))
    if agent.provider is not Provider.CLAUDE_CODE and not same:
        return Abstain(responded["symbol"], OTHER_MODEL, f"{answered} answered, {asked} was asked")
    if expected is not None and answered != expected:
        return Abstain(responded["symbol"], OTHER_MODEL, f"{asked} is {answered} now, and was {expected}")
    return None
