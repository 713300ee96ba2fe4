"""The tree of a parsed expression: frozen nodes, numbers and conditions kept apart by type. What they mean: `expressions`."""

from dataclasses import dataclass

from trading_pipeline.domain.indicators import IndicatorSpec


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written."""

    value: float


@dataclass(frozen=True, slots=True)
class Column:
    """A column by its canonical name."""

    name: str


@dataclass(frozen=True, slots=True)
class Negate:
    """Minus."""

    operand: "Numeric"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`+ - * /` of two numbers."""

    operator: str
    left: "Numeric"
    right: "Numeric"


Numeric = Number | Column | Negate | Arithmetic


@dataclass(frozen=True, slots=True)
class Compare:
    """`< <= > >= == !=` or a crossing of two numbers."""

    operator: str
    left: Numeric
    right: Numeric


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    operand: "Logical"


@dataclass(frozen=True, slots=True)
class All:
    """`and`."""

    operands: tuple["Logical", ...]


@dataclass(frozen=True, slots=True)
class Any:
    """`or`."""

    operands: tuple["Logical", ...]


Logical = Compare | Not | All | Any


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression: its text, its tree, and what it reads."""

    text: str
    root: Logical
    columns: tuple[str, ...]
    """Canonical names, in order of appearance."""
    indicators: tuple[IndicatorSpec, ...]
