"""The envelope of a fact, its canonical bytes and its hash chain.

`seq` is the only order. `at` is the market clock and is hashed; `recorded_at` is the wall clock, stored
beside it and not hashed. A fact is found again by its `key`: appending the same key twice is a no-op.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

GENESIS = bytes(32)
"""The hash before the first event."""


class EventType(StrEnum):
    """Every fact there is, in the names of the founding documents."""

    LEDGER_OPENED = "ledger.opened"
    SESSION_OPENED = "session.opened"
    SESSION_CLOSED = "session.closed"
    STEP_COMPLETED = "step.completed"
    CYCLE_MISSED = "cycle.missed"
    RUN_FAILED = "run.failed"
    WATCHDOG_ALARM = "watchdog.alarm"
    WATCHDOG_CLEARED = "watchdog.cleared"
    ACCOUNT_FUNDED = "account.funded"
    LIMITS_SET = "limits.set"
    LOSS_GRANTED = "loss.granted"
    CORPORATE_ACTION_SPLIT = "corporate_action.split"
    ACCOUNT_LATCHED = "account.latched"
    ACCOUNT_LATCH_CLEARED = "account.latch_cleared"
    STOP_REPORTED = "stop.reported"
    DESK_STARTED = "desk.started"
    DESK_STOPPED = "desk.stopped"

    BAR_RECEIVED = "bar.received"
    BAR_DROPPED = "bar.dropped"
    INDICATORS_COMPUTED = "indicators.computed"
    CHART_RENDERED = "chart.rendered"

    STRATEGY_CREATED = "strategy.created"
    STRATEGY_REVISED = "strategy.revised"
    STRATEGY_STARTING = "strategy.starting"
    STRATEGY_STARTED = "strategy.started"
    STRATEGY_NOT_READY = "strategy.not_ready"
    STRATEGY_PAUSED = "strategy.paused"
    STRATEGY_RESUMED = "strategy.resumed"
    STRATEGY_FINISHED = "strategy.finished"
    STRATEGY_EMERGENCY_STOPPED = "strategy.emergency_stopped"
    STRATEGY_REPORTED = "strategy.reported"

    LLM_REQUESTED = "llm.requested"
    LLM_RESPONDED = "llm.responded"
    LLM_ACTION_GENERATED = "llm.action_generated"
    LLM_ABSTAINED = "llm.abstained"
    LLM_DISCARDED = "llm.discarded"
    LLM_SKIPPED = "llm.skipped"
    LLM_LOST = "llm.lost"
    SIGNAL_MISSED = "signal.missed"
    SIGNAL_OUTCOME = "signal.outcome"
    PROMPT_CHECKED = "prompt.checked"
    SHADOW_CLOSED = "shadow.closed"
    OUTCOMES_MEASURED = "outcomes.measured"

    RISK_EVALUATED = "risk.evaluated"
    ACTION_READY = "action.ready"
    ACTION_EXPIRED = "action.expired"
    ACTION_VOIDED = "action.voided"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_APPROVED = "approval.approved"
    APPROVAL_REJECTED = "approval.rejected"
    APPROVAL_EXPIRED = "approval.expired"
    APPROVAL_VOIDED = "approval.voided"

    ORDERS_REQUESTED = "orders.requested"
    ORDERS_REFUSED = "orders.refused"
    ORDER_INTENT = "order.intent"
    ORDER_DENIED = "order.denied"
    ORDER_SUBMITTED = "order.submitted"
    ORDER_ACCEPTED = "order.accepted"
    ORDER_REJECTED = "order.rejected"
    ORDER_UNKNOWN = "order.unknown"
    ORDER_PARTIALLY_FILLED = "order.partially_filled"
    ORDER_FILLED = "order.filled"
    ORDER_CANCEL_REQUESTED = "order.cancel_requested"
    ORDER_CANCELED = "order.canceled"
    ORDER_EXPIRED = "order.expired"
    ORDER_NOT_PLACED = "order.not_placed"
    ORDER_LATE_FOUND = "order.late_found"
    ORDER_QUARANTINED = "order.quarantined"
    ORDER_ADOPTED = "order.adopted"
    ORDER_RELEASED = "order.released"
    EXECUTION_REFUSED = "execution.refused"
    FILL_CORRECTED = "fill.corrected"
    EXTERNAL_FILLED = "external.filled"
    POSITION_UNPROTECTED = "position.unprotected"
    PROTECTION_OVERSIZED = "protection.oversized"

    PORTFOLIO_SNAPSHOTTED = "portfolio.snapshotted"
    RECONCILED = "reconciliation.completed"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact about to be appended.

    Args:
        type: What happened.
        stream: Whose story: `market`, `account`, `system`, `watchdog`, or a strategy's name as `strategy:NAME`.
        key: Unique name of this fact, derived from what it is about; at most 200 characters.
        payload: JSON values; Decimal, datetime and date are written as strings by `canonical_payload`.
        at: Market clock.
        actor: Who did it: `cycle`, `rulebook`, `broker:paper`, `user:NAME`, `demo:person` ...
        cause: seq of the fact that led to it.
    """

    type: EventType
    stream: str
    key: str
    payload: Mapping[str, Any]
    at: datetime
    actor: str
    cause: int | None = None
    schema: int = 1


@dataclass(frozen=True, slots=True)
class Event:
    """A fact in the ledger. `payload` is parsed, `payload_text` is what was hashed."""

    seq: int
    stream: str
    stream_seq: int
    key: str
    type: EventType
    schema: int
    cause: int | None
    actor: str
    at: datetime
    recorded_at: datetime
    payload: Mapping[str, Any]
    payload_text: str
    previous_hash: bytes
    hash: bytes


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return instant_text(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a payload")


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=_plain)


def canonical_payload(payload: Mapping[str, Any]) -> str:
    """The one text of a payload: sorted keys, no spaces, ASCII, no NaN; money and instants as strings.

    Raises:
        TypeError, ValueError: A value that is no JSON, Decimal, datetime or date; NaN or infinity.
    """
    return _CANONICAL.encode(payload)


def instant_text(at: datetime) -> str:
    """An aware instant as `2012-10-15T13:30:00.000000Z`: one text per instant."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def instant_from(text: str) -> datetime:
    """The inverse of `instant_text`."""
    return datetime.fromisoformat(text)


def instant_of_file(text: str) -> datetime:
    """`instant_from` for what a person may have touched; ValueError or TypeError for anything but an aware instant."""
    try:
        at = instant_from(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is no instant") from error
    raise ValueError(f"{text!r} has no time zone")


def storable(text: str, most: int) -> str:
    """Text that every ledger takes, of at most so many characters: no NUL, and `?` for what no encoding has (a terminal's stray byte)."""
    return text.replace("\x00", "")[:most].encode("utf-8", "replace").decode()


def event_hash(
    previous: bytes, seq: int, stream: str, stream_seq: int, key: str, type_: str, schema: int, cause: int | None,
    actor: str, at: datetime, payload_text: str,
) -> bytes:
    """SHA-256 over the previous hash, the JSON array of every hashed field but the payload, a line feed, and the payload (invariant 3)."""
    return chained(previous, _text(seq, stream, stream_seq, key, type_, schema, cause, actor, at, payload_text))


def text_of(event: Event) -> str:
    """What is hashed of an event beside the hash before it: the JSON array of every field but the payload, a line feed, the payload."""
    return _text(
        event.seq, event.stream, event.stream_seq, event.key, event.type.value, event.schema, event.cause, event.actor, event.at,
        event.payload_text,
    )


def _text(
    seq: int, stream: str, stream_seq: int, key: str, type_: str, schema: int, cause: int | None, actor: str, at: datetime,
    payload_text: str,
) -> str:
    # Written out: a tenth of the time of json.dumps, which verifying spends on every event.
    cited = "null" if cause is None else cause
    envelope = f'[{seq},{_quoted(stream)},{stream_seq},{_quoted(key)},{_quoted(type_)},{schema},{cited},{_quoted(actor)}'
    return f'{envelope},"{instant_text(at)}"]\n{payload_text}'


def chained(previous: bytes, text: str) -> bytes:
    """The hash of an event from its text, see `text_of`."""
    return hashlib.sha256(previous + text.encode()).digest()


def event_from(text: str, previous: bytes, hash_: bytes, recorded_at: datetime) -> Event:
    """The inverse of `text_of`."""
    envelope, payload_text = text.split("\n", 1)
    seq, stream, stream_seq, key, type_, schema, cause, actor, at = json.loads(envelope)
    return Event(
        seq, stream, stream_seq, key, EventType(type_), schema, cause, actor, instant_from(at), recorded_at, json.loads(payload_text),
        payload_text, previous, hash_,
    )
