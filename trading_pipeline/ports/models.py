"""Models: who is asked, with which words, and at which price."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol

from trading_pipeline.domain.golden import GoldenSet
from trading_pipeline.domain.models import Abilities, ModelFailure, ModelReply, ModelRequest, Provider, Usage


class LLM(Protocol):
    """One provider's models. Used by several threads at once; no tool that it offers a model places an order."""

    @property
    def provider(self) -> Provider:
        """Whose models they are."""

    def abilities(self, model: str) -> Abilities:
        """What a model of theirs can do; nothing is asked over the network."""

    def recorded(self, request: ModelRequest) -> bool:
        """Whether the reply is at hand and costs nothing: only ever of a cassette."""

    def ask(self, request: ModelRequest, timeout: float) -> ModelReply | ModelFailure:
        """One call within `timeout` seconds, without a retry. What the world does wrong is a value, and so is a reply that is unusable."""

    def close(self) -> None:
        """Let go of connections and of what still runs."""


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """A published prompt as its file has it.

    `name` is `analyst/v1`; `digest` is the SHA-256 of the file and of every persona it takes in.
    """

    name: str
    digest: str
    schema: str
    """What a reply has to be: `signal`."""
    variables: tuple[str, ...]
    personas: tuple[str, ...]
    description: str
    source: str
    """`shipped` or `own`."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt with its variables filled in; outside text never stands in `system` (invariant 62)."""

    prompt: PromptVersion
    system: str
    text: str
    digest: str
    """SHA-256, hex, over system and text."""


class Prompts(Protocol):
    """The prompts of a home: those that ship, and the user's own."""

    def names(self) -> list[str]:
        """Every `name/vN` there is, sorted."""

    def get(self, name: str) -> PromptVersion:
        """One version; UnknownName when there is none, PromptError when its file is wrong."""

    def render(self, name: str, values: Mapping[str, Any]) -> Rendered:
        """Fill in exactly the declared variables; PromptError for one that is missing or too many."""


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens of one model, from a date on."""

    provider: Provider
    model: str
    since: date
    input: Decimal
    output: Decimal
    cached: Decimal
    cache_write: Decimal


class Prices(Protocol):
    """The price table: shipped with its sources, and the user's own before it."""

    def price(self, provider: Provider, model: str, on: date) -> Price | None:
        """None: unknown, and then nothing is asked (invariant 63)."""

    def models(self, provider: Provider) -> list[str]:
        """Every name of a model of theirs that has a price, sorted."""

    def worst(self, request: ModelRequest, on: date) -> Decimal | None:
        """What one call can cost at most, USD: every byte a token, the reply as long as it may be."""

    def cost(self, provider: Provider, model: str, usage: Usage, on: date) -> Decimal | None:
        """What a call did cost, USD."""

    def cutoff(self, provider: Provider, model: str) -> date | None:
        """The end of the model's training data, as its maker states it; None: not known (D7)."""


class OutsideTexts(Protocol):
    """Words from outside about a symbol: news, notes. Data, never instructions."""

    def about(self, symbol: str, until: datetime, most: int) -> list[tuple[str, datetime, str]]:
        """The newest `most` texts known by then, newest first: title, when, words. What has no date is left out (no look-ahead)."""


class Golden(Protocol):
    """The golden set: the cases that ship, and the user's own beside them (invariant 64)."""

    def read(self) -> GoldenSet:
        """All of it as its files stand now; InputError where one is wrong."""
