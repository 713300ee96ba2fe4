"""Indicator settings, the names of their columns, and their values over a table of bars.

An indicator is written `name[_parameter...]`: `sma_20`, `rsi_14`, `macd`, `bbands_20_2.5`. The written form is also
the column's name, by one rule: a leading length is always written, other parameters only up to the last one that
differs from its default; several outputs add `_output` (`macd`, `macd_signal`, `macd_hist`, `bbands_20_upper`).
So `rsi` is `rsi_14`, `macd_12_26_9` is `macd`, and an expression may use either.

The standard indicators come straight from TA-Lib (`indicator_standard`), the breadth from pandas-ta-classic
(`indicator_breadth`). Values are NaN in warm-up and where a value is undefined, and are never filled; no value
depends on a later bar. Both libraries are imported at the first computation: each costs a second or two.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np

from trading_pipeline.domain.bars import BarTable, Floats, Interval, instant_of
from trading_pipeline.domain.indicator_breadth import BREADTH
from trading_pipeline.domain.indicator_definition import Definition
from trading_pipeline.domain.indicator_standard import STANDARD
from trading_pipeline.errors import BarsError, InputError, UnknownName

PRICE_COLUMNS = ("open", "high", "low", "close", "volume")
DEFINITIONS: Mapping[str, Definition] = BREADTH | STANDARD
RUNNING_TOTALS = ("ad", "obv")
"""Standard indicators that count from the first bar on: only their changes mean anything."""
_LONGEST_WARM_UP = 16_384


@dataclass(frozen=True, slots=True, order=True)
class IndicatorSpec:
    """One indicator with its parameters, e.g. `IndicatorSpec("sma", (("length", 20),))`.

    Made by `indicator` or `indicator_with`, which check names and ranges and fill defaults in: equal settings are
    equal specs.
    """

    name: str
    parameters: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        return text_of(self)


def indicator(text: str) -> IndicatorSpec:
    """The indicator written as `sma_20`, `macd`, `bbands_20_2.5`.

    Raises:
        UnknownName: No indicator has that name; near matches are named.
        InputError: A parameter is missing, superfluous, or out of its range.
    """
    spec, output = _parse(text)
    if output is not None:
        raise InputError(
            f"{text!r} is one column of the indicator {text_of(spec)!r}.", value=text, rule="an indicator is set as a whole",
            remedy=f"write {text_of(spec)!r}",
        )
    return spec


def indicator_with(name: str, parameters: Mapping[str, float]) -> IndicatorSpec:
    """The indicator `name` with parameters by name, the others at their defaults; raises like `indicator`."""
    definition = _definition(name.strip().lower())
    known = [parameter.name for parameter in definition.parameters]
    for given in parameters:
        if given not in known:
            raise UnknownName(
                f"The indicator {name!r} has no parameter {given!r}.", value=given, rule=f"its parameters are {', '.join(known) or 'none'}",
                remedy=_near(given, known) or "leave it out",
            )
    return IndicatorSpec(definition.name, definition.settings([parameters.get(parameter) for parameter in known]))


def column(name: str) -> tuple[str, IndicatorSpec | None]:
    """The canonical column behind a name, and the indicator it comes from (None for `open` to `volume`).

    Raises:
        UnknownName: Neither a column of a bar nor of any indicator; near matches are named.
        InputError: The indicator's parameters are wrong.
    """
    lowered = name.strip().lower()
    if lowered in PRICE_COLUMNS:
        return lowered, None
    try:
        spec, output = _parse(lowered)
    except UnknownName:
        if not (prices := get_close_matches(lowered, PRICE_COLUMNS, n=1, cutoff=0.75)):
            raise
        raise UnknownName(
            f"There is no column {name!r}.", value=name, rule="a column is open, high, low, close, volume or an indicator's",
            remedy=f"did you mean {prices[0]!r}?",
        ) from None
    columns = columns_of(spec)
    if output is not None:
        return columns[_definition(spec.name).outputs.index(output)], spec
    if text_of(spec) in columns:
        return text_of(spec), spec
    raise UnknownName(
        f"{name!r} has several columns.", value=name, rule="an expression names one column", remedy=f"use one of {', '.join(columns)}"
    )


@lru_cache(maxsize=4096)
def text_of(spec: IndicatorSpec) -> str:
    """The canonical written form: `indicator(text_of(spec)) == spec`."""
    return _definition(spec.name).text(_values(spec))


@lru_cache(maxsize=4096)
def columns_of(spec: IndicatorSpec) -> tuple[str, ...]:
    """The names of its columns, in the order of its outputs; the rule stands at the head of this module."""
    text = text_of(spec)
    return tuple(f"{text}_{output}" if output else text for output in _definition(spec.name).outputs)


def on_price_axis(spec: IndicatorSpec) -> bool:
    """Whether its columns are prices and belong over the candles, rather than in a panel of their own."""
    return _definition(spec.name).on_price_axis


@lru_cache(maxsize=4096)
def warm_up(spec: IndicatorSpec) -> int:
    """How many bars it takes until each of its columns has started: 20 for `sma_20`, 34 for `macd`.

    Found by computing it over a made-up series, so it is true of the library in use. On real bars a column may
    start later where it is undefined (the RSI of a price that has not moved yet).

    Raises:
        InputError: It has not started after 16,384 bars.
    """
    length = 512
    while length <= _LONGEST_WARM_UP:
        columns = compute((spec,), _probe(length)).values()
        if all(np.isfinite(values).any() for values in columns):
            return 1 + max(int(np.argmax(np.isfinite(values))) for values in columns)
        length *= 4
    raise InputError(
        f"{text_of(spec)} has no value after {_LONGEST_WARM_UP} bars.", value=text_of(spec), rule="an indicator starts within 16,384 bars",
        remedy="use shorter parameters",
    )


def history(specs: Iterable[IndicatorSpec]) -> int:
    """How many bars to read so that no column depends, beyond 1 part in 10^10, on where the reading began.

    A recursive average (EMA, Wilder) remembers its seed; reading 12 or 24 times its warm-up makes a live window and
    a backtest over all history agree. Running totals never forget.
    """
    return max((warm_up(spec) * _definition(spec.name).memory for spec in specs), default=1)


def compute(specs: Iterable[IndicatorSpec], bars: BarTable) -> dict[str, Floats]:
    """The columns of the indicators over one table, float64, aligned with it; NaN in warm-up and where undefined.

    Raises:
        BarsError: A price or volume is NaN or infinite: it would poison every later value.
    """
    return prepared(dict.fromkeys(specs))(_clean(bars))


def prepared(specs: Iterable[IndicatorSpec]) -> Callable[[BarTable], dict[str, Floats]]:
    """`compute` of different indicators, looked up once, over tables that are known to be finite and contiguous."""
    steps = [(_definition(spec.name).compute, _values(spec), columns_of(spec)) for spec in specs]

    def over(bars: BarTable) -> dict[str, Floats]:
        return {name: column for function, values, names in steps for name, column in zip(names, function(bars, values), strict=True)}

    return over


def compute_many(specs: Sequence[IndicatorSpec], tables: Mapping[str, BarTable]) -> dict[str, dict[str, Floats]]:
    """`compute` for many tables, by the same keys."""
    return {key: compute(specs, bars) for key, bars in tables.items()}


def price_columns(bars: BarTable) -> dict[str, Floats]:
    """`open`, `high`, `low`, `close`, `volume` as columns, beside which indicator columns stand."""
    return {name: getattr(bars, name) for name in PRICE_COLUMNS}


def names() -> tuple[str, ...]:
    """Every indicator's name, sorted."""
    return tuple(sorted(DEFINITIONS))


@lru_cache(maxsize=4096)
def _values(spec: IndicatorSpec) -> tuple[float, ...]:
    """Its parameters in order and in their types: TA-Lib refuses the 20.0 that comes back from JSON."""
    return tuple(value for _, value in indicator_with(spec.name, dict(spec.parameters)).parameters)


def _definition(name: str) -> Definition:
    try:
        return DEFINITIONS[name]
    except KeyError:
        raise _unknown(name) from None


@lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[IndicatorSpec, str | None]:
    """The spec and, when the text goes on after name and parameters, the output it names."""
    parts = text.strip().lower().split("_")
    for size in range(len(parts), 0, -1):
        definition = DEFINITIONS.get("_".join(parts[:size]))
        if definition is not None:
            break
    else:
        raise _unknown(text)
    rest = parts[size:]
    numbers = 0
    while numbers < len(rest) and _number(rest[numbers]) is not None:
        numbers += 1
    output = "_".join(rest[numbers:]) or None
    if output is not None and output not in definition.outputs:
        whole = definition.text([_number(part) for part in rest[:numbers]])
        known = [f"{whole}_{name}" if name else whole for name in definition.outputs]
        raise UnknownName(
            f"There is no column {text!r}.", value=text, rule=f"the columns of {definition.name} are {', '.join(known)}",
            remedy=_near(text, known) or f"use {known[0]!r}",
        )
    return IndicatorSpec(definition.name, definition.settings([_number(part) for part in rest[:numbers]])), output


def _number(text: str) -> float | None:
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    return None


def _unknown(text: str) -> UnknownName:
    apart = re.sub(r"(?<=[a-z])(?=[0-9])", "_", text)
    stem = "_".join(part for part in apart.split("_") if _number(part) is None)
    return UnknownName(
        f"There is no indicator {text!r}.", value=text, rule="an indicator is written name_parameter, e.g. sma_20, rsi_14, macd",
        remedy=_meant(apart, text) or _near(stem, names()) or "use a name that TA-Lib or pandas-ta-classic has, such as sma, bbands, atr",
    )


def _meant(apart: str, text: str) -> str:
    """`rsi14` is meant to be `rsi_14`."""
    if apart == text:
        return ""
    with suppress(InputError):
        _parse(apart)
        return f"did you mean {apart!r}?"
    return ""


def _near(text: str, known: Iterable[str]) -> str:
    matches = get_close_matches(text, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""


def _clean(bars: BarTable) -> BarTable:
    """The table with contiguous float64 columns, which TA-Lib needs; the same object when they are."""
    fixed: dict[str, Any] = {}
    for name, values in price_columns(bars).items():
        finite = np.isfinite(values)
        if not finite.all():
            row = int(np.argmin(finite))
            raise BarsError(
                f"{bars.symbol} has {name} {values[row]} in the bar of {instant_of(bars.start[row])}.", value=float(values[row]),
                rule="prices and volume are finite numbers", remedy="import the bars of that day again",
            )
        if values.dtype != np.float64 or not values.flags.c_contiguous:
            fixed[name] = np.ascontiguousarray(values, np.float64)
    return replace(bars, **fixed) if fixed else bars


@lru_cache(maxsize=4)
def _probe(length: int) -> BarTable:
    """A made-up series that moves in every bar, in price and volume: hourly, from a session's open."""
    step = np.arange(length, dtype=np.float64)
    close = 100 + 10 * np.sin(step / 7) + 5 * np.cos(step / 3.3) + np.sin(step * 1.7)
    spread = 1 + 0.5 * np.sin(step * 2.1)
    start = (1_704_119_400 + 3_600 * np.arange(length, dtype=np.int64)) * 1_000_000_000
    return BarTable(
        "PROBE", Interval.HOUR1, start, start + 3_600_000_000_000, close + 0.7 * np.sin(step * 0.9), close + spread, close - spread, close,
        np.floor(1_000_000 + 300_000 * np.sin(step / 5) + 100_000 * np.sin(step * 1.1)),
    )
