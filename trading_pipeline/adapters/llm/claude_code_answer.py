"""What `claude -p --output-format stream-json` printed, as a reply or a failure.

The reply is what the model's own messages say, as it came; the last line, the result, tells how it ended and what it cost. Both are read
strictly and the rest is ignored: it grows with every version. A call that ended badly and says what it cost is a reply with an ending
that nobody reads, so that its cost is booked; a failure is for calls that cost nothing or do not say.
Source: code.claude.com/docs/en/headless, /agent-sdk/typescript (messages); errors and resumed replies as 2.1.329 prints them.
"""

import json
import re
from contextlib import suppress
from decimal import ROUND_UP, Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trading_pipeline.adapters.llm.bounded_process import Ran, Stop
from trading_pipeline.domain.models import Ending, ModelFailure, ModelReply, ModelRequest, Trouble, Usage
from trading_pipeline.domain.outside_text import one_line
from trading_pipeline.domain.scrubbing import Scrubber

_SHOWN: Final = 240
_CENT_OF_A_CENT: Final = Decimal("0.000001")
_MAX_COST: Final = 1_000_000
_OWN_WORDS: Final = "<synthetic>"
"""The model of messages that Claude Code writes itself, such as its errors."""
_CUT_OFF: Final = frozenset({"max_tokens", "model_context_window_exceeded"})
_BROKEN_OFF: Final = frozenset({"error_max_turns", "error_max_budget_usd"})
_STATUS: Final = {
    400: Trouble.BAD_REQUEST, 401: Trouble.UNAUTHORIZED, 402: Trouble.UNAUTHORIZED, 403: Trouble.UNAUTHORIZED, 404: Trouble.NO_SUCH_MODEL,
    408: Trouble.TIMEOUT, 413: Trouble.BAD_REQUEST, 429: Trouble.RATE_LIMITED, 503: Trouble.OVERLOADED, 529: Trouble.OVERLOADED,
}
_REFUSED_UNREAD: Final = frozenset({
    Trouble.BAD_REQUEST, Trouble.UNAUTHORIZED, Trouble.NO_SUCH_MODEL, Trouble.RATE_LIMITED, Trouble.OVERLOADED,
})
"""What happens before a model sees the question; of a cut connection or a broken server nobody knows what is billed in the end."""
_WORDS: Final = (
    (re.compile(r"not logged in|/login|invalid (?:x-)?api[ -]key|oauth token|authenticat|credit balance", re.I), Trouble.UNAUTHORIZED),
    (re.compile(r"(?:usage|rate|session|weekly|5-hour) limit|hit your limit", re.I), Trouble.RATE_LIMITED),
    (re.compile(r"issue with the selected model", re.I), Trouble.NO_SUCH_MODEL),
    (re.compile(r"overloaded", re.I), Trouble.OVERLOADED),
    (re.compile(r"timed? ?out", re.I), Trouble.TIMEOUT),
    (re.compile(r"connection|ECONN|ENOTFOUND|EAI_AGAIN|network", re.I), Trouble.CONNECTION),
)
"""What an error says where it has no status: the command line's own words, which no model writes."""

_Count = Annotated[int, Field(ge=0, le=1_000_000_000, strict=True)]


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Usage(_Read):
    input_tokens: _Count
    output_tokens: _Count
    cache_read_input_tokens: _Count = 0
    cache_creation_input_tokens: _Count = 0


class _ModelUsage(_Read):
    outputTokens: _Count = 0


class _Result(_Read):
    type: Literal["result"]
    subtype: str
    is_error: Annotated[bool, Field(strict=True)]
    total_cost_usd: Annotated[Decimal, Field(ge=0, le=_MAX_COST, allow_inf_nan=False)]
    usage: _Usage
    session_id: str
    result: str | None = None
    stop_reason: str | None = None
    modelUsage: dict[str, _ModelUsage] = {}
    errors: list[str] = []
    api_error_status: int | None = None
    api_error: str | None = None


class _Block(_Read):
    type: str
    text: str = ""


class _Message(_Read):
    model: str
    content: list[_Block]


class _Said(_Read):
    type: Literal["assistant"]
    message: _Message


def is_whole(out: bytes) -> bool:
    """Whether an output ends with a result: there is nothing more to come."""
    return out.endswith(b"}\n") and _result(out) is not None


def outcome_of(ran: Ran, request: ModelRequest, fingerprint: str, seconds: float, scrub: Scrubber) -> ModelReply | ModelFailure:
    """What a call came to.

    Args:
        ran: How the program ended and what it printed.
        request: What was asked.
        fingerprint: Of the program.
        seconds: Of the call.
        scrub: For what is quoted of it.
    """
    result = _result(ran.stdout)
    if result is None:
        return _without_result(ran, seconds, scrub)
    words, resumed = _words(ran.stdout)
    ending = _ending(result, words, resumed)
    if ending is None:
        trouble = _trouble(result)
        said = one_line(scrub(result.result or "; ".join(result.errors) or result.subtype), _SHOWN)
        return ModelFailure(trouble, said, free=trouble in _REFUSED_UNREAD and not _spent(result), seconds=seconds)
    usage = Usage(
        result.usage.input_tokens, result.usage.output_tokens, result.usage.cache_read_input_tokens,
        result.usage.cache_creation_input_tokens,
    )
    cost = result.total_cost_usd.quantize(_CENT_OF_A_CENT, ROUND_UP)
    text = words if ending in (Ending.COMPLETE, Ending.TRUNCATED) else ""
    return ModelReply(text, ending, _answered(result, request.model), usage, result.session_id, fingerprint, seconds, cost)


def _ending(result: _Result, words: str, resumed: bool) -> Ending | None:
    """None: nothing that a reply could be, so a failure."""
    if resumed or result.api_error == "max_output_tokens" or result.stop_reason in _CUT_OFF:
        return Ending.TRUNCATED
    if result.stop_reason == "refusal":
        return Ending.REFUSED
    if not result.is_error and result.subtype == "success":
        return Ending.COMPLETE if words.strip() else Ending.EMPTY
    if result.subtype not in _BROKEN_OFF or not _spent(result):
        return None
    # The budget was passed by the very request that brought the whole reply.
    return Ending.COMPLETE if words.strip() and result.stop_reason == "end_turn" else Ending.PAUSED


def _words(out: bytes) -> tuple[str, bool]:
    """What the model wrote, and whether it was told to go on after that; told so before it had written anything, it answers anew."""
    words = ""
    for line in out.splitlines():
        message = _object(line)
        # Nobody but Claude Code itself has a word to say here.
        if message.get("type") == "user" and words.strip():
            return words, True
        with suppress(ValidationError):
            said = _Said.model_validate(message).message
            if said.model != _OWN_WORDS:
                words += "".join(block.text for block in said.content if block.type == "text")
    return words, False


def _result(out: bytes) -> _Result | None:
    """The last line; None where it is none."""
    try:
        return _Result.model_validate(_object(out.rstrip().rsplit(b"\n", 1)[-1]))
    except ValidationError:
        return None


def _object(line: bytes) -> dict[str, Any]:
    """The object of a line, every number with a point a Decimal; empty for anything else."""
    try:
        found = json.loads(line, parse_float=_decimal, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _spent(result: _Result) -> bool:
    return result.total_cost_usd > 0 or result.usage.input_tokens > 0 or result.usage.output_tokens > 0


def _answered(result: _Result, asked: str) -> str:
    """The model that wrote most of it: aliases come back as full names, and small helpers may have had a part."""
    return max(result.modelUsage, key=lambda name: result.modelUsage[name].outputTokens, default=asked)


def _trouble(result: _Result) -> Trouble:
    status = result.api_error_status
    if status is not None:
        return _STATUS.get(status) or (Trouble.SERVER_ERROR if status >= 500 else Trouble.BAD_REQUEST)
    said = " ".join([result.api_error or "", result.result or "", *result.errors])
    return next((trouble for form, trouble in _WORDS if form.search(said)), Trouble.BAD_RESPONSE)


def _without_result(ran: Ran, seconds: float, scrub: Scrubber) -> ModelFailure:
    """No envelope: whether anything was asked of a model is not known, except where the command line itself was refused."""
    said = one_line(scrub(ran.stderr.decode(errors="replace")), _SHOWN)
    match ran.stop:
        case Stop.TIMEOUT:
            return ModelFailure(Trouble.TIMEOUT, "Claude Code did not answer in time and was killed", free=False, seconds=seconds)
        case Stop.CLOSED:
            return ModelFailure(Trouble.CONNECTION, "Claude Code was stopped, because this process ends", free=False, seconds=seconds)
        case Stop.OVERFLOW:
            return ModelFailure(Trouble.BAD_RESPONSE, "Claude Code printed without end and was killed", free=False, seconds=seconds)
        case Stop.DONE | None:
            pass
    if ran.code != 0 and said.startswith("error: ") and not ran.stdout.strip():
        return ModelFailure(Trouble.BAD_REQUEST, f"Claude Code refuses its command line: {said}", free=True, seconds=seconds)
    what = "what is none of its results" if ran.stdout.strip() else "nothing"
    detail = f"Claude Code ended with {ran.code} and printed {what}{': ' + said if said else ''}"
    return ModelFailure(Trouble.BAD_RESPONSE, one_line(detail, _SHOWN), free=False, seconds=seconds)


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(text) from error
    if not value.is_finite() or abs(value.adjusted()) > 400:
        raise ValueError(text)
    return value


def _no_number(text: str) -> Any:
    raise ValueError(text)
