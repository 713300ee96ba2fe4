"""OpenAI's Responses and Chat Completions APIs on loopback, as OpenAI and those who speak its API serve them.

Sources: developers.openai.com/api/reference (responses, chat), /api/docs/guides/structured-outputs, /error-codes, /latest-model and the
pages of the models named below. Fields that the APIs have and this product never sends are refused like unknown ones.

By hand: `python -m tests.model_servers.openai_server --port 8124 --reply reply.json`.
"""

import base64
import binascii
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tests.model_servers.by_hand import serve
from tests.model_servers.plumbing import PNG, ApiError, Asked, Behaviour, End, ModelServer, Policy, Tokens, steady
from tests.model_servers.schemas import refuse_loose_schema

REASONING = ("gpt-5", "gpt-6", "o1", "o3", "o4")
NO_EFFORT_NONE = ("gpt-6-astra", "gpt-6.1-sol", "gpt-6.2-sol", "gpt-5", "gpt-5-mini", "gpt-5-nano", "o1", "o3", "o4-mini")
"""Exactly these names, snapshots apart: they refuse `none`. Sources: /api/docs/models/*."""
KINDS = {429: "requests", 500: "server_error", 503: "server_error"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _InputText(_Strict):
    type: Literal["input_text"]
    text: str


class _InputImage(_Strict):
    type: Literal["input_image"]
    image_url: str
    detail: Literal["low", "high", "auto", "original"] = "auto"


class _InputMessage(_Strict):
    role: Literal["user", "system", "developer"]
    content: str | list[Annotated[_InputText | _InputImage, Field(discriminator="type")]]
    type: Literal["message"] = "message"


class _JsonSchema(_Strict):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    description: str | None = None


class _TextFormat(_JsonSchema):
    type: Literal["json_schema"]


class _TextConfig(_Strict):
    format: _TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class _Reasoning(_Strict):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None


class _Responses(_Strict):
    model: str
    input: str | list[_InputMessage]
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=16)
    temperature: float | None = Field(None, ge=0, le=2)
    text: _TextConfig | None = None
    reasoning: _Reasoning | None = None
    store: bool | None = None


class _ImageUrl(_Strict):
    url: str
    detail: Literal["low", "high", "auto", "original"] = "auto"


class _PartText(_Strict):
    type: Literal["text"]
    text: str


class _PartImage(_Strict):
    type: Literal["image_url"]
    image_url: _ImageUrl


class _ChatMessage(_Strict):
    role: Literal["user", "system", "developer"]
    content: str | list[Annotated[_PartText | _PartImage, Field(discriminator="type")]]


class _ResponseFormat(_Strict):
    type: Literal["json_schema"]
    json_schema: _JsonSchema


class _Chat(_Strict):
    model: str
    messages: list[_ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    response_format: _ResponseFormat | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    store: bool | None = None


_SHAPES: dict[str, TypeAdapter[Any]] = {"/v1/responses": TypeAdapter(_Responses), "/v1/chat/completions": TypeAdapter(_Chat)}


class OpenAIServer(ModelServer):
    """`POST /v1/responses` and `POST /v1/chat/completions`."""

    suffix = "/v1"
    unknown_models: frozenset[str] = frozenset({"gpt-nobody"})

    def __init__(
        self, *, key: str | None = None, port: int = 0, policy: Policy = steady, delay: float = 0.0, keyless: bool = False,
        missing: tuple[str, ...] = (), missing_status: int = 404,
    ) -> None:
        """`keyless`: nobody needs a key. `missing`: paths that this server does not have, as older compatible ones."""
        super().__init__(key=key, port=port, policy=policy, delay=delay)
        self.keyless, self.missing, self.missing_status = keyless, missing, missing_status

    def check(self, asked: Asked) -> None:
        if asked.path in self.missing or asked.path not in _SHAPES:
            raise ApiError(self.missing_status, "invalid_request_error", f"Invalid URL (POST {asked.path})")
        key = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if not self.keyless and not key:
            raise ApiError(401, "invalid_request_error", "You didn't provide an API key.")
        if self.key is not None and key != self.key:
            shown = f"{key[:8]}{'*' * 12}{key[-4:]}"
            raise ApiError(401, "invalid_request_error", f"Incorrect API key provided: {shown}.", code="invalid_api_key")
        if asked.body is None:
            raise ApiError(400, "invalid_request_error", "We could not parse the JSON body of your request.")
        try:
            request = _SHAPES[asked.path].validate_python(asked.body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise ApiError(400, "invalid_request_error", f"Unknown parameter: '{where}'.", where, "unknown_parameter") from None
            raise ApiError(400, "invalid_request_error", f"Invalid value for '{where}': {first['msg']}.", where, "invalid_value") from None
        if request.model in self.unknown_models:
            said = f"The model `{request.model}` does not exist or you do not have access to it."
            raise ApiError(404, "invalid_request_error", said, None, "model_not_found")
        effort = request.reasoning_effort if isinstance(request, _Chat) else request.reasoning and request.reasoning.effort
        self._check_model(request, effort)
        self._check_schema(request)
        _check_pictures(request)

    def _check_model(self, request: Any, effort: str | None) -> None:
        reasons = request.model.startswith(REASONING)
        model = re.sub(r"-\d{4}-\d{2}-\d{2}$", "", request.model)
        if effort is not None and request.model.startswith("gpt-4"):
            said = "Unsupported parameter: 'reasoning.effort' is not supported with this model."
            raise ApiError(400, "invalid_request_error", said, "reasoning.effort", "unsupported_parameter")
        if effort == "none" and model in NO_EFFORT_NONE:
            raise ApiError(400, "invalid_request_error", "Unsupported value: 'none'.", "reasoning.effort", "unsupported_value")
        if effort == "minimal" and model not in {"gpt-5", "gpt-5-mini", "gpt-5-nano"}:
            raise ApiError(400, "invalid_request_error", "Unsupported value: 'minimal'.", "reasoning.effort", "unsupported_value")
        if reasons and request.temperature is not None:
            said = "Unsupported parameter: 'temperature' is not supported with this model."
            raise ApiError(400, "invalid_request_error", said, "temperature", "unsupported_parameter")
        if isinstance(request, _Chat) and reasons and request.max_tokens is not None:
            said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
            raise ApiError(400, "invalid_request_error", said, "max_tokens", "unsupported_parameter")

    def _check_schema(self, request: Any) -> None:
        if isinstance(request, _Chat):
            form = request.response_format and request.response_format.json_schema
        else:
            form = request.text and request.text.format
        if form and form.strict and (wrong := refuse_loose_schema(form.schema_, "schema", all_required=True)):
            said = f"Invalid schema for response_format '{form.name}': {wrong}."
            raise ApiError(400, "invalid_request_error", said, "text.format.schema", "invalid_json_schema")

    def answer(self, asked: Asked, behaviour: Behaviour, reply: str, tokens: Tokens) -> dict[str, Any]:
        model = behaviour.model or asked.body["model"]
        return (_chat_answer if asked.path.endswith("completions") else _response_answer)(model, behaviour.end, reply, tokens)

    def error(self, error: ApiError) -> dict[str, Any]:
        return {"error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}}

    def kind(self, status: int) -> str:
        return KINDS.get(status, "invalid_request_error")

    def headers(self, number: int) -> dict[str, str]:
        return {"x-request-id": f"req_{number}"}


def _response_answer(model: str, end: End, reply: str, tokens: Tokens) -> dict[str, Any]:
    part = {"type": "refusal", "refusal": "I can't help with that."} if end is End.REFUSAL else {
        "type": "output_text", "text": reply, "annotations": [], "logprobs": [],
    }
    cut = {End.MAX_TOKENS: "max_output_tokens", End.CONTENT_FILTER: "content_filter"}.get(end)
    message = {"type": "message", "id": "msg_1", "status": "incomplete" if cut else "completed", "role": "assistant", "content": [part]}
    output: list[dict[str, Any]] = [{"type": "reasoning", "id": "rs_1", "summary": []}]
    if end not in {End.EMPTY, End.CONTENT_FILTER}:
        output.append(message)
    total = tokens.fresh + tokens.cached + tokens.written
    return {
        "id": "resp_1", "object": "response", "created_at": 1_790_000_000, "status": "incomplete" if cut else "completed", "error": None,
        "incomplete_details": {"reason": cut} if cut else None, "instructions": None, "metadata": {}, "model": model, "output": output,
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "store": False,
        "usage": {
            "input_tokens": total, "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.written},
            "output_tokens": tokens.out, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": total + tokens.out,
        },
    }


def _chat_answer(model: str, end: End, reply: str, tokens: Tokens) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply, "refusal": None, "annotations": []}
    if end is End.REFUSAL:
        message |= {"content": None, "refusal": "I can't help with that."}
    elif end in {End.EMPTY, End.CONTENT_FILTER}:
        message |= {"content": ""}
    finish = {End.MAX_TOKENS: "length", End.CONTENT_FILTER: "content_filter"}.get(end, "stop")
    total = tokens.fresh + tokens.cached + tokens.written
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_790_000_000, "model": model, "system_fingerprint": "fp_44709d6fcb",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": total, "completion_tokens": tokens.out, "total_tokens": total + tokens.out,
            "prompt_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.written},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def _check_pictures(request: Any) -> None:
    for message in request.messages if isinstance(request, _Chat) else request.input:
        for part in message.content if not isinstance(message, str) else ():
            url = part.image_url.url if isinstance(part, _PartImage) else part.image_url if isinstance(part, _InputImage) else None
            if url is not None:
                _check_picture(url)


def _check_picture(url: str) -> None:
    kind, _, data = url.partition(";base64,")
    try:
        content = base64.b64decode(data, validate=True)
    except binascii.Error:
        content = b""
    if kind != "data:image/png" or not content.startswith(PNG):
        said = "The image data you provided does not represent a valid image."
        raise ApiError(400, "invalid_request_error", said, "input", "invalid_image_format")


if __name__ == "__main__":
    serve(OpenAIServer)
