"""The golden set put to a model: each case told, asked and read as a bar of the strategy is, and the outcome written down (invariant 64).

The account of a case is made up and in no ledger; everything after it is what a cycle does. It is no request of the strategy either: it
reserves nothing, and neither the budget of the day nor the version that answered last knows of it. Whoever asks shows the cost first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import Cycle, bar_cycle
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.golden import SYMBOL, GoldenCase, GoldenSet, bars_of, flaws, last_slot
from trading_pipeline.domain.indicators import compute
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.models import MAX_CALLS, Sight
from trading_pipeline.domain.money import ZERO, price_of
from trading_pipeline.domain.orders import OrderState, Side
from trading_pipeline.domain.portfolio import Portfolio, Position
from trading_pipeline.domain.prompts import OUTSIDE
from trading_pipeline.domain.risk import Quote
from trading_pipeline.domain.signals import Abstain
from trading_pipeline.domain.strategies import ModelAgent, StrategySpec
from trading_pipeline.errors import InputError
from trading_pipeline.ports import Answer, Question
from trading_pipeline.service.desk import Desk, Models
from trading_pipeline.service.judging.book import Book
from trading_pipeline.service.judging.coverage import Coverage
from trading_pipeline.service.judging.outside import Outside
from trading_pipeline.service.judging.track_record import TrackRecord
from trading_pipeline.service.models.askable import require_askable
from trading_pipeline.service.models.asking import ask_all
from trading_pipeline.service.models.briefing import Briefing, shown_indicators, tell_of
from trading_pipeline.service.models.inquiries import Inquiry, inquiry_of
from trading_pipeline.service.models.purse import budget_day

_CASH: Final = Decimal(100_000)
_TICK: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Examination:
    """All cases as they would be asked, and those that this prompt cannot be asked, with why."""

    spec: StrategySpec
    golden: GoldenSet
    prompt_digest: str
    put: tuple[tuple[GoldenCase, Inquiry], ...]
    left_out: tuple[tuple[GoldenCase, str], ...]

    @property
    def agent(self) -> ModelAgent:
        """Who is asked."""
        assert isinstance(self.spec.agent, ModelAgent)
        return self.spec.agent

    @property
    def worst(self) -> Decimal:
        """What asking can cost at most, USD, repairs included; 0 where every reply is recorded."""
        return sum((MAX_CALLS * (inquiry.worst or ZERO) for _, inquiry in self.put if not inquiry.recorded), ZERO)

    @property
    def recorded(self) -> int:
        """Cases whose replies are on the cassette."""
        return sum(inquiry.recorded for _, inquiry in self.put)


@dataclass(frozen=True, slots=True)
class Marked:
    """One answer with what is wrong with it. `answered`: somebody did; otherwise it says nothing about the model."""

    case: GoldenCase
    inquiry: Inquiry
    answer: Answer
    flaws: tuple[str, ...]
    answered: bool

    @property
    def passed(self) -> bool:
        """Whether it is one of the answers that are sane."""
        return not self.flaws


def prepare(desk: Desk, spec: StrategySpec) -> Examination:
    """Put every case in the words that a strategy's model would read; nobody is asked.

    Args:
        spec: Its agent is a model; the prompt may be another than the one it runs with.

    Raises:
        StrategyError: The model cannot be asked here.
        InputError: The golden set cannot be read, or its price is not known.
    """
    assert isinstance(spec.agent, ModelAgent)
    # A mask hides what a model could remember, and of a case there is nothing; it would hide the rule that bounds the answer too.
    agent, models = replace(spec.agent, masks=frozenset()), desk.models
    spec = replace(spec, agent=agent)
    require_askable(desk, spec)
    assert models is not None
    if models.golden is None:
        raise InputError("There is no golden set here.", value="none", rule="it belongs to a home", remedy="ask in a home")
    golden, prompt, on = models.golden.read(), models.prompts.get(agent.prompt), budget_day(models.wall())
    slot = last_slot(desk.calendar)
    cycle = bar_cycle(slot, desk.calendar.next(slot.session.day))
    put, left_out = [], []
    for case in golden.cases:
        question, book, own = _situation(desk, cycle, spec, case)
        briefing = tell_of(desk, cycle, question, own, prompt, _Texts(case, slot.end), book)
        if untold := _untold(case, briefing):
            left_out.append((case, untold))
            continue
        inquiry = inquiry_of(desk, models, question, briefing, on)
        if inquiry.worst is None:
            raise InputError(
                f"Nobody knows what {agent.model} of {agent.provider} costs.", value=agent.model,
                rule="an unknown price is no call (invariant 63)", remedy="add its price to prices.toml in the home; a local model costs 0",
            )
        put.append((case, inquiry))
    return Examination(spec, golden, prompt.digest, tuple(put), tuple(left_out))


def ask(models: Models, examination: Examination) -> list[Marked]:
    """Ask every case and mark the answers, in the order of the set."""
    answers: dict[str, Answer] = {}
    names = {id(inquiry): case.name for case, inquiry in examination.put}
    for batch in ask_all(models, [inquiry for _, inquiry in examination.put], lambda _: False):
        answers.update((names[id(inquiry)], answer) for inquiry, answer in batch)
    return [_marked(case, inquiry, answers[case.name]) for case, inquiry in examination.put]


def write_down(desk: Desk, examination: Examination, marked: Sequence[Marked], *, actor: str) -> Event:
    """The outcome as a fact about one pair, a prompt's words and the version that answered; it passes whole or not at all."""
    agent, name = examination.agent, examination.spec.name
    versions = sorted({each.answer.model for each in marked if each.answered})
    payload: dict[str, Any] = {
        "strategy": name, "prompt": agent.prompt, "prompt_digest": examination.prompt_digest, "provider": agent.provider.value,
        "model": agent.model, "answered_by": versions[0] if len(versions) == 1 else None, "versions": versions,
        "golden": examination.golden.digest, "passed": bool(marked) and len(versions) == 1 and all(each.passed for each in marked),
        "cost": sum((each.answer.cost for each in marked), ZERO), "left_out": [case.name for case, _ in examination.left_out],
        "cases": [_fact(desk, each) for each in marked],
    }
    key = f"{EventType.PROMPT_CHECKED.value}:{name}:{examination.prompt_digest[:16]}:{desk.nonce()}"
    with desk.ledger.transaction() as tx:
        [event] = tx.append(NewEvent(EventType.PROMPT_CHECKED, f"strategy:{name}", key, payload, desk.now(), actor))
    return event


def _fact(desk: Desk, each: Marked) -> dict[str, Any]:
    decision = each.answer.decision
    said = None if isinstance(decision, Abstain) else decision
    return {
        "case": each.case.name, "passed": each.passed, "answered": each.answered, "flaws": [flaw[:300] for flaw in each.flaws[:8]],
        "action": None if said is None else said.action.value, "confidence": None if said is None else said.confidence,
        "rendered": each.inquiry.text_digest, "request": each.inquiry.request.digest,
        "reply": desk.objects.put(each.answer.raw.encode("utf-8", "backslashreplace"), ".txt") if each.answer.raw else None,
        "replayed": each.inquiry.recorded, "cost": each.answer.cost,
    }


def _marked(case: GoldenCase, inquiry: Inquiry, answer: Answer) -> Marked:
    question = inquiry.question
    found = flaws(case, answer.decision, question.bars, question.columns)
    return Marked(case, inquiry, answer, found, answer.details.get("trouble") is None)


def _situation(desk: Desk, cycle: Cycle, spec: StrategySpec, case: GoldenCase) -> tuple[Question, Book, StrategySpec]:
    """A case as a question of the strategy, with an account made for it; its limits are the defaults, so that one recording serves all."""
    agent = spec.agent
    assert isinstance(agent, ModelAgent)
    own = replace(spec, symbols=(SYMBOL,), interval=Interval.DAY1, description=case.strategy, limits=StrategyLimits())
    bars = bars_of(case, desk.calendar)
    columns = compute(shown_indicators(own, agent), bars)
    chart = None
    if agent.sight is not Sight.NUMBERS and spec.chart is not None:
        chart = desk.objects.put(desk.charts.render(spec.chart, bars, columns), ".png")
    question = Question(spec.name, agent, SYMBOL, bars, columns, case.held or None, chart)
    return question, _book(desk, cycle.due_at, spec.name, case, price_of(bars.close[-1])), own


def _book(desk: Desk, now: datetime, strategy: str, case: GoldenCase, close: Decimal) -> Book:
    quote = Quote(SYMBOL, close - _TICK, close + _TICK, close, now)
    paid = case.paid or ZERO
    position = Position(strategy, SYMBOL, case.shares, case.shares * paid)
    lost: dict[str, Any] = {
        "action_id": "", "symbol": SYMBOL, "strategy": strategy, "state": OrderState.UNKNOWN.value, "side": Side.BUY.value,
        "quantity": 10, "filled_quantity": 0, "limit_price": close, "stop_price": None, "reference": close,
    }
    return Book(
        desk=desk, now=now, outside=Outside(now, {SYMBOL: quote}, {SYMBOL: close}), orders=[lost] if case.unknown else [], recent=[],
        actions=[],
        portfolio=Portfolio("golden", now, _CASH, (position,) if case.shares else (), {SYMBOL: close}), strategies={},
        limits=AccountLimits(), account_limits_version=None, day_pnl=ZERO, opening_pnl={}, latched=False, granted={}, track=TrackRecord(),
        coverage=Coverage(desk.ledger, ()),
    )


def _untold(case: GoldenCase, briefing: Briefing) -> str:
    """What of a case this prompt does not tell; empty where it is told whole."""
    needed = (
        ("strategy", bool(case.strategy), "what the strategy is for"), (OUTSIDE, bool(case.texts), "texts from outside"),
        ("position", bool(case.shares or case.unknown), "the position"),
    )
    missing = [words for name, wanted, words in needed if wanted and not briefing.values.get(name)]
    return f"it is not told {' and '.join(missing)}" if missing else ""


@dataclass(frozen=True, slots=True)
class _Texts:
    """The words of a case as texts from outside, of the evening before its newest bar closed."""

    case: GoldenCase
    closed: datetime

    def about(self, symbol: str, until: datetime, most: int) -> list[tuple[str, datetime, str]]:  # noqa: ARG002 -- see below
        """All of them, wherever the market clock stands: a replay may be before the session that every case is of."""
        return [("a note", self.closed - timedelta(hours=20), words) for words in self.case.texts[:most]]
