"""GPT by OpenAI's Responses API, or whatever speaks OpenAI's API at another base URL, driven by OpenAI's own SDK.

Where a server has no Responses API, chat completions are asked instead, and `auto` remembers that once they have answered; one question
finds it out for those beside it, and only a request that was refused unread is followed by another, so that a call is paid for once.
Replies are held to a strict JSON schema by the API, so their text is what the model wrote. Reasoning is set as low as a model takes it:
it counts towards `max_tokens`, and nobody reads it. Nothing is stored at the provider. A key goes nowhere unless the settings say that
one is required.
"""

import base64
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import SecretStr

from trading_pipeline.adapters.llm.failures import checked_base_url, checked_key, status_failure
from trading_pipeline.adapters.llm.openai_answers import Reader, read_chat, read_response
from trading_pipeline.domain.models import Abilities, ModelFailure, ModelReply, ModelRequest, Picture, Provider, Trouble
from trading_pipeline.domain.outside_text import one_line

if TYPE_CHECKING:
    import httpx2
    import openai

BASE_URL: Final = "https://api.openai.com/v1"
SCHEMA_NAME: Final = "reply"
FINDING_OUT: Final = 0.5
"""Seconds that questions wait for the first to tell whether a server of one's own has a Responses API; one without says so at once."""
MIN_OUTPUT: Final = 16
"""Tokens; the Responses API refuses to be bounded tighter."""

_MISSING: Final = frozenset({404, 405, 501})
"""Statuses of an API that is not there."""

Api = Literal["auto", "responses", "chat"]


@dataclass(frozen=True, slots=True)
class _Family:
    """Models whose name is `name`, or `name` and a suffix such as a date. `effort`: the least reasoning they take; None: it is not said."""

    name: str
    effort: str | None
    images: bool = True
    sampling: bool = False
    """Temperature, which goes only without reasoning."""


# Sources: developers.openai.com/api/docs/models/* and /api/docs/guides/latest-model, /reasoning, November 2026. All hold a strict schema.
_FAMILIES: Final = (
    _Family("gpt-6-astra", "low"),
    _Family("gpt-6.2-sol", "low"),
    _Family("gpt-6.1-sol", "low"),
    _Family("gpt-6.1-terra", "none"),
    _Family("gpt-6-sol", "none"),
    _Family("gpt-6-luna", "none"),
    _Family("gpt-5.6", "none"),
    _Family("gpt-5.5", "none"),
    _Family("gpt-5.4", "none"),
    _Family("gpt-5.4-pro", "medium"),
    _Family("gpt-5.2", "none"),
    _Family("gpt-5.2-pro", "medium"),
    _Family("gpt-5.2-chat", None),
    _Family("gpt-5.1", "none"),
    _Family("gpt-5.1-codex", "low"),
    _Family("gpt-5.1-chat", None),
    _Family("gpt-5", "minimal"),
    _Family("gpt-5-pro", "high"),
    _Family("gpt-5-chat", None),
    _Family("gpt-5-codex", "low"),
    _Family("gpt-4.1", None, sampling=True),
    _Family("gpt-4o", None, sampling=True),
    _Family("o4-mini", "low"),
    _Family("o3", "low"),
    _Family("o3-mini", "low", images=False),
)
_SEEING: Final = ("-vl", "llava", "vision", "pixtral", "gemma3", "gemma-3", "minicpm-v", "llama4", "llama-4")
"""Parts of the names of open models that take images. Source: the vision models of ollama.com/search?c=vision."""


class OpenAILLM:
    """One client for all threads, made when it is first needed."""

    provider = Provider.OPENAI

    def __init__(
        self, api_key: SecretStr | None, base_url: str | None = None, api: Api = "auto", key_required: bool = True,
        transport: "httpx2.BaseTransport | None" = None,
    ) -> None:
        """`key_required`: False for a server of one's own; then no key is sent, whatever is set for OpenAI. `transport`: not the network.

        Raises:
            SettingsError: A key or base URL that cannot be one.
        """
        self._key = checked_key(api_key, "OPENAI_API_KEY") if key_required else None
        self._key_required = key_required
        self._base_url = checked_base_url(base_url or BASE_URL, "model.openai.base_url")
        self._own = self._base_url.rstrip("/") != BASE_URL
        self._api = api
        self._transport = transport
        self._lock = threading.Lock()
        self._client: openai.OpenAI | None = None
        self._closed = False
        self._first, self._told = threading.Lock(), threading.Event()
        """Taken by the first question and never given back; set once a server's own Responses API has said anything."""
        self._lacking = False
        """Whether the server has none."""

    def abilities(self, model: str) -> Abilities:
        """From the table. A model that is not in it, on a server of one's own, takes a temperature, and images if its name says so."""
        if (family := _family(model)) is not None:
            return Abilities(schema=True, images=family.images, sampling=family.sampling)
        if self._own:
            return Abilities(schema=True, images=any(part in model.lower() for part in _SEEING), sampling=True)
        return Abilities(schema=True, images=True, sampling=False)

    def recorded(self, request: ModelRequest) -> bool:  # noqa: ARG002 -- the port's signature
        """Never."""
        return False

    def ask(self, request: ModelRequest, timeout: float) -> ModelReply | ModelFailure:
        """One call of the Responses API, or of chat completions; of both only where the first one turns out not to be there."""
        if self._key_required and self._key is None:
            return ModelFailure(Trouble.UNAUTHORIZED, "there is no key: set OPENAI_API_KEY", True)
        if request.sampling.temperature is not None and not self.abilities(request.model).sampling:
            return ModelFailure(Trouble.BAD_REQUEST, f"{one_line(request.model, 60)} takes no temperature", True)
        client = self._opened()
        if client is None:
            return ModelFailure(Trouble.CONNECTION, "the client is closed", True)
        ends = time.monotonic() + timeout
        chat, responses = client.chat.completions.with_raw_response.create, client.responses.with_raw_response.create
        if self._api == "auto" and self._own and not self._first.acquire(blocking=False):
            self._told.wait(min(FINDING_OUT, timeout))
        if self._api == "chat" or self._lacking:
            return self._call(chat, self._chat, read_chat, request, ends)[0]
        answer, missing = self._call(responses, _responses, read_response, request, ends)
        self._lacking = self._api == "auto" and missing
        self._told.set()
        if not self._lacking:
            return answer
        answer, _ = self._call(chat, self._chat, read_chat, request, ends)
        self._lacking = isinstance(answer, ModelReply)
        return answer

    def close(self) -> None:
        """Close the connections; what is asked afterwards fails."""
        with self._lock:
            self._closed = True
            if self._client is not None:
                self._client.close()
                self._client = None

    def _opened(self) -> "openai.OpenAI | None":
        with self._lock:
            if self._client is None and not self._closed:
                import openai

                from trading_pipeline.adapters.llm.bounded_http import BoundedClient
                # The SDK insists on a key; without one its header is left out of each call.
                key = self._key.get_secret_value() if self._key is not None else "none"
                http = BoundedClient.open(self._transport)
                self._client = openai.OpenAI(api_key=key, base_url=self._base_url, max_retries=0, http_client=http)
            return self._client

    def _call(
        self, create: Callable[..., Any], arguments: Callable[[ModelRequest], dict[str, Any]], read: Reader, request: ModelRequest,
        ends: float,
    ) -> tuple[ModelReply | ModelFailure, bool]:
        """The answer, and whether the server turned out not to have this API."""
        import openai

        from trading_pipeline.adapters.llm.bounded_http import LIBRARY_ERRORS, transport_failure
        headers = {} if self._key is not None else {"extra_headers": {"Authorization": openai.omit}}
        began = time.monotonic()
        try:
            response = create(**arguments(request), **headers, timeout=ends - began).http_response
        except openai.APIStatusError as error:
            said, code = _said(error.body)
            failure = status_failure(
                error.status_code, error.response.headers, said, code, self._key, datetime.now(UTC), time.monotonic() - began,
            )
            return failure, error.status_code in _MISSING and failure.free and failure.trouble is not Trouble.NO_SUCH_MODEL
        except (openai.OpenAIError, *LIBRARY_ERRORS) as error:
            return transport_failure(error, time.monotonic() - began), False
        return read(response.content, response.headers.get("x-request-id", ""), time.monotonic() - began), False

    def _chat(self, request: ModelRequest) -> dict[str, Any]:
        """A call's arguments. `max_completion_tokens` is OpenAI's own word; servers that speak its API know the older one."""
        user: Any = request.text
        if request.pictures:
            images = [{"type": "image_url", "image_url": {"url": _data_url(each)}} for each in request.pictures]
            user = [*images, {"type": "text", "text": request.text}]
        family = _family(request.model)
        bound = "max_tokens" if self._own and family is None else "max_completion_tokens"
        parameters: dict[str, Any] = {
            "model": request.model, bound: request.sampling.max_tokens,
            "messages": [{"role": "system", "content": request.system}, {"role": "user", "content": user}],
            "response_format": {
                "type": "json_schema", "json_schema": {"name": SCHEMA_NAME, "strict": True, "schema": json.loads(request.schema)},
            },
        }
        if family is not None and family.effort is not None:
            parameters["reasoning_effort"] = family.effort
        return parameters | _sampling(request)


def _family(model: str) -> _Family | None:
    """The family with the longest name that fits."""
    fitting = [family for family in _FAMILIES if model == family.name or model.startswith(f"{family.name}-")]
    return max(fitting, key=lambda family: len(family.name), default=None)


def _responses(request: ModelRequest) -> dict[str, Any]:
    """A call's arguments: pictures before the text, and nothing kept at the provider."""
    images = [{"type": "input_image", "image_url": _data_url(each), "detail": "high"} for each in request.pictures]
    parameters: dict[str, Any] = {
        "model": request.model, "max_output_tokens": max(request.sampling.max_tokens, MIN_OUTPUT), "store": False,
        "instructions": request.system,
        "input": [{"role": "user", "content": [*images, {"type": "input_text", "text": request.text}]}],
        "text": {"format": {"type": "json_schema", "name": SCHEMA_NAME, "strict": True, "schema": json.loads(request.schema)}},
    }
    family = _family(request.model)
    if family is not None and family.effort is not None:
        parameters["reasoning"] = {"effort": family.effort}
    return parameters | _sampling(request)


def _sampling(request: ModelRequest) -> dict[str, Any]:
    temperature = request.sampling.temperature
    return {} if temperature is None else {"temperature": float(temperature)}


def _data_url(picture: Picture) -> str:
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.content).decode('ascii')}"


def _said(body: object) -> tuple[str, str]:
    """Message and code of an error; the SDK gives what stands under `error`, and compatible servers put text or numbers there too."""
    if not isinstance(body, dict):
        return "", ""
    message, code = body.get("message"), body.get("code")
    return message if isinstance(message, str) else "", code if isinstance(code, str) else ""
