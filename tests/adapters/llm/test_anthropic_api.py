"""Claude by the real SDK, against a server that takes and gives what the Messages API is documented to."""

import json
from collections.abc import Iterator
from decimal import Decimal

import pytest
from pydantic import SecretStr

from tests.contracts.llm import AS_IT_CAME, CANARY, LLMContract, a_request
from tests.model_servers.anthropic_server import AnthropicServer
from tests.model_servers.plumbing import Behaviour, End, Tokens
from tests.model_servers.worlds import ServedWorld
from trading_pipeline.adapters.llm.anthropic_api import AnthropicLLM
from trading_pipeline.domain.models import Ending, ModelFailure, ModelReply, Provider, Trouble, Usage
from trading_pipeline.domain.replies import parse_reply
from trading_pipeline.domain.signals import Abstain, Signal

MODEL = "claude-sonnet-5-5"
LOCAL = "qwen3-coder:30b"


@pytest.fixture
def server() -> Iterator[AnthropicServer]:
    with AnthropicServer(key=CANARY) as server:
        yield server


@pytest.fixture
def llm(server: AnthropicServer) -> Iterator[AnthropicLLM]:
    llm = AnthropicLLM(SecretStr(CANARY), server.base_url)
    yield llm
    llm.close()


@pytest.fixture
def world(server: AnthropicServer) -> ServedWorld:
    return ServedWorld(server, 529, CANARY)


class TestClaude(LLMContract):
    model = MODEL


class TestAModelThatIsForcedToCallATool(LLMContract):
    model = LOCAL
    bears_pictures = False

    def test_a_reply_that_was_cut_off_is_truncated(self, llm, server):
        """A tool's input that is cut off comes as whatever the server makes of it."""
        server.script(Behaviour(reply="{}", end=End.MAX_TOKENS))
        reply = llm.ask(a_request(Provider.ANTHROPIC, LOCAL), 10)
        assert reply.ending is Ending.TRUNCATED


def sent(server):
    return server.asked[-1].body


def test_the_steady_policy_of_the_server_gives_a_signal(llm):
    reply = llm.ask(a_request(Provider.ANTHROPIC, MODEL), 10)
    assert isinstance(parse_reply(reply.text, "AAPL", ["AAPL"]), Signal)


def test_the_schema_is_held_by_structured_output_and_no_tool_is_offered(llm, server):
    request = a_request(Provider.ANTHROPIC, MODEL)
    llm.ask(request, 10)
    assert sent(server)["output_config"]["format"] == {"type": "json_schema", "schema": json.loads(request.schema)}
    assert "tools" not in sent(server)


def test_pictures_stand_before_the_text_and_the_system_part_is_cached(llm, server):
    llm.ask(a_request(Provider.ANTHROPIC, MODEL, pictures=2), 10)
    assert [block["type"] for block in sent(server)["messages"][0]["content"]] == ["image", "image", "text"]
    assert sent(server)["system"][0]["cache_control"] == {"type": "ephemeral"}


@pytest.mark.parametrize(("model", "thinking", "effort"), [
    ("claude-opus-5-5", None, "low"),
    ("claude-fable-5-1", None, "low"),
    ("claude-mythos-5", None, "low"),
    ("claude-sonnet-5-5", {"type": "between_tools"}, None),
    ("claude-haiku-5-5", {"type": "disabled"}, None),
    ("claude-opus-5", {"type": "disabled"}, None),
    ("claude-sonnet-5", {"type": "disabled"}, None),
    ("claude-opus-4-8", None, None),
    ("claude-haiku-4-5-20251001", None, None),
    ("claude-next-6", None, None),
])
def test_each_model_is_asked_to_think_as_little_as_it_takes(llm, server, model, thinking, effort):
    """Source: the models' migration guides; the server refuses what they say is refused."""
    reply = llm.ask(a_request(Provider.ANTHROPIC, model, pictures=1), 10)
    assert isinstance(reply, ModelReply), reply
    assert sent(server).get("thinking") == thinking
    assert sent(server)["output_config"].get("effort") == effort


def test_tokens_read_from_and_written_to_the_cache_are_counted_apart(llm, server):
    server.script(Behaviour(tokens=Tokens(fresh=21, out=93, cached=1_800, written=400)))
    assert llm.ask(a_request(Provider.ANTHROPIC, MODEL), 10).usage == Usage(21, 93, 1_800, 400)


def test_the_request_id_and_the_model_that_answered_are_kept(llm, server):
    server.script(Behaviour(model="claude-sonnet-5-5-20260928"))
    reply = llm.ask(a_request(Provider.ANTHROPIC, MODEL), 10)
    assert (reply.request_id, reply.model) == ("req_1", "claude-sonnet-5-5-20260928")


def test_a_turn_that_is_paused_is_not_complete(llm, server):
    server.script(Behaviour(end=End.PAUSE))
    assert llm.ask(a_request(Provider.ANTHROPIC, MODEL), 10).ending is Ending.PAUSED


def test_a_temperature_is_refused_before_anything_is_sent(llm, server):
    """API version 2026-10-21 has none; a reply drawn otherwise than asked would be recorded under a false digest."""
    failure = llm.ask(a_request(Provider.ANTHROPIC, "claude-haiku-4-5", temperature=Decimal(0)), 10)
    assert (failure.trouble, failure.free, server.asked) == (Trouble.BAD_REQUEST, True, [])
    assert not llm.abilities("claude-haiku-4-5").sampling


def test_without_a_key_nothing_is_sent(server):
    failure = AnthropicLLM(None, server.base_url).ask(a_request(Provider.ANTHROPIC, MODEL), 10)
    assert (failure.trouble, failure.free, server.asked) == (Trouble.UNAUTHORIZED, True, [])
    assert "ANTHROPIC_API_KEY" in failure.detail


def test_a_model_that_does_not_exist_is_named_so(llm):
    failure = llm.ask(a_request(Provider.ANTHROPIC, "claude-nobody"), 10)
    assert (failure.trouble, failure.free) == (Trouble.NO_SUCH_MODEL, True)
    assert "claude-nobody" in failure.detail


def test_a_request_that_the_api_refuses_says_why_and_costs_nothing(llm):
    failure = llm.ask(a_request(Provider.ANTHROPIC, MODEL, text=""), 10)
    assert (failure.trouble, failure.free) == (Trouble.BAD_REQUEST, True)
    assert "messages.0.content" in failure.detail


def test_a_spend_limit_that_is_reached_is_no_rate_limit(llm, server):
    """Source: platform.claude.com/docs/en/api/errors: such a 429 has no retry-after and stays until next month."""
    error = {"type": "rate_limit_error", "message": "limit", "details": {"error_code": "enforced_spend_limit_reached"}}
    server.script(Behaviour(status=429, body=json.dumps({"type": "error", "error": error}).encode()))
    failure = llm.ask(a_request(Provider.ANTHROPIC, MODEL), 10)
    assert (failure.trouble, failure.free, failure.retry_after) == (Trouble.UNAUTHORIZED, True, None)


@pytest.mark.parametrize("body", [
    b"", b"[]", b"null", b'{"type": "message"}', b'{"model": 1, "content": [], "stop_reason": "end_turn"}',
    b'{"model": "m", "content": [], "stop_reason": "end_turn", "usage": {"input_tokens": -1, "output_tokens": 1}}',
    b'{"model": "m", "content": [], "stop_reason": "end_turn", "usage": {"input_tokens": 1.5, "output_tokens": 1}}',
    b'{"model": "m", "content": [], "stop_reason": "later", "usage": {"input_tokens": 1, "output_tokens": 1}}',
    b'{"model": "m", "content": "text", "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}}',
    b"[" * 100_000, b'"\xff"',
])
def test_an_answer_that_is_none_of_the_api_is_a_failure(llm, server, body):
    server.script(Behaviour(body=body))
    failure = llm.ask(a_request(Provider.ANTHROPIC, MODEL), 10)
    assert isinstance(failure, ModelFailure)
    assert (failure.trouble, failure.free) == (Trouble.BAD_RESPONSE, False)


def test_the_input_of_a_tool_is_what_the_model_wrote_duplicate_keys_and_all(llm, server):
    server.script(Behaviour(reply=AS_IT_CAME))
    reply = llm.ask(a_request(Provider.ANTHROPIC, LOCAL), 10)
    assert reply.text == AS_IT_CAME
    assert parse_reply(reply.text, "AAPL", ["AAPL"]) == Abstain("AAPL", "duplicate_key", "a field stands there twice")
    assert sent(server)["tool_choice"] == {"type": "tool", "name": "reply"}


@pytest.mark.parametrize("blocks", [
    [{"type": "tool_use", "name": "reply", "input": {"a": 1}}, {"type": "tool_use", "name": "reply", "input": {"a": 2}}],
    [{"type": "tool_use", "name": "reply"}],
])
def test_a_tool_that_is_called_twice_or_without_input_is_no_reply(llm, server, blocks):
    body = {"model": "m", "content": blocks, "stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 1}}
    server.script(Behaviour(body=json.dumps(body).encode()))
    assert llm.ask(a_request(Provider.ANTHROPIC, LOCAL), 10).ending is Ending.EMPTY


def test_a_tool_whose_input_stands_there_twice_is_no_reply(llm, server):
    """59: the second one is hidden from whoever reads the first."""
    block = '{"type":"tool_use","name":"reply","input":{"a":1},"input":[3]}'
    body = f'{{"model":"m","content":[{block}],"stop_reason":"tool_use","usage":{{"input_tokens":1,"output_tokens":1}}}}'
    server.script(Behaviour(body=body.encode()))
    came = llm.ask(a_request(Provider.ANTHROPIC, LOCAL), 10.0)
    assert not (isinstance(came, ModelReply) and came.text)


@pytest.mark.parametrize(("model", "tool"), [(MODEL, "place_order"), (MODEL, "reply"), (LOCAL, "place_order")])
@pytest.mark.parametrize("said", [[], [{"type": "text", "text": AS_IT_CAME}]])
def test_a_call_of_a_tool_that_was_not_offered_is_no_reply(llm, server, model, tool, said):
    """59, T3: whatever its input looks like, and whatever is said beside it."""
    call = {"type": "tool_use", "id": "toolu_1", "name": tool, "input": {"action": "BUY"}}
    body = {"model": model, "content": [*said, call], "stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 1}}
    server.script(Behaviour(body=json.dumps(body).encode()))
    failure = llm.ask(a_request(Provider.ANTHROPIC, model), 10)
    assert isinstance(failure, ModelFailure)
    assert (failure.trouble, failure.free) == (Trouble.BAD_RESPONSE, False)
    assert failure.detail == f"the answer calls the tool {tool}, which was not offered"


def test_the_environment_of_the_sdk_decides_neither_key_nor_address(server, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-the-environment")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://192.0.2.1")
    llm = AnthropicLLM(SecretStr(CANARY), server.base_url)
    assert isinstance(llm.ask(a_request(Provider.ANTHROPIC, MODEL), 10), ModelReply)
    assert server.asked[0].headers["authorization"] == f"Bearer {CANARY}"
    assert "x-api-key" not in server.asked[0].headers
    llm.close()
