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
class Figure:
    """A number that the decision maker says it saw, by our name of it (`close`, `rsi_14`); kept as it was said, true or not."""

    name: str
    value: Decimal


@dataclass(frozen=True, slots=True)
class Hints:
    """Prices the decision maker would like, USD a share. Shown to people; nothing is sized or priced by them (invariant 60)."""

    limit: Decimal | None = None
    stop: Decimal | None = None
    targets: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True)
class Signal:
    """A proposal for one symbol; `confidence` is 0..1, `score` is the agent's own scale if it has one."""

    symbol: str
    action: Action
    confidence: Decimal
    rationale: str
    score: int | None = None
    label: str = ""
    figures: tuple[Figure, ...] = ()
    hints: Hints = Hints()
    flags: tuple[str, ...] = ()
    """Figures that it says and that are not ours, in words (invariant 61)."""


@dataclass(frozen=True, slots=True)
class Abstain:
    """No usable answer for one symbol, and why, in a word (`warm_up`) and in a sentence."""

    symbol: str
    reason: str
    detail: str = ""


Decision = Signal | Abstain
