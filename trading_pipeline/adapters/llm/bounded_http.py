"""The HTTP client under both SDKs: one deadline for a whole call, answers of bounded size, no redirects.

The SDKs' own clients bound each read instead of the call, read answers of any size, and follow redirects with the key. Here a call ends at
its deadline, however slowly bytes drop in.
Importing this module imports the SDKs' HTTP library: adapters do so when they first ask.
"""

import time
from typing import Any, Final, Self

import httpx2

from trading_pipeline.adapters.llm.bounded_streams import bound, until
from trading_pipeline.domain.models import ModelFailure, Trouble

CONNECTIONS: Final = 64
"""Calls at once; more wait for a connection, within their timeout."""
MAX_ANSWER: Final = 4 * 1024 * 1024
"""Bytes of a body; a reply of 16,384 characters with its envelope is a hundredth of it."""


LIBRARY_ERRORS: Final = (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError, ValueError, TypeError, RuntimeError, Warning)
"""What an SDK lets out besides its own exceptions: of the transport, of building a request, of a client closed in mid-call."""


class UnusableAnswer(httpx2.RequestError):
    """An answer that is not read to its end, and why."""


class BoundedClient(httpx2.Client):
    """Safe for many threads, like its parent; proxies of the environment are used as usual."""

    @classmethod
    def open(cls, transport: httpx2.BaseTransport | None = None) -> Self:
        """A client with a pool for all calls.

        Args:
            transport: Instead of the network.
        """
        limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        # Compressed bodies are refused below: a small one could unfold to any size.
        client = cls(limits=limits, transport=transport, follow_redirects=False, headers={"Accept-Encoding": "identity"})
        bound(client)
        return client

    def send(self, request: httpx2.Request, *, stream: bool = False, **given: Any) -> httpx2.Response:  # noqa: ARG002 -- read in any case
        """Send, and read the answer whole, within the request's own timeout."""
        deadline = time.monotonic() + request.extensions["timeout"]["read"]
        request.extensions = {**request.extensions, "timeout": _Remaining(deadline)}
        given["follow_redirects"] = False
        with until(deadline):
            response = super().send(request, stream=True, **given)
            content = _content(request, response)
        return httpx2.Response(response.status_code, headers=response.headers, content=content, request=request)


def nowhere() -> httpx2.BaseTransport:
    """A transport that goes nowhere: every request is answered with an empty 400. What the real one needs is imported all the same."""
    import httpcore2._sync.connection_pool  # noqa: F401 -- late-bound by httpx2

    httpx2.HTTPTransport().close()
    return httpx2.MockTransport(lambda request: httpx2.Response(400, request=request))


def _content(request: httpx2.Request, response: httpx2.Response) -> bytes:
    """The body, whole; UnusableAnswer."""
    try:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise UnusableAnswer("compressed, which was not asked for", request=request)
        content = bytearray()
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > MAX_ANSWER:
                raise UnusableAnswer(f"longer than {MAX_ANSWER:,} bytes", request=request)
    finally:
        response.close()
    return bytes(content)


class _Remaining(dict[str, float]):
    """Timeouts as the transport looks them up, phase by phase: what is left of the one there is."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def get(self, _phase: str, _default: Any = None) -> float:
        return max(self._deadline - time.monotonic(), 0.001)


def transport_failure(error: BaseException, seconds: float) -> ModelFailure:
    """A call that brought no answer; the cause is looked up behind the SDK's exception, and told in our words."""
    seen: BaseException | None = error
    while seen is not None:
        match seen:
            case UnusableAnswer():
                return ModelFailure(Trouble.BAD_RESPONSE, f"the answer is {seen}", False, None, seconds)
            case httpx2.ConnectTimeout() | httpx2.PoolTimeout():
                return ModelFailure(Trouble.TIMEOUT, "no connection within the timeout", True, None, seconds)
            case httpx2.TimeoutException():
                return ModelFailure(Trouble.TIMEOUT, "no answer within the timeout", False, None, seconds)
            case httpx2.ConnectError():
                return ModelFailure(Trouble.CONNECTION, f"no connection: {_reason(seen)}", True, None, seconds)
            case httpx2.ProxyError():
                return ModelFailure(Trouble.CONNECTION, "the proxy refuses", True, None, seconds)
            case httpx2.NetworkError() | httpx2.RemoteProtocolError():
                return ModelFailure(Trouble.CONNECTION, "the connection was cut before the answer was complete", False, None, seconds)
        seen = seen.__cause__ or seen.__context__
    return ModelFailure(Trouble.BAD_REQUEST, f"{type(error).__name__} in the provider's library", False, None, seconds)


def _reason(error: BaseException) -> str:
    """What the operating system says, without the address."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        seen = seen.__cause__ or seen.__context__
    return "unknown reason"
