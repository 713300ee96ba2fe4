"""What was seen and what the rules agent made of it: indicators, questions, replies, signals.

Bars come from the archive. The digest beside the indicators tells whether it still has those of then; where it has not, nothing that
follows from them is derived.
"""

from collections.abc import Callable, Iterator, Mapping

from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.domain.derivation import Difference
from trading_pipeline.domain.events import Event, EventType, NewEvent, canonical_payload
from trading_pipeline.domain.replies import PARSER_VERSION
from trading_pipeline.domain.strategies import ModelAgent, StrategySpec
from trading_pipeline.ports import Answer, Question
from trading_pipeline.service import deliberation, market
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.models.asking import reading
from trading_pipeline.service.models.briefing import disguise
from trading_pipeline.service.models.decision_facts import Reply, decisions
from trading_pipeline.service.models.inquiries import untriggered
from trading_pipeline.service.record.rederiving.then import RULE, Finding, Then, compared, place
from trading_pipeline.service.steps import due_strategies

OTHER_BARS = "the archive has other bars now"
BACKFILL = "a backfill's bars depend on the day it ran"
UNASKED = "nobody was asked, and the prices that spoke against it are not recorded"
MODEL = "a model's reply is taken as it came"


class Signals:
    """Up to the signal; an order of events as `deliberation` writes them."""

    def __init__(self, then: Then) -> None:
        """Nothing is read yet."""
        self._then = then
        self._seen: tuple[Cycle, tuple[StrategySpec, ...], dict[str, market.View]] | None = None
        self._asked: tuple[str, dict[str, Question]] = ("", {})
        self._other_bars: set[tuple[str, str]] = set()
        self._expected: dict[str, NewEvent] = {}
        """By key: what follows from a reply."""

    @property
    def kinds(self) -> Mapping[EventType, Callable[[Event], Iterator[Finding]]]:
        """What is derived here."""
        return {
            EventType.INDICATORS_COMPUTED: self._indicators, EventType.LLM_REQUESTED: self._question,
            EventType.LLM_SKIPPED: self._skipped, EventType.LLM_RESPONDED: self._reply,
            EventType.LLM_ACTION_GENERATED: self._signal, EventType.LLM_ABSTAINED: self._signal,
        }

    def _indicators(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        cycle = self._then.cycle(data["cycle"], event.at)
        if cycle is None:
            yield Finding("indicators", underivable=BACKFILL)
            return
        desk = self._then.desk(event.at)
        view = self._views(desk, cycle, due_strategies(desk, cycle))[data["symbol"]]
        derived = market.computed_payload(cycle, view) if len(view.bars) else {}
        if "bars_digest" not in data:
            derived.pop("bars_digest", None)
        same = data["bars_digest"] == view.bars.digest() if "bars_digest" in data else canonical_payload(derived) == event.payload_text
        if same:
            yield compared("indicators", event, derived)
        else:
            self._other_bars.add((data["cycle"], data["symbol"]))
            yield Finding("indicators", underivable=OTHER_BARS)

    def _question(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        asked_of = self._question_of(event)
        if data["indicators_seq"] is None and len(asked_of.bars):
            # There were no bars then, so there is no digest either.
            self._other_bars.add((data["cycle"], data["symbol"]))
        if (data["cycle"], data["symbol"]) in self._other_bars:
            yield Finding("questions", underivable=OTHER_BARS)
            return
        yield compared(
            "questions", event,
            {
                **data, "agent": encode(asked_of.agent), "bars": len(asked_of.bars), "bars_held": asked_of.bars_held,
                "bar_end": asked_of.bars.last_end if len(asked_of.bars) else None, "chart": asked_of.chart,
            },
        )

    def _question_of(self, event: Event) -> Question:
        """The question as it was put, of its cycle's."""
        cycle = self._then.cycle(event.payload["cycle"], event.at)
        assert cycle is not None
        if cycle.cycle_id != self._asked[0]:
            desk = self._then.desk(event.at)
            specs = due_strategies(desk, cycle)
            asked = deliberation.questions(desk, self._then.past, cycle, specs, self._views(desk, cycle, specs))
            self._asked = cycle.cycle_id, {f"{each.strategy}:{each.symbol}": each for each in asked}
        return self._asked[1][place(event.payload)]

    def _skipped(self, event: Event) -> Iterator[Finding]:
        """A model that was not asked because of its trigger; what money or doubts had to say is not derived."""
        data = event.payload
        if data["reason"] != "trigger":
            return
        question = self._question_of(event)
        if (data["cycle"], data["symbol"]) in self._other_bars:
            yield Finding("triggers", underivable=OTHER_BARS)
            return
        yield compared("triggers", event, {**data, "detail": untriggered(question)[:500]})

    def _reply(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        question = self._asked[1].get(place(data)) if self._asked[0] == data["cycle"] else None
        decider = self._then.deciders.get(data["provider"])
        of_model = question is not None and isinstance(question.agent, ModelAgent)
        if question is None or (decider is None and not of_model) or (data["cycle"], data["symbol"]) in self._other_bars:
            yield Finding("replies", underivable=UNASKED if data["provider"] == "none" else MODEL if decider is None else OTHER_BARS)
            return
        cycle = self._then.cycle(data["cycle"], event.at)
        assert cycle is not None
        if decider is None:
            yield Finding("replies", underivable=MODEL)
            if data["parser"] == PARSER_VERSION:
                answer = Answer(reading(data, question, disguise(question)), data["provider"], data["model"], data["raw"])
                self._expect(cycle, question, answer, event)
            return
        [answer] = decider.decide([question])
        self._expect(cycle, question, answer, event)
        yield compared(
            "replies", event,
            {
                **data, "provider": answer.provider, "model": answer.model, "raw": answer.raw, "tokens_in": answer.tokens_in,
                "tokens_out": answer.tokens_out, "cost": answer.cost,
            },
        )

    def _expect(self, cycle: Cycle, question: Question, answer: Answer, event: Event) -> None:
        self._expected.update((each.key, each) for each in decisions(cycle, [Reply(question, answer, event)], event.at))

    def _signal(self, event: Event) -> Iterator[Finding]:
        """Nothing where the reply was not derived: that has been told."""
        data = event.payload
        kinds = ("llm.action_generated", "llm.abstained")
        expected = [each for kind in kinds if (each := self._expected.pop(f"{kind}:{data['cycle']}:{place(data)}", None)) is not None]
        if expected and expected[0].type is not event.type:
            difference = Difference(RULE, event.type.value, expected[0].type.value, event.seq, column="type")
            yield Finding("signals", difference)
        elif expected:
            yield compared("signals", event, expected[0].payload)

    def _views(self, desk: Desk, cycle: Cycle, specs: tuple[StrategySpec, ...]) -> dict[str, market.View]:
        if self._seen is None or self._seen[:2] != (cycle, specs):
            self._seen = cycle, specs, market.views(desk, cycle, specs)
        return self._seen[2]
