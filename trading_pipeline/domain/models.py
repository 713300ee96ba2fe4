"""What is asked of a model and what comes back: plain values, the same for every provider.

A request has one digest over everything that goes in; it is the key of the cassette (D5). A call that brings no usable text is
a value too: the world of models fails daily, and each way of failing has a name, and says whether it may have cost money.
"""

import hashlib
import json
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final


class Provider(StrEnum):
    """Who can be asked. `rules` is the agent without any model."""

    RULES = "rules"
    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    """Or whoever speaks its API at another base URL."""
    CLAUDE_CODE = "claude-code"


class Sight(StrEnum):
    """What a model is shown of the market (D7). The picture alone is for comparing only."""

    NUMBERS = "numbers"
    PICTURE = "picture"
    BOTH = "both"


class Mask(StrEnum):
    """What a model is not told, so that it cannot remember what came next (D7)."""

    SYMBOL = "symbol"
    DATES = "dates"
    PRICES = "prices"
    """Prices are scaled so that the newest close is 100."""


class CassetteMode(StrEnum):
    """Where a reply comes from (D5)."""

    LIVE = "live"
    """Asked for, and not kept."""
    RECORD = "record"
    """Asked for and kept."""
    REPLAY = "replay"
    """As it was kept; what was not is asked for and kept."""
    REPLAY_OR_FAIL = "replay-or-fail"
    """As it was kept; nobody is ever asked."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a provider's model can do; a strategy that asks for more is refused when it is loaded."""

    schema: bool
    """Holds a reply to a JSON schema by the provider's own mechanism."""
    images: bool
    sampling: bool
    """Takes a temperature."""
    reports_cost: bool = False
    """Says what a call cost; otherwise the price table does."""
    tools: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG by its digest; pixels tell what it costs."""

    sha256: str
    content: bytes = field(repr=False)
    width: int
    height: int
    media_type: str = "image/png"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is drawn. `max_tokens` bounds the reply, and with it its worst cost."""

    max_tokens: int = 1_024
    temperature: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call, complete. `schema` is the canonical JSON text of the reply's JSON schema."""

    provider: Provider
    model: str
    system: str
    text: str
    schema: str
    pictures: tuple[Picture, ...] = ()
    sampling: Sampling = Sampling()

    @property
    def digest(self) -> str:
        """SHA-256, hex, over everything that could change the reply."""
        temperature = self.sampling.temperature
        parts = [
            self.provider.value, self.model, self.system, self.text, self.schema, [picture.sha256 for picture in self.pictures],
            self.sampling.max_tokens, None if temperature is None else format(temperature.normalize(), "f"),
        ]
        return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as they are billed, each counted once: `input_tokens` are those neither read from a cache nor written to one."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0

    @property
    def total_in(self) -> int:
        """All that went in."""
        return self.input_tokens + self.cached_tokens + self.cache_write_tokens


class Ending(StrEnum):
    """Why a reply ends where it ends. Only a complete one is read."""

    COMPLETE = "complete"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    PAUSED = "paused"
    """The provider broke off a long turn."""


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What came back, as it came. `cost` is what the provider itself reports, USD; None: by the price table."""

    text: str
    ending: Ending
    model: str
    """The model that answered, as the provider names it."""
    usage: Usage
    request_id: str = ""
    fingerprint: str = ""
    seconds: float = 0.0
    """Of the call; a replayed one keeps those of its recording."""
    cost: Decimal | None = None


class Trouble(StrEnum):
    """Why there is no reply."""

    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    CONNECTION = "connection"
    UNAUTHORIZED = "unauthorized"
    NO_SUCH_MODEL = "no_such_model"
    BAD_REQUEST = "bad_request"
    BAD_RESPONSE = "bad_response"
    """An answer that is none of the API's."""
    NOT_RECORDED = "not_recorded"
    """A replay without a recording."""
    CASSETTE = "cassette"
    """Recordings cannot be read, or a reply could not be kept: nobody was asked."""


PASSING = frozenset({Trouble.RATE_LIMITED, Trouble.OVERLOADED, Trouble.SERVER_ERROR, Trouble.CONNECTION})
"""Troubles that one more try may get over."""


@dataclass(frozen=True, slots=True)
class ModelFailure:
    """A call that brought nothing. `free`: it cannot have cost anything (refused before any work, or never sent)."""

    trouble: Trouble
    detail: str
    free: bool
    retry_after: float | None = None
    """Seconds, as the provider asks."""
    seconds: float = 0.0


MAX_CALLS: Final = 2
"""A question is asked once, and once more after a passing trouble or to repair a reply: both are reserved for (invariant 63)."""


class CostsBy(StrEnum):
    """What costs are summed up by; each is a column of the table of calls."""

    STRATEGY = "strategy"
    PROVIDER = "provider"
    MODEL = "model"
    PROMPT = "prompt"


@dataclass(frozen=True, slots=True)
class ModelBudget:
    """What may be spent on models: USD a day of New York, calls in 60 minutes, calls at once, seconds a call."""

    per_day: Decimal = Decimal(5)
    per_provider: tuple[tuple[Provider, Decimal], ...] = ()
    """USD a day."""
    calls_per_hour: int = 50
    concurrency: int = 8
    timeout_seconds: float = 60.0
