"""The real Claude Code against a server on loopback: whether a version still does what the adapter and the stand-in rely on.

Skipped unless CLAUDE_CODE names the program: `CLAUDE_CODE=$(command -v claude) pytest tests/adapters/llm/test_claude_code_itself.py`.
It gets a home of its own and a key that is none, is told to talk to nobody but the server, and costs nothing. Last passed with 2.1.329.
"""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.llm import AS_IT_CAME, a_request
from trading_pipeline.adapters.llm import claude_code
from trading_pipeline.adapters.llm.claude_code import ClaudeCodeLLM
from trading_pipeline.domain.models import Ending, ModelFailure, ModelReply, Provider, Trouble, Usage

PROGRAM = os.environ.get("CLAUDE_CODE", "")
MODEL = "claude-haiku-4-5"
SECRET = "the-content-of-a-file-of-mine"

pytestmark = pytest.mark.skipif(not PROGRAM, reason="CLAUDE_CODE names no program")


class Streaming(ThreadingHTTPServer):
    """The Messages API as far as Claude Code uses it: a stream of server-sent events."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply, self.stop_reason, self.status = AS_IT_CAME, "end_turn", 200
        self.asked: list[dict[str, Any]] = []

    @property
    def everything(self) -> str:
        """All that reached it."""
        return json.dumps(self.asked)


class _Handler(BaseHTTPRequestHandler):
    server: Streaming

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        if self.server.status != 200:
            self._send("application/json", json.dumps({"type": "error", "error": {"type": "api_error", "message": "scripted"}}))
            return
        usage = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 0}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [], "stop_reason": None}
        events = [
            {"type": "message_start", "message": message | {"usage": usage}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": self.server.reply}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": self.server.stop_reason, "stop_sequence": None}, "usage": usage},
            {"type": "message_stop"},
        ]
        self._send("text/event-stream", "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events))

    def do_GET(self) -> None:
        self._send("application/json", "{}")

    def do_HEAD(self) -> None:
        self._send("application/json", "")

    def _send(self, kind: str, body: str) -> None:
        content = body.encode()
        self.send_response(self.server.status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Streaming]:
    with Streaming() as streaming:
        thread = threading.Thread(target=streaming.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield streaming
        streaming.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With what a person may have there, and what must not come along."""
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / "CLAUDE.md").write_text(SECRET)
    (tmp_path / ".claude" / "settings.json").write_text(json.dumps({"permissions": {"allow": ["Read"]}, "env": {"FROM_SETTINGS": SECRET}}))
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": {"evil": {"command": "false"}}}))
    (tmp_path / "credentials.json").write_text(SECRET)
    return tmp_path


@pytest.fixture
def llm(server: Streaming, home: Path) -> ClaudeCodeLLM:
    address = f"http://127.0.0.1:{server.server_port}"
    return ClaudeCodeLLM([PROGRAM], environ={
        "PATH": os.environ["PATH"], "HOME": str(home), "ANTHROPIC_API_KEY": "sk-ant-none-0123456789abcdef", "ANTHROPIC_BASE_URL": address,
    })


def question(text: str = "What about AAPL?", pictures: int = 0) -> Any:
    return a_request(Provider.CLAUDE_CODE, MODEL, text=text, pictures=pictures, max_tokens=512)


def test_a_reply_comes_as_it_was_written_with_its_cost(llm, server):
    reply = llm.ask(question(), 30)
    assert isinstance(reply, ModelReply), reply
    assert (reply.text, reply.ending, reply.model, reply.usage) == (AS_IT_CAME, Ending.COMPLETE, MODEL, Usage(100, 20, 3, 0))
    assert reply.cost is not None
    assert reply.cost > 0
    (asked,) = server.asked
    assert (asked["model"], asked["max_tokens"], asked["tools"]) == (MODEL, 512, [])
    assert SECRET not in server.everything


def test_pictures_arrive_and_no_tool_brings_them(llm, server):
    assert isinstance(llm.ask(question(pictures=2), 30), ModelReply)
    (asked,) = server.asked
    kinds = [block["type"] for message in asked["messages"] for block in message["content"]]
    assert kinds.count("image") == 2
    assert asked["tools"] == []


@pytest.mark.parametrize("guard", ["both", "attachments", "settings"])
def test_each_guard_alone_keeps_files_out_of_the_prompt(llm, server, home, monkeypatch, guard):
    """T1, 62."""
    if guard == "attachments":
        monkeypatch.setattr(claude_code, "_SETTINGS", "{}")
    if guard == "settings":
        monkeypatch.delitem(llm._environment, "CLAUDE_CODE_DISABLE_ATTACHMENTS")
    path = home / "credentials.json"
    assert isinstance(llm.ask(question(f'news: @{path} and @"{path}" (@{path})', pictures=1), 30), ModelReply)
    assert str(path) in server.everything
    assert SECRET not in server.everything


def test_without_them_files_would_come_along(llm, server, home, monkeypatch):
    """What the test above proves is worth as much as this."""
    monkeypatch.setattr(claude_code, "_SETTINGS", "{}")
    monkeypatch.delitem(llm._environment, "CLAUDE_CODE_DISABLE_ATTACHMENTS")
    llm.ask(question(f"news: @{home / 'credentials.json'}"), 30)
    assert SECRET in server.everything


def test_a_text_that_begins_like_a_command_reaches_the_model(llm, server):
    assert isinstance(llm.ask(question("/help me"), 30), ModelReply)
    assert "/help me" in server.everything


def test_of_a_truncated_reply_the_first_part_comes_and_all_of_it_is_paid(llm, server):
    server.reply, server.stop_reason = '{"action": "BU', "max_tokens"
    reply = llm.ask(question(), 30)
    assert isinstance(reply, ModelReply), reply
    assert (reply.text, reply.ending) == ('{"action": "BU', Ending.TRUNCATED)
    assert reply.usage.output_tokens == 20 * len(server.asked)
    assert len(server.asked) <= 4


def test_a_refusal_is_one_and_is_not_asked_again(llm, server):
    server.stop_reason = "refusal"
    reply = llm.ask(question(), 30)
    assert isinstance(reply, ModelReply), reply
    assert (reply.ending, len(server.asked)) == (Ending.REFUSED, 1)


def test_a_reply_without_words_is_no_reply(llm, server):
    server.reply = ""
    outcome = llm.ask(question(), 30)
    assert isinstance(outcome, ModelFailure) or outcome.ending is Ending.EMPTY, outcome
    assert len(server.asked) <= 2


@pytest.mark.parametrize(("status", "trouble", "free"), [
    (401, Trouble.UNAUTHORIZED, True), (404, Trouble.NO_SUCH_MODEL, True), (429, Trouble.RATE_LIMITED, True),
    (500, Trouble.SERVER_ERROR, False), (529, Trouble.OVERLOADED, True),
])
def test_errors_come_by_their_names(llm, server, status, trouble, free):
    server.status = status
    failure = llm.ask(question(), 30)
    assert isinstance(failure, ModelFailure), failure
    assert (failure.trouble, failure.free) == (trouble, free)
    assert len(server.asked) <= 2
