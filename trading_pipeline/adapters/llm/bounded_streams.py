"""Streams that end with their call: every read and write of a connection is held to what is left of one deadline.

The transport reads heads, interim responses and the lines between chunks in loops of its own, each read with the whole timeout again: a
server that sends one byte now and then held a call for as long as it liked. The transport offers a place for another network below it,
the client above it does not, so that it is put there by its name. A call runs in one thread; its deadline is that thread's.
"""

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpcore2
import httpx2

_WRITTEN: Final = 65_536
"""Bytes at a time, so that a server that reads slowly is noticed."""


class _Call(threading.local):
    deadline: float | None = None


_call: Final = _Call()


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Hold what this thread reads and writes to a deadline of `time.monotonic`."""
    before, _call.deadline = _call.deadline, deadline
    try:
        yield
    finally:
        _call.deadline = before


def bound(client: httpx2.Client) -> None:
    """Put the bounded network below a client, its proxies included."""
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx2.HTTPTransport):
            pool = transport._pool
            pool._network_backend = _Network(pool._network_backend)


class _Network(httpcore2.NetworkBackend):
    def __init__(self, inner: httpcore2.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        return _Stream(self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITTEN):
            self._inner.write(buffer[start : start + _WRITTEN], _left(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _left(timeout: float | None, error: type[httpcore2.TimeoutException]) -> float | None:
    """What is left of the call's time, where there is a call."""
    if _call.deadline is None:
        return timeout
    left = _call.deadline - time.monotonic()
    if left <= 0:
        raise error("the time of the call is over")
    return left if timeout is None else min(left, timeout)
