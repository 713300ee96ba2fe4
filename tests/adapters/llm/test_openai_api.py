"""GPT and those who speak its API by the real SDK, against a server that takes and gives what both APIs are documented to."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from tests.contracts.llm import AS_IT_CAME, CANARY, LLMContract, a_request
from tests.model_servers.openai_server import OpenAIServer
from tests.model_servers.plumbing import Behaviour, End, Tokens
from tests.model_servers.worlds import ServedWorld
from trading_pipeline.adapters.llm import openai_api
from trading_pipeline.adapters.llm.openai_api import OpenAILLM
from trading_pipeline.domain.models import Ending, ModelFailure, ModelReply, Provider, Trouble, Usage
from trading_pipeline.domain.replies import parse_reply
from trading_pipeline.domain.signals import Signal

MODEL = "gpt-6-luna"
LOCAL = "qwen3-vl:8b"
RESPONSES, CHAT = "/v1/responses", "/v1/chat/completions"
ECHO = f"{CANARY[:8]}{'*' * 20}{CANARY[-4:]}"


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(key=CANARY) as server:
        yield server


@pytest.fixture
def opened() -> Iterator[Callable[..., OpenAILLM]]:
    """Makes clients for a server, and closes them."""
    with ExitStack() as stack:
        def open_one(server: OpenAIServer, **settings: Any) -> OpenAILLM:
            return stack.enter_context(closing(OpenAILLM(SecretStr(CANARY), server.base_url, **settings)))

        yield open_one


@pytest.fixture
def llm(server: OpenAIServer, opened: Callable[..., OpenAILLM]) -> OpenAILLM:
    return opened(server)


@pytest.fixture
def world(server: OpenAIServer) -> ServedWorld:
    return ServedWorld(server, 503, ECHO)


class TestResponses(LLMContract):
    model = MODEL


class TestChatCompletions(LLMContract):
    model = MODEL

    @pytest.fixture
    def llm(self, server: OpenAIServer, opened: Callable[..., OpenAILLM]) -> OpenAILLM:
        return opened(server, api="chat")


class TestALocalServerWithoutKeyAndResponses(LLMContract):
    model = LOCAL

    @pytest.fixture
    def server(self) -> Iterator[OpenAIServer]:
        with OpenAIServer(keyless=True, missing=(RESPONSES,)) as server:
            yield server

    @pytest.fixture
    def llm(self, server: OpenAIServer, opened: Callable[..., OpenAILLM]) -> OpenAILLM:
        llm = opened(server, key_required=False)
        assert isinstance(llm.ask(a_request(Provider.OPENAI, LOCAL), 10), ModelReply)
        return llm

    def test_no_key_is_sent_whatever_is_set(self, llm, server):
        llm.ask(a_request(Provider.OPENAI, LOCAL), 10)
        assert all("authorization" not in asked.headers for asked in server.asked)
        assert all(CANARY not in str(asked.headers) for asked in server.asked)


def paths(server):
    return [asked.path for asked in server.asked]


def sent(server):
    return server.asked[-1].body


def test_the_steady_policy_of_the_server_gives_a_signal(llm):
    reply = llm.ask(a_request(Provider.OPENAI, MODEL), 10)
    assert isinstance(parse_reply(reply.text, "AAPL", ["AAPL"]), Signal)


def test_responses_hold_the_reply_to_a_strict_schema_and_store_nothing(llm, server):
    request = a_request(Provider.OPENAI, MODEL, pictures=1)
    llm.ask(request, 10)
    form = sent(server)["text"]["format"]
    assert (form["type"], form["strict"], form["schema"]) == ("json_schema", True, json.loads(request.schema))
    assert sent(server)["store"] is False
    assert [part["type"] for part in sent(server)["input"][0]["content"]] == ["input_image", "input_text"]
    assert sent(server)["instructions"] == request.system


def test_chat_completions_hold_the_reply_to_a_strict_schema(server, opened):
    request = a_request(Provider.OPENAI, MODEL, pictures=1)
    opened(server, api="chat").ask(request, 10)
    form = sent(server)["response_format"]["json_schema"]
    assert (form["strict"], form["schema"]) == (True, json.loads(request.schema))
    assert [part["type"] for part in sent(server)["messages"][1]["content"]] == ["image_url", "text"]


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize(("model", "effort"), [
    ("gpt-6-astra", "low"), ("gpt-6.2-sol", "low"), ("gpt-6.1-sol", "low"), ("gpt-6.1-terra", "none"), ("gpt-6-luna", "none"),
    ("gpt-5.6-terra", "none"), ("gpt-5-mini-2025-08-07", "minimal"), ("o3", "low"), ("gpt-4.1-mini", None), ("gpt-7", None),
    ("llama3.3:70b", None),
])
def test_each_model_is_asked_to_reason_as_little_as_it_takes(server, api, model, effort, opened):
    """Source: the models' pages; the server refuses what they say is refused."""
    reply = opened(server, api=api).ask(a_request(Provider.OPENAI, model), 10)
    assert isinstance(reply, ModelReply), reply
    said = sent(server).get("reasoning", {}).get("effort") if api == "responses" else sent(server).get("reasoning_effort")
    assert said == effort


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_cached_tokens_are_counted_once(server, api, opened):
    """OpenAI's input_tokens include them: 21 fresh, 1,800 read from the cache and 400 written to it are billed as such."""
    server.script(Behaviour(tokens=Tokens(fresh=21, out=93, cached=1_800, written=400)))
    reply = opened(server, api=api).ask(a_request(Provider.OPENAI, MODEL), 10)
    assert reply.usage == Usage(21, 93, 1_800, 400)
    assert reply.usage.total_in == 2_221


def test_the_request_id_is_kept_and_of_chat_the_fingerprint(server, llm, opened):
    assert (llm.ask(a_request(Provider.OPENAI, MODEL), 10).request_id) == "req_1"
    chat = opened(server, api="chat")
    assert chat.ask(a_request(Provider.OPENAI, MODEL), 10).fingerprint == "fp_44709d6fcb"


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_a_content_filter_is_a_refusal(server, api, opened):
    server.script(Behaviour(end=End.CONTENT_FILTER))
    assert opened(server, api=api).ask(a_request(Provider.OPENAI, MODEL), 10).ending is Ending.REFUSED


@pytest.mark.parametrize("status", [404, 405, 501])
def test_without_a_responses_api_chat_is_asked_and_remembered(status, opened):
    with OpenAIServer(missing=(RESPONSES,), missing_status=status) as server:
        llm = opened(server)
        assert isinstance(llm.ask(a_request(Provider.OPENAI, MODEL), 10), ModelReply)
        assert isinstance(llm.ask(a_request(Provider.OPENAI, MODEL), 10), ModelReply)
        assert paths(server) == [RESPONSES, CHAT, CHAT]


def together(llm, many):
    with ThreadPoolExecutor(many) as pool:
        return list(pool.map(lambda _: llm.ask(a_request(Provider.OPENAI, MODEL), 10), range(many)))


def test_one_question_finds_out_for_all_beside_it_that_there_is_no_responses_api(opened, monkeypatch):
    """63: what is refused unread is not billed, and every other request is one of the calls that are counted."""
    monkeypatch.setattr(openai_api, "FINDING_OUT", 30.0)  # However busy the machine is.
    with OpenAIServer(missing=(RESPONSES,), delay=0.3) as server:
        replies = together(opened(server), 12)
        assert all(isinstance(each, ModelReply) for each in replies)
        assert sorted(paths(server)) == [*[CHAT] * 12, RESPONSES]


def test_questions_beside_the_first_wait_no_longer_than_a_refusal_takes(opened):
    with OpenAIServer(delay=2.0) as server:
        together(opened(server), 6)
        assert server.most_at_once == 6, "side by side, not behind the first one"
        assert paths(server) == [RESPONSES] * 6


def test_a_request_that_may_have_been_billed_is_followed_by_no_other(opened):
    with OpenAIServer() as server:
        server.script(Behaviour(status=500))
        assert not opened(server).ask(a_request(Provider.OPENAI, MODEL), 10).free
        assert paths(server) == [RESPONSES]


def test_chat_is_remembered_only_once_it_has_answered(opened):
    with OpenAIServer(missing=(RESPONSES,)) as server:
        llm = opened(server)
        server.script(Behaviour(status=404), Behaviour(status=500))
        assert llm.ask(a_request(Provider.OPENAI, MODEL), 10).trouble is Trouble.SERVER_ERROR
        llm.ask(a_request(Provider.OPENAI, MODEL), 10)
        assert paths(server) == [RESPONSES, CHAT, RESPONSES, CHAT]


def test_a_model_that_does_not_exist_is_no_missing_api(llm, server):
    failure = llm.ask(a_request(Provider.OPENAI, "gpt-nobody"), 10)
    assert (failure.trouble, failure.free) == (Trouble.NO_SUCH_MODEL, True)
    assert paths(server) == [RESPONSES]


def test_with_responses_demanded_nothing_else_is_asked(opened):
    with OpenAIServer(missing=(RESPONSES,)) as server:
        failure = opened(server, api="responses").ask(a_request(Provider.OPENAI, MODEL), 10)
        assert (failure.trouble, failure.free) == (Trouble.BAD_RESPONSE, True)
        assert type(failure) is ModelFailure
        assert paths(server) == [RESPONSES]


def test_a_server_of_ones_own_is_told_the_older_name_of_the_bound(server, opened):
    llm = opened(server, api="chat")
    llm.ask(a_request(Provider.OPENAI, LOCAL), 10)
    assert sent(server)["max_tokens"] == 1_024
    llm.ask(a_request(Provider.OPENAI, MODEL), 10)
    assert sent(server)["max_completion_tokens"] == 1_024


def test_a_temperature_goes_to_models_that_take_one(llm, server):
    reply = llm.ask(a_request(Provider.OPENAI, "gpt-4.1", temperature=Decimal("0.2")), 10)
    assert isinstance(reply, ModelReply)
    assert sent(server)["temperature"] == 0.2


def test_a_temperature_is_refused_before_anything_is_sent_for_a_model_that_reasons(llm, server):
    failure = llm.ask(a_request(Provider.OPENAI, MODEL, temperature=Decimal("0.2")), 10)
    assert (failure.trouble, failure.free, server.asked) == (Trouble.BAD_REQUEST, True, [])


@pytest.mark.parametrize(("model", "own", "images", "sampling"), [
    ("gpt-6-luna", False, True, False), ("gpt-4o-mini", False, True, True), ("o3-mini", False, False, False), ("gpt-9", False, True, False),
    ("qwen3-vl:8b", True, True, True), ("llama3.3:70b", True, False, True), ("gpt-6-luna", True, True, False),
])
def test_abilities(model, own, images, sampling):
    for base_url in ("http://127.0.0.1:1/v1",) if own else (None, "https://api.openai.com/v1/"):
        abilities = OpenAILLM(None, base_url).abilities(model)
        assert (abilities.schema, abilities.images, abilities.sampling) == (True, images, sampling)


def test_a_response_that_failed_says_so_and_may_have_cost_something(llm, server):
    body = {"model": MODEL, "status": "failed", "output": [], "usage": None, "error": {"code": "server_error", "message": "m"}}
    server.script(Behaviour(body=json.dumps(body).encode()))
    failure = llm.ask(a_request(Provider.OPENAI, MODEL), 10)
    assert (failure.trouble, failure.free) == (Trouble.SERVER_ERROR, False)


def test_a_quota_that_is_used_up_is_no_rate_limit(llm, server):
    """Source: developers.openai.com/api/docs/guides/error-codes: 429 with insufficient_quota means to add credit."""
    error = {"message": "You exceeded your current quota.", "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}
    server.script(Behaviour(status=429, body=json.dumps({"error": error}).encode()))
    failure = llm.ask(a_request(Provider.OPENAI, MODEL), 10)
    assert (failure.trouble, failure.free) == (Trouble.UNAUTHORIZED, True)


USED = b'"usage": {"input_tokens": 1, "output_tokens": 1}'


@pytest.mark.parametrize("body", [
    b"", b"[]", b'{"status": "completed"}', b'{"model": "m", "status": "completed", "output": []}',
    b'{"model": "m", "status": "queued", "output": [], ' + USED + b"}", b'{"model": "m", "status": 1, "output": [], ' + USED + b"}",
    b'{"model": "m", "status": "completed", "output": {}, ' + USED + b"}",
])
def test_an_answer_that_is_none_of_the_responses_api_is_a_failure(llm, server, body):
    """One without usage is among them: what it cost could not be told."""
    server.script(Behaviour(body=body))
    failure = llm.ask(a_request(Provider.OPENAI, MODEL), 10)
    assert (failure.trouble, failure.free) == (Trouble.BAD_RESPONSE, False)


@pytest.mark.parametrize("body", [
    b"{}", b'{"model": "m", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}',
    b'{"model": "m", "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}',
    b'{"model": "m", "choices": [{"message": {"content": "x"}, "finish_reason": "tool_calls"}],'
    b' "usage": {"prompt_tokens": 1, "completion_tokens": 1}}',
])
def test_an_answer_that_is_none_of_chat_completions_is_a_failure(server, body, opened):
    server.script(Behaviour(body=body))
    failure = opened(server, api="chat").ask(a_request(Provider.OPENAI, MODEL), 10)
    assert (failure.trouble, failure.free) == (Trouble.BAD_RESPONSE, False)


def test_without_a_key_nothing_is_sent(server):
    failure = OpenAILLM(None, server.base_url).ask(a_request(Provider.OPENAI, MODEL), 10)
    assert (failure.trouble, failure.free, server.asked) == (Trouble.UNAUTHORIZED, True, [])
    assert "OPENAI_API_KEY" in failure.detail


def test_the_environment_of_the_sdk_decides_neither_key_nor_address(server, monkeypatch, opened):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://192.0.2.1")
    assert isinstance(opened(server).ask(a_request(Provider.OPENAI, MODEL), 10), ModelReply)
    assert server.asked[0].headers["authorization"] == f"Bearer {CANARY}"


def test_what_the_model_wrote_is_not_parsed_on_the_way(server, opened):
    server.script(Behaviour(reply=AS_IT_CAME))
    assert opened(server, api="chat").ask(a_request(Provider.OPENAI, LOCAL), 10).text == AS_IT_CAME
