"""The figures that a decision maker says it saw, held against ours (invariant 61).

Right is what our value rounds to in the decimal places that were said, or what lies within half a per cent of it. A name that is
none of our columns, or a column without a value at the bar, is unknown and never right. What follows from a misquote is decided
elsewhere.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from trading_pipeline.domain.bars import BarTable, Floats
from trading_pipeline.domain.indicators import column
from trading_pipeline.domain.signals import Figure
from trading_pipeline.errors import InputError

TOLERANCE: Final = Decimal("0.005")
"""How far a right figure may lie from ours, as a fraction of ours."""


@dataclass(frozen=True, slots=True)
class Citation:
    """One figure. `ours` is None where it is unknown; `difference` is a fraction of ours, 1 where ours is zero."""

    name: str
    said: Decimal
    ours: Decimal | None
    difference: Decimal | None
    right: bool

    @property
    def words(self) -> str:
        """What is wrong, for people."""
        if self.ours is None or self.difference is None:
            return f"{self.name} {self.said:f} is none of our figures at this bar"
        return f"{self.name} {self.said:f} is {self.ours:f} ({self.difference:.1%} off)"


@dataclass(frozen=True, slots=True)
class Misquotes:
    """All figures of one reply. `worst` is the largest difference of a wrong one; None where none of them is wrong."""

    citations: tuple[Citation, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """Each wrong or unknown figure in words."""
        return tuple(citation.words for citation in self.citations if not citation.right)

    @property
    def worst(self) -> Decimal | None:
        """As above; what is unknown has no difference and does not count."""
        return max((each.difference for each in self.citations if not each.right and each.difference is not None), default=None)


def misquotes(figures: Sequence[Figure], bars: BarTable, columns: Mapping[str, Floats]) -> Misquotes:
    """Compare figures with the newest bar and the indicators there.

    Args:
        figures: By any name that `indicators.column` takes: `rsi` is `rsi_14`.
        bars: At least one.
        columns: Of the indicators, aligned with the bars.
    """
    return Misquotes(tuple(_citation(figure, bars, columns) for figure in figures))


def _citation(figure: Figure, bars: BarTable, columns: Mapping[str, Floats]) -> Citation:
    ours = _ours(figure.name, bars, columns)
    if ours is None:
        return Citation(figure.name, figure.value, None, None, right=False)
    off = abs(figure.value - ours)
    difference = (off / abs(ours) if ours else Decimal(1)) if off else Decimal(0)
    last = Decimal(1).scaleb(min(0, int(figure.value.as_tuple().exponent)))
    return Citation(figure.name, figure.value, ours, difference, right=off <= last / 2 or difference <= TOLERANCE)


def _ours(name: str, bars: BarTable, columns: Mapping[str, Floats]) -> Decimal | None:
    try:
        known, spec = column(name)
    except InputError:
        return None
    values = getattr(bars, known) if spec is None else columns.get(known)
    value = math.nan if values is None or not len(values) else float(values[-1])
    return Decimal(format(value, ".10g")) if math.isfinite(value) else None
