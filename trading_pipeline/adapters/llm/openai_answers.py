"""The answers of OpenAI's Responses API and of chat completions, read as far as they are needed and no further.

What has to be there is checked strictly, whatever else is there is not ours to judge: those who speak this API add fields of their own.
An answer that says nothing of tokens is refused, because what it cost could not be told.
"""

from collections.abc import Callable
from typing import Final

from pydantic import BaseModel, Field, ValidationError

from trading_pipeline.adapters.llm.answers import TokenCount, bad, if_said, name, no_answer, unknown_end
from trading_pipeline.domain.models import Ending, ModelFailure, ModelReply, Trouble, Usage

Reader = Callable[[bytes, str, float], ModelReply | ModelFailure]
"""Body, request id and the seconds the call took."""


class _CachedTokens(BaseModel):
    cached_tokens: TokenCount | None = None
    cache_write_tokens: TokenCount | None = None


class _Part(BaseModel):
    type: str
    text: str | None = None
    refusal: str | None = None


class _Item(BaseModel):
    type: str
    content: list[_Part] | None = None


class _ResponseUsage(BaseModel):
    input_tokens: TokenCount
    output_tokens: TokenCount
    input_tokens_details: _CachedTokens | None = None


class _Incomplete(BaseModel):
    reason: str | None = None


class _Error(BaseModel):
    code: str | None = None


class _Response(BaseModel):
    model: str
    status: str
    output: list[_Item] = []
    usage: _ResponseUsage | None = None
    incomplete_details: _Incomplete | None = None
    error: _Error | None = None


class _ChatUsage(BaseModel):
    prompt_tokens: TokenCount
    completion_tokens: TokenCount
    prompt_tokens_details: _CachedTokens | None = None


class _ChatMessage(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _ChatMessage
    finish_reason: str


class _Chat(BaseModel):
    model: str
    choices: list[_Choice] = Field(min_length=1, max_length=1)
    usage: _ChatUsage
    system_fingerprint: str | None = None


_FAILED: Final = {"server_error": Trouble.SERVER_ERROR, "rate_limit_exceeded": Trouble.RATE_LIMITED}
_INCOMPLETE: Final = {"max_output_tokens": Ending.TRUNCATED, "content_filter": Ending.REFUSED}
_FINISHED: Final = {"stop": Ending.COMPLETE, "length": Ending.TRUNCATED, "content_filter": Ending.REFUSED}


def read_response(content: bytes, request_id: str, seconds: float) -> ModelReply | ModelFailure:
    """An answer of `/responses`; it failed, is incomplete, holds a refusal, or is complete."""
    try:
        response = _Response.model_validate_json(content, strict=True)
    except ValidationError as error:
        return no_answer("the Responses API", error, seconds)
    reason = response.incomplete_details.reason if response.incomplete_details else None
    match response.status:
        case "completed":
            ending = Ending.COMPLETE
        case "incomplete":
            ending = _INCOMPLETE.get(reason or "", Ending.PAUSED)
        case "failed":
            code = (response.error.code if response.error else None) or "no reason given"
            return ModelFailure(_FAILED.get(code, Trouble.BAD_REQUEST), f"the response failed: {name(code)}", False, None, seconds)
        case other:
            return unknown_end(other, seconds)
    if response.usage is None:
        return bad("the response says nothing of tokens", seconds)
    parts = [part for item in response.output if item.type == "message" for part in item.content or ()]
    refusals = [part.refusal or "" for part in parts if part.type == "refusal"]
    text = "".join(refusals or [part.text or "" for part in parts if part.type == "output_text"])
    ending = Ending.REFUSED if refusals else if_said(ending, text)
    usage = _usage(response.usage.input_tokens, response.usage.output_tokens, response.usage.input_tokens_details)
    return ModelReply(text, ending, name(response.model), usage, name(request_id), "", seconds)


def read_chat(content: bytes, request_id: str, seconds: float) -> ModelReply | ModelFailure:
    """An answer of `/chat/completions`."""
    try:
        chat = _Chat.model_validate_json(content, strict=True)
    except ValidationError as error:
        return no_answer("chat completions", error, seconds)
    message, finish = chat.choices[0].message, chat.choices[0].finish_reason
    ending = _FINISHED.get(finish)
    if ending is None:
        return unknown_end(finish, seconds)
    text = message.refusal or message.content or ""
    ending = Ending.REFUSED if message.refusal else if_said(ending, text)
    usage = _usage(chat.usage.prompt_tokens, chat.usage.completion_tokens, chat.usage.prompt_tokens_details)
    return ModelReply(text, ending, name(chat.model), usage, name(request_id), name(chat.system_fingerprint or ""), seconds)


def _usage(total_in: int, out: int, details: _CachedTokens | None) -> Usage:
    """OpenAI counts cached and written tokens among the input; here each is counted once."""
    cached = (details.cached_tokens or 0) if details else 0
    written = (details.cache_write_tokens or 0) if details else 0
    return Usage(max(total_in - cached - written, 0), out, cached, written)
