"""Questions put in words: whether a model is asked at all, what is sent to it, and what that can cost at most.

The trigger decides before anything is rendered (D8). Everything that goes into a request is the cycle's own: the same facts give the
same request, byte for byte, so that a cassette finds its reply again.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache, lru_cache, partial

from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.domain.events import canonical_payload
from trading_pipeline.domain.expressions import evaluate_at, names, parse
from trading_pipeline.domain.indicators import price_columns
from trading_pipeline.domain.models import MAX_CALLS, ModelRequest, Picture, Provider, Sampling, Sight
from trading_pipeline.domain.replies import reply_schema
from trading_pipeline.domain.strategies import ModelAgent
from trading_pipeline.errors import StorageError
from trading_pipeline.ports import Question, Reader, Rendered
from trading_pipeline.service.desk import Desk, Models
from trading_pipeline.service.judging.book import Book
from trading_pipeline.service.models.briefing import Briefing, brief, surroundings


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question as it is sent. `worst` is what one call can cost, USD: None where nobody knows the price, 0 where it is recorded."""

    question: Question
    agent: ModelAgent
    briefing: Briefing
    rendered: Rendered
    request: ModelRequest
    worst: Decimal | None
    recorded: bool
    text_digest: str
    """Of the rendered text in the object store."""
    on: date
    """The day whose prices and budget it counts for."""
    expected: str | None
    """The version of the model that answered the strategy last; None where none ever did (invariant 64)."""

    @property
    def reserved(self) -> Decimal:
        """For all its calls."""
        return MAX_CALLS * (self.worst or Decimal(0))

    @property
    def unseen(self) -> str:
        """Why the picture that the model is to judge by cannot go along; empty where it does, or where none is needed."""
        if self.agent.sight is Sight.NUMBERS or self.request.pictures:
            return ""
        if self.briefing.chart is not None:
            return f"its chart {self.briefing.chart[:12]} is gone or damaged"
        return "it is to judge by a chart, and there is none" if self.agent.sight is Sight.PICTURE else ""


def untriggered(question: Question) -> str:
    """Why the model need not be asked about a symbol, in words; empty when it is to be."""
    agent = question.agent
    assert isinstance(agent, ModelAgent)
    which, text = ("trigger", agent.trigger) if question.bars_held is None else ("trigger_held", agent.trigger_held)
    if not text.strip():
        return ""
    expression = parse(text)
    columns = {**question.columns, **price_columns(question.bars)}
    if evaluate_at(expression, columns, -1):
        return ""
    figures = ", ".join(f"{name} {columns[name][-1]:,.6g}" for name in names(expression))
    return f"{which} does not hold: {expression.text} ({figures})"


def inquire(desk: Desk, models: Models, reader: Reader, cycle: Cycle, questions: Sequence[Question], on: date) -> list[Inquiry]:
    """Each question as it would be sent, in order."""
    book = surroundings(desk, reader, sorted({question.symbol for question in questions}), cycle.due_at)
    worded = [_worded(desk, models, reader, cycle, question, book) for question in questions]
    texts = [f"{rendered.system}\n\n{rendered.text}".encode() for _, _, rendered, _ in worded]
    last = cache(partial(answered_last, reader))
    inquiries = []
    for question, (agent, briefing, rendered, request), kept in zip(questions, worded, _kept(desk, texts), strict=True):
        expected = last(question.strategy, agent.provider, agent.model)
        inquiries.append(_priced(models, question, agent, briefing, rendered, request, kept, on, expected))
    return inquiries


def inquiry_of(desk: Desk, models: Models, question: Question, briefing: Briefing, on: date) -> Inquiry:
    """A question that is briefed already, as it would be sent; whichever version answers, it is none that was expected."""
    agent, rendered, request = _request(desk, models, question, briefing)
    kept = desk.objects.put(f"{rendered.system}\n\n{rendered.text}".encode(), suffix=".txt")
    return _priced(models, question, agent, briefing, rendered, request, kept, on, None)


def _priced(
    models: Models, question: Question, agent: ModelAgent, briefing: Briefing, rendered: Rendered, request: ModelRequest, kept: str,
    on: date, expected: str | None,
) -> Inquiry:
    recorded = models.llms[agent.provider].recorded(request)
    worst = Decimal(0) if recorded else models.prices.worst(request, on)
    return Inquiry(question, agent, briefing, rendered, request, worst, recorded, kept, on, expected)


def _worded(
    desk: Desk, models: Models, reader: Reader, cycle: Cycle, question: Question, book: Book,
) -> tuple[ModelAgent, Briefing, Rendered, ModelRequest]:
    briefing = brief(desk, reader, cycle, question, book)
    agent, rendered, request = _request(desk, models, question, briefing)
    return agent, briefing, rendered, request


def _request(desk: Desk, models: Models, question: Question, briefing: Briefing) -> tuple[ModelAgent, Rendered, ModelRequest]:
    agent = question.agent
    assert isinstance(agent, ModelAgent)
    rendered = models.prompts.render(agent.prompt, briefing.values)
    request = ModelRequest(
        agent.provider, agent.model, rendered.system, rendered.text, _schema(briefing.symbol), _pictures(desk, agent, briefing),
        Sampling(agent.max_tokens, agent.temperature),
    )
    return agent, rendered, request


def _kept(desk: Desk, texts: Sequence[bytes]) -> list[str]:
    """The texts in the object store, side by side: what takes time is waiting for the disk."""
    if len(texts) < 2:
        return [desk.objects.put(text, ".txt") for text in texts]
    with ThreadPoolExecutor(min(8, len(texts)), thread_name_prefix="keep") as pool:
        return list(pool.map(partial(desk.objects.put, suffix=".txt"), texts))


def answered_last(reader: Reader, strategy: str, provider: Provider, model: str) -> str | None:
    """Which version answered a strategy's newest question to a model."""
    rows = reader.find(
        "model_calls", strategy=strategy, provider=provider.value, model=model, order_by="last_seq", descending=True, limit=200,
    )
    return next((row["answered_by"] for row in rows if row["answered_by"] is not None), None)


@lru_cache(maxsize=1_024)
def _schema(symbol: str) -> str:
    return canonical_payload(reply_schema(symbol))


def _pictures(desk: Desk, agent: ModelAgent, briefing: Briefing) -> tuple[Picture, ...]:
    if agent.sight is Sight.NUMBERS or briefing.chart is None:
        return ()
    try:
        content = desk.objects.get(briefing.chart)
    except StorageError:
        # One picture's trouble is its own question's, not the whole cycle's (fault 36).
        return ()
    # The size stands in the first chunk of a PNG (W3C PNG, section 11.2.1).
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    return (Picture(briefing.chart, content, width, height),)
