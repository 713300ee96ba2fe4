"""The rules agent as a decision maker: `domain.agents` behind the port of the models. It costs nothing and asks nobody."""

from collections.abc import Sequence

from trading_pipeline.domain.agents import required_indicators, rule
from trading_pipeline.domain.events import canonical_payload
from trading_pipeline.domain.indicators import IndicatorSpec
from trading_pipeline.domain.strategies import Agent, AnalyzerAgent
from trading_pipeline.ports import Answer, Question

__all__ = ["RulesAgent", "required_indicators"]


class RulesAgent:
    """Deterministic: the same question always has the same answer, byte for byte."""

    provider = "rules"

    def needs(self, agent: Agent) -> tuple[IndicatorSpec, ...]:
        """The analyzer's seven, or those the expressions name."""
        return required_indicators(agent)

    def decide(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer a question, in order; `raw` is the ruling as canonical JSON, inputs and points included."""
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> Answer:
        ruling = rule(question.agent, question.bars, question.columns, question.bars_held)
        model = "analyzer" if isinstance(question.agent, AnalyzerAgent) else "expression"
        return Answer(ruling.decision, self.provider, model, canonical_payload(ruling.record))
