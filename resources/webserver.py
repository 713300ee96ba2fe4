"""Dagster's webserver, answering only the page it serves itself.

Dagster's own answers any page that a browser has open: it takes mutations by GET, asks for no Origin and no Host, and opens
its socket to everyone. Here a request names this host, comes from this page or from no page, and changes nothing by GET
(invariant 75). Started with the arguments of `dagster-webserver`.
"""

import sys
from typing import Any
from urllib.parse import urlsplit

from dagster_webserver.cli import main
from dagster_webserver.webserver import DagsterWebserver
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})


class OwnPageOnly:
    """Refuses what a foreign page, or a foreign name for this address, asks for."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand in front of an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 403."""
        if scope["type"] in ("http", "websocket") and not allowed(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await PlainTextResponse("This page answers to itself only.", status_code=403)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def allowed(scope: Scope) -> bool:
    """Whether a request is the page's own, a tool's on this machine, or harmless navigation."""
    headers = Headers(scope=scope)
    host, origin = headers.get("host", ""), headers.get("origin")
    if host.rpartition(":")[0] not in HOSTS and host not in HOSTS:
        return False
    if origin is not None and urlsplit(origin).netloc != host:
        return False
    queried = scope["type"] == "http" and scope["path"].rstrip("/").endswith("graphql") and b"query=" in scope.get("query_string", b"")
    return not queried


def guard() -> None:
    """Put the check in front of everything that Dagster's webserver answers."""
    inherited = DagsterWebserver.build_middleware

    def build(self: Any) -> list[Middleware]:
        return [Middleware(OwnPageOnly), *inherited(self)]

    DagsterWebserver.build_middleware = build  # type: ignore[method-assign]


if __name__ == "__main__":
    guard()
    sys.exit(main())  # type: ignore[no-untyped-call]
