"""Desks whose strategies ask models: the real SDKs, against servers on loopback that speak the providers' APIs."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from tests.desks import strategy
from tests.model_servers.plumbing import ModelServer
from trading_pipeline.adapters.golden_files import GoldenFiles
from trading_pipeline.adapters.llm.anthropic_api import AnthropicLLM
from trading_pipeline.adapters.llm.openai_api import OpenAILLM
from trading_pipeline.adapters.prices import load_prices
from trading_pipeline.adapters.prompt_files import PromptFiles
from trading_pipeline.adapters.text_files import TextFiles
from trading_pipeline.domain.models import ModelBudget, Provider
from trading_pipeline.domain.strategies import ModelAgent, StrategySpec
from trading_pipeline.ports import LLM
from trading_pipeline.service.desk import Models

KEY = SecretStr("sk-ant-canary-0123456789")
CLAUDE = "claude-haiku-4-5-20251001"
GPT = "gpt-4.1-mini-2025-04-14"
GENEROUS = ModelBudget(per_day=Decimal(1_000), calls_per_hour=100_000, timeout_seconds=10.0)


def models(folder: Path, *servers: ModelServer, budget: ModelBudget = GENEROUS, llms: Mapping[Provider, LLM] | None = None) -> Models:
    """What it takes to ask these servers, or these LLMs."""
    asked = dict(llms or {})
    for server in servers:
        llm: LLM = OpenAILLM(KEY, server.base_url) if server.suffix else AnthropicLLM(KEY, server.base_url)
        asked[llm.provider] = llm
    own, prices = GoldenFiles(folder / "golden"), load_prices(folder, Decimal("0.25"))
    return Models(asked, PromptFiles(folder / "prompts"), prices, TextFiles(folder / "texts"), budget, golden=own)


def asking(name: str = "asker", *, agent: Mapping[str, Any] | None = None, **changes: Any) -> StrategySpec:
    """A strategy that asks Claude about AAPL at every bar, and is sure of nothing."""
    given = {"provider": Provider.ANTHROPIC, "model": CLAUDE, "prompt": "analyst/v1", **(agent or {})}
    return strategy(name, agent=ModelAgent(**given), min_confidence=Decimal("0.5"), **changes)


def today() -> date:
    """For prices."""
    return datetime.now(UTC).date()
