"""A session decided by each provider through Dagster: what the page of the signals shows of it."""

import json

import pytest

from tests.desks import OPEN, bars, floor, market
from tests.model_desks import CLAUDE, GPT, asking, models
from tests.model_servers.anthropic_server import AnthropicServer
from tests.model_servers.claude_code import StandIn
from tests.model_servers.openai_server import OpenAIServer
from tests.model_servers.plumbing import Behaviour
from trading_pipeline.adapters.llm.claude_code import ClaudeCodeLLM
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.models import Provider, Sight
from trading_pipeline.domain.strategies import Mode

BUY = json.dumps({
    "action": "BUY", "symbol": "AAPL", "confidence": 0.9, "rationale": "<script>alert(1)</script> It rises.", "figures": [],
    "limit": None, "stop": None, "targets": [],
})
MODELS = {Provider.ANTHROPIC: CLAUDE, Provider.OPENAI: GPT, Provider.CLAUDE_CODE: CLAUDE}


@pytest.fixture
def every_provider(tmp_path):
    """Servers and a program that answer BUY for each."""
    program = StandIn(tmp_path / "claude")
    with AnthropicServer() as claude, OpenAIServer() as gpt:
        for server in (claude, gpt):
            server.respond = lambda _: Behaviour(reply=BUY)
        given = models(tmp_path, claude, gpt, llms={Provider.CLAUDE_CODE: ClaudeCodeLLM(program.command)})
        yield given
        for llm in given.llms.values():
            llm.close()


def shown(result, asset):
    """The metadata of an asset as the page has it."""
    [materialized] = [event for event in result.get_asset_materialization_events() if event.asset_key.path == [asset]]
    return {name: value.value for name, value in materialized.materialization.metadata.items()}


@pytest.mark.parametrize("provider", MODELS)
def test_the_page_shows_prompt_picture_reply_tokens_and_cost_of_a_signal(house, every_provider, tmp_path, provider):
    agent = {"provider": provider, "model": MODELS[provider], "sight": Sight.BOTH}
    spec = asking(mode=Mode.APPROVAL, agent=agent, chart=ChartSpec(bars=40, overlays=("sma_20",), panels=()))
    stage = floor(tmp_path, market(bars("AAPL")), OPEN, spec, models=every_provider)
    [request] = house.tick("bar_close", stage)
    result = house.launch(request, "cycle", stage)
    assert result.success
    page = shown(result, "signals")
    [row] = [record.data for record in page["models_asked"].records]
    assert row["model"].startswith(MODELS[provider])
    assert row["tokens in"] > 0
    assert row["tokens out"] > 0
    assert float(row["USD"]) > 0
    assert row["ended"] == "complete"
    assert any("Bars, oldest first" in line for line in page["prompts"]["AAPL (asker)"])
    assert json.loads(page["replies"]["AAPL (asker)"])["symbol"] == "AAPL"
    assert "![AAPL" in page["pictures_sent"]
    markdown = "".join(value for value in page.values() if isinstance(value, str))
    assert "script" not in markdown, "what a model says is no markup"
