"""Domain values as JSON and back: one codec for strategies, intents and whatever else the ledger keeps.

Frozen dataclasses become objects; a union of dataclasses carries the class name in `type`. Money and
instants are strings, durations are seconds. Decoding is strict: an unknown or missing field is an error.
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from trading_pipeline.domain.events import instant_from, instant_text
from trading_pipeline.errors import InputError

T = TypeVar("T")


def encode(value: Any) -> Any:
    """A domain value as JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        name: str = type(value).__name__
        return {"type": name} | {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return instant_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (set, frozenset)):
        return sorted(encode(item) for item in value)
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {name: encode(item) for name, item in value.items()}
    return value


def decode(kind: type[T], data: Any) -> T:
    """The inverse of `encode` for a dataclass.

    Raises:
        InputError: The data do not fit the type.
    """
    try:
        return _decode(kind, data)  # type: ignore[no-any-return]
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise InputError(
            f"A stored {kind.__name__} cannot be read: {error}.", value=str(data)[:200],
            rule="stored values have exactly the fields of their type", remedy="check that the code is not older than the ledger",
        ) from error


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _decode(kind: Any, data: Any) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _decode_union(get_args(kind), data)
    if origin is tuple:
        inner = get_args(kind)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_decode(inner[0], item) for item in _of(list, data))
        return tuple(_decode(part, item) for part, item in zip(inner, _of(list, data), strict=True))
    if origin is frozenset:
        return frozenset(_decode(get_args(kind)[0], item) for item in _of(list, data))
    if origin is Mapping:
        return {name: _decode(get_args(kind)[1], item) for name, item in _of(dict, data).items()}
    if is_dataclass(kind):
        return _decode_dataclass(kind, _of(dict, data))
    if kind is Decimal:
        return Decimal(_of(str, data))
    if kind is datetime:
        return instant_from(data)
    if kind is date:
        return date.fromisoformat(data)
    if kind is timedelta:
        return timedelta(seconds=data)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return data
    if kind is int and isinstance(data, bool):
        raise TypeError("expected int, got bool")
    return _of(kind, data)


def _of(kind: type, data: Any) -> Any:
    if not isinstance(data, kind):
        raise TypeError(f"expected {kind.__name__}, got {type(data).__name__}")
    return data


def _decode_union(kinds: tuple[Any, ...], data: Any) -> Any:
    if data is None and type(None) in kinds:
        return None
    named: dict[str, Any] = {getattr(kind, "__name__", ""): kind for kind in kinds if is_dataclass(kind)}
    if isinstance(data, dict) and named:
        return _decode(named[data["type"]], data)
    rest = [kind for kind in kinds if kind is not type(None) and kind not in named.values()]
    if not rest:
        raise TypeError(f"expected one of {', '.join(named)}, got {type(data).__name__}")
    return _decode(rest[0], data)


def _decode_dataclass(kind: Any, data: dict[str, Any]) -> Any:
    hints = _hints(kind)
    given = {name: value for name, value in data.items() if name != "type"}
    unknown = given.keys() - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"unknown field {sorted(unknown)[0]}")
    missing = [f.name for f in fields(kind) if f.name not in given and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise KeyError(missing[0])
    return kind(**{name: _decode(hints[name], value) for name, value in given.items()})
