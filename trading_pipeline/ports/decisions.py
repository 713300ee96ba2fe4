"""Decisions: what a model, or the rules agent, is asked and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from trading_pipeline.domain.bars import BarTable, Floats
from trading_pipeline.domain.indicators import IndicatorSpec
from trading_pipeline.domain.signals import Decision
from trading_pipeline.domain.strategies import Agent


@dataclass(frozen=True, slots=True)
class Question:
    """What a decision maker is asked about one symbol, as of the newest bar in `bars`.

    `bars` and `columns` are split-adjusted and aligned; `bars_held` counts closed bars since the
    position was opened (None when flat).
    """

    strategy: str
    agent: Agent
    symbol: str
    bars: BarTable
    columns: Mapping[str, Floats]
    bars_held: int | None
    chart: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision with what it cost: tokens and USD; `raw` is the reply as it came."""

    decision: Decision
    provider: str
    model: str
    raw: str
    tokens_in: int = 0
    tokens_out: int = 0
    cost: Decimal = Decimal(0)
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else `llm.responded` keeps of a model's reply, in JSON values."""


class DecisionMaker(Protocol):
    """A model, or the rules agent in its place. No tool it can reach places an order."""

    @property
    def provider(self) -> str:
        """`rules`, later `anthropic`, `openai`, `claude-code`."""

    def needs(self, agent: Agent) -> tuple[IndicatorSpec, ...]:
        """The indicators the agent looks at, so that they are computed before it is asked."""

    def decide(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer a question, in order; anything imperfect is an Abstain, never an exception."""
