"""One event of the JSONL export as the oracle reads it, and what it recomputes of it: canonical text, hashes, names of orders.

Written from INVARIANTS 3 and 13 alone, not from the code that writes the ledger: where the two disagree, one of them is wrong.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

GENESIS = bytes(32)
ZERO = Decimal(0)
CENT = Decimal("0.01")
_FIELDS: dict[type, tuple[str, ...]] = {
    int: ("seq", "stream_seq", "schema"), str: ("stream", "key", "type", "actor", "at", "hash"), dict: ("payload",),
}
_MONEY = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Fact:
    """An event; `data` is its payload."""

    seq: int
    stream: str
    stream_seq: int
    key: str
    type: str
    schema: int
    cause: int | None
    actor: str
    at: datetime
    data: Mapping[str, Any]
    hash: str

    @classmethod
    def read(cls, event: Mapping[str, Any]) -> "Fact":
        """Take an object of the export.

        Raises:
            KeyError, ValueError, TypeError: It is none.
        """
        for kind, names in _FIELDS.items():
            for name in names:
                if not isinstance(event[name], kind) or isinstance(event[name], bool):
                    raise TypeError(f"its {name} is {event[name]!r}")
        if event["cause"] is not None:
            whole(event["cause"])
        if len(bytes.fromhex(event["hash"])) != len(GENESIS):
            raise ValueError(f"its hash is {event['hash']!r}")
        return cls(
            event["seq"], event["stream"], event["stream_seq"], event["key"], event["type"], event["schema"], event["cause"],
            event["actor"], instant(event["at"]), event["payload"], event["hash"],
        )


def instant(text: str) -> datetime:
    """An aware instant in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def money(value: object) -> Decimal:
    """An amount of money or a price as it must stand in a payload: a string of digits, never a float.

    Raises:
        ValueError: It is written in any other way.
    """
    if not isinstance(value, str) or not _MONEY.fullmatch(value):
        raise ValueError(f"{value!r} is no exact decimal")
    return Decimal(value)


def money_or_none(value: object) -> Decimal | None:
    """The same where there may be none."""
    return None if value is None else money(value)


def whole(value: object) -> int:
    """A quantity of shares: a whole number.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no whole number")
    return value


def canonical(value: Any) -> str:
    """JSON with sorted keys, without spaces, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256(text: str) -> str:
    """In hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def chained(previous: bytes, fact: Fact) -> str:
    """The hash that a fact must carry after the one before it (invariant 3): h(previous, fields as a JSON array, line feed, payload)."""
    at = fact.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    fields = [fact.seq, fact.stream, fact.stream_seq, fact.key, fact.type, fact.schema, fact.cause, fact.actor, at]
    return hashlib.sha256(previous + canonical(fields).encode() + b"\n" + canonical(fact.data).encode()).hexdigest()


def order_name(action_id: str, part: str) -> str:
    """The client id that follows from an action and a part of it (invariant 13)."""
    return base64.b32encode(hashlib.sha256(f"{action_id}\x1f{part}".encode()).digest()).decode("ascii")[:20]


def person(actor: str, environment: str) -> bool:
    """Whether an actor is a human being; in the demo and in backtests one is played (D17)."""
    played = environment in ("demo", "backtest") and actor == f"{environment}:person"
    return (actor.startswith("user:") and actor[5:].strip() != "") or played
