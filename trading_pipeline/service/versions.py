"""Versions of what people decide and what follows is computed with (A6): one digest a kind, over all strategies that live.

A changed digest says that what was computed before was computed with something else; who shows that, shows it by these.
"""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.events import canonical_payload
from trading_pipeline.domain.indicators import text_of
from trading_pipeline.domain.replies import PARSER_VERSION
from trading_pipeline.domain.strategies import ModelAgent, StrategySpec
from trading_pipeline.errors import InputError
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.market import needed_indicators
from trading_pipeline.service.steps import LIVE_STATES, spec_of


class Kind(StrEnum):
    """What is versioned, by the name of the asset that stands for it."""

    INDICATORS = "indicator_settings"
    CHARTS = "chart_settings"
    DECISIONS = "agents_and_prompts"
    """Rules, models, the words of their prompts, and the parser of replies."""


def versions(desk: Desk) -> dict[Kind, str]:
    """A digest each, the same for the same settings whoever computes it; twelve characters of hex."""
    specs = sorted((spec_of(row) for row in desk.ledger.find("strategies", state=LIVE_STATES)), key=lambda spec: spec.name)
    indicators = sorted({text_of(each) for spec in specs for each in needed_indicators(desk, spec)})
    charts = [[spec.name, encode(spec.chart)] for spec in specs if spec.chart is not None]
    decisions = [[spec.name, encode(spec.agent), _prompt(desk, spec)] for spec in specs]
    return {
        Kind.INDICATORS: _digest(indicators), Kind.CHARTS: _digest(charts), Kind.DECISIONS: _digest([PARSER_VERSION, *decisions]),
    }


def _prompt(desk: Desk, spec: StrategySpec) -> str:
    """The digest of a strategy's prompt as its files are now."""
    if not isinstance(spec.agent, ModelAgent) or desk.models is None:
        return ""
    try:
        return desk.models.prompts.get(spec.agent.prompt).digest
    except InputError as error:
        return error.message


def _digest(parts: Iterable[Any]) -> str:
    return hashlib.sha256(canonical_payload({"parts": list(parts)}).encode()).hexdigest()[:12]
