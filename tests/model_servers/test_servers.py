"""The servers are as strict as the documentation they were written from; a lenient one would prove nothing."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from tests.model_servers.anthropic_server import AnthropicServer
from tests.model_servers.openai_server import OpenAIServer
from tests.model_servers.plumbing import steady
from tests.model_servers.schemas import refuse_loose_schema
from trading_pipeline.domain.replies import parse_reply, reply_schema
from trading_pipeline.domain.signals import Signal

CLAUDE = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "What about AAPL?"}]}
GPT = {"model": "gpt-6-luna", "input": "What about AAPL?"}
OURS = {"content-type": "application/json", "authorization": "Bearer k"}
VERSION = {"anthropic-version": "2026-10-21"}


def post(server, path, body, headers):
    connection = http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=10)
    connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


@pytest.mark.parametrize(("change", "headers", "status", "kind", "words"), [
    ({}, OURS, 400, "invalid_request_error", "anthropic-version: header is required"),
    ({}, OURS | {"anthropic-version": "1999-01-01"}, 400, "invalid_request_error", "is not a valid version"),
    ({}, VERSION | {"content-type": "application/json"}, 401, "authentication_error", "invalid x-api-key"),
    ({"temperature": 1.0}, OURS | VERSION, 400, "invalid_request_error", "temperature: Extra inputs are not permitted"),
    ({"max_tokens": "100"}, OURS | VERSION, 400, "invalid_request_error", "max_tokens"),
    ({"messages": []}, OURS | VERSION, 400, "invalid_request_error", "messages"),
    ({"thinking": {"type": "disabled"}}, OURS | VERSION, 400, "invalid_request_error", '"thinking.type.disabled" is not supported'),
    ({"tools": [{"name": "t", "input_schema": {}}], "tool_choice": {"type": "tool", "name": "t"}}, OURS | VERSION, 400,
     "invalid_request_error", "forced tool use"),
    ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}, OURS | VERSION, 400, "invalid_request_error",
     "additionalProperties"),
    ({"model": "claude-nobody"}, OURS | VERSION, 404, "not_found_error", "model: claude-nobody"),
])
def test_the_messages_api_refuses(change, headers, status, kind, words):
    with AnthropicServer() as server:
        got, body = post(server, "/v1/messages", CLAUDE | change, headers)
    assert (got, body["type"], body["error"]["type"]) == (status, "error", kind)
    assert words in body["error"]["message"]


@pytest.mark.parametrize(("path", "change", "status", "code", "words"), [
    ("/v1/responses", {"max_tokens": 5}, 400, "unknown_parameter", "Unknown parameter: 'max_tokens'."),
    ("/v1/responses", {"max_output_tokens": 5}, 400, "invalid_value", "max_output_tokens"),
    ("/v1/responses", {"temperature": 0.5}, 400, "unsupported_parameter", "temperature"),
    ("/v1/responses", {"model": "gpt-nobody"}, 404, "model_not_found", "gpt-nobody"),
    ("/v1/responses", {"model": "gpt-6-astra", "reasoning": {"effort": "none"}}, 400, "unsupported_value", "none"),
    ("/v1/embeddings", {}, 404, None, "Invalid URL"),
    ("/v1/responses", {"text": {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": {
        "type": "object", "additionalProperties": False, "properties": {"a": {"type": "string"}},
    }}}}, 400, "invalid_json_schema", "required"),
])
def test_the_openai_apis_refuse(path, change, status, code, words):
    with OpenAIServer() as server:
        got, body = post(server, path, GPT | change, OURS)
    assert (got, body["error"]["code"]) == (status, code)
    assert words in body["error"]["message"]


def test_a_wrong_key_is_refused_by_both_and_shown_in_part_by_openai():
    with AnthropicServer(key="right") as claude, OpenAIServer(key="right") as gpt:
        assert post(claude, "/v1/messages", CLAUDE, OURS | VERSION)[0] == 401
        status, body = post(gpt, "/v1/responses", GPT, OURS)
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")


def test_what_is_no_json_is_refused():
    with AnthropicServer() as server:
        assert post(server, "/v1/messages", b"{", OURS | VERSION)[0] == 400


def test_the_product_s_own_schema_is_one_that_both_apis_take():
    assert refuse_loose_schema(reply_schema("AAPL"), "schema", all_required=True) is None


def test_the_steady_policy_replies_validly_about_the_symbol_asked_and_always_the_same():
    with OpenAIServer() as server:
        post(server, "/v1/responses", GPT | {"input": "Symbol: BRK.B, close 412"}, OURS)
        asked = server.asked[0]
    assert asked.symbol == "BRK.B"
    assert steady(asked) == steady(asked)
    assert isinstance(parse_reply(steady(asked), "BRK.B", ["BRK.B"]), Signal)
