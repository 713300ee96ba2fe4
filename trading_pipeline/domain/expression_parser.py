"""Text to tree: a tokenizer and a recursive descent parser, bounded in length, nesting and arithmetic.

The bounds keep a rule readable and the recursion, here and in the evaluation, far from the interpreter's limit. Every
error shows the place with a caret under it.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import NoReturn

from trading_pipeline.domain.expression_tree import All, Any, Arithmetic, Column, Compare, Expression, Logical, Negate, Not, Number, Numeric
from trading_pipeline.domain.indicators import IndicatorSpec, column
from trading_pipeline.errors import ExpressionError, InputError

MAX_LENGTH = 2_000
MAX_NESTING = 30
MAX_ARITHMETIC = 100

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


_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z][A-Za-z0-9_]*(?:\.\d[A-Za-z0-9_]*)*)"
    r"|(?P<symbol><=|>=|==|!=|[-+*/()<>,]))",
)
_WORDS = frozenset({"and", "or", "not", "crossed_above", "crossed_below"})
_COMPARISONS = frozenset({"<", "<=", ">", ">=", "==", "!="})
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
            if not math.isfinite(value):
                self._fail("This number is too large", token.at, "numbers are finite", "write a smaller one")
            return Number(value)
        if token.kind == "name":
            self._take()
            if (bracket := self._accept("(")) is not None:
                better = f"write {token.text}_{self._peek.text}" if self._peek.kind == "number" else "take the brackets out"
                self._fail(f"`{token.text}` takes no brackets", bracket.at, "an indicator is written name_parameter, e.g. rsi_14", better)
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
