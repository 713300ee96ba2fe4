"""Grids of settings, written as a person would: the strategy's own words with `{...}` where a number shall vary.

    agent.max_bars=30,60,90                                a field, as the strategy file names it
    sizing.stop=0.01..0.05..0.01                           from..to..step, both ends included
    rsi_14 < {20..40..5}                                   a piece of one of its expressions
    agent.enter_when=rsi_{7,14} < {25,30} and close > sma_{50,100}   a whole expression, written anew

Several of them multiply. What comes out is checked as any strategy is: values, expressions and indicators.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from itertools import product
from typing import Any, Final, get_args, get_type_hints

from trading_pipeline.domain.agents import required_indicators
from trading_pipeline.domain.strategies import ExpressionAgent, ModelAgent, StrategySpec
from trading_pipeline.errors import InputError, StrategyError, TradingError, UnknownName

MOST_POINTS: Final = 5_000
_EXAMPLE: Final = 'write --grid "agent.max_bars=30,60,90" or --grid "rsi_14 < {20..40..5}"'
_FIELD = re.compile(r"\s*([a-z_]+(?:\.[a-z_]+)?)\s*=(?!=)(.*)", re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*)\}")
_NUMBER: Final = r"(?<![A-Za-z0-9_.])(?:\d+(?:\.\d*)?|\.\d+)(?![A-Za-z0-9.])|(?<=_)\d+(?:\.\d+)?(?![A-Za-z0-9.])"
_CLAUSE = re.compile(r"\b(?:and|or|not)\b|[()]")
_SECTIONS: Final = ("agent", "sizing", "limits")
_TEXTS: Final = {ExpressionAgent: ("enter_when", "exit_when"), ModelAgent: ("trigger", "trigger_held")}


@dataclass(frozen=True, slots=True)
class Axis:
    """One number that varies: what it is called, and its values as they were written, in order."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One combination: a value an axis, and the strategy with them."""

    values: tuple[str, ...]
    spec: StrategySpec


@dataclass(frozen=True, slots=True)
class Grid:
    """All combinations, the last axis varying fastest. `own` is the place of the strategy's own settings; None: not among them."""

    spec: StrategySpec
    axes: tuple[Axis, ...]
    points: tuple[Point, ...]

    @property
    def own(self) -> int | None:
        """Where the strategy as it is stands in the grid."""
        return next((place for place, point in enumerate(self.points) if point.spec == self.spec), None)

    @property
    def shape(self) -> tuple[int, ...]:
        """Values by axis."""
        return tuple(len(axis.values) for axis in self.axes)

    def label(self, point: Point) -> str:
        """`agent.max_bars 30, rsi_14 < 25`."""
        return ", ".join(_said(axis.name, value) for axis, value in zip(self.axes, point.values, strict=True))


@dataclass(frozen=True, slots=True)
class _Template:
    """A field and its text in pieces: one value goes between each two of them."""

    field: str
    pieces: tuple[str, ...]
    axes: tuple[Axis, ...]


def grid_of(spec: StrategySpec, texts: Sequence[str]) -> Grid:
    """Read a grid over the settings of a strategy.

    Args:
        texts: As in the head of this module, one or more.

    Raises:
        InputError: One of them cannot be understood, or there are too many points.
        UnknownName: The strategy has no such field.
        StrategyError, ExpressionError: A combination is no strategy; the message names it.
    """
    if not texts:
        raise InputError("The grid is empty.", value="", rule="a grid varies at least one number", remedy=_EXAMPLE)
    templates = _merged(spec, [_template(spec, text) for text in texts])
    axes = _distinct([axis for template in templates for axis in template.axes])
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > MOST_POINTS:
        raise InputError(
            f"The grid has {count:,} points.", value=count, remedy="vary fewer numbers, or in larger steps",
            rule=f"a grid has at most {MOST_POINTS:,}: the more are tried, the more look good by chance",
        )
    points = tuple(Point(values, _with(spec, templates, axes, values)) for values in product(*(axis.values for axis in axes)))
    return Grid(spec, axes, points)


# Reading


def _template(spec: StrategySpec, text: str) -> _Template:
    given = _FIELD.fullmatch(text)
    if given is None:
        return _fragment(spec, text)
    field, value = given[1], given[2].strip()
    _check_field(spec, field)
    if "{" not in value and "}" not in value:
        value = f"{{{value}}}"
    return _pieces(field, value, text, alone=field)


def _fragment(spec: StrategySpec, text: str) -> _Template:
    """A piece of an expression: where it stands in the strategy's own, with any numbers in the place of the braces."""
    if not _BRACES.search(text):
        raise InputError(
            f"{text!r} varies nothing.", value=text, rule="a grid names a field with its values, or has {...} where a number varies",
            remedy=_EXAMPLE,
        )
    pieces = [r"\s+".join(map(re.escape, piece.split())) for piece in re.split(_BRACES.pattern, text.strip())[::2]]
    gaps = [(piece[-1:].isspace(), piece[:1].isspace()) for piece in re.split(_BRACES.pattern, text.strip())[::2]]
    pattern = ""
    for place, piece in enumerate(pieces):
        after, before = gaps[place]
        pattern += (r"\s+" if before and place else "") + piece + (r"\s+" if after and piece and place + 1 < len(pieces) else "")
        pattern += f"({_NUMBER})" if place + 1 < len(pieces) else ""
    own = {f"agent.{name}": getattr(spec.agent, name) for name in _TEXTS.get(type(spec.agent), ())}
    found = [(field, match) for field, whole in own.items() for match in re.finditer(pattern, whole)]
    if len(found) != 1:
        stands = "; ".join(f"{field} = {whole!r}" for field, whole in own.items() if whole) or "it has none"
        times = "nowhere" if not found else f"{len(found)} times"
        raise InputError(
            f"{text!r} stands {times} in the expressions of {spec.name}: {stands}.", value=text,
            rule="a piece of an expression stands there once, with a number for each {...}",
            remedy="write more of the expression around it, or the whole of it as agent.enter_when=...",
        )
    field, match = found[0]
    whole, template, at = own[field], "", 0
    for place, values in enumerate(_BRACES.findall(text), start=1):
        begin, end = match.span(place)
        template += f"{whole[at:begin]}{{{values}}}"
        at = end
    return _pieces(field, template + whole[at:], text)


def _pieces(field: str, template: str, text: str, alone: str = "") -> _Template:
    parts = re.split(_BRACES.pattern, template)
    pieces = tuple(parts[::2])
    if any(brace in piece for piece in pieces for brace in "{}"):
        raise InputError(f"The braces of {text!r} do not match.", value=text, rule="{...} holds values and nothing else", remedy=_EXAMPLE)
    axes = []
    for place, values in enumerate(parts[1::2]):
        name = alone if alone and not any(map(str.strip, pieces)) else _clause(pieces, place)
        axes.append(Axis(name, _values(values, text)))
    return _Template(field, pieces, tuple(axes))


def _clause(pieces: Sequence[str], place: int) -> str:
    """The comparison that a number stands in, `?` in the number's place and `#` for others."""
    before, after = "#".join(pieces[: place + 1]), "#".join(pieces[place + 1 :])
    return f"{_CLAUSE.split(before)[-1].lstrip()}?{_CLAUSE.split(after)[0].rstrip()}".strip()


def _values(text: str, whole: str) -> tuple[str, ...]:
    """`20,25,30` or `20..40..5` as numbers in their shortest form."""
    if ".." in text:
        parts = [part.strip() for part in text.split("..")]
        if len(parts) != 3:
            raise InputError(
                f"{text!r} in {whole!r} is no range.", value=text, rule="a range is written from..to..step",
                remedy="write for example 20..40..5",
            )
        low, high, step = (_number(part, whole) for part in parts)
        if step <= 0 or high < low:
            raise InputError(
                f"The range {text!r} in {whole!r} has no values.", value=text, rule="from is at most to, and the step is above 0",
                remedy="write for example 20..40..5",
            )
        count = int((high - low) / step) + 1
        if count > MOST_POINTS:
            raise InputError(
                f"The range {text!r} has {count:,} values.", value=text, rule=f"a grid has at most {MOST_POINTS:,} points",
                remedy="take larger steps",
            )
        return tuple(_shortest(low + step * index) for index in range(count))
    found = tuple(_shortest(_number(part.strip(), whole)) for part in text.split(","))
    if len(set(found)) < len(found):
        raise InputError(
            f"{text!r} in {whole!r} names a value twice.", value=text, rule="each value stands once", remedy="remove one of them",
        )
    return found


def _number(text: str, whole: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or value < 0:
        raise InputError(
            f"{text!r} in {whole!r} is no value of a grid.", value=text, rule="values are numbers of 0 or more, with commas between them",
            remedy=_EXAMPLE,
        )
    return value


def _shortest(value: Decimal) -> str:
    """`30` for 30.0 and 3E+1."""
    return format(value.normalize(), "f")


def _check_field(spec: StrategySpec, field: str) -> None:
    known = _fields(spec)
    if field in known:
        return
    near = get_close_matches(field, known, n=1)
    raise UnknownName(
        f"A grid cannot vary {field!r} of {spec.name}.", value=field, rule=f"it has {', '.join(known)}",
        remedy=f"did you mean {near[0]!r}?" if near else "name one of them",
    )


def _fields(spec: StrategySpec) -> dict[str, Any]:
    """By the name in a strategy file, the type of what may vary: numbers, and the expressions."""
    found: dict[str, Any] = {}
    for section in _SECTIONS:
        value = getattr(spec, section)
        for name, kind in get_type_hints(type(value)).items():
            kinds = set(get_args(kind) or (kind,)) - {type(None)}
            if kinds <= {Decimal, int} or (section == "agent" and name in _TEXTS.get(type(value), ())):
                found[f"{section}.{name}"] = kinds.pop()
    return found | {"min_confidence": Decimal, "price_band": Decimal}


def _merged(spec: StrategySpec, templates: Sequence[_Template]) -> list[_Template]:
    """Several pieces of one expression as one template; a field that is given twice is refused."""
    found: dict[str, _Template] = {}
    for template in templates:
        other = found.get(template.field)
        if other is None:
            found[template.field] = template
            continue
        section, _, name = template.field.partition(".")
        own = getattr(getattr(spec, section), name) if name else ""
        both = _overlaid(own, other, template) if isinstance(own, str) else None
        if both is None:
            raise InputError(
                f"The grid varies {template.field} twice.", value=template.field, rule="each number varies once",
                remedy="put all values into one, or write the whole expression with all of its {...}",
            )
        found[template.field] = both
    return list(found.values())


def _overlaid(own: str, first: _Template, second: _Template) -> _Template | None:
    """Two templates of the same expression as one; None where either rewrites it or both vary the same number."""
    marks = []
    for template in (first, second):
        matched = re.fullmatch(f"({_NUMBER})".join(map(re.escape, template.pieces)), own)
        if matched is None:
            return None
        marks += [(matched.span(place + 1), axis) for place, axis in enumerate(template.axes)]
    marks.sort(key=lambda mark: mark[0])
    spans = [span for span, _ in marks]
    if len(set(spans)) < len(spans):
        return None
    ends = [0, *(end for _, end in spans)]
    begins = [*(begin for begin, _ in spans), len(own)]
    return _Template(first.field, tuple(own[end:begin] for end, begin in zip(ends, begins, strict=True)), tuple(axis for _, axis in marks))


def _distinct(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Axes of the same name are numbered."""
    names = [axis.name for axis in axes]
    found, seen = [], dict.fromkeys(names, 0)
    for axis in axes:
        seen[axis.name] += 1
        found.append(replace(axis, name=f"{axis.name} ({seen[axis.name]})") if names.count(axis.name) > 1 else axis)
    return tuple(found)


# Making


def _with(spec: StrategySpec, templates: Sequence[_Template], axes: Sequence[Axis], values: tuple[str, ...]) -> StrategySpec:
    """The strategy with these values."""
    changes: dict[str, dict[str, Any]] = {}
    rest = iter(values)
    for template in templates:
        text = template.pieces[0] + "".join(next(rest) + piece for piece in template.pieces[1:])
        section, _, name = template.field.rpartition(".")
        changes.setdefault(section, {})[name] = _typed(_fields(spec)[template.field], text, template.field)
    try:
        changed = replace(spec, **changes.pop("", {}), **{
            section: replace(getattr(spec, section), **given) for section, given in changes.items()
        })
        required_indicators(changed.agent)
    except TradingError as error:
        said = ", ".join(_said(axis.name, value) for axis, value in zip(axes, values, strict=True))
        told = f"The point {said} of the grid: {error.message}"
        raise type(error)(told, value=error.value, rule=error.rule, remedy=error.remedy) from error
    return changed


def _typed(kind: Any, text: str, field: str) -> Any:
    if kind is str:
        return text
    value = Decimal(text)
    if kind is int:
        if value != int(value):
            raise StrategyError(f"{field} = {text} is no count.", value=text, rule=f"{field} is a whole number", remedy="round it")
        return int(value)
    if field in ("min_confidence", "price_band") and value > 1:
        raise StrategyError(f"{field} = {text} is no fraction.", value=text, rule=f"{field} is at most 1", remedy="write 0.8 for 80 %")
    return value


def _said(name: str, value: str) -> str:
    return name.replace("?", value) if "?" in name else f"{name} {value}"
