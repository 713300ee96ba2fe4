"""The account's limits as a fact: which version is in force, and what a change of them takes back (D17).

Limits come from the settings of whoever opens a desk. Before anything is judged, approved or sent, those that differ from the
last recorded ones become the next version, and every open action judged under another version is void (invariant 48).
"""

import json
from dataclasses import fields
from datetime import timedelta
from decimal import Decimal

from trading_pipeline.domain.codec import decode, encode
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.ports import Transaction
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.voiding import void_open


def in_force(desk: Desk, tx: Transaction) -> int:
    """The version of the desk's account limits; written down, with what it voids, when they are not the recorded ones."""
    account = desk.broker.account_id
    row = tx.get("limits", account)
    before = None if row is None else decode(AccountLimits, json.loads(row["limits"]))
    if row is not None and before == desk.limits:
        version: int = row["version"]
        return version
    version = 1 if row is None else row["version"] + 1
    changed = [] if before is None else changes(before, desk.limits)
    payload = {"account": account, "version": version, "limits": encode(desk.limits), "changed": changed}
    event = NewEvent(EventType.LIMITS_SET, "account", f"limits.set:{account}:{version}", payload, desk.now(), "settings")
    [recorded] = tx.append(event)
    if before is not None:
        void_open(tx, f"the account's limits changed: {', '.join(changed)}", desk.now(), "settings", cause=recorded.seq)
    return version


def changes(before: AccountLimits, after: AccountLimits) -> list[str]:
    """What changed, with both values."""
    pairs = [(field.name, getattr(before, field.name), getattr(after, field.name)) for field in fields(AccountLimits)]
    return [f"{name} from {_text(old)} to {_text(new)}" for name, old, new in pairs if old != new]


def _text(value: Decimal | int | timedelta | frozenset[str]) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none"
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
