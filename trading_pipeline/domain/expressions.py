"""The expression language of rules and triggers: comparisons of columns, `and or not`, crossings.

    close > sma_20 and 45 <= rsi_14 <= 70
    macd crossed_above macd_signal or crossed_below(close, bbands_20_lower)
    volume > 1.5 * volume_sma_20 and not close < open

Names are bar columns (`open` to `volume`) and indicator columns; an indicator used here need not be listed anywhere
else. No `eval`: a tokenizer and a recursive descent parser make a frozen tree, bounded in length and depth.

Logic is three-valued (Kleene). A comparison with a value that is NaN or infinite is undefined, and so is a division by
zero; `not` undefined stays undefined, `false and undefined` is false, `true or undefined` is true. Undefined at the top
is False: no rule fires on warm-up values, whichever way round it is written. `a crossed_above b` means a <= b one bar
earlier and a > b now; it is undefined at the first bar.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import NoReturn, assert_never

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.indicators import IndicatorSpec, column
from trading_pipeline.errors import ExpressionError, InputError

MAX_LENGTH = 2_000
MAX_NESTING = 30
MAX_ARITHMETIC = 100
Flags = npt.NDArray[np.bool_]


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


@lru_cache(maxsize=1024)
def parse(text: str) -> Expression:
    """Read an expression.

    Raises:
        ExpressionError: It does not parse, names something unknown, or is too long or too deep; the message holds
            the position and a line with a caret under it.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"The expression has {len(text)} characters.", value=len(text), rule=f"an expression has at most {MAX_LENGTH} characters",
            remedy="split the rule into several strategies",
        )
    return _Parser(text).expression()


# Evaluation

_COMPARISONS: dict[str, Callable[[Floats, Floats], Flags]] = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
}


def _numeric(node: Numeric, columns: Mapping[str, Floats], length: int) -> Floats:
    match node:
        case Number(value):
            return np.full(length, value)
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
            crossed[1:] = (a[:-1] <= b[:-1]) & (a[1:] > b[1:])
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


# Parsing

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z][A-Za-z0-9_]*(?:\.\d[A-Za-z0-9_]*)*)"
    r"|(?P<symbol><=|>=|==|!=|[-+*/()<>,]))",
)
_WORDS = frozenset({"and", "or", "not", "crossed_above", "crossed_below"})
_CROSSINGS = frozenset({"crossed_above", "crossed_below"})
_HINTS = {"=": "compare with ==", "&": "write and", "|": "write or", "!": "write not or !=", "[": "only the current bar has names"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


_Level = Callable[[], Numeric | Logical]


class _Parser:
    """Recursive descent, one method a level of binding, from `or` down to a single value."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._tokenize()
        self._next = 0
        self._depth = 0
        self._arithmetic = 0
        self._columns: dict[str, None] = {}
        self._indicators: dict[IndicatorSpec, None] = {}

    def expression(self) -> Expression:
        if self._peek.kind == "end":
            self._fail("The expression is empty", 0, "it is a comparison", "write for example close > sma_20")
        root = self._truth(self._or, "an expression")
        if self._peek.kind != "end":
            self._unexpected("`and`, `or` or the end")
        return Expression(self._text, root, tuple(self._columns), tuple(self._indicators))

    def _tokenize(self) -> list[_Token]:
        tokens, at, end = [], 0, len(self._text.rstrip())
        while at < end:
            found = _TOKEN.match(self._text, at, end)
            if found is None:
                at += len(self._text[at:]) - len(self._text[at:].lstrip())
                character = self._text[at]
                self._fail(f"{character!r} means nothing here", at, "only names, numbers and + - * / < <= > >= == != ( ) , are known",
                           _HINTS.get(character, "take it out"))
            kind = str(found.lastgroup)
            text = found.group(kind)
            text = text.lower() if kind == "name" else text
            tokens.append(_Token("word" if text in _WORDS else kind, text, found.start(kind)))
            at = found.end()
        return [*tokens, _Token("end", "", end)]

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._peek
        self._next += 1
        return token

    def _accept(self, *texts: str) -> _Token | None:
        return self._take() if self._peek.kind in ("word", "symbol") and self._peek.text in texts else None

    def _expect(self, text: str) -> None:
        if self._accept(text) is None:
            self._unexpected(f"`{text}`")

    def _deeper(self, at: int) -> None:
        self._depth += 1
        if self._depth > MAX_NESTING:
            self._fail("The expression is nested too deeply", at, f"at most {MAX_NESTING} levels", "simplify it")

    def _truth(self, level: _Level, where: str) -> Logical:
        at = self._peek.at
        node = level()
        if isinstance(node, Number | Column | Negate | Arithmetic):
            self._fail("This is a number, not a condition", at, f"{where} is a condition", "compare it, e.g. with > 0")
        return node

    def _value(self, level: _Level, where: str) -> Numeric:
        at = self._peek.at
        node = level()
        if isinstance(node, Compare | Not | All | Any):
            self._fail("This is a condition, not a number", at, f"{where} is a number", "join conditions with and / or")
        return node

    def _joined(self, word: str, level: _Level, make: Callable[[tuple[Logical, ...]], Logical]) -> Numeric | Logical:
        at = self._peek.at
        first = level()
        if not (self._peek.kind == "word" and self._peek.text == word):
            return first
        rest: list[Logical] = []
        if isinstance(first, Number | Column | Negate | Arithmetic):
            self._fail("This is a number, not a condition", at, f"what stands before `{word}` is a condition", "compare it, e.g. with > 0")
        while self._accept(word):
            rest.append(self._truth(level, f"what stands after `{word}`"))
        return make((first, *rest))

    def _or(self) -> Numeric | Logical:
        return self._joined("or", self._and, Any)

    def _and(self) -> Numeric | Logical:
        return self._joined("and", self._not, All)

    def _not(self) -> Numeric | Logical:
        token = self._accept("not")
        if token is None:
            return self._comparison()
        self._deeper(token.at)
        node = Not(self._truth(self._not, "what stands after `not`"))
        self._depth -= 1
        return node

    def _comparison(self) -> Numeric | Logical:
        at = self._peek.at
        left = self._sum()
        links: list[Logical] = []
        while token := self._accept(*_COMPARISONS, *_CROSSINGS):
            if isinstance(left, Compare | Not | All | Any):
                self._fail("This is a condition, not a number", at, f"what stands before `{token.text}` is a number",
                           "join conditions with and / or")
            right = self._value(self._sum, f"what stands after `{token.text}`")
            links.append(Compare(token.text, left, right))
            left = right
        if not links:
            return left
        return links[0] if len(links) == 1 else All(tuple(links))

    def _sum(self) -> Numeric | Logical:
        return self._chain(("+", "-"), self._product)

    def _product(self) -> Numeric | Logical:
        return self._chain(("*", "/"), self._unary)

    def _chain(self, operators: tuple[str, str], level: _Level) -> Numeric | Logical:
        at = self._peek.at
        left = level()
        while token := self._accept(*operators):
            if isinstance(left, Compare | Not | All | Any):
                self._fail("This is a condition, not a number", at, f"what stands before `{token.text}` is a number",
                           "join conditions with and / or")
            self._arithmetic += 1
            if self._arithmetic > MAX_ARITHMETIC:
                self._fail("The expression calculates too much", token.at, f"at most {MAX_ARITHMETIC} of + - * /", "simplify it")
            left = Arithmetic(token.text, left, self._value(level, f"what stands after `{token.text}`"))
        return left

    def _unary(self) -> Numeric | Logical:
        token = self._accept("-")
        if token is None:
            return self._primary()
        self._deeper(token.at)
        node = Negate(self._value(self._unary, "what stands after `-`"))
        self._depth -= 1
        return node

    def _primary(self) -> Numeric | Logical:
        token = self._peek
        if token.kind == "number":
            self._take()
            value = float(token.text)
            if not np.isfinite(value):
                self._fail("This number is too large", token.at, "numbers are finite", "write a smaller one")
            return Number(value)
        if token.kind == "name":
            self._take()
            return self._column(token)
        if token.text in _CROSSINGS:
            self._take()
            self._expect("(")
            left = self._value(self._sum, f"what {token.text} compares")
            self._expect(",")
            right = self._value(self._sum, f"what {token.text} compares")
            self._expect(")")
            return Compare(token.text, left, right)
        if self._accept("(") is None:
            self._unexpected("a name, a number or `(`")
        self._deeper(token.at)
        node = self._or()
        self._expect(")")
        self._depth -= 1
        return node

    def _column(self, token: _Token) -> Column:
        try:
            name, spec = column(token.text)
        except InputError as error:
            self._fail(error.message.rstrip("."), token.at, error.rule, error.remedy)
        self._columns[name] = None
        if spec is not None:
            self._indicators[spec] = None
        return Column(name)

    def _unexpected(self, wanted: str) -> NoReturn:
        token = self._peek
        found = f"`{token.text}`" if token.kind != "end" else "the end"
        near = get_close_matches(token.text, _WORDS, n=1) if token.kind == "name" else []
        self._fail(f"Expected {wanted}, found {found}", token.at, "the expression must be complete",
                   f"did you mean `{near[0]}`?" if near else "correct it at the caret")

    def _fail(self, what: str, at: int, rule: str, remedy: str) -> NoReturn:
        begin = max(0, at - 60)
        shown = re.sub(r"\s", " ", self._text[begin : at + 60])
        raise ExpressionError(
            f"{what} at position {at + 1}:\n    {shown}\n    {' ' * (at - begin)}^\n", value=self._text, rule=rule, remedy=remedy,
        )
