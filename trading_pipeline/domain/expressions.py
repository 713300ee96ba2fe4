"""The expression language of rules and triggers: comparisons of columns, `and or not`, crossings.

    close > sma_20 and 45 <= rsi_14 <= 70
    macd crossed_above macd_signal or crossed_below(close, bbands_20_lower)
    volume > 1.5 * volume_sma_20 and not close < open

Names are bar columns (`open` to `volume`) and indicator columns; an indicator used here need not be listed anywhere
else. No `eval`: a tokenizer and a recursive descent parser make a frozen tree, bounded in length and depth.

Logic is three-valued (Kleene). A comparison with a value that is NaN or infinite is undefined, and so is a division by
zero; `not` undefined stays undefined, `false and undefined` is false, `true or undefined` is true. Undefined at the top
is False: no rule fires on warm-up values, whichever way round it is written. `a crossed_above b` means a <= b one bar
earlier and a > b now; it is undefined at the first bar. Figures that agree to eleven digits are equal, see `ties`.
"""

from collections.abc import Callable, Mapping
from typing import assert_never

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.expression_parser import MAX_LENGTH, parse
from trading_pipeline.domain.expression_tree import All, Any, Arithmetic, Column, Compare, Expression, Logical, Negate, Not, Number, Numeric
from trading_pipeline.domain.indicators import IndicatorSpec
from trading_pipeline.domain.ties import above
from trading_pipeline.errors import ExpressionError

__all__ = ["MAX_LENGTH", "Expression", "evaluate", "evaluate_at", "indicators_of", "names", "parse"]

Flags = npt.NDArray[np.bool_]


def names(expression: Expression) -> tuple[str, ...]:
    """The columns it reads, prices included, canonical, each once, in order of appearance."""
    return expression.columns


def indicators_of(expression: Expression) -> tuple[IndicatorSpec, ...]:
    """The indicators that must be computed before it can be evaluated."""
    return expression.indicators


def evaluate(expression: Expression, columns: Mapping[str, Floats]) -> Flags:
    """Whether it holds, bar by bar; False where it is undefined.

    Raises:
        ExpressionError: A column it reads is not among `columns`.
    """
    absent = [name for name in expression.columns if name not in columns]
    if absent or not columns:
        raise ExpressionError(
            f"{', '.join(absent) or 'No column'} was not computed for {expression.text!r}.", value=expression.text,
            rule="every column of an expression is computed before it", remedy="compute `indicators_of(expression)` first",
        )
    length = len(next(iter(columns.values())))
    with np.errstate(all="ignore"):
        holds, known = _logical(expression.root, columns, length)
    return holds & known


def evaluate_at(expression: Expression, columns: Mapping[str, Floats], index: int) -> bool:
    """Whether it holds at one bar (-1: the newest); False where it is undefined. Raises like `evaluate`.

    It is `evaluate` over that bar and the one before, all that a crossing needs.
    """
    length = len(next(iter(columns.values()))) if columns else 0
    index = range(length)[index]
    return bool(evaluate(expression, {name: values[max(0, index - 1) : index + 1] for name, values in columns.items()})[-1])



_COMPARISONS: dict[str, Callable[[Floats, Floats], Flags]] = {
    "<": lambda a, b: above(b, a), "<=": lambda a, b: ~above(a, b), ">": above, ">=": lambda a, b: ~above(b, a),
    "==": lambda a, b: ~(above(a, b) | above(b, a)), "!=": lambda a, b: above(a, b) | above(b, a),
}
"""See `ties`: figures that differ by rounding only are equal."""


def _numeric(node: Numeric, columns: Mapping[str, Floats], length: int) -> Floats:
    match node:
        case Number(value):
            return np.broadcast_to(np.float64(value), length)
        case Column(name):
            return columns[name]
        case Negate(operand):
            return -_numeric(operand, columns, length)
        case Arithmetic(operator, left, right):
            a, b = _numeric(left, columns, length), _numeric(right, columns, length)
            if operator == "+":
                result = a + b
            elif operator == "-":
                result = a - b
            elif operator == "*":
                result = a * b
            else:
                result = a / b
            return np.where(np.isfinite(result), result, np.nan)
        case _:
            assert_never(node)


def _logical(node: Logical, columns: Mapping[str, Floats], length: int) -> tuple[Flags, Flags]:
    """(holds, known) bar by bar; `holds` is False wherever `known` is."""
    match node:
        case Compare(operator, left, right):
            a, b = _numeric(left, columns, length), _numeric(right, columns, length)
            known = np.isfinite(a) & np.isfinite(b)
            if operator in _COMPARISONS:
                return _COMPARISONS[operator](a, b) & known, known
            if operator == "crossed_below":
                a, b = b, a
            before = np.zeros(length, np.bool_)
            before[1:] = known[:-1]
            known = known & before
            crossed = np.zeros(length, np.bool_)
            higher = above(a, b)
            crossed[1:] = ~higher[:-1] & higher[1:]
            return crossed & known, known
        case Not(operand):
            holds, known = _logical(operand, columns, length)
            return ~holds & known, known
        case All(operands):
            holds, known, refuted = np.ones(length, np.bool_), np.ones(length, np.bool_), np.zeros(length, np.bool_)
            for part in operands:
                part_holds, part_known = _logical(part, columns, length)
                holds, known, refuted = holds & part_holds, known & part_known, refuted | (part_known & ~part_holds)
            return holds, known | refuted
        case Any(operands):
            holds, known = np.zeros(length, np.bool_), np.ones(length, np.bool_)
            for part in operands:
                part_holds, part_known = _logical(part, columns, length)
                holds, known = holds | part_holds, known & part_known
            return holds, known | holds
        case _:
            assert_never(node)
