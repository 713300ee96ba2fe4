"""`trading prompt check` as a person sees it, against a server on loopback: what it costs, what failed and why, and what may go on."""

import json
from collections.abc import Iterator

import pytest

from tests.faces.conftest import Shell
from tests.model_servers.anthropic_server import AnthropicServer
from tests.model_servers.plumbing import Behaviour
from tests.model_servers.sane import sane
from trading_pipeline.domain.events import EventType

KEY = "sk-test-0123456789-checking"
ASKS = """
name = "asker"
symbols = ["GOOG"]
mode = "approval"
interval = "1d"
[agent]
provider = "anthropic"
model = "claude-haiku-4-5-20251001"
prompt = "mine/v1"
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AnthropicServer]:
    with AnthropicServer(key=KEY) as server:
        server.respond = lambda asked: Behaviour(reply=sane(asked))
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("TRADING_MODEL__ANTHROPIC__BASE_URL", server.base_url)
        yield server


@pytest.fixture
def paused(trading: Shell, server: AnthropicServer) -> Shell:
    """A strategy that waits because the words of its prompt changed."""
    trading("prompt", "new", "mine")
    for command in (["create", str(trading.strategy(ASKS))], ["start", "asker"]):
        assert trading("strategy", *command).code == 0
    assert trading("run").code == 0
    own = trading.home / "prompts" / "mine" / "v1.md"
    own.write_text(f"{own.read_text()}\nBe bold.\n")
    trading.at("2012-10-16T09:30:05")
    trading("run")
    assert trading("strategy", "list", "--json").json()[0]["state"] == "paused_risk"
    server.asked.clear()
    return trading


def test_a_prompt_that_passed_lets_its_strategy_go_on(paused: Shell, server: AnthropicServer) -> None:
    """64: the way that a person goes, from the pause to the next session."""
    refused = paused("strategy", "resume", "asker")
    assert refused.code != 0
    assert "trading prompt check mine/v1 --strategy asker" in refused.err
    said = paused("prompt", "check", "mine/v1", "--strategy", "asker", "--yes")
    assert said.code == 0
    assert "exit-rule-met" in said.out
    assert "passed: 19 of 19 cases, answered by claude-haiku-4-5-20251001, for 0." in said.out
    assert "USD at most; 0 replies are recorded" in said.err
    assert paused("strategy", "resume", "asker").code == 0
    assert "mine/v1 with claude-haiku-4-5-20251001 passes the golden set: 19 of 19 cases" in paused("events", "--limit", 20).out
    assert "asker goes on with prompt" in paused("events", "--type", "strategy.resumed").out
    again = paused("prompt", "check", "mine/v1", "--strategy", "asker", "--json")
    assert again.code == 2, "who is not asked pays nothing"
    assert len(server.asked) == 19
    assert paused("verify").code == 0


def test_a_prompt_that_failed_says_why_and_goes_on_by_a_persons_word_alone(paused: Shell, server: AnthropicServer) -> None:
    """64."""
    server.respond = lambda asked: Behaviour(reply=json.dumps(json.loads(sane(asked)) | {"action": "HOLD"}))
    said = paused("prompt", "check", "mine/v1", "--strategy", "asker", "--yes")
    assert said.code == 1
    assert "HOLD, where only SELL is sane" in said.out
    assert "failed: 14 of 19 cases" in said.out
    assert "did not pass the golden set" in paused("strategy", "resume", "asker").err
    assert paused("strategy", "resume", "asker", "--unchecked").code == 0
    [resumed] = [event for event in paused.events() if event.type is EventType.STRATEGY_RESUMED]
    assert resumed.payload["unchecked"] is True
    assert resumed.actor.startswith("user:")
    assert "and claude-haiku-4-5-20251001, UNCHECKED" in paused("events", "--type", "strategy.resumed").out


def test_recorded_replies_are_marked_again_without_asking_anybody(paused: Shell, server: AnthropicServer, monkeypatch) -> None:
    """64, D5: a cassette in the mode replay answers, free, and says what it is."""
    monkeypatch.setenv("TRADING_MODEL__CASSETTE", "record")
    assert paused("prompt", "check", "mine/v1", "--strategy", "asker", "--yes").code == 0
    monkeypatch.setenv("TRADING_MODEL__CASSETTE", "replay-or-fail")
    said = paused("prompt", "check", "mine/v1", "--strategy", "asker", "--json")
    assert said.code == 0
    assert said.json()["passed"] is True
    assert said.json()["cost"] == "0"
    assert all(case["replayed"] for case in said.json()["cases"])
    assert len(server.asked) == 19


def test_a_person_at_a_terminal_is_told_the_cost_and_may_decline(paused: Shell, server: AnthropicServer) -> None:
    """64, T13."""
    said = paused.at_a_terminal(["prompt", "check", "mine/v1", "--strategy", "asker"], {"USD at most? [y/N]": "n"})
    assert said.code == 1
    assert "Nobody was asked." in said.out
    assert "about 19 cases" in said.out
    assert server.asked == []
    assert not [event for event in paused.events() if event.type is EventType.PROMPT_CHECKED]


@pytest.mark.parametrize(("arguments", "says"), [
    (["--provider", "nobody"], "There is no provider nobody"), (["--model", "claude-of-tomorrow"], "Nobody knows what claude-of-tomorrow"),
    (["--provider", "openai"], "openai cannot be asked here"),
])
def test_who_cannot_be_asked_is_refused_before_a_cent(paused: Shell, server: AnthropicServer, arguments: list[str], says: str) -> None:
    """64, 63."""
    said = paused("prompt", "check", "mine/v1", "--strategy", "asker", "--yes", *arguments)
    assert said.code != 0
    assert says in said.err
    assert server.asked == []
