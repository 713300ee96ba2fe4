"""Who can be asked in a home, and what a process that others are forked from does beforehand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.model_servers.anthropic_server import AnthropicServer
from tests.model_servers.openai_server import OpenAIServer
from trading_pipeline.adapters.llm.providers import OF_MODELS, open_providers
from trading_pipeline.domain.models import CassetteMode, Provider
from trading_pipeline.ports import Home
from trading_pipeline.settings import ModelSettings, Settings

KEY = SecretStr("sk-canary-0123456789")
NOBODY = {"claude_code": {"command": ("no-such-program",)}}


def settings(folder, **model):
    return Settings.load(folder, model=ModelSettings.model_validate(NOBODY | model))


def opened(given, folder):
    llms = open_providers(given, Home(folder))
    for llm in llms.values():
        llm.close()
    return set(llms)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_without_keys_nobody_can_be_asked(tmp_path):
    assert opened(settings(tmp_path), tmp_path) == set()


def test_a_key_a_program_or_a_server_of_ones_own_makes_a_provider(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY.get_secret_value())
    program = {"command": (sys.executable,)}
    given = settings(tmp_path, openai={"base_url": "http://127.0.0.1:9/v1", "key_required": False}, claude_code=program)
    assert opened(given, tmp_path) == set(OF_MODELS)


def test_replaying_needs_no_key(tmp_path):
    assert opened(settings(tmp_path, cassette=CassetteMode.REPLAY_OR_FAIL), tmp_path) == set(OF_MODELS)


FIRST_CALL = """
import json, sys, threading
from pathlib import Path
from trading_pipeline.adapters.llm.providers import open_providers, rehearse
from trading_pipeline.domain.models import ModelReply, ModelRequest, Provider
from trading_pipeline.ports import Home
from trading_pipeline.settings import Settings

settings = Settings.load(Path(sys.argv[1]))
rehearse(settings)
threads, before = threading.active_count(), set(sys.modules)
schema = '{"type":"object","additionalProperties":false,"required":["symbol"],"properties":{"symbol":{"type":"string","enum":["AAPL"]}}}'
asked = {}
for provider, model in ((Provider.ANTHROPIC, "claude-haiku-4-5-20251001"), (Provider.OPENAI, "gpt-4.1-mini-2025-04-14")):
    llm = open_providers(settings, Home(settings.home))[provider]
    came = llm.ask(ModelRequest(provider, model, "system", "Symbol: AAPL", schema), 30.0)
    asked[provider.value] = isinstance(came, ModelReply)
    llm.close()
sdks = ("anthropic", "openai", "httpx2", "httpcore2")
imported = sorted(name for name in set(sys.modules) - before if name.partition(".")[0] in sdks)
print(json.dumps({"asked": asked, "imported": imported, "threads": threads}))
"""


def test_after_a_rehearsal_the_first_call_imports_no_more_of_an_sdk(tmp_path):
    """In a process of its own: the others of this suite have imported everything."""
    with AnthropicServer() as claude, OpenAIServer() as gpt:
        (tmp_path / "trading.toml").write_text(
            f'[model]\ncassette = "live"\n[model.anthropic]\nbase_url = "{claude.base_url}"\n[model.openai]\nbase_url = "{gpt.base_url}"\n'
        )
        environment = {"ANTHROPIC_API_KEY": KEY.get_secret_value(), "OPENAI_API_KEY": KEY.get_secret_value(), "PATH": ""}
        ran = subprocess.run(
            [sys.executable, "-c", FIRST_CALL, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=100,
            cwd=Path(__file__).parents[3], check=True,
        )
    told = json.loads(ran.stdout)
    assert told["asked"] == {Provider.ANTHROPIC.value: True, Provider.OPENAI.value: True}
    assert told["imported"] == []
    assert told["threads"] == 1, "what forks has one thread"
