"""What people ask about prompts: how one reads on a strategy's newest bar, and when each was used last. No model is asked."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from trading_pipeline.domain.cycles import Cycle, bar_cycle
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.models import Provider, Sight
from trading_pipeline.domain.prompts import Schema
from trading_pipeline.domain.strategies import ModelAgent, StrategySpec
from trading_pipeline.errors import InputError, PromptError, StrategyError, UnknownName
from trading_pipeline.ports import OutsideTexts, Prompts, Reader, Rendered
from trading_pipeline.service import controls, market
from trading_pipeline.service.deliberation import questions
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.models.briefing import Briefing, tell
from trading_pipeline.service.steps import spec_of

LOOKED_BACK = 100_000
"""Facts that are searched for the last use of each prompt."""
_AT_ONCE = 10_000
_ASKED = tuple(each.value for each in Provider if each is not Provider.RULES)


@dataclass(frozen=True, slots=True)
class Use:
    """The newest request made with a version: when, and the digest that its files had."""

    at: datetime
    digest: str


def preview(desk: Desk, prompts: Prompts, texts: OutsideTexts, name: str, strategy: str, symbol: str) -> tuple[Briefing, Rendered]:
    """A prompt as it would be sent about a symbol's newest bar; a strategy without a model is told as if it had one, with numbers.

    Raises:
        UnknownName: No such prompt, strategy or symbol of it.
        PromptError: The prompt's file is wrong, or it asks for no signal.
        InputError: There is no bar of the symbol.
    """
    prompt = prompts.get(name)
    if prompt.schema != Schema.SIGNAL:
        raise PromptError(
            f"{name} asks for {prompt.schema}, not for a signal.", value=prompt.schema, rule="a bar fills the variables of a signal prompt",
            remedy="see its words with `trading prompt show`",
        )
    spec = spec_of(controls.require(desk.ledger, strategy))
    if symbol not in spec.symbols:
        raise UnknownName(
            f"{symbol} is no symbol of {strategy}.", value=symbol, rule=f"its symbols are {', '.join(spec.symbols)}",
            remedy="use one of them",
        )
    agent = spec.agent if isinstance(spec.agent, ModelAgent) else ModelAgent(Provider.RULES, "", name, Sight.NUMBERS)
    spec = replace(spec, symbols=(symbol,), agent=replace(agent, prompt=name))
    cycle = _newest(desk, spec)
    seen = market.views(desk, cycle, (spec,))
    if not len(seen[symbol].bars):
        raise InputError(
            f"There is no {spec.interval} bar of {symbol} yet.", value=symbol, rule="a prompt is filled from the newest archived bar",
            remedy="run a cycle, or import bars",
        )
    [question] = questions(desk, desk.ledger, cycle, (spec,), seen)
    briefing = tell(desk, desk.ledger, cycle, question, prompt, texts)
    return briefing, prompts.render(name, briefing.values)


def examined(desk: Desk, name: str, strategy: str, model: str = "", provider: str = "") -> StrategySpec:
    """A strategy as it would ask with a prompt, and with another model where one is named.

    Raises:
        UnknownName: No such strategy, or provider.
        StrategyError: It asks no model, and none is named.
    """
    spec = spec_of(controls.require(desk.ledger, strategy))
    agent = spec.agent if isinstance(spec.agent, ModelAgent) else None
    if provider and provider not in _ASKED:
        raise UnknownName(
            f"There is no provider {provider}.", value=provider, rule=f"providers are {', '.join(_ASKED)}", remedy="name one of them",
        )
    if agent is None and not (model and provider):
        raise StrategyError(
            f"{strategy} asks no model.", value=strategy, rule="the golden set is put to a model",
            remedy="name one with --provider and --model, or another strategy",
        )
    if agent is None:
        agent = ModelAgent(Provider(provider), model, name)
    chosen = replace(agent, prompt=name, model=model or agent.model, provider=Provider(provider or agent.provider))
    return replace(spec, agent=chosen)


def _newest(desk: Desk, spec: StrategySpec) -> Cycle:
    slot = desk.calendar.last_closed_slot(desk.now(), spec.interval)
    assert slot is not None
    return bar_cycle(slot, desk.calendar.at(desk.now()) or desk.calendar.next(slot.session.day))


def last_uses(reader: Reader, names: Collection[str]) -> dict[str, Use]:
    """The newest request with each version, by `name/vN`, among the newest `LOOKED_BACK` facts; a version without one is left out."""
    uses: dict[str, Use] = {}
    head, _ = reader.head()
    last = head
    while last > max(0, head - LOOKED_BACK) and len(uses) < len(names):
        after = max(0, last - _AT_ONCE)
        for event in reversed(reader.events(after=after, types=(EventType.LLM_REQUESTED,), limit=_AT_ONCE)):
            name = event.payload.get("prompt")
            if event.seq <= last and isinstance(name, str) and name in names:
                uses.setdefault(name, Use(event.at, event.payload["prompt_digest"]))
        last = after
    return uses
