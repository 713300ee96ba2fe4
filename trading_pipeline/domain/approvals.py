"""Actions and their approvals: states, transitions, and the hash that binds an approval to what was shown."""

import hashlib
import json
from enum import StrEnum
from typing import Any


class ActionState(StrEnum):
    """From a signal to an order, or to the reason there is none (INVARIANTS 3.1)."""

    PROPOSED = "proposed"
    DENIED = "denied"
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    VOIDED = "voided"
    READY = "ready"
    CONSUMED = "consumed"


_S = ActionState
RELEASABLE = (_S.READY.value, _S.APPROVED.value)
"""It goes out when its time has come."""
TRANSITIONS: dict[ActionState, frozenset[ActionState]] = {
    _S.PROPOSED: frozenset({_S.DENIED, _S.READY, _S.PENDING}),
    _S.PENDING: frozenset({_S.APPROVED, _S.REJECTED, _S.EXPIRED, _S.VOIDED}),
    _S.APPROVED: frozenset({_S.CONSUMED, _S.EXPIRED, _S.VOIDED}),
    _S.READY: frozenset({_S.CONSUMED, _S.EXPIRED, _S.VOIDED}),
    _S.DENIED: frozenset(),
    _S.REJECTED: frozenset(),
    _S.EXPIRED: frozenset(),
    _S.VOIDED: frozenset(),
    _S.CONSUMED: frozenset(),
}
OPEN = frozenset({_S.PENDING, _S.APPROVED, _S.READY})
"""While one of these exists for (strategy, symbol, side), a new action is denied ALREADY_OPEN (D29)."""


def proposal_hash(shown: dict[str, Any]) -> str:
    """SHA-256 over exactly what a person is shown (invariant 45), hex.

    Args:
        shown: JSON values only; money as strings.
    """
    return hashlib.sha256(json.dumps(shown, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()).hexdigest()
