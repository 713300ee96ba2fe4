"""`[agent]` of a strategy file: the rules agent in one of its forms, or a model asked with a prompt.

What only the desk can know (is the prompt there, the price known, the model able) is checked when the strategy is created.
"""

from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from trading_pipeline.domain import expressions
from trading_pipeline.domain.limits import unless_off
from trading_pipeline.domain.models import Mask, Provider, Sight
from trading_pipeline.domain.strategies import Agent, AnalyzerAgent, ExpressionAgent, Mode, ModelAgent
from trading_pipeline.errors import ExpressionError, StrategyError

PROMPT: Final = "analyst/v1"
CITATION_ABSTAIN: Final = Decimal("0.02")
"""Of a strategy that trades alone (invariant 61)."""
_EXPRESSION: Final = frozenset({"enter_when", "exit_when", "max_bars"})
_MODEL: Final = frozenset({
    "model", "prompt", "sight", "trigger", "trigger_held", "max_tokens", "temperature", "masks", "citation_abstain",
})


MODEL: Final = r"[A-Za-z0-9][A-Za-z0-9._:/\-]*"
"""How a model may be named."""


class AgentSection(BaseModel):
    """`[agent]`: who decides. `form`, `enter_when`, `exit_when`, `max_bars` are the rules agent's, the others a model's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Provider = Provider.RULES
    form: Literal["analyzer", "expression"] | None = None
    enter_when: str = ""
    exit_when: str = ""
    max_bars: int = Field(0, ge=0, le=100_000)
    model: str = Field("", max_length=100, pattern=f"^{MODEL}$|^$")
    prompt: str = Field(PROMPT, pattern=r"^[a-z][a-z0-9-]{0,39}/v[1-9][0-9]{0,3}$")
    sight: Sight | None = None
    trigger: str = ""
    trigger_held: str = ""
    max_tokens: int = Field(1_024, ge=64, le=32_000)
    temperature: Decimal | None = Field(None, ge=0, le=2)
    masks: frozenset[Mask] = frozenset()
    citation_abstain: Annotated[Decimal | None, BeforeValidator(unless_off)] = Field(None, gt=0, le=1)


def agent_of(section: AgentSection, mode: Mode, *, pictured: bool) -> Agent:
    """The agent of a checked section.

    Args:
        pictured: The strategy shows a chart, so a model sees it too unless it is told otherwise.

    Raises:
        StrategyError: Keys that do not belong together, or one that is lacking.
        ExpressionError, UnknownName: An expression is wrong.
    """
    if section.provider is not Provider.RULES:
        return _model(section, mode, pictured)
    _refuse(section, _MODEL, 'a model (provider = "anthropic", "openai" or "claude-code")')
    if section.form is None:
        raise StrategyError(
            "The rules agent has no form.", value="agent.form", rule="it is an analyzer or an expression",
            remedy='add form = "analyzer" under [agent], or form = "expression" with enter_when',
        )
    if section.form == "analyzer":
        _refuse(section, _EXPRESSION, 'form = "expression"')
        return AnalyzerAgent()
    if not section.enter_when:
        raise StrategyError(
            "The expression agent has no enter_when.", value="", rule="an expression agent says when it enters",
            remedy='add enter_when = "rsi_14 < 30"',
        )
    _check_expressions(section, "enter_when", "exit_when")
    return ExpressionAgent(section.enter_when, section.exit_when, section.max_bars)


def _model(section: AgentSection, mode: Mode, pictured: bool) -> ModelAgent:
    _refuse(section, _EXPRESSION | {"form"}, 'provider = "rules"')
    if not section.model:
        raise StrategyError(
            f"The {section.provider} agent has no model.", value="", rule="a strategy names the model that it asks",
            remedy="add model = \"...\" under [agent], one with a price (docs/costs.md)",
        )
    sight = section.sight or (Sight.BOTH if pictured else Sight.NUMBERS)
    if sight is not Sight.NUMBERS and not pictured:
        raise StrategyError(
            f"sight = \"{sight}\" needs a picture.", value=sight.value, rule="a model sees the chart that the strategy shows",
            remedy="add a [chart] section, or set sight = \"numbers\"",
        )
    _check_expressions(section, "trigger", "trigger_held")
    abstain = section.citation_abstain
    if "citation_abstain" not in section.model_fields_set and mode is Mode.AUTONOMOUS:
        abstain = CITATION_ABSTAIN
    return ModelAgent(
        provider=section.provider, model=section.model, prompt=section.prompt, sight=sight, trigger=section.trigger,
        trigger_held=section.trigger_held, max_tokens=section.max_tokens, temperature=section.temperature, masks=section.masks,
        citation_abstain=abstain,
    )


def _refuse(section: AgentSection, others: frozenset[str], owner: str) -> None:
    """Refuse keys of another kind of agent."""
    wrong = sorted(name for name in section.model_fields_set & others if getattr(section, name) not in ("", 0, None))
    if wrong:
        raise StrategyError(
            f"agent.{wrong[0]} does not belong to this agent.", value=wrong[0], rule=f"{wrong[0]} belongs to {owner}",
            remedy=f"remove {wrong[0]}, or change the agent",
        )


def _check_expressions(section: AgentSection, *keys: str) -> None:
    for key in keys:
        if text := getattr(section, key):
            try:
                expressions.parse(text)
            except ExpressionError as error:
                raise ExpressionError(f"{key}: {error.message}", value=error.value, rule=error.rule, remedy=error.remedy) from None
