"""Claude by Anthropic's Messages API, driven by Anthropic's own SDK.

A reply is held to its schema by structured output, so its text is what the model wrote: nothing has parsed it before `parse_reply` does.
Only a model that is not Claude, behind a base URL of the user's own, is forced to call a tool instead; its input is then cut out of the
answer's bytes as it stands there, so that a key given twice stays given twice. Thinking is set as low as a model takes it: it counts
towards `max_tokens`, and nobody reads it. The SDK's retries are off, and its credential and base URL chains are never consulted.
"""

import base64
import json
import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, SecretStr, ValidationError

from trading_pipeline.adapters.llm.answers import TokenCount, bad, if_said, name, no_answer, unknown_end
from trading_pipeline.adapters.llm.failures import checked_base_url, checked_key, status_failure
from trading_pipeline.domain.models import Abilities, Ending, ModelFailure, ModelReply, ModelRequest, Provider, Trouble, Usage
from trading_pipeline.domain.outside_text import one_line

if TYPE_CHECKING:
    import anthropic
    import httpx2

BASE_URL: Final = "https://api.anthropic.com"
TOOL: Final = "reply"


class _Thinking(StrEnum):
    """How a model is kept from thinking at length."""

    UNASKED = "unasked"
    """It does not think unless told to."""
    DISABLED = "disabled"
    BETWEEN_TOOLS = "between_tools"
    """Its word for no thinking up front; there are no tools."""
    LOW_EFFORT = "low_effort"
    """It always thinks; effort is all that can be set."""


@dataclass(frozen=True, slots=True)
class _Family:
    """Models whose name is `name`, or `name` and a suffix such as a date."""

    name: str
    thinking: _Thinking


# Source: platform.claude.com/docs/en/build-with-claude/thinking and the models' migration guides under /docs/en/models, November 2026.
# All of them see images and hold a schema (/docs/en/about-claude/models/overview, /build-with-claude/structured-outputs); none takes a
# temperature under API version 2026-10-21, which is the SDK's (/docs/en/api/versioning).
_FAMILIES: Final = (
    _Family("claude-fable-5", _Thinking.LOW_EFFORT),
    _Family("claude-mythos-5", _Thinking.LOW_EFFORT),
    _Family("claude-opus-5-5", _Thinking.LOW_EFFORT),
    _Family("claude-sonnet-5-5", _Thinking.BETWEEN_TOOLS),
    _Family("claude-haiku-5-5", _Thinking.DISABLED),
    _Family("claude-opus-5", _Thinking.DISABLED),
    _Family("claude-sonnet-5", _Thinking.DISABLED),
)


class AnthropicLLM:
    """One client for all threads, made when it is first needed."""

    provider = Provider.ANTHROPIC

    def __init__(self, api_key: SecretStr | None, base_url: str | None = None, transport: "httpx2.BaseTransport | None" = None) -> None:
        """Without a key every call is refused before it is sent.

        Args:
            api_key: As Anthropic gives it.
            base_url: None: Anthropic's own.
            transport: Instead of the network.

        Raises:
            SettingsError: A key or base URL that cannot be one.
        """
        self._key = checked_key(api_key, "ANTHROPIC_API_KEY")
        self._base_url = checked_base_url(base_url or BASE_URL, "model.anthropic.base_url")
        self._transport = transport
        self._lock = threading.Lock()
        self._client: anthropic.Anthropic | None = None
        self._closed = False

    def abilities(self, model: str) -> Abilities:
        """Claude sees images; what else a base URL of one's own serves is not trusted with them."""
        return Abilities(schema=True, images=_is_claude(model), sampling=False)

    def recorded(self, request: ModelRequest) -> bool:  # noqa: ARG002 -- the port's signature
        """Never."""
        return False

    def ask(self, request: ModelRequest, timeout: float) -> ModelReply | ModelFailure:
        """One call of the Messages API."""
        if self._key is None:
            return ModelFailure(Trouble.UNAUTHORIZED, "there is no key: set ANTHROPIC_API_KEY", True)
        if request.sampling.temperature is not None:
            return ModelFailure(Trouble.BAD_REQUEST, f"{one_line(request.model, 60)} takes no temperature", True)
        client = self._opened(self._key)
        if client is None:
            return ModelFailure(Trouble.CONNECTION, "the client is closed", True)
        import anthropic

        from trading_pipeline.adapters.llm.bounded_http import LIBRARY_ERRORS, transport_failure
        began = time.monotonic()
        try:
            response = client.messages.with_raw_response.create(**_parameters(request), timeout=timeout).http_response
        except anthropic.APIStatusError as error:
            said = error.api_message if isinstance(error.api_message, str) else ""
            return status_failure(
                error.status_code, error.response.headers, said, error.error_code or "", self._key, datetime.now(UTC),
                time.monotonic() - began,
            )
        except (anthropic.AnthropicError, *LIBRARY_ERRORS) as error:
            return transport_failure(error, time.monotonic() - began)
        offered = None if _is_claude(request.model) else TOOL
        return _read(response.content, response.headers.get("request-id", ""), time.monotonic() - began, offered)

    def close(self) -> None:
        """Close the connections; what is asked afterwards fails."""
        with self._lock:
            self._closed = True
            if self._client is not None:
                self._client.close()
                self._client = None

    def _opened(self, key: SecretStr) -> "anthropic.Anthropic | None":
        with self._lock:
            if self._client is None and not self._closed:
                import anthropic

                from trading_pipeline.adapters.llm.bounded_http import BoundedClient
                self._client = anthropic.Anthropic(
                    api_key=key.get_secret_value(), base_url=self._base_url, max_retries=0, http_client=BoundedClient.open(self._transport),
                    open_telemetry=False,
                )
            return self._client


def _is_claude(model: str) -> bool:
    return model.startswith("claude-")


def _parameters(request: ModelRequest) -> dict[str, Any]:
    """The call's arguments: pictures before the text, and the system part, which is the same in all calls of a prompt, for the cache."""
    pictures = [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": each.media_type, "data": base64.b64encode(each.content).decode("ascii")},
        }
        for each in request.pictures
    ]
    parameters: dict[str, Any] = {
        "model": request.model, "max_tokens": request.sampling.max_tokens,
        "messages": [{"role": "user", "content": [*pictures, {"type": "text", "text": request.text}]}],
    }
    if request.system:
        parameters["system"] = [{"type": "text", "text": request.system, "cache_control": {"type": "ephemeral"}}]
    schema = json.loads(request.schema)
    if not _is_claude(request.model):
        return parameters | {
            "tools": [{"name": TOOL, "description": "Give the reply.", "input_schema": schema}],
            "tool_choice": {"type": "tool", "name": TOOL},
        }
    output: dict[str, Any] = {"format": {"type": "json_schema", "schema": schema}}
    match _thinking(request.model):
        case _Thinking.LOW_EFFORT:
            output["effort"] = "low"
        case _Thinking.DISABLED | _Thinking.BETWEEN_TOOLS as thinking:
            parameters["thinking"] = {"type": thinking.value}
        case _Thinking.UNASKED:
            pass
    return parameters | {"output_config": output}


def _thinking(model: str) -> _Thinking:
    """Of the family with the longest name that fits; a Claude that is not in the table is left as it comes."""
    fitting = [family for family in _FAMILIES if model == family.name or model.startswith(f"{family.name}-")]
    return max(fitting, key=lambda family: len(family.name)).thinking if fitting else _Thinking.UNASKED


# What the answer has to have; whatever else it has is not ours to judge


class _Block(BaseModel):
    type: str
    text: str | None = None
    name: str | None = None


class _Usage(BaseModel):
    input_tokens: TokenCount
    output_tokens: TokenCount
    cache_read_input_tokens: TokenCount | None = None
    cache_creation_input_tokens: TokenCount | None = None


class _Message(BaseModel):
    model: str
    content: list[_Block]
    stop_reason: str
    usage: _Usage


_ENDINGS: Final = {
    "end_turn": Ending.COMPLETE, "tool_use": Ending.COMPLETE, "max_tokens": Ending.TRUNCATED,
    "model_context_window_exceeded": Ending.TRUNCATED, "refusal": Ending.REFUSED, "pause_turn": Ending.PAUSED,
}


def _read(content: bytes, request_id: str, seconds: float, offered: str | None) -> ModelReply | ModelFailure:
    """`offered`: the one tool that may be called; None: none."""
    try:
        message = _Message.model_validate_json(content, strict=True)
    except ValidationError as error:
        return no_answer("the Messages API", error, seconds)
    ending = _ENDINGS.get(message.stop_reason)
    if ending is None:
        return unknown_end(message.stop_reason, seconds)
    called = [block.name or "" for block in message.content if block.type == "tool_use"]
    if strange := [each for each in called if each != offered]:
        return bad(f"the answer calls the tool {name(strange[0])}, which was not offered", seconds)
    if called:
        text = _tool_input(content.decode())
    else:
        text = "".join(block.text or "" for block in message.content if block.type == "text")
    usage = Usage(
        message.usage.input_tokens, message.usage.output_tokens, message.usage.cache_read_input_tokens or 0,
        message.usage.cache_creation_input_tokens or 0,
    )
    return ModelReply(text, if_said(ending, text), name(message.model), usage, name(request_id), "", seconds)


def _tool_input(answer: str) -> str:
    """The tool's input as its characters stand in the answer; empty unless there is exactly one.

    A quotation mark inside a JSON string is escaped, so the pattern matches keys only, never what a model wrote into a string.
    """
    found: list[str] = []
    end = 0
    for match in re.finditer(r'"input"\s*:\s*', answer):
        if match.start() >= end:  # An input inside the input is part of it.
            value, end = json.JSONDecoder().raw_decode(answer, match.end())
            found.append(answer[match.end():end] if isinstance(value, dict) else "")
    return found[0] if len(found) == 1 else ""
