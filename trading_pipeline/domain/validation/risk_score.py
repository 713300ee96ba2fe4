"""The risk score of a backtest: 0 to 100, higher is worse, in the four grades of the founding documents.

They name the grades and not the sum. Ours has five parts of 20 points, each rising evenly from the founding documents' target to where
nothing is left of it, so that everybody can see where points come from. What is not known counts half.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Grade(StrEnum):
    """Source: the founding documents' backtest agent; the borders are those of the shipped persona `backtester`."""

    LOW = "LOW"
    """Below 25."""
    MEDIUM = "MEDIUM"
    """Below 50."""
    HIGH = "HIGH"
    """Below 75."""
    UNACCEPTABLE = "UNACCEPTABLE"


_BORDERS: Final = ((25, Grade.LOW), (50, Grade.MEDIUM), (75, Grade.HIGH))
MOST: Final = 20
_PARTS: Final[Mapping[str, tuple[float, float]]] = {
    "drawdown": (0.10, 0.30),
    "Sharpe ratio": (1.0, 0.0),
    "profit factor": (1.5, 1.0),
    "luck (p-value)": (0.01, 0.20),
    "overfitting (PBO)": (0.10, 0.50),
}
"""Where each part costs nothing (the target: drawdown 10 %, Sharpe 1.0, profit factor 1.5), and where it costs all of its points."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the five; `value` None: not known."""

    name: str
    value: float | None
    points: int
    good: float
    bad: float


@dataclass(frozen=True, slots=True)
class RiskScore:
    """The sum of the parts."""

    points: int
    grade: Grade
    parts: tuple[Part, ...]


def risk_score(
    *, drawdown: float | None, sharpe: float | None, profit_factor: float | None, p_value: float | None, overfitted: float | None,
) -> RiskScore:
    """The score of a backtest.

    Args:
        drawdown: Deepest fall, as a positive fraction.
        sharpe: Annualised.
        profit_factor: None where there is no trade; infinite where none lost.
        p_value: Of the mean trade.
        overfitted: Probability of backtest overfitting; None: no grid was run.
    """
    given = (drawdown, sharpe, profit_factor, p_value, overfitted)
    parts = tuple(
        Part(name, value, _points(value, good, bad), good, bad) for (name, (good, bad)), value in zip(_PARTS.items(), given, strict=True)
    )
    points = sum(part.points for part in parts)
    return RiskScore(points, grade_of(points), parts)


def grade_of(points: int) -> Grade:
    """The grade of a score."""
    return next((grade for below, grade in _BORDERS if points < below), Grade.UNACCEPTABLE)


def _points(value: float | None, good: float, bad: float) -> int:
    if value is None:
        return MOST // 2
    return round(MOST * min(1.0, max(0.0, (value - good) / (bad - good))))
