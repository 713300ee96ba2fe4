"""The account's limits as a fact: which version is in force, and what a change of them takes back (D17).

Limits come from the settings of whoever opens a desk. Before anything is judged, approved or sent, those that differ from the
last recorded ones become the next version, and every open action judged under another version is void (invariant 48).
"""

import json
from collections.abc import Mapping
from typing import Any

from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.ports import Transaction
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.voiding import void_open


def in_force(desk: Desk, tx: Transaction) -> int:
    """The version of the desk's account limits; written down, with what it voids, when they are not the recorded ones."""
    account, limits = desk.broker.account_id, encode(desk.limits)
    row = tx.get("limits", account)
    changed = [] if row is None else changes(json.loads(row["limits"]), limits)
    if row is not None and not changed:
        current: int = row["version"]
        return current
    version = 1 if row is None else row["version"] + 1
    payload = {"account": account, "version": version, "limits": limits, "changed": changed}
    event = NewEvent(EventType.LIMITS_SET, "account", f"limits.set:{account}:{version}", payload, desk.now(), "settings")
    [recorded] = tx.append(event)
    if row is not None:
        void_open(tx, f"the account's limits changed: {', '.join(changed)}", desk.now(), "settings", cause=recorded.seq)
    return version


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two sets of encoded limits, with both values; a limit that only one version of the code knows is a change."""
    return [
        f"{name} from {_text(before.get(name))} to {_text(after.get(name))}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _text(value: Any) -> str:
    return (", ".join(value) if isinstance(value, list) else str(value or "")) or "none"
