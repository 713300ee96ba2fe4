"""The log of calls: what a line holds, what it never holds, and that nothing which befalls it befalls a call."""

import errno
import json
import multiprocessing
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.llm import CANARY, a_request
from tests.model_servers.claude_code import Behaviour, StandIn
from trading_pipeline.adapters.llm.call_log import MAX_TEXT, CallLog
from trading_pipeline.adapters.llm.claude_code import ClaudeCodeLLM
from trading_pipeline.domain.models import Abilities, Ending, ModelFailure, ModelReply, ModelRequest, Provider, Trouble, Usage
from trading_pipeline.domain.scrubbing import Scrubber
from trading_pipeline.ports import LLM

AT = datetime(2026, 3, 9, 23, 59, 59, 120_000, tzinfo=UTC)
REPLY = ModelReply(
    '{"action": "HOLD"}', Ending.COMPLETE, "claude-x-1", Usage(10, 2, 3, 4), "req_1", "fp", 1.23456, Decimal("0.0042"),
)


class Answers:
    """A provider that gives what it was made with."""

    provider = Provider.ANTHROPIC

    def __init__(self, answer: Callable[[ModelRequest], ModelReply | ModelFailure]) -> None:
        self.answer = answer
        self.closed = False

    def abilities(self, model: str) -> Abilities:
        return Abilities(schema=True, images=model == "sees", sampling=False)

    def recorded(self, request: ModelRequest) -> bool:
        return request.model == "recorded"

    def ask(self, request: ModelRequest, timeout: float) -> ModelReply | ModelFailure:
        return self.answer(request)

    def close(self) -> None:
        self.closed = True


def a_log(folder: Path, answer: Any = REPLY, said: list[str] | None = None, scrub: Scrubber | None = None) -> CallLog:
    give = answer if callable(answer) else lambda _: answer
    inner: LLM = Answers(give)
    return CallLog(inner, folder, scrub, say=(said if said is not None else []).append, now=lambda: AT)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_bytes().splitlines()]


def test_a_line_tells_when_who_what_and_at_which_cost(tmp_path):
    request = a_request(Provider.ANTHROPIC, "claude-x", text="What about AAPL?", pictures=1, temperature=Decimal("0.20"))
    assert a_log(tmp_path / "llm").ask(request, 5) is REPLY
    assert [file.name for file in (tmp_path / "llm").iterdir()] == ["20260309.jsonl"], "the UTC day"
    (line,) = lines(tmp_path / "llm")
    assert line == {
        "at": "2026-03-09T23:59:59.120+00:00", "provider": "anthropic", "model": "claude-x", "request": request.digest,
        "system": request.system, "text": "What about AAPL?", "schema": request.schema,
        "characters": {"system": len(request.system), "text": 16, "schema": len(request.schema)},
        "pictures": [{"sha256": "0" * 64, "bytes": len(request.pictures[0].content)}], "max_tokens": 1024, "temperature": "0.20",
        "ending": "complete", "reply": '{"action": "HOLD"}', "answered": "claude-x-1",
        "usage": {"input_tokens": 10, "output_tokens": 2, "cached_tokens": 3, "cache_write_tokens": 4},
        "cost": "0.0042", "request_id": "req_1", "fingerprint": "fp", "seconds": 1.235,
    }


def test_a_failure_has_its_line(tmp_path):
    failure = ModelFailure(Trouble.RATE_LIMITED, "429: slow down", free=True, retry_after=2.5, seconds=0.5)
    assert a_log(tmp_path, failure).ask(a_request(Provider.ANTHROPIC, "m"), 5) is failure
    (line,) = lines(tmp_path)
    assert {name: line[name] for name in ("trouble", "detail", "free", "retry_after", "seconds")} == {
        "trouble": "rate_limited", "detail": "429: slow down", "free": True, "retry_after": 2.5, "seconds": 0.5,
    }


def test_an_exception_goes_on_and_leaves_a_line(tmp_path):
    def break_down(_: ModelRequest) -> ModelReply:
        raise ZeroDivisionError("a fault of ours")

    with pytest.raises(ZeroDivisionError):
        a_log(tmp_path, break_down).ask(a_request(Provider.ANTHROPIC, "m"), 5)
    (line,) = lines(tmp_path)
    assert line["trouble"] == "raised"


def test_everything_else_is_that_of_the_provider(tmp_path):
    inner = Answers(lambda _: REPLY)
    log = CallLog(inner, tmp_path)
    assert log.provider is Provider.ANTHROPIC
    assert (log.abilities("sees").images, log.abilities("blind").images) == (True, False)
    assert log.recorded(a_request(Provider.ANTHROPIC, "recorded"))
    log.close()
    assert inner.closed
    assert list(tmp_path.iterdir()) == [], "nothing was called"


def test_nobody_else_can_read_it(tmp_path):
    a_log(tmp_path / "logs" / "llm").ask(a_request(Provider.ANTHROPIC, "m"), 5)
    assert stat.S_IMODE((tmp_path / "logs" / "llm").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "logs" / "llm" / "20260309.jsonl").stat().st_mode) == 0o600


def test_no_secret_gets_into_it_from_anywhere(tmp_path):
    """9, fault 72: in prompt, system, schema, reply, names and detail, known by value or by form."""
    known = "account-77-U1234567"
    canaries = (CANARY, known, "hunter2")
    text = f"{CANARY} {known} postgresql://a:hunter2@db/x"
    request = ModelRequest(Provider.OPENAI, "m", text, text, json.dumps({"title": text}))
    reply = ModelReply(text, Ending.COMPLETE, text, Usage(1, 1), text, text)
    log = a_log(tmp_path, reply, scrub=Scrubber([known]))
    log.ask(request, 5)
    a_log(tmp_path, ModelFailure(Trouble.BAD_RESPONSE, text, free=False), scrub=Scrubber([known])).ask(request, 5)
    content = "".join(file.read_text() for file in tmp_path.iterdir())
    assert not [canary for canary in canaries if canary in content]
    assert len(lines(tmp_path)) == 2


def test_a_secret_is_not_saved_by_the_cut(tmp_path):
    """Cut first, and half a key would stay that no form fits any more."""
    text = "x" * (MAX_TEXT - 10) + " " + CANARY + " tail" * 1_000
    a_log(tmp_path, ModelReply(text, Ending.COMPLETE, "m", Usage(1, 1))).ask(a_request(Provider.ANTHROPIC, "m", text=text), 5)
    (line,) = lines(tmp_path)
    assert len(line["text"]) == len(line["reply"]) == MAX_TEXT
    assert CANARY[:6] not in line["text"] + line["reply"]
    assert line["characters"]["text"] == len(text)


def test_hostile_text_stays_on_its_line(tmp_path):
    text = 'a\n{"forged": true}\r\u2028\u2029\x85\x00\ud800 "quoted" \\'
    a_log(tmp_path, ModelReply(text, Ending.COMPLETE, "m", Usage(1, 1))).ask(a_request(Provider.ANTHROPIC, "m", text="a\nb"), 5)
    (line,) = lines(tmp_path)
    assert line["reply"] == text


def test_threads_never_mix_their_lines(tmp_path):
    log = a_log(tmp_path, lambda request: ModelReply(request.text * 500, Ending.COMPLETE, "m", Usage(1, 1)))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: log.ask(a_request(Provider.ANTHROPIC, "m", text=f"<{number}>"), 5), range(200)))
    assert sorted(line["text"] for line in lines(tmp_path)) == sorted(f"<{number}>" for number in range(200))
    assert all(line["reply"] == line["text"] * 500 for line in lines(tmp_path))


def write_many(folder: Path, name: str) -> None:
    for number in range(50):
        a_log(folder).ask(a_request(Provider.ANTHROPIC, name, text=f"{number} " * 3_000), 5)


def test_processes_never_mix_their_lines(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(tmp_path, name)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(lines(tmp_path)) == 100


def test_a_line_that_was_cut_off_keeps_its_own(tmp_path):
    (tmp_path / "20260309.jsonl").write_bytes(b'{"at": "2026-03-09T2')
    a_log(tmp_path).ask(a_request(Provider.ANTHROPIC, "m"), 5)
    first, second = (tmp_path / "20260309.jsonl").read_bytes().splitlines()
    assert first == b'{"at": "2026-03-09T2'
    assert json.loads(second)["reply"] == REPLY.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_disk_that_refuses_breaks_no_call_and_is_told_once(tmp_path, monkeypatch, number):
    """fault 31, fault 32."""
    said: list[str] = []
    log, request = a_log(tmp_path, said=said), a_request(Provider.ANTHROPIC, "m")
    with monkeypatch.context() as patch:
        def refuse(*_: Any) -> int:
            raise OSError(number, os.strerror(number))

        patch.setattr(os, "write", refuse)
        assert [log.ask(request, 5) for _ in range(3)] == [REPLY] * 3
    assert len(said) == 1
    assert os.strerror(number) in said[0]
    log.ask(request, 5)
    assert len(lines(tmp_path)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda *_: 10)
        assert log.ask(request, 5) is REPLY
    assert len(said) == 2, "it had worked meanwhile"
    assert "10 of" in said[1]


def test_a_folder_that_cannot_be_breaks_no_call(tmp_path):
    (tmp_path / "llm").write_text("in the way")
    said: list[str] = []
    assert a_log(tmp_path / "llm", said=said).ask(a_request(Provider.ANTHROPIC, "m"), 5) is REPLY
    assert len(said) == 1


def test_a_link_in_its_place_is_not_followed(tmp_path):
    target = tmp_path / "ledger"
    target.write_text("precious")
    folder = tmp_path / "llm"
    folder.mkdir()
    (folder / "20260309.jsonl").symlink_to(target)
    said: list[str] = []
    assert a_log(folder, said=said).ask(a_request(Provider.ANTHROPIC, "m"), 5) is REPLY
    assert (target.read_text(), len(said)) == ("precious", 1)


def test_a_real_provider_is_logged(tmp_path):
    stand_in = StandIn(tmp_path / "claude", Behaviour(reply='{"action": "HOLD"}'))
    log = CallLog(ClaudeCodeLLM(stand_in.command, environ={"PATH": os.environ["PATH"], "HOME": "/nonexistent"}), tmp_path / "llm")
    reply = log.ask(a_request(Provider.CLAUDE_CODE, "sonnet"), 10)
    assert isinstance(reply, ModelReply), reply
    (line,) = lines(tmp_path / "llm")
    assert (line["provider"], line["reply"], line["cost"]) == ("claude-code", '{"action": "HOLD"}', "0.004200")
    assert abs((datetime.fromisoformat(line["at"]) - datetime.now(UTC)).total_seconds()) < 60
