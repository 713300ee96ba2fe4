"""75, fault 70, T9, T28: Dagster's page answers to itself."""

import pytest

from resources.webserver import OwnPageOnly, allowed

OWN = b"127.0.0.1:3000"


def scope(path="/graphql", host=OWN, origin=None, query=b"", kind="http"):
    headers = [(b"host", host), *([(b"origin", origin)] if origin else [])]
    return {"type": kind, "path": path, "query_string": query, "headers": headers}


@pytest.mark.parametrize(
    "asked",
    [
        scope(host=b"evil.example"),
        scope(host=b"evil.example:3000", path="/"),
        scope(origin=b"http://evil.example"),
        scope(origin=b"null"),
        scope(origin=b"http://127.0.0.1:3001"),
        scope(query=b"query=mutation{x}"),
        scope(kind="websocket", origin=b"http://evil.example"),
        scope(host=b""),
    ],
)
def test_what_a_foreign_page_can_ask_is_refused(asked):
    assert not allowed(asked)


@pytest.mark.parametrize(
    "asked",
    [
        scope(path="/"),
        scope(path="/runs", query=b"page=2"),
        scope(origin=b"http://127.0.0.1:3000"),
        scope(host=b"localhost:3000", origin=b"http://localhost:3000", kind="websocket"),
        scope(),
    ],
)
def test_the_page_itself_and_tools_of_this_machine_are_answered(asked):
    assert allowed(asked)


def test_a_refusal_never_reaches_dagster():
    import asyncio

    sent = []

    async def never(*_):
        raise AssertionError("reached")

    async def send(message):
        sent.append(message)

    asyncio.run(OwnPageOnly(never)(scope(host=b"evil.example"), None, send))
    assert sent[0]["status"] == 403
