"""Whether a strategy's model can be asked here at all: refused when it is created or revised, not when it trades."""

import difflib

from trading_pipeline.domain.models import Mask, Provider, Sight
from trading_pipeline.domain.strategies import ModelAgent, StrategySpec
from trading_pipeline.errors import StrategyError
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.models.purse import budget_day

SIGNAL = "signal"
"""The schema of a prompt whose reply is a decision about one symbol."""


def require_askable(desk: Desk, spec: StrategySpec) -> None:
    """Refuse a strategy whose model, prompt or price is not there, or whose model cannot do what is asked of it.

    Raises:
        StrategyError: With what is lacking.
        UnknownName, PromptError: The prompt is not there, or its file is wrong.
    """
    agent = spec.agent
    if not isinstance(agent, ModelAgent):
        return
    llm = desk.models.llms.get(agent.provider) if desk.models is not None else None
    if desk.models is None or llm is None:
        key = f"{agent.provider.value.upper()}_API_KEY"
        there = "install Claude Code" if agent.provider is Provider.CLAUDE_CODE else f"set the environment variable {key}"
        raise StrategyError(
            f"{agent.provider} cannot be asked here.", value=agent.provider.value, rule="a provider needs its key, or its program",
            remedy=f"{there} (see docs/models.md), or set model.cassette = \"replay-or-fail\"",
        )
    prompt = desk.models.prompts.get(agent.prompt)
    if prompt.schema != SIGNAL:
        raise StrategyError(
            f"The prompt {agent.prompt} does not ask for a decision.", value=prompt.schema, rule=f"a strategy's prompt has schema {SIGNAL}",
            remedy="choose another with `trading prompt list`",
        )
    able = llm.abilities(agent.model)
    if agent.sight is not Sight.NUMBERS and not able.images:
        raise StrategyError(
            f"{agent.model} of {agent.provider} takes no pictures here.", value=agent.sight.value,
            rule="a model is not asked for what it cannot do", remedy='set sight = "numbers", or choose another model',
        )
    if agent.provider is Provider.CLAUDE_CODE and Mask.DATES in agent.masks:
        raise StrategyError(
            "Claude Code cannot be kept from knowing the date.", value=Mask.DATES.value, rule="it tells its model what day it is",
            remedy="ask the model through provider = \"anthropic\", or remove dates from masks",
        )
    if agent.temperature is not None and not able.sampling:
        raise StrategyError(
            f"{agent.model} of {agent.provider} takes no temperature.", value=agent.temperature,
            rule="a model is not asked for what it cannot do", remedy="remove temperature",
        )
    if not able.reports_cost and desk.models.prices.price(agent.provider, agent.model, budget_day(desk.models.wall())) is None:
        alike = difflib.get_close_matches(agent.model, desk.models.prices.models(agent.provider), n=1, cutoff=0.8)
        meant = f"did you mean {alike[0]}? Else " if alike else ""
        raise StrategyError(
            f"Nobody knows what {agent.model} of {agent.provider} costs.", value=agent.model,
            rule="an unknown price is no call (invariant 63)",
            remedy=f"{meant}add its price to prices.toml in the home; a local model costs 0",
        )
