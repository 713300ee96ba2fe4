"""Anthropic's Messages API on loopback, version 2026-10-21: what it takes, what it refuses and what it answers.

Sources: platform.claude.com/docs/en/api/messages, /api/errors, /api/versioning, /build-with-claude/structured-outputs and the migration
guides of the models named below. Fields that the API has and this product never sends are refused like unknown ones.

By hand: `python -m tests.model_servers.anthropic_server --port 8123 --reply reply.json`.
"""

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tests.model_servers.by_hand import serve
from tests.model_servers.plumbing import PNG, ApiError, Asked, Behaviour, End, ModelServer, RawJson, Tokens
from tests.model_servers.schemas import refuse_loose_schema

VERSIONS = {"2023-06-01", "2026-10-21"}
ALWAYS_THINKING = ("claude-opus-5-5", "claude-fable-5", "claude-mythos-5")
"""They refuse `disabled`. Sources: /models/opus-5-5/migration-guide, /models/fable-5/migration-guide."""
NO_FORCED_TOOL = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-1", "claude-mythos-5-1")
KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 504: "timeout_error", 529: "overloaded_error",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Cache(_Strict):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class _Text(_Strict):
    type: Literal["text"]
    text: str = Field(min_length=1)
    cache_control: _Cache | None = None


class _Source(_Strict):
    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class _Image(_Strict):
    type: Literal["image"]
    source: _Source
    cache_control: _Cache | None = None


class _Message(_Strict):
    role: Literal["user", "assistant"]
    content: str | list[Annotated[_Text | _Image, Field(discriminator="type")]]


class _Format(_Strict):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class _Output(_Strict):
    format: _Format | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class _Thinking(_Strict):
    type: Literal["adaptive", "disabled", "between_tools"]


class _Tool(_Strict):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str = ""
    input_schema: dict[str, Any]
    strict: bool = False


class _Choice(_Strict):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class _Request(_Strict):
    model: str = Field(min_length=1)
    max_tokens: int = Field(ge=0)
    messages: list[_Message] = Field(min_length=1)
    system: str | list[_Text] | None = None
    output_config: _Output | None = None
    thinking: _Thinking | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    stream: Literal[False] = False
    metadata: dict[str, str] | None = None


_REQUEST = TypeAdapter(_Request)


class AnthropicServer(ModelServer):
    """`POST /v1/messages`; its base URL has no path, as the SDK's has none."""

    unknown_models: frozenset[str] = frozenset({"claude-nobody"})

    def check(self, asked: Asked) -> None:
        if asked.path != "/v1/messages":
            raise ApiError(404, "not_found_error", "Not found")
        self._check_headers(asked)
        if asked.body is None:
            raise ApiError(400, "invalid_request_error", "The request body is not valid JSON")
        try:
            request = _REQUEST.validate_python(asked.body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            said = "Extra inputs are not permitted" if first["type"] == "extra_forbidden" else first["msg"]
            raise ApiError(400, "invalid_request_error", f"{where}: {said}") from None
        if request.model in self.unknown_models:
            raise ApiError(404, "not_found_error", f"model: {request.model}")
        self._check_model(request)
        self._check_schema(request)
        for message in request.messages:
            for block in message.content:
                if isinstance(block, _Image):
                    _check_png(block.source)

    def _check_headers(self, asked: Asked) -> None:
        version = asked.headers.get("anthropic-version")
        if version is None:
            raise ApiError(400, "invalid_request_error", "anthropic-version: header is required")
        if version not in VERSIONS:
            raise ApiError(400, "invalid_request_error", f"anthropic-version: \"{version}\" is not a valid version")
        if not asked.headers.get("content-type", "").startswith("application/json"):
            raise ApiError(400, "invalid_request_error", "content-type: must be application/json")
        key = asked.headers.get("x-api-key") or asked.headers.get("authorization", "").removeprefix("Bearer ")
        if not key or (self.key is not None and key != self.key):
            raise ApiError(401, "authentication_error", "invalid x-api-key")

    def _check_model(self, request: _Request) -> None:
        thinking = request.thinking.type if request.thinking else None
        if (thinking == "disabled" and request.model.startswith((*ALWAYS_THINKING, "claude-sonnet-5-5"))) or (
            thinking == "between_tools" and not request.model.startswith("claude-sonnet-5-5")
        ):
            said = f"\"thinking.type.{thinking}\" is not supported for this model."
            raise ApiError(400, "invalid_request_error", said)
        forced = request.tool_choice is not None and request.tool_choice.type in {"any", "tool"}
        if forced and request.model.startswith(NO_FORCED_TOOL):
            raise ApiError(400, "invalid_request_error", "tool_choice: forced tool use is not supported for this model")
        if forced and request.tool_choice and request.tool_choice.name not in {tool.name for tool in request.tools or ()}:
            raise ApiError(400, "invalid_request_error", f"tool_choice: tool '{request.tool_choice.name}' not found in tools")

    def _check_schema(self, request: _Request) -> None:
        form = request.output_config.format if request.output_config else None
        if form and (wrong := refuse_loose_schema(form.schema_, "output_config.format.schema", all_required=False)):
            raise ApiError(400, "invalid_request_error", wrong)

    def answer(self, asked: Asked, behaviour: Behaviour, reply: str, tokens: Tokens) -> dict[str, Any]:
        stops = {
            End.COMPLETE: "end_turn", End.EMPTY: "end_turn", End.REFUSAL: "refusal", End.MAX_TOKENS: "max_tokens", End.PAUSE: "pause_turn",
            End.CONTENT_FILTER: "refusal",
        }
        stop: str = stops[behaviour.end]
        content: list[dict[str, Any]] = [{"type": "text", "text": reply, "citations": None}]
        if behaviour.end in {End.EMPTY, End.REFUSAL, End.CONTENT_FILTER}:
            content = []
        elif asked.body.get("tool_choice", {}).get("type") == "tool":
            content = [{"type": "tool_use", "id": "toolu_1", "name": asked.body["tool_choice"]["name"], "input": RawJson(reply)}]
            stop = "tool_use" if behaviour.end is End.COMPLETE else stop
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": behaviour.model or asked.body["model"], "content": content,
            "stop_reason": stop, "stop_sequence": None,
            "stop_details": {"type": "refusal", "category": None, "explanation": None} if stop == "refusal" else None,
            "usage": {
                "input_tokens": tokens.fresh, "output_tokens": tokens.out, "cache_read_input_tokens": tokens.cached,
                "cache_creation_input_tokens": tokens.written, "service_tier": "standard",
                "cache_creation": {"ephemeral_5m_input_tokens": tokens.written, "ephemeral_1h_input_tokens": 0},
            },
        }

    def error(self, error: ApiError) -> dict[str, Any]:
        details = {"details": {"error_code": error.code}} if error.code else {}
        return {"type": "error", "error": {"type": error.kind, "message": error.message} | details, "request_id": "req_1"}

    def kind(self, status: int) -> str:
        return KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")

    def headers(self, number: int) -> dict[str, str]:
        return {"request-id": f"req_{number}"}


def _check_png(source: _Source) -> None:
    try:
        content = base64.b64decode(source.data, validate=True)
    except binascii.Error:
        raise ApiError(400, "invalid_request_error", "messages.0.content.0.image.source.base64: invalid base64 data") from None
    if source.media_type == "image/png" and not content.startswith(PNG):
        raise ApiError(400, "invalid_request_error", "Could not process image")


if __name__ == "__main__":
    serve(AnthropicServer)
