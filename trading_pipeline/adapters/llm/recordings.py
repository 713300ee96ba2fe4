"""One recording as a value, and as a line of an export: the request, what was replied to it, and a seal that shows that it is still that.

Pictures are named by their digests; their bytes are in the object store. A line is refused unless its request has the digest that it
states and its reply the seal: what was cut off, merged or touched by hand replays nothing.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from math import isfinite
from typing import Any, Final, NoReturn

from trading_pipeline.domain.codec import decode, encode
from trading_pipeline.domain.events import instant_of_file, instant_text
from trading_pipeline.domain.models import ModelReply, ModelRequest
from trading_pipeline.errors import InputError

FORMAT: Final = 1
MAX_LINE: Final = 16 * 1024 * 1024
"""Bytes: four times the longest prompt that any model reads."""
_FIELDS: Final = ("cassette", "digest", "recorded_at", "request", "reply", "seal")
_REMEDY: Final = "export it again where it comes from"


@dataclass(frozen=True, slots=True)
class Recording:
    """A request and what was replied to it; of pictures only what identifies them."""

    request: ModelRequest
    reply: ModelReply
    at: datetime
    """UTC, by the wall clock."""


def reply_text(reply: ModelReply) -> str:
    """A reply as ASCII JSON: the same text for the same reply, whatever characters it has."""
    return json.dumps(encode(reply), separators=(",", ":"), allow_nan=False)


def seal_of(digest: str, recorded_at: str, reply: str) -> bytes:
    """SHA-256 over a request's digest, the instant and the reply as texts."""
    return hashlib.sha256(f"{digest}{recorded_at}{reply}".encode()).digest()


def request_data(request: ModelRequest) -> dict[str, Any]:
    """A request in JSON values, without the pictures' bytes."""
    bare = tuple(replace(picture, content=b"") for picture in request.pictures)
    data: dict[str, Any] = encode(replace(request, pictures=bare))
    for picture in data["pictures"]:
        del picture["content"]
    return data


def request_from(data: Any) -> ModelRequest:
    """The inverse of `request_data`; InputError for anything else."""
    if not isinstance(data, dict) or not isinstance(pictures := data.get("pictures"), list):
        raise _refused("the request is no object with pictures", data)
    return decode(ModelRequest, data | {"pictures": [_with_content(picture) for picture in pictures]})


def reply_from(data: Any) -> ModelReply:
    """A reply from JSON values; InputError for anything else, and for a number that no reply has."""
    if not isinstance(data, dict):
        raise _refused("the reply is no object", data)
    reply = decode(ModelReply, data)
    counts = asdict(reply.usage).values()
    if any(count < 0 for count in counts) or not isfinite(reply.seconds) or reply.seconds < 0:
        raise _refused("tokens and seconds are not below zero", data)
    if reply.cost is not None and not (reply.cost.is_finite() and reply.cost >= 0):
        raise _refused("a cost is not below zero", reply.cost)
    return reply


def line_of(recording: Recording) -> str:
    """A recording as one line of an export, without the line feed."""
    digest, at, reply = recording.request.digest, instant_text(recording.at), reply_text(recording.reply)
    return json.dumps({
        "cassette": FORMAT, "digest": digest, "recorded_at": at, "request": request_data(recording.request), "reply": json.loads(reply),
        "seal": seal_of(digest, at, reply).hex(),
    }, separators=(",", ":"))


def recording_of(line: bytes) -> Recording:
    """The inverse of `line_of`; InputError, with what is wrong as its message, for anything else."""
    if len(line) > MAX_LINE:
        raise _refused(f"the line has more than {MAX_LINE:,} bytes", len(line))
    try:
        data = json.loads(line.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _refused(f"the line is no JSON: {error}", "") from None
    if not isinstance(data, dict) or tuple(sorted(data)) != tuple(sorted(_FIELDS)):
        raise _refused(f"the line is no object with exactly {', '.join(_FIELDS)}", "")
    if data["cassette"] != FORMAT:
        raise _refused(f"the line has format {data['cassette']!r}, this version reads {FORMAT}", data["cassette"])
    request, reply = request_from(data["request"]), reply_from(data["reply"])
    if not request.model.isprintable():
        raise _refused("the model's name has characters that none has", ascii(request.model))
    if request.digest != data["digest"]:
        raise _refused(f"the request's digest is {request.digest}, not as stated", data["digest"])
    try:
        at = instant_of_file(data["recorded_at"])
    except (TypeError, ValueError):
        raise _refused("recorded_at is no instant with a time zone", data["recorded_at"]) from None
    if seal_of(request.digest, data["recorded_at"], reply_text(reply)).hex() != data["seal"]:
        raise _refused("the seal does not fit: the reply or its instant is not what was recorded", data["seal"])
    return Recording(request, reply, at)


def _with_content(picture: Any) -> Any:
    return picture | {"content": b""} if isinstance(picture, dict) else picture


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _refused(what: str, value: object) -> InputError:
    return InputError(f"{what[0].upper()}{what[1:]}.", value=str(value)[:200], rule="a recording is as it was exported", remedy=_REMEDY)
