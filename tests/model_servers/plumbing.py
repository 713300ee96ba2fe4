"""What both servers share: behaviours that tests script, what is kept of requests, and the ways in which an answer can go wrong.

A server asks its `script` first (one behaviour a request, in order), then `respond`, then answers well: the `policy` says what the model
replies. Connections are kept alive as the real servers keep them, and each request has a thread of its own.
"""

import hashlib
import json
import re
import socket
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self

PNG = b"\x89PNG\r\n\x1a\n"


class Cut(StrEnum):
    """Where a connection is cut."""

    BEFORE_HEADERS = "before_headers"
    IN_BODY = "in_body"


class End(StrEnum):
    """How the model's turn ends; each server puts it in its API's words."""

    COMPLETE = "complete"
    REFUSAL = "refusal"
    MAX_TOKENS = "max_tokens"
    EMPTY = "empty"
    PAUSE = "pause"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the answer says it used; `fresh` is neither read from a cache nor written to one."""

    fresh: int
    out: int
    cached: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What happens to one request. The default: it is answered well, at once."""

    reply: str | None = None
    """The text the model gives; None: the policy's."""
    end: End = End.COMPLETE
    model: str | None = None
    """Who answered; None: who was asked."""
    tokens: Tokens | None = None
    delay: float = 0.0
    """Seconds before the first byte."""
    trickle: float = 0.0
    """Seconds between the bytes of the body."""
    cut: Cut | None = None
    status: int = 200
    """Anything else is an error in the API's form, unless there is a `body`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent instead of anything the API knows."""
    message: str = "scripted"
    """Of an error."""


GOOD = Behaviour()


def rate_limited(retry_after: str | None = "2") -> Behaviour:
    """429, as both APIs send it."""
    return Behaviour(status=429, headers={} if retry_after is None else {"retry-after": retry_after})


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived; header names in lower case."""

    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: Any
    """The JSON, or None."""
    connection: int

    @property
    def schema(self) -> Any:
        """The JSON schema the reply is held to, wherever the API has it; None without one."""
        body = self.body if isinstance(self.body, dict) else {}
        for path in (
            ("output_config", "format", "schema"), ("text", "format", "schema"), ("response_format", "json_schema", "schema"),
            ("tools", 0, "input_schema"),
        ):
            found: Any = body
            for step in path:
                try:
                    found = found[step]
                except (KeyError, IndexError, TypeError):
                    break
            else:
                return found
        return None

    @property
    def texts(self) -> list[str]:
        """Every text of the prompt, in order."""
        return list(_texts(self.body))

    @property
    def images(self) -> int:
        """How many pictures came along."""
        return self.raw.count(b"image/png")

    @property
    def symbol(self) -> str:
        """The symbol asked about: the schema's only one, or the first that the prompt names as such."""
        try:
            return str(self.schema["properties"]["symbol"]["enum"][0])
        except (KeyError, IndexError, TypeError):
            named = re.search(r"\bsymbol\b\W+([A-Z][A-Z0-9.\-]{0,9})\b", "\n".join(self.texts), re.IGNORECASE)
            return named.group(1) if named else "NONE"


@dataclass(frozen=True, slots=True)
class RawJson:
    """JSON text that goes into an answer as it is, duplicate keys and all."""

    text: str


def to_json(data: Any) -> bytes:
    """An answer as bytes."""
    raw: list[str] = []

    def keep(each: RawJson) -> str:
        raw.append(each.text)
        return f"@raw {len(raw) - 1}@"

    text = json.dumps(data, default=keep)
    for number, each in enumerate(raw):
        text = text.replace(f'"@raw {number}@"', each)
    return text.encode()


Policy = Callable[[Asked], str]


def steady(asked: Asked) -> str:
    """A valid reply about the symbol asked, always the same one to the same prompt."""
    digest = hashlib.sha256("\n".join(asked.texts).encode()).digest()
    return json.dumps({
        "action": ("BUY", "SELL", "HOLD")[digest[0] % 3], "symbol": asked.symbol, "confidence": round(0.5 + digest[1] / 640, 2),
        "rationale": f"The prompt's digest begins with {digest[:2].hex()}.", "figures": [], "limit": None, "stop": None, "targets": [],
    })


class ApiError(Exception):
    """A request that the API refuses."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.param, self.code = status, kind, message, param, code


class ModelServer(ABC):
    """A context manager that gives itself; `base_url` is what an SDK is given."""

    suffix: ClassVar[str] = ""
    """What the base URL has after the address."""

    def __init__(self, *, key: str | None = None, port: int = 0, policy: Policy = steady, delay: float = 0.0) -> None:
        """`key`: the only one that is let in; None: any. `delay`: of every answer that is not scripted."""
        self.key, self.policy, self.delay = key, policy, delay
        self.respond: Callable[[Asked], Behaviour | None] = lambda _: None
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._script: deque[Behaviour] = deque()
        self._at_once = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._http = _Http(("127.0.0.1", port), self)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def address(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def base_url(self) -> str:
        return self.address + self.suffix

    def script(self, *behaviours: Behaviour) -> None:
        """The next requests, in order of arrival, one behaviour each."""
        self._script.extend(behaviours)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def serve_until_interrupted(self) -> None:
        """For trying by hand."""
        with suppress(KeyboardInterrupt):
            self._http.serve_forever()
        self._http.server_close()

    # What an API is

    @abstractmethod
    def check(self, asked: Asked) -> None:
        """Raise ApiError for what the API refuses."""

    @abstractmethod
    def answer(self, asked: Asked, behaviour: Behaviour, reply: str, tokens: Tokens) -> dict[str, Any]:
        """The body of a good answer."""

    @abstractmethod
    def error(self, error: ApiError) -> dict[str, Any]:
        """The body of an error."""

    @abstractmethod
    def kind(self, status: int) -> str:
        """How the API calls errors of a status."""

    @abstractmethod
    def headers(self, number: int) -> dict[str, str]:
        """Headers of every answer; `number` counts requests from 1."""

    # The way of a request

    def handle(self, asked: Asked) -> tuple[int, dict[str, str], bytes, Behaviour]:
        """Status, headers, body and how to send them."""
        with self._lock:
            self.asked.append(asked)
            number = len(self.asked)
            scripted = self._script.popleft() if self._script else None
        behaviour = scripted or self.respond(asked) or Behaviour(delay=self.delay)
        with self._counted():
            self._closing.wait(behaviour.delay)
        headers = self.headers(number) | dict(behaviour.headers)
        if behaviour.body is not None:
            return behaviour.status, headers, behaviour.body, behaviour
        try:
            self.check(asked)
            if behaviour.status >= 300:
                raise ApiError(behaviour.status, self.kind(behaviour.status), behaviour.message)
        except ApiError as error:
            return error.status, headers, json.dumps(self.error(error)).encode(), behaviour
        reply = self.policy(asked) if behaviour.reply is None else behaviour.reply
        shown = sum(map(len, asked.texts)) // 4 + 1_000 * asked.images
        tokens = behaviour.tokens or Tokens(fresh=shown, out=len(reply) // 4 + 1)
        return 200, headers, to_json(self.answer(asked, behaviour, reply, tokens)), behaviour

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than the server lives."""
        self._closing.wait(seconds)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], server: ModelServer) -> None:
        self.model_server = server
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hung up is no news; anything else is a fault of these servers and is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def setup(self) -> None:
        super().setup()
        self.server.model_server.opened(self.connection)

    def finish(self) -> None:
        self.server.model_server.closed(self.connection)
        super().finish()

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        path = self.path.split("?")[0]
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(path, headers, raw, body, self.client_address[1])
        status, headers, content, behaviour = self.server.model_server.handle(asked)
        if behaviour.cut is Cut.BEFORE_HEADERS:
            self._hang_up()
            return
        self.send_response(status)
        for name, value in ({"content-type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if behaviour.cut is Cut.IN_BODY:
            self.wfile.write(content[: len(content) // 2])
            self._hang_up()
        elif behaviour.trickle:
            for number in range(len(content)):
                self.wfile.write(content[number:number + 1])
                self.wfile.flush()
                self.server.model_server.pause(behaviour.trickle)
        else:
            self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests ask the server, not a log."""


def _texts(data: Any) -> Iterator[str]:
    """Texts under the keys that hold prompts: `system`, `instructions`, `messages`, `input`, `content`, `text`."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, list):
        for each in data:
            yield from _texts(each)
    elif isinstance(data, dict):
        for name in ("system", "instructions", "messages", "input", "content", "text"):
            if name == "text" and isinstance(data.get(name), dict):
                continue
            yield from _texts(data.get(name))
