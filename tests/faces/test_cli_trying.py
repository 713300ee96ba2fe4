"""`trading try-models` as a person with a key sees it, against servers on loopback and a program that behaves like Claude Code."""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from tests.faces.conftest import Said
from tests.model_servers.anthropic_server import AnthropicServer
from tests.model_servers.claude_code import Behaviour, StandIn
from tests.model_servers.openai_server import OpenAIServer
from tests.model_servers.plumbing import Behaviour as Answer
from trading_pipeline.adapters.prices import load_prices
from trading_pipeline.domain.models import Provider
from trading_pipeline.faces.cli.main import main
from trading_pipeline.faces.cli.trying import MODELS
from trading_pipeline.settings import ClaudeCodeSettings

KEY = "sk-test-0123456789-try-models"
Shell = Callable[..., Said]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """No home yet, no key, no Claude Code."""
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRADING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRADING_MODEL__CLAUDE_CODE__COMMAND", json.dumps([str(tmp_path / "no-claude")]))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        code = main(["try-models", *arguments])
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def anthropic(monkeypatch: pytest.MonkeyPatch) -> Iterator[AnthropicServer]:
    with AnthropicServer(key=KEY) as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("TRADING_MODEL__ANTHROPIC__BASE_URL", server.base_url)
        yield server


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer(key=KEY) as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("TRADING_MODEL__OPENAI__BASE_URL", server.base_url)
        yield server


@pytest.fixture
def claude(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    stand_in = StandIn(tmp_path / "claude")
    monkeypatch.setenv("TRADING_MODEL__CLAUDE_CODE__COMMAND", json.dumps(stand_in.command))
    return stand_in


def test_without_a_key_nobody_is_asked_and_the_exit_code_is_2(shell):
    said = shell("--yes")
    assert said.code == 2
    assert "no key is set" in said.err
    assert "ANTHROPIC_API_KEY" in said.err


def test_each_provider_is_asked_once_and_says_what_it_cost(shell, anthropic, openai, claude, tmp_path):
    said = shell("--yes", "--json")
    rows = {row["provider"]: row for row in said.json()}
    assert list(rows) == ["anthropic", "openai", "claude-code"]
    assert [len(anthropic.asked), len(openai.asked), len(claude.calls)] == [1, 1, 1]
    assert {row["outcome"] for row in rows.values()} == {"complete"}
    assert all(row["usable"] and row["output_tokens"] > 0 and float(row["cost"]) > 0 for row in rows.values())
    assert rows["claude-code"]["cost"] == "0.004200", "as it says itself"
    assert said.code == 0
    assert KEY not in said.out + said.err
    assert not (tmp_path / "home").exists(), "no home is begun by this"


def test_people_see_a_table(shell, claude):
    said = shell("--yes")
    assert " USD at most." in said.err, "what it can cost is said before"
    assert said.code == 0
    assert "claude-code" in said.out
    assert "0.004200" in said.out
    assert "1,200" in said.out


def test_nobody_is_asked_without_a_confirmation(shell, claude):
    said = shell()
    assert said.code == 2
    assert "add --yes" in said.err
    assert claude.calls == []


def test_the_bound_is_told_before(shell, claude, monkeypatch):
    from trading_pipeline.faces.cli.invocation import Invocation

    asked: list[str] = []

    def refuse(call: Invocation, question: str, *, yes: bool) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr(Invocation, "confirm", refuse)
    assert shell().code == 0
    assert asked == ["Ask haiku of claude-code, for 0.2500 USD at most?"]
    assert claude.calls == []


def test_one_provider_and_another_model(shell, anthropic, openai):
    said = shell("--yes", "--json", "--provider", "anthropic", "--model", "anthropic=claude-sonnet-5-5")
    assert [row["asked"] for row in said.json()] == ["claude-sonnet-5-5"]
    assert openai.asked == []
    assert "claude-code cannot be asked" in shell("--yes", "--provider", "claude-code").err


@pytest.mark.parametrize("given", [
    ["--model", "haiku"], ["--model", "acme=m"], ["--model", "anthropic="], ["--provider", "acme"], ["--provider", "rules"],
    ["--model", "anthropic=claude-unheard-of"],
])
def test_what_is_not_known_is_refused_before_anything_is_asked(shell, anthropic, given):
    assert shell("--yes", *given).code == 2
    assert anthropic.asked == []


def test_a_refused_key_is_told_and_the_others_are_asked_all_the_same(shell, anthropic, claude, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-wrong-0123456789-canary")
    said = shell("--yes", "--json")
    first, second = said.json()
    assert (first["outcome"], first["usable"], first["cost"]) == ("unauthorized", False, "0")
    assert second["usable"]
    assert said.code == 1
    assert "sk-wrong" not in said.out + said.err


def test_a_reply_that_the_product_cannot_read_is_no_success(shell, claude):
    claude.behave(Behaviour(reply='```json\n{"action": "HOLD"}\n```'))
    said = shell("--yes", "--json")
    (row,) = said.json()
    assert (row["outcome"], row["usable"], said.code) == ("unreadable", False, 1)
    assert "fenced" in row["reply"]


def test_a_server_that_fails_is_told(shell, anthropic):
    anthropic.respond = lambda _: Answer(status=529)
    said = shell("--yes", "--json")
    assert (said.json()[0]["outcome"], said.code) == ("overloaded", 1)


def test_a_home_that_asks_nobody_stays_so(shell, claude, monkeypatch):
    monkeypatch.setenv("TRADING_MODEL__CASSETTE", "replay-or-fail")
    assert shell("--yes").code == 2
    assert claude.calls == []


def test_nothing_is_replayed_and_the_calls_are_logged(shell, claude, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "trading.toml").write_text("")
    assert [shell("--yes").code, shell("--yes").code] == [0, 0]
    assert len(claude.calls) == 2
    (log,) = (home / "logs" / "llm").glob("*.jsonl")
    assert len(log.read_text().splitlines()) == 2


def test_the_models_asked_by_default_have_a_price():
    prices = load_prices(None, ClaudeCodeSettings().max_cost_per_call)
    for provider in (Provider.ANTHROPIC, Provider.OPENAI):
        assert prices.price(provider, MODELS[provider], date(2026, 11, 21)) is not None


def test_asking_for_help_is_quick_and_imports_no_provider(shell, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("trading_pipeline.adapters.llm")]:
        monkeypatch.delitem(sys.modules, name)
    assert shell("--help").code == 0
    assert not [name for name in sys.modules if name.startswith("trading_pipeline.adapters.llm")]
