"""A model's reply becomes a `Signal` or an `Abstain`: the one door through which what a model says comes in (invariants 59, 60).

One JSON object and nothing around it, exactly the fields of `reply_schema`, about exactly the symbol that was asked. Nothing is repaired,
guessed, folded in case or read from prose: whatever is imperfect abstains under a name of `Flaw`. No reply raises. Quantity has no field on
purpose: code sizes. Whether figures cited are true, and what their being false means, is decided elsewhere (invariant 61).
"""

import json
import re
from collections.abc import Collection
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final, NoReturn

from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.outside_text import one_line
from trading_pipeline.domain.signals import Abstain, Action, Figure, Hints, Signal

PARSER_VERSION: Final = "2"
"""Changes whenever a reply could come out differently: what was derived with another one is stale (A6)."""

MAX_REPLY: Final = 16_384
"""Characters, and bytes where it comes as bytes."""
MAX_BRACKETS: Final = 128
"""Opening brackets in the whole text, prose included: bounds the nesting before anything descends into it."""
MAX_NUMBER: Final = 24
"""Characters of a number: as many as the longest float needs, few enough to be exact in Decimal's 28 digits."""
MAX_PRICE: Final = Decimal(10_000_000)
"""USD a share of a hint; no share ever cost a tenth of it."""
MAX_FIGURE: Final = Decimal(10) ** 15
"""What a cited figure may amount to: a year's volume of anything."""
MAX_RATIONALE: Final = 1_000
"""Characters that are kept; a longer rationale is cut."""
MAX_FIGURES: Final = 32
MAX_TARGETS: Final = 4
_SHOWN = 60
_FIGURE_NAME = re.compile(r"[a-z][a-z0-9_.]{0,39}", re.ASCII)


class Flaw(StrEnum):
    """What a reply can be refused for: the `reason` of the `Abstain`."""

    EMPTY = "empty"
    TOO_LONG = "too_long"
    ENCODING = "encoding"
    """Bytes that are no UTF-8."""
    BYTE_ORDER_MARK = "byte_order_mark"
    FENCED = "fenced"
    SURROUNDED = "surrounded"
    """Something stands before or after the JSON."""
    NESTED = "nested"
    INVALID_JSON = "invalid_json"
    NOT_FINITE = "not_finite"
    DUPLICATE_KEY = "duplicate_key"
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_FIELD = "unknown_field"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_ACTION = "unknown_action"
    WRONG_SYMBOL = "wrong_symbol"
    OUTSIDE_UNIVERSE = "outside_universe"
    CONTRADICTORY = "contradictory"
    """A buy whose stop, limit and targets do not rise in this order."""


_REQUIRED: Final = ("action", "symbol", "confidence", "rationale", "figures")
_OPTIONAL: Final = ("limit", "stop", "targets")
_FIELDS: Final = frozenset(_REQUIRED + _OPTIONAL)
_ACTIONS: Final = {"BUY": Action.BUY, "SELL": Action.SELL, "HOLD": Action.HOLD}


class _Refused(Exception):
    """Never leaves this module."""

    def __init__(self, flaw: Flaw, detail: str) -> None:
        super().__init__(detail)
        self.flaw, self.detail = flaw, detail


def parse_reply(reply: str | bytes, symbol: str, universe: Collection[str]) -> Signal | Abstain:
    """Read one reply to one question.

    Args:
        reply: As it came, white space around it allowed.
        symbol: The one that was asked about.
        universe: The strategy's symbols, fixed before the model was asked.
    """
    try:
        return _signal(_fields(_text(reply)), symbol, universe)
    except _Refused as refused:
        return Abstain(symbol, refused.flaw.value, refused.detail)


def reply_schema(symbol: str) -> dict[str, Any]:
    """The JSON schema of a reply about one symbol, for providers that hold a model to one.

    Every field is required and hints may be null, which is the form that strict modes ask for; `parse_reply` takes absent hints too.
    """
    price = {"type": ["number", "null"]}
    figure = {
        "type": "object", "additionalProperties": False, "required": ["name", "value"],
        "properties": {"name": {"type": "string"}, "value": {"type": "number"}},
    }
    return {
        "type": "object", "additionalProperties": False, "required": [*_REQUIRED, *_OPTIONAL],
        "properties": {
            "action": {"type": "string", "enum": list(_ACTIONS)}, "symbol": {"type": "string", "enum": [symbol]},
            "confidence": {"type": "number"}, "rationale": {"type": "string"}, "figures": {"type": "array", "items": figure},
            "limit": price, "stop": price, "targets": {"type": "array", "items": {"type": "number"}},
        },
    }


def _text(reply: str | bytes) -> str:
    """The reply as text that may be JSON."""
    if not reply:
        raise _Refused(Flaw.EMPTY, "the reply is empty")
    if len(reply) > MAX_REPLY:
        raise _Refused(Flaw.TOO_LONG, f"{len(reply):,} characters, at most {MAX_REPLY:,} are read")
    if isinstance(reply, bytes):
        try:
            text = reply.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _Refused(Flaw.ENCODING, f"no UTF-8 at byte {error.start}") from None
    else:
        text = reply
    if text.startswith("\ufeff"):
        raise _Refused(Flaw.BYTE_ORDER_MARK, "the reply begins with a byte order mark")
    body = text.strip(" \t\r\n")
    if not body:
        raise _Refused(Flaw.EMPTY, "the reply is white space")
    if body.startswith("```"):
        raise _Refused(Flaw.FENCED, "the reply is a fenced block, not JSON")
    if body.count("{") + body.count("[") > MAX_BRACKETS:
        raise _Refused(Flaw.NESTED, f"more than {MAX_BRACKETS} opening brackets")
    return body


def _fields(text: str) -> dict[str, Any]:
    """The reply's object, every number a Decimal; the fields are those of the schema."""
    try:
        data = _JSON.decode(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" or (error.msg == "Expecting value" and error.pos == 0):
            beyond = _shown(text[error.pos:])
            raise _Refused(Flaw.SURROUNDED, f"something that is no JSON at character {error.pos}: {beyond}") from None
        raise _Refused(Flaw.INVALID_JSON, f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise _Refused(Flaw.NESTED, "nested too deeply") from None
    if not isinstance(data, dict):
        raise _Refused(Flaw.NOT_AN_OBJECT, f"a JSON {_kind(data)}, not an object")
    for name in data:
        if name not in _FIELDS:
            raise _Refused(Flaw.UNKNOWN_FIELD, f"there is no field {_shown(name)}")
    for name in _REQUIRED:
        if name not in data:
            raise _Refused(Flaw.MISSING_FIELD, f"{name} is missing")
    return data


def _signal(data: dict[str, Any], symbol: str, universe: Collection[str]) -> Signal:
    said = _string(data, "action")
    action = _ACTIONS.get(said)
    if action is None:
        raise _Refused(Flaw.UNKNOWN_ACTION, f"action is {_shown(said)}, not one of {', '.join(_ACTIONS)}")
    if (named := _string(data, "symbol")) != symbol:
        raise _Refused(Flaw.WRONG_SYMBOL, f"about {_shown(named)}, {symbol} was asked")
    if symbol not in universe:
        raise _Refused(Flaw.OUTSIDE_UNIVERSE, f"{symbol} is none of the strategy's symbols")
    confidence = _number(data["confidence"], "confidence")
    if not 0 <= confidence <= 1:
        raise _Refused(Flaw.OUT_OF_RANGE, f"confidence is {confidence:.6g}, not between 0 and 1")
    rationale = one_line(_string(data, "rationale"), MAX_RATIONALE)
    if not rationale:
        raise _Refused(Flaw.MISSING_FIELD, "the rationale says nothing")
    figures = tuple(_figure(each) for each in _array(data["figures"], "figures", MAX_FIGURES))
    if len({figure.name for figure in figures}) < len(figures):
        raise _Refused(Flaw.DUPLICATE_KEY, "a figure is cited twice")
    return Signal(symbol, action, confidence, rationale, figures=figures, hints=_hints(data, action))


def _figure(data: Any) -> Figure:
    if not isinstance(data, dict):
        raise _Refused(Flaw.WRONG_TYPE, f"a figure is a JSON {_kind(data)}, not an object")
    if data.keys() != {"name", "value"}:
        raise _Refused(Flaw.UNKNOWN_FIELD, "a figure has a name and a value, no more and no less")
    name, value = _string(data, "name"), _number(data["value"], "a figure's value")
    if not _FIGURE_NAME.fullmatch(name):
        raise _Refused(Flaw.OUT_OF_RANGE, f"{_shown(name)} names no figure")
    if abs(value) > MAX_FIGURE:
        raise _Refused(Flaw.OUT_OF_RANGE, f"{name} is {value:.6g}")
    return Figure(name, value)


def _hints(data: dict[str, Any], action: Action) -> Hints:
    limit, stop = _price(data.get("limit"), "limit"), _price(data.get("stop"), "stop")
    wished = data.get("targets")
    targets = () if wished is None else tuple(_positive(each, "targets") for each in _array(wished, "targets", MAX_TARGETS))
    rising = [price for price in (stop, limit, *targets) if price is not None]
    if action is Action.BUY and any(lower >= upper for lower, upper in pairwise(rising)):
        raise _Refused(Flaw.CONTRADICTORY, "stop, limit and targets of a buy do not rise in this order")
    return Hints(limit, stop, targets)


def _price(value: Any, name: str) -> Decimal | None:
    return None if value is None else _positive(value, name)


def _positive(value: Any, name: str) -> Decimal:
    number = _number(value, name)
    if not 0 < number <= MAX_PRICE:
        raise _Refused(Flaw.OUT_OF_RANGE, f"{name} is {number:.6g}, no price of a share")
    return number


def _number(value: Any, name: str) -> Decimal:
    if not isinstance(value, Decimal):
        raise _Refused(Flaw.WRONG_TYPE, f"{name} is a JSON {_kind(value)}, not a number")
    return value


def _string(data: dict[str, Any], name: str) -> str:
    value = data[name]
    if not isinstance(value, str):
        raise _Refused(Flaw.WRONG_TYPE, f"{name} is a JSON {_kind(value)}, not a string")
    return value


def _array(value: Any, name: str, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise _Refused(Flaw.WRONG_TYPE, f"{name} is a JSON {_kind(value)}, not an array")
    if len(value) > most:
        raise _Refused(Flaw.OUT_OF_RANGE, f"{len(value)} {name}, at most {most} are read")
    return value


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case Decimal():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _shown(text: str) -> str:
    """Outside text inside a detail: ASCII, short."""
    return ascii(text[:_SHOWN])[: 2 * _SHOWN]


# What the JSON of the standard library allows and JSON or prudence does not


def _exact(text: str) -> Decimal:
    """A number as it is written; what Decimal or a float could not hold exactly is none."""
    if len(text) > MAX_NUMBER or not text.isascii():
        raise _Refused(Flaw.OUT_OF_RANGE, f"a number of {len(text)} characters")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise _Refused(Flaw.OUT_OF_RANGE, f"{text} is beyond every number") from None
    # A nought has an exponent too: 0e-999999999 would be kept with a million digits.
    if not -32 <= number.adjusted() <= 32:
        raise _Refused(Flaw.OUT_OF_RANGE, f"{text} is beyond every figure")
    return number + ZERO


def _constant(text: str) -> NoReturn:
    raise _Refused(Flaw.NOT_FINITE, f"{text} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise _Refused(Flaw.DUPLICATE_KEY, "a field stands there twice")
    return data


_JSON: Final = json.JSONDecoder(object_pairs_hook=_once, parse_float=_exact, parse_int=_exact, parse_constant=_constant)
