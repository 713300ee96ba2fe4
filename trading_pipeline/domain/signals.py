"""What a decision maker says: a `Signal`, or an `Abstain` that says why it has none.

HOLD is a valid answer; anything imperfect is `Abstain`, never a neutral stand-in. The quantity is not
here on purpose: code sizes, not the model.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class Action(StrEnum):
    """What to do with one symbol."""

    BUY = "buy"
    SELL = "sell"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Signal:
    """A proposal for one symbol; `confidence` is 0..1, `score` is the agent's own scale if it has one."""

    symbol: str
    action: Action
    confidence: Decimal
    rationale: str
    score: int | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Abstain:
    """No usable answer for one symbol, and why, in a word (`warm_up`) and in a sentence."""

    symbol: str
    reason: str
    detail: str = ""


Decision = Signal | Abstain
