"""Claude Code as a plain model, against a program that behaves like it."""

import json
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from tests.contracts.llm import AS_IT_CAME, CANARY, LLMContract, a_request
from tests.model_servers.claude_code import Behaviour, StandIn
from tests.model_servers.claude_code_world import ERRORS, ClaudeCodeWorld, unbilled
from tests.waiting import gone, until
from trading_pipeline.adapters.llm.claude_code import ClaudeCodeLLM
from trading_pipeline.domain.models import Ending, ModelFailure, ModelReply, ModelRequest, Provider, Trouble, Usage
from trading_pipeline.domain.replies import parse_reply
from trading_pipeline.domain.signals import Signal

MODEL = "claude-sonnet-4-5"
ENVIRON = {
    "PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", "ANTHROPIC_API_KEY": CANARY, "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
    "TRADING_DATABASE_URL": "postgresql://trading:hunter2@db/trading", "ETRADE_SECRET": "not for models", "OPENAI_API_KEY": "sk-other",
    "CLAUDE_CODE_SIMPLE": "1", "NODE_OPTIONS": "--require /nowhere/evil.js", "LD_PRELOAD": "/nowhere/evil.so",
}


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "claude")


@pytest.fixture
def llm(stand_in: StandIn) -> ClaudeCodeLLM:
    return ClaudeCodeLLM(stand_in.command, Decimal("0.25"), ENVIRON)


@pytest.fixture
def question() -> ModelRequest:
    return a_request(Provider.CLAUDE_CODE, MODEL)


class TestContract(LLMContract):
    model = MODEL
    short = 2.0
    """Two programs are started in it, of which only the second hangs."""

    @pytest.fixture
    def world(self, stand_in: StandIn) -> ClaudeCodeWorld:
        return ClaudeCodeWorld(stand_in)


class TestWhatItIsStartedWith:
    def test_texts_and_pictures_go_by_files_and_none_of_them_by_the_command_line(self, llm, stand_in):
        reply = llm.ask(a_request(Provider.CLAUDE_CODE, MODEL, text="RSI is 28.4; what about AAPL?", pictures=2), 10)
        assert isinstance(reply, ModelReply), reply
        (call,) = stand_in.calls
        assert (call["prompt"], call["pictures"]) == ("RSI is 28.4; what about AAPL?", 2)
        assert call["system"].startswith("You answer with one JSON object.")
        assert '"enum":["AAPL"]' in call["system"]
        shown = " ".join(call["arguments"])
        assert "RSI" not in shown
        assert "AAPL" not in shown
        assert "You answer" not in shown

    def test_it_has_no_tools_no_servers_no_settings_and_one_turn_of_bounded_cost(self, llm, stand_in, question):
        llm.ask(question, 10)
        (call,) = stand_in.calls
        given = call["arguments"]
        values = {name: given[place + 1] for place, name in enumerate(given) if name.startswith("--") and place + 1 < len(given)}
        assert (values["--tools"], values["--setting-sources"], values["--permission-mode"]) == ("", "", "dontAsk")
        assert json.loads(values["--mcp-config"]) == {"mcpServers": {}}
        assert json.loads(values["--settings"]) == {"permissions": {"deny": ["Read"]}, "disableAllHooks": True}
        assert (values["--model"], values["--max-turns"], values["--max-budget-usd"]) == (MODEL, "1", "0.25")
        assert {"--strict-mcp-config", "--disable-slash-commands", "--no-session-persistence"} <= set(given)
        assert call["environment"]["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "1024"

    def test_its_folder_is_empty_and_gone_afterwards(self, llm, stand_in, question):
        llm.ask(question, 10)
        (call,) = stand_in.calls
        assert call["folder"] == []
        assert not Path(call["cwd"]).parent.exists()

    def test_its_environment_has_its_own_credentials_and_nobody_elses(self, llm, stand_in, question):
        """T16: no address of a database, no secret of a broker, no other provider's key, nothing that changes the program."""
        llm.ask(question, 10)
        (call,) = stand_in.calls
        environment = call["environment"]
        assert environment["ANTHROPIC_API_KEY"] == CANARY
        foreign = {"TRADING_DATABASE_URL", "ETRADE_SECRET", "OPENAI_API_KEY", "CLAUDE_CODE_SIMPLE", "NODE_OPTIONS", "LD_PRELOAD"}
        assert not foreign & set(environment)
        assert "hunter2" not in str(environment)

    def test_a_login_token_is_not_overruled_by_a_key(self, stand_in, question):
        """A key comes before a login with Claude Code, and is billed by the token."""
        llm = ClaudeCodeLLM(stand_in.command, environ=ENVIRON | {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-login"})
        llm.ask(question, 10)
        (call,) = stand_in.calls
        assert call["environment"]["CLAUDE_CODE_OAUTH_TOKEN"] == "sk-ant-oat01-login"
        assert "ANTHROPIC_API_KEY" not in call["environment"]

    @pytest.mark.parametrize("mention", ["@{}", 'see @"{}" now', "news:\n@{}\n"])
    def test_outside_text_cannot_have_a_file_read(self, llm, stand_in, tmp_path, mention):
        """T1, 62: `@path` puts a file into the prompt of the real program, with every tool off."""
        secret = tmp_path / "credentials.json"
        secret.write_text(CANARY)
        llm.ask(a_request(Provider.CLAUDE_CODE, MODEL, text=mention.format(secret)), 10)
        (call,) = stand_in.calls
        assert call["read"] == []

    def test_the_stand_in_would_have_read_the_file(self, stand_in, tmp_path):
        """What the test above proves is worth as much as this."""
        for name, text in (("system", ""), ("secret", CANARY)):
            (tmp_path / name).write_text(text)
        message = {"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": f"@{tmp_path / 'secret'}"}]}}
        options = ["--input-format", "stream-json", "--output-format", "stream-json", "--verbose", "--system-prompt-file"]
        command = [*stand_in.command, "-p", *options, str(tmp_path / "system")]
        subprocess.run(command, input=json.dumps(message).encode(), check=True, capture_output=True, env={})
        assert stand_in.calls[0]["read"] == [str(tmp_path / "secret")]

    def test_a_text_that_begins_like_a_command_is_none(self, llm, stand_in):
        reply = llm.ask(a_request(Provider.CLAUDE_CODE, MODEL, text="/help me"), 10)
        assert isinstance(reply, ModelReply), reply
        assert reply.usage.output_tokens == 90
        assert stand_in.calls[0]["prompt"].endswith("/help me")


class TestReplies:
    def test_a_reply_says_what_it_cost_and_who_gave_it(self, llm, stand_in, question):
        stand_in.behave(Behaviour(cost="0.0006000000000000001", tokens=(100, 20, 3, 7)))
        reply = llm.ask(question, 10)
        assert isinstance(reply, ModelReply), reply
        assert reply.cost == Decimal("0.000601"), "rounded up to a millionth of a dollar"
        assert reply.usage == Usage(100, 20, 3, 7)
        assert (reply.model, reply.fingerprint, reply.ending) == (MODEL, "claude-code 2.1.329", Ending.COMPLETE)
        assert isinstance(parse_reply(reply.text, "AAPL", ["AAPL"]), Signal)

    def test_the_full_name_of_an_alias_comes_back(self, llm, stand_in, question):
        stand_in.behave(Behaviour(fields={"modelUsage": {
            "claude-haiku-4-5-20251001": {"outputTokens": 12}, "claude-sonnet-4-5-20250929": {"outputTokens": 90},
        }}))
        reply = llm.ask(question, 10)
        assert isinstance(reply, ModelReply)
        assert reply.model == "claude-sonnet-4-5-20250929"

    def test_a_whole_reply_that_passed_the_budget_is_read_and_booked(self, llm, stand_in, question):
        stand_in.behave(Behaviour(cost="0.31"))
        reply = llm.ask(question, 10)
        assert isinstance(reply, ModelReply), reply
        assert (reply.ending, reply.cost) == (Ending.COMPLETE, Decimal("0.31"))

    def test_a_turn_that_was_broken_off_is_paused_and_booked(self, llm, stand_in, question):
        fields = {"subtype": "error_max_turns", "is_error": True, "stop_reason": "tool_use", "result": None}
        stand_in.behave(Behaviour(reply="", fields=fields))
        reply = llm.ask(question, 10)
        assert isinstance(reply, ModelReply), reply
        assert (reply.ending, reply.text, reply.cost) == (Ending.PAUSED, "", Decimal("0.0042"))

    def test_of_a_reply_that_was_resumed_only_the_first_part_counts(self, llm, stand_in, question):
        """Claude Code has the model go on after it ran out of tokens: what then comes may begin anew."""
        fields = {"is_error": False, "stop_reason": "end_turn", "api_error": None}
        stand_in.behave(Behaviour("cut", '{"action": "BU', fields=fields))
        reply = llm.ask(question, 10)
        assert isinstance(reply, ModelReply), reply
        assert (reply.ending, reply.text) == (Ending.TRUNCATED, '{"action": "BU')

    def test_a_reply_counts_though_the_program_does_not_end(self, llm, stand_in, question):
        """anthropics/claude-code#50777."""
        stand_in.behave(Behaviour(reply=AS_IT_CAME, hang_after=True))
        reply = llm.ask(question, 60)
        assert isinstance(reply, ModelReply), reply
        assert reply.text == AS_IT_CAME
        assert reply.seconds < 30
        until(lambda: gone(stand_in.calls[0]["pid"]))


@pytest.mark.slow
class TestTroubles:
    @pytest.mark.parametrize(("behaviour", "trouble"), [
        (Behaviour("error", "Not logged in · Please run /login"), Trouble.UNAUTHORIZED),
        (Behaviour("error", "Credit balance is too low"), Trouble.UNAUTHORIZED),
        (Behaviour("error", "You've hit your limit · resets 3pm"), Trouble.RATE_LIMITED),
        (Behaviour("error", "no such model", fields={"api_error_status": 404}), Trouble.NO_SUCH_MODEL),
        (Behaviour("error", "prompt is too long", fields={"api_error_status": 400}), Trouble.BAD_REQUEST),
    ])
    def test_what_is_refused_before_a_model_sees_it_is_free(self, llm, stand_in, question, behaviour, trouble):
        stand_in.behave(unbilled(behaviour))
        failure = llm.ask(question, 10)
        assert isinstance(failure, ModelFailure), failure
        assert (failure.trouble, failure.free) == (trouble, True)

    @pytest.mark.parametrize("trouble", [Trouble.SERVER_ERROR, Trouble.CONNECTION])
    def test_what_breaks_in_the_middle_may_have_cost_something(self, llm, stand_in, question, trouble):
        stand_in.behave(unbilled(ERRORS[trouble]))
        failure = llm.ask(question, 10)
        assert isinstance(failure, ModelFailure), failure
        assert not failure.free

    @pytest.mark.parametrize("behaviour", [
        Behaviour("silent"),  # anthropics/claude-code#32191: exit code 0 and nothing printed.
        Behaviour("fail", stderr="Segmentation fault"),
        Behaviour("garbage", "{}"),
        Behaviour("garbage", "[" * 100_000),
        Behaviour("garbage", '{"type": "result"}'),
        Behaviour(fields={"total_cost_usd": "free"}),
        Behaviour(cost="-1"),
        Behaviour(cost="NaN"),
        Behaviour(cost="1e999999999"),
        Behaviour(cost='true'),
        Behaviour(fields={"usage": {"input_tokens": -5, "output_tokens": 1}}),
        Behaviour(fields={"is_error": "no"}),
        Behaviour(fields={"usage": None}),
    ])
    def test_what_is_no_result_is_a_bad_response_that_may_have_cost_something(self, llm, stand_in, question, behaviour):
        stand_in.behave(behaviour)
        failure = llm.ask(question, 10)
        assert isinstance(failure, ModelFailure), failure
        assert (failure.trouble, failure.free) == (Trouble.BAD_RESPONSE, False)

    def test_a_flood_is_stopped(self, llm, stand_in, question):
        stand_in.behave(Behaviour("flood"))
        failure = llm.ask(question, 30)
        assert isinstance(failure, ModelFailure), failure
        assert (failure.trouble, failure.free) == (Trouble.BAD_RESPONSE, False)
        until(lambda: gone(stand_in.calls[0]["pid"]))

    @pytest.mark.parametrize("kind", ["never", "stubborn"])
    def test_whoever_hangs_is_killed_in_time(self, llm, stand_in, question, kind):
        """anthropics/claude-code#9026. The version is asked for first, so that the clock is the question's alone."""
        llm.ask(question, 10)
        stand_in.behave(Behaviour(kind))
        began = time.monotonic()
        failure = llm.ask(question, 1)
        assert isinstance(failure, ModelFailure), failure
        assert (failure.trouble, failure.free) == (Trouble.TIMEOUT, False)
        assert time.monotonic() - began < 5
        until(lambda: gone(stand_in.calls[1]["pid"]))

    @pytest.mark.parametrize("kind", ["answer", "never"])
    @pytest.mark.parametrize("child", ["group", "session"])
    def test_a_child_left_behind_neither_delays_nor_survives(self, llm, stand_in, question, kind, child):
        stand_in.behave(Behaviour(kind, child=child))
        outcome = llm.ask(question, 20 if kind == "answer" else 1.5)
        assert isinstance(outcome, ModelReply if kind == "answer" else ModelFailure), outcome
        assert outcome.seconds < 15
        until(lambda: gone(stand_in.child))

    def test_no_secret_of_its_standard_error_is_told(self, llm, stand_in, question, caplog):
        stand_in.behave(Behaviour("fail", stderr=f"\x1b[31mkey {CANARY} for postgresql://a:hunter2@db/x\x1b[0m\n"))
        with caplog.at_level(logging.DEBUG):
            failure = llm.ask(question, 10)
        assert isinstance(failure, ModelFailure)
        assert "[removed]" in failure.detail
        assert failure.detail.isprintable()
        assert "hunter2" not in failure.detail + caplog.text
        assert CANARY not in failure.detail + caplog.text


class TestBeforeAnythingIsSent:
    def test_a_program_that_is_not_there_is_free(self, question, tmp_path):
        for command in ("no-such-claude", str(tmp_path)):
            failure = ClaudeCodeLLM([command], environ=ENVIRON).ask(question, 10)
            assert isinstance(failure, ModelFailure)
            assert (failure.trouble, failure.free) == (Trouble.BAD_REQUEST, True)
            assert "is not installed" in failure.detail

    def test_another_program_is_not_asked(self, question):
        failure = ClaudeCodeLLM(["cat"], environ=ENVIRON).ask(question, 10)
        assert isinstance(failure, ModelFailure)
        assert (failure.trouble, failure.free) == (Trouble.BAD_REQUEST, True)

    def test_a_program_that_hangs_before_it_tells_its_version_holds_up_all_calls_once(self, tmp_path, question):
        program = tmp_path / "claude"
        program.write_text('#!/bin/sh\necho >>"$0.started"\nsleep 60\n')
        program.chmod(0o755)
        llm = ClaudeCodeLLM((str(program),), environ=ENVIRON)
        with ThreadPoolExecutor(8) as pool:
            failures = list(pool.map(lambda _: llm.ask(question, 2.0), range(24)))
        assert {failure.trouble for failure in failures} == {Trouble.BAD_REQUEST}
        assert all(failure.free for failure in failures)
        assert (tmp_path / "claude.started").read_text() == "\n"

    @pytest.mark.parametrize("version", ["2.1.328", "1.9.400", "0.0.1"])
    def test_an_older_version_is_not_asked(self, llm, stand_in, question, version):
        stand_in.behave(Behaviour(version=version))
        failure = llm.ask(question, 10)
        assert isinstance(failure, ModelFailure)
        assert failure.free
        assert f"{version} is older than 2.1.329" in failure.detail
        assert stand_in.calls == []
        stand_in.behave(Behaviour(version="2.1.330"))
        assert isinstance(llm.ask(question, 10), ModelReply), "once it has been updated"

    def test_a_temperature_is_refused(self, llm, stand_in):
        failure = llm.ask(a_request(Provider.CLAUDE_CODE, MODEL, temperature=Decimal("0.2")), 10)
        assert isinstance(failure, ModelFailure)
        assert (failure.trouble, failure.free) == (Trouble.BAD_REQUEST, True)
        assert not llm.abilities(MODEL).sampling

    def test_a_refused_option_is_free(self, stand_in, question):
        failure = ClaudeCodeLLM([*stand_in.command, "--no-such-option"], environ=ENVIRON).ask(question, 10)
        assert isinstance(failure, ModelFailure)
        assert failure.free


class TestClosing:
    def test_closing_ends_what_runs(self, llm, stand_in, question):
        stand_in.behave(Behaviour("stubborn"))
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(llm.ask, question, 60)
            until(lambda: stand_in.calls)
            llm.close()
            failure = asked.result(timeout=30)
        assert isinstance(failure, ModelFailure)
        assert (failure.trouble, failure.free) == (Trouble.CONNECTION, False)
        until(lambda: gone(stand_in.calls[0]["pid"]))

    def test_it_does_not_outlive_a_kill_of_ours(self, stand_in, tmp_path):
        """A kill -9 in the middle of a call: nothing goes on spending."""
        stand_in.behave(Behaviour("never"))
        asking = (
            "import sys; from tests.contracts.llm import a_request; from trading_pipeline.adapters.llm.claude_code import ClaudeCodeLLM; "
            f"ClaudeCodeLLM(sys.argv[1:]).ask(a_request('claude-code', {MODEL!r}), 600)"
        )
        environ = os.environ | {"TMPDIR": str(tmp_path)}
        ours = subprocess.Popen([sys.executable, "-c", asking, *stand_in.command], cwd=Path(__file__).parents[3], env=environ)
        try:
            until(lambda: stand_in.calls)
        finally:
            ours.kill()
            ours.wait()
        until(lambda: gone(stand_in.calls[0]["pid"]))
