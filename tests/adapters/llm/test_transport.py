"""What both SDKs share underneath: deadlines, sizes, redirects, connections; and that nobody pays for an SDK who asks no model."""

import gzip
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace

import pytest
from pydantic import SecretStr

from tests.contracts.llm import CANARY, a_request
from tests.model_servers.anthropic_server import AnthropicServer
from tests.model_servers.openai_server import OpenAIServer
from tests.model_servers.plumbing import Behaviour, Cut, ModelServer, rate_limited
from trading_pipeline.adapters.llm.anthropic_api import AnthropicLLM
from trading_pipeline.adapters.llm.openai_api import OpenAILLM
from trading_pipeline.domain.models import ModelFailure, ModelReply, Provider, Trouble
from trading_pipeline.ports import LLM

Opener = Callable[[str], LLM]
KINDS = {
    Provider.ANTHROPIC: (AnthropicServer, lambda url: AnthropicLLM(SecretStr(CANARY), url), "claude-haiku-5-5"),
    Provider.OPENAI: (OpenAIServer, lambda url: OpenAILLM(SecretStr(CANARY), url), "gpt-6-luna"),
}


@pytest.fixture(params=list(KINDS))
def provider(request) -> Provider:
    return request.param


@pytest.fixture
def server(provider) -> Iterator[ModelServer]:
    with KINDS[provider][0]() as server:
        yield server


@pytest.fixture
def llm(provider, server) -> Iterator[LLM]:
    with closing(KINDS[provider][1](server.base_url)) as llm:
        yield llm


@pytest.fixture
def ask(provider, llm) -> Callable[[float], ModelReply | ModelFailure]:
    return lambda timeout=10.0: llm.ask(a_request(provider, KINDS[provider][2]), timeout)


@pytest.mark.parametrize("trickle", [0.02, 60.0])
def test_a_body_that_comes_too_slowly_ends_at_the_deadline(server, ask, trickle):
    """Each byte would come within the timeout of a read, or the first and then none."""
    server.script(Behaviour(trickle=trickle))
    failure = ask(0.4)
    assert (failure.trouble, failure.free) == (Trouble.TIMEOUT, False)
    assert failure.seconds < 5


TRICKLES = {
    "head": (b"HTTP/1.1 200 OK\r\nx-a: ", b"a"),
    "interim": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "chunk": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=", b"a"),
}


@pytest.mark.parametrize(("first", "then"), TRICKLES.values(), ids=list(TRICKLES))
def test_whatever_comes_too_slowly_ends_at_the_deadline(provider, first, then):
    """Nothing of a body is among it, and each read is within its timeout."""
    done = threading.Event()

    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(65_536)
            connection.sendall(first)
            while not done.wait(0.05):
                connection.sendall(then)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        giving_up = threading.Timer(8.0, done.set)
        giving_up.start()
        with closing(KINDS[provider][1](f"http://127.0.0.1:{listener.getsockname()[1]}")) as llm:
            failure = llm.ask(a_request(provider, KINDS[provider][2]), 0.4)
        giving_up.cancel()
        done.set()
        thread.join()
    assert (failure.trouble, failure.free) == (Trouble.TIMEOUT, False)
    assert failure.seconds < 5


def test_an_answer_of_absurd_size_is_not_read_to_its_end(server, ask):
    server.script(Behaviour(body=b"[" + b" " * 5_000_000 + b"]"))
    failure = ask()
    assert (failure.trouble, failure.free) == (Trouble.BAD_RESPONSE, False)
    assert "longer than" in failure.detail


def test_the_error_of_absurd_size_is_not_read_to_its_end_either(server, ask):
    server.script(Behaviour(status=500, body=b"[" + b" " * 5_000_000 + b"]"))
    assert ask().trouble is Trouble.BAD_RESPONSE


def test_a_compressed_answer_is_not_unfolded(server, ask):
    server.script(Behaviour(body=gzip.compress(b" " * 10_000_000), headers={"content-encoding": "gzip"}))
    assert ask().trouble is Trouble.BAD_RESPONSE
    assert server.asked[0].headers["accept-encoding"] == "identity"


def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else(provider, server, ask):
    with KINDS[provider][0]() as other:
        server.script(Behaviour(status=307, body=b"", headers={"location": f"{other.address}/v1/messages"}))
        failure = ask()
        assert (failure.trouble, other.asked) == (Trouble.BAD_RESPONSE, [])
        assert "base_url" in failure.detail


def test_a_connection_that_is_refused_costs_nothing(provider):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with closing(KINDS[provider][1](f"http://127.0.0.1:{nobody.getsockname()[1]}")) as llm:
            failure = llm.ask(a_request(provider, KINDS[provider][2]), 10)
    assert (failure.trouble, failure.free) == (Trouble.CONNECTION, True)
    assert failure.detail == "no connection: Connection refused"


@pytest.mark.parametrize("cut", list(Cut))
def test_a_connection_that_is_cut_may_have_cost_something(server, ask, cut):
    server.script(Behaviour(cut=cut))
    failure = ask()
    assert (failure.trouble, failure.free) == (Trouble.CONNECTION, False)


def test_a_call_is_made_once_whatever_happens(server, ask):
    """The SDKs would ask again by themselves; the second call is the product's to decide and to pay for."""
    server.respond = lambda _: rate_limited("0")
    assert ask().trouble is Trouble.RATE_LIMITED
    server.respond = lambda _: Behaviour(status=500)
    assert ask().trouble is Trouble.SERVER_ERROR
    server.respond = lambda _: Behaviour(cut=Cut.BEFORE_HEADERS)
    assert ask().trouble is Trouble.CONNECTION
    assert len(server.asked) == 3


def test_the_wait_that_is_asked_for_is_told(server, ask):
    server.script(rate_limited("7"))
    assert ask().retry_after == 7.0


def test_the_words_of_an_error_are_kept_and_pages_are_not(server, ask):
    server.script(Behaviour(status=500, message="try later"), Behaviour(status=502, body=b"<html><h1>Bad Gateway</h1></html>"))
    assert ask().detail == "500: try later"
    assert ask().detail == "502: without an error of the API"


@pytest.mark.parametrize("error", [
    {"error": "plain"}, {"error": {"message": 7, "code": 8}}, {"error": None}, [], "text", 7, None, {"error": {"details": 7}},
    {"error": {"type": [], "details": {"error_code": ["spent"]}, "param": {}}},
])
def test_an_error_of_any_shape_is_a_failure(server, ask, error):
    server.script(Behaviour(status=500, body=json.dumps(error).encode()))
    assert ask().trouble is Trouble.SERVER_ERROR


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff\xfe", b"", b"{"])
def test_an_error_that_is_no_json_is_a_failure(server, ask, body):
    server.script(Behaviour(status=500, body=body))
    assert ask().trouble is Trouble.SERVER_ERROR


@pytest.mark.parametrize("broken", [{"text": "a lone surrogate \ud800"}, {"schema": "no JSON"}])
def test_a_question_that_cannot_be_sent_is_a_failure_too(provider, server, llm, broken):
    failure = llm.ask(replace(a_request(provider, KINDS[provider][2]), **broken), 10)
    assert failure.trouble is Trouble.BAD_REQUEST
    assert server.asked == []


def test_connections_are_kept(server, ask):
    for _ in range(3):
        assert isinstance(ask(), ModelReply)
    assert len({asked.connection for asked in server.asked}) == 1


def test_sixty_four_calls_are_under_way_at_once(provider, server, llm):
    """The server answers nobody before all have arrived."""
    all_there = threading.Barrier(64)

    server.respond = lambda _: all_there.wait(30) and None
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: llm.ask(a_request(provider, KINDS[provider][2]), 30), range(64)))
    assert all(isinstance(answer, ModelReply) for answer in answers)


def test_closing_ends_calls_that_wait_without_an_exception(server, llm, ask):
    arrived = threading.Event()

    def hang(_):
        arrived.set()
        return Behaviour(delay=60)

    server.respond = hang
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, 1.0)
        arrived.wait(10)
        llm.close()
        assert isinstance(waiting.result(20), ModelFailure)


def test_the_sdks_are_imported_by_the_first_question_and_not_before():
    code = (
        "import sys; from trading_pipeline.adapters.llm import anthropic_api, openai_api;"
        "anthropic_api.AnthropicLLM(None).abilities('claude-opus-5-5'); openai_api.OpenAILLM(None).abilities('gpt-6-luna');"
        "print(sorted({'anthropic', 'openai', 'httpx2'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
