"""The analyzer score of the founding documents: seven questions about the newest bar, in points, in words.

20 points each for close > SMA20, SMA20 > SMA50, RSI14 within 45-70 (both included), MACD histogram > 0 and volume >
1.2 x its 20-bar mean (that bar included); 10 each for close > SMA200 and ATR14 >= 0.5 USD; capped at 100.
A score needs every one of its columns: while one is NaN there is no score, not a smaller one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.indicators import IndicatorSpec, indicator
from trading_pipeline.domain.signals import Action
from trading_pipeline.domain.ties import above

BUY_FROM = 60
EXIT_BELOW = 40
UNSCORED = -1
"""Stands in `score_columns` where a bar has no score."""

INDICATORS: tuple[IndicatorSpec, ...] = tuple(
    indicator(name) for name in ("sma_20", "sma_50", "sma_200", "rsi_14", "macd", "atr_14", "volume_sma_20")
)
COLUMNS = ("close", "volume", "sma_20", "sma_50", "sma_200", "rsi_14", "macd_hist", "atr_14", "volume_sma_20")


class Label(StrEnum):
    """A score in a word: 80-100, 60-79, 40-59, below 40."""

    STRONG_BUY = "STRONG_BUY"
    BUY = "BUY"
    HOLD = "HOLD"
    AVOID = "AVOID"


@dataclass(frozen=True, slots=True)
class Point:
    """One question of the score: `points` are earned or 0; `words` carry the figures."""

    question: str
    points: int
    words: str


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one bar, 0..100, with its reasons in the order asked."""

    total: int
    points: tuple[Point, ...]

    @property
    def label(self) -> Label:
        """The score in a word."""
        if self.total >= 80:
            return Label.STRONG_BUY
        if self.total >= BUY_FROM:
            return Label.BUY
        return Label.HOLD if self.total >= EXIT_BELOW else Label.AVOID

    @property
    def confidence(self) -> Decimal:
        """Confidence in being long, 0..1: score / 100."""
        return Decimal(self.total) / 100

    @property
    def words(self) -> str:
        """One sentence: the sum, what counts for it and what against."""
        earned = "; ".join(point.words for point in self.points if point.points)
        missed = "; ".join(point.words for point in self.points if not point.points)
        parts = [f"{self.label} {self.total}/100."]
        if earned:
            parts.append(f"For: {earned}.")
        if missed:
            parts.append(f"Against: {missed}.")
        return " ".join(parts)


def missing(columns: Mapping[str, Floats], index: int) -> tuple[str, ...]:
    """The score's columns that have no value at a bar, in a fixed order."""
    return tuple(name for name in COLUMNS if not np.isfinite(columns[name][index]))


def score_at(columns: Mapping[str, Floats], index: int) -> Score | None:
    """The score of one bar, or None while one of `COLUMNS` has no value there.

    Args:
        columns: `COLUMNS`, aligned.
        index: The bar; -1 is the newest.
    """
    if missing(columns, index):
        return None
    at = {name: float(columns[name][index]) for name in COLUMNS}
    points = (
        _point("close > SMA20", 20, above(at["close"], at["sma_20"]), f"close {at['close']:.2f}", f"SMA20 {at['sma_20']:.2f}"),
        _point("SMA20 > SMA50", 20, above(at["sma_20"], at["sma_50"]), f"SMA20 {at['sma_20']:.2f}", f"SMA50 {at['sma_50']:.2f}"),
        _told("RSI14 within 45-70", 20, _within(at["rsi_14"]), f"RSI14 {at['rsi_14']:.1f}", "within 45-70", "outside 45-70"),
        _told(
            "MACD histogram > 0", 20, above(at["macd_hist"], 0, at["close"]), f"MACD histogram {at['macd_hist']:.3f}", "above 0",
            "not above 0",
        ),
        _told(
            "volume > 1.2 x its mean", 20, above(at["volume"], 1.2 * at["volume_sma_20"]), f"volume {at['volume']:,.0f}",
            f"above 1.2 x its 20-bar mean {at['volume_sma_20']:,.0f}", f"not above 1.2 x its 20-bar mean {at['volume_sma_20']:,.0f}",
        ),
        _point("close > SMA200", 10, above(at["close"], at["sma_200"]), f"close {at['close']:.2f}", f"SMA200 {at['sma_200']:.2f}"),
        _told("ATR14 >= 0.5", 10, not above(0.5, at["atr_14"]), f"ATR14 {at['atr_14']:.2f}", "at least 0.50", "under 0.50"),
    )
    return Score(min(100, sum(point.points for point in points)), points)


def _within(rsi: Any) -> Any:
    """Whether an RSI lies within 45-70."""
    return ~(above(np.float64(45), rsi) | above(rsi, np.float64(70)))


def score_columns(columns: Mapping[str, Floats]) -> npt.NDArray[np.int64]:
    """The score of every bar at once, equal to `score_at` bar by bar; UNSCORED where that is None."""
    c = columns
    total = (
        20 * above(c["close"], c["sma_20"]).astype(np.int64)
        + 20 * above(c["sma_20"], c["sma_50"])
        + 20 * _within(c["rsi_14"])
        + 20 * above(c["macd_hist"], 0.0, c["close"])
        + 20 * above(c["volume"], 1.2 * c["volume_sma_20"])
        + 10 * above(c["close"], c["sma_200"])
        + 10 * ~above(0.5, c["atr_14"])
    )
    known = np.logical_and.reduce([np.isfinite(c[name]) for name in COLUMNS])
    return np.where(known, np.minimum(total, 100), UNSCORED).astype(np.int64)


def decision(score: Score, held: bool) -> tuple[Action, Decimal]:
    """What to do on a score, and how sure: score / 100, for a SELL (100 - score) / 100.

    A SELL comes from a score below 40, so its confidence is above 0.60: it is confidence in being out, on the same
    scale read from the other end.
    """
    if held and score.total < EXIT_BELOW:
        return Action.SELL, 1 - score.confidence
    if not held and score.total >= BUY_FROM:
        return Action.BUY, score.confidence
    return Action.HOLD, score.confidence


def _point(question: str, points: int, earned: bool, left: str, right: str) -> Point:
    return _told(question, points, earned, left, f"above {right}", f"not above {right}")


def _told(question: str, points: int, earned: bool, subject: str, yes: str, no: str) -> Point:
    return Point(question, points if earned else 0, f"{subject} {yes if earned else no}")
