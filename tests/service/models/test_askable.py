"""What is refused of a strategy that asks a model, before it can trade."""

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.desks import OPEN, PERSON, bars, floor, market
from tests.model_desks import asking, models
from tests.model_servers.anthropic_server import AnthropicServer
from trading_pipeline.adapters.llm.claude_code import ClaudeCodeLLM
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.models import Mask, Provider, Sight
from trading_pipeline.errors import StrategyError, UnknownName
from trading_pipeline.service import controls

CASES = {
    "a provider without a key": ({"provider": Provider.OPENAI, "model": "gpt-5.4-mini"}, "openai cannot be asked here"),
    "a model without a price": ({"model": "claude-of-tomorrow"}, "Nobody knows what claude-of-tomorrow"),
    "a temperature that the model does not take": ({"temperature": Decimal("0.5")}, "takes no temperature"),
    "a prompt that asks for no decision": ({"prompt": "reviewer/v1"}, "does not ask for a decision"),
    "dates hidden from a program that tells them": (
        {"provider": Provider.CLAUDE_CODE, "masks": frozenset({Mask.DATES})}, "cannot be kept from knowing the date",
    ),
}


@pytest.fixture
def desk(tmp_path):
    with AnthropicServer() as server:
        program = {Provider.CLAUDE_CODE: ClaudeCodeLLM(("claude",))}
        given = models(tmp_path, server, llms=program)
        yield floor(tmp_path, market(bars("AAPL")), OPEN, models=given).desk
        for llm in given.llms.values():
            llm.close()


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused(name, desk):
    agent, says = CASES[name]
    with pytest.raises(StrategyError, match=says) as refused:
        controls.create(desk, asking(agent=agent), actor=PERSON)
    assert refused.value.remedy
    assert desk.ledger.get("strategies", "asker") is None


def test_a_slip_in_a_models_name_is_told_what_was_meant(desk):
    with pytest.raises(StrategyError) as refused:
        controls.create(desk, asking(agent={"model": "claude-haiku-4-5-2025100"}), actor=PERSON)
    assert refused.value.remedy.startswith("did you mean claude-haiku-4-5-20251001?")


def test_a_prompt_that_is_not_there_is_refused(desk):
    with pytest.raises(UnknownName, match="nobody/v1"):
        controls.create(desk, asking(agent={"prompt": "nobody/v1"}), actor=PERSON)


def test_a_picture_for_a_model_that_sees_none_is_refused(desk, monkeypatch):
    llm = desk.models.llms[Provider.ANTHROPIC]
    blind = replace(llm.abilities("claude-haiku-4-5"), images=False)
    monkeypatch.setattr(type(llm), "abilities", lambda _self, _model: blind)
    with pytest.raises(StrategyError, match="takes no pictures"):
        controls.create(desk, asking(agent={"sight": Sight.BOTH}, chart=ChartSpec()), actor=PERSON)


def test_a_strategy_that_can_be_asked_is_created(desk):
    controls.create(desk, asking(), actor=PERSON)
    assert desk.ledger.get("strategies", "asker")["state"] == "draft"
