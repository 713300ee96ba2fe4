"""Every decision with what became of it: read from the ledger, by the version of the decision maker that took it.

A version is all that could make answers differ: provider, model, prompt, what it was shown and what was hidden from it. An abstention
is a decision too, with nothing staked on it; a question that was never asked (trigger, budget) is none. Reads only.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType, instant_from
from trading_pipeline.domain.models import Provider
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.signals import Action
from trading_pipeline.ports import Reader

_DECIDED = (EventType.LLM_ACTION_GENERATED, EventType.LLM_ABSTAINED)
_Place = tuple[str, str, str]


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """Who decided, and with what before their eyes. Of the rules agent `prompt` is the strategy whose rules they are."""

    provider: str
    model: str
    prompt: str
    sight: str = ""
    masks: tuple[str, ...] = ()

    @property
    def rules(self) -> bool:
        """Whether no model was asked: there is nothing that it could remember."""
        return self.provider == Provider.RULES

    @property
    def label(self) -> str:
        """As people read it."""
        if self.rules:
            return f"rules: {self.prompt}"
        hidden = f", without {', '.join(self.masks)}" if self.masks else ""
        return f"{self.model} · {self.prompt} · {self.sight}{hidden}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the market did after a decision, fractions of the entry price; best and worst along the decision's direction."""

    moved: float
    adverse: float | None
    favourable: float | None


@dataclass(frozen=True, slots=True)
class Judged:
    """One decision; `action` is None where it abstained, `cost` is the USD that asking took."""

    version: Version
    strategy: str
    symbol: str
    interval: Interval
    bar_end: datetime
    session: date
    action: Action | None
    confidence: float
    cost: Decimal
    staked: Decimal | None = None
    """USD of the order that was sized for it; None where none was."""
    acted: bool = False
    """Whether an order was sent for it."""
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """By horizon, those that are known."""
    action_id: str = ""
    """Empty where it abstained."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which decisions to look at; None: any."""

    provider: str | None = None
    model: str | None = None
    prompt: str | None = None
    symbol: str | None = None
    since: date | None = None

    def takes(self, decision: Judged) -> bool:
        """Whether it is one of them. The rules agent stays whatever model is named: it is what models are compared with."""
        version = decision.version
        named = version.rules or all(
            wanted is None or wanted == given
            for wanted, given in ((self.provider, version.provider), (self.model, version.model), (self.prompt, version.prompt))
        )
        return named and self.symbol in (None, decision.symbol) and (self.since is None or decision.session >= self.since)


def judged(reader: Reader, selection: Selection | None = None) -> list[Judged]:
    """Every decision of the ledger that the selection takes, in order of time."""
    asked: dict[_Place, Mapping[str, Any]] = {}
    outcomes: dict[str, dict[str, Outcome]] = {}
    for event in reader.events(types=(EventType.LLM_REQUESTED,)):
        asked[_place(event.payload)] = event.payload
    paid = {_place(row): row["cost"] or ZERO for row in reader.find("model_calls")}
    for event in reader.events(types=(EventType.SIGNAL_OUTCOME,)):
        data = event.payload
        outcomes.setdefault(data["action_id"], {})[data["horizon"]] = Outcome(
            float(data["moved"]), _number(data["adverse"]), _number(data["favourable"]),
        )
    actions = {row["action_id"]: row for row in reader.find("actions")}
    found = []
    for event in reader.events(types=_DECIDED):
        data = event.payload
        request = asked.get(_place(data))
        if request is None:
            continue
        signal = event.type is EventType.LLM_ACTION_GENERATED
        name = data["action_id"] if signal else ""
        row = actions.get(name)
        bar_end = data.get("bar_end") or _bar_end(data["cycle"])
        decision = Judged(
            version_of(request), data["strategy"], data["symbol"], Interval(data["cycle"].partition("@")[0]), instant_from(bar_end),
            date.fromisoformat(data["session"]), Action(data["action"]) if signal else None,
            float(data["confidence"]) if signal else 0.0, paid.get(_place(data), ZERO), None if row is None else _staked(row["intent"]),
            row is not None and row["state"] == ActionState.CONSUMED.value, outcomes.get(name, {}), name,
        )
        if selection is None or selection.takes(decision):
            found.append(decision)
    return sorted(found, key=lambda each: (each.bar_end, each.symbol, each.strategy))


def version_of(request: Mapping[str, Any]) -> Version:
    """The version that a request went to, from its payload."""
    agent, provider = request["agent"], request["provider"]
    if provider == Provider.RULES:
        rules = "analyzer" if agent["type"] == "AnalyzerAgent" else request["strategy"]
        return Version(provider, agent["type"].removesuffix("Agent").lower(), rules)
    model, prompt = request.get("model") or agent["model"], request.get("prompt") or agent["prompt"]
    return Version(provider, model, prompt, agent.get("sight", ""), tuple(sorted(agent.get("masks", ()))))


def by(decisions: Iterable[Judged], key: Callable[[Judged], Any]) -> dict[Any, list[Judged]]:
    """Decisions in groups, the groups in order of their keys."""
    groups: dict[Any, list[Judged]] = {}
    for each in decisions:
        groups.setdefault(key(each), []).append(each)
    return dict(sorted(groups.items()))


def by_session(decisions: Sequence[Judged], value: Callable[[Judged], float | None]) -> list[list[float]]:
    """What each decision is worth, in one list a session; decisions without a value are left out."""
    groups = by(decisions, lambda each: each.session)
    return [[worth for each in group if (worth := value(each)) is not None] for group in groups.values()]


def _place(data: Mapping[str, Any]) -> _Place:
    return data["cycle"], data["strategy"], data["symbol"]


def _bar_end(cycle: str) -> str:
    return cycle.partition("@")[2].removesuffix("Z") + "+00:00"


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _staked(intent: str | None) -> Decimal | None:
    if intent is None:
        return None
    data = json.loads(intent)
    return Decimal(data["quantity"]) * Decimal(data["reference"])
