"""Versions of what people decide and what follows is computed with (A6): one digest a kind, over all strategies that live.

A changed digest says that what was computed before was computed with something else; who shows that, shows it by these.
"""

import hashlib
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Version:
    """What is in force of one kind, in JSON values; `digest` is twelve characters of hex, the same for the same settings."""

    settings: Any

    @property
    def digest(self) -> str:
        """Of the settings."""
        return hashlib.sha256(canonical_payload({"parts": self.settings}).encode()).hexdigest()[:12]


def versions(desk: Desk) -> dict[Kind, Version]:
    """Those of all strategies that live."""
    specs = sorted((spec_of(row) for row in desk.ledger.find("strategies", state=LIVE_STATES)), key=lambda spec: spec.name)
    return {
        Kind.INDICATORS: Version(sorted({text_of(each) for spec in specs for each in needed_indicators(desk, spec)})),
        Kind.CHARTS: Version({spec.name: encode(spec.chart) for spec in specs if spec.chart is not None}),
        Kind.DECISIONS: Version({
            "parser": PARSER_VERSION,
            "agents": {spec.name: {"agent": encode(spec.agent), "prompt_digest": _prompt(desk, spec)} for spec in specs},
        }),
    }


def _prompt(desk: Desk, spec: StrategySpec) -> str:
    """The digest of a strategy's prompt as its files are now."""
    if not isinstance(spec.agent, ModelAgent) or desk.models is None:
        return ""
    try:
        return desk.models.prompts.get(spec.agent.prompt).digest
    except InputError as error:
        return error.message
