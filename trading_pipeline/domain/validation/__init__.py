"""Whether a backtest is evidence, or luck, or fitted: statistics with their sources, and the verdict made of them.

Pure numpy, deterministic: whatever is drawn at random is drawn from a fixed seed, so equal results have equal verdicts. Nothing here knows
how a backtest runs; `service.backtests.sensitivity` and `walk_forward` make the trials and walks that are judged here. Every threshold
stands in `checks`, with who set it.
"""

from trading_pipeline.domain.validation.checks import Check
from trading_pipeline.domain.validation.comparison import Difference, paired
from trading_pipeline.domain.validation.evidence import Evidence
from trading_pipeline.domain.validation.heat_map import HeatMap
from trading_pipeline.domain.validation.overfitting import Overfitting, deflated_sharpe, overfitting, walk_forward_efficiency
from trading_pipeline.domain.validation.report import Trials, ValidationReport, Walk, validate
from trading_pipeline.domain.validation.resampling import block_length
from trading_pipeline.domain.validation.risk_score import Grade, RiskScore, risk_score
from trading_pipeline.domain.validation.significance import p_above_zero, probabilistic_sharpe

__all__ = [
    "Check",
    "Difference",
    "Evidence",
    "Grade",
    "HeatMap",
    "Overfitting",
    "RiskScore",
    "Trials",
    "ValidationReport",
    "Walk",
    "block_length",
    "deflated_sharpe",
    "overfitting",
    "p_above_zero",
    "paired",
    "probabilistic_sharpe",
    "risk_score",
    "validate",
    "walk_forward_efficiency",
]
