"""States as people say them; where none is listed, the name itself with spaces is a word.

One table for strategies, actions and orders: a state that two of them share means the same to a person.
"""

_STATES = {
    "paused_user": "paused by a user", "paused_risk": "paused by the system", "not_ready": "not ready",
    "emergency_stopped": "stopped in an emergency", "pending": "waiting", "voided": "void", "consumed": "acted on",
    "intent": "not sent yet", "submitted": "sent", "accepted": "working", "partial": "partly filled", "cancel_pending": "being cancelled",
    "canceled": "cancelled", "unknown": "in doubt", "not_placed": "never reached the broker", "late_found": "found late",
}


def state_words(state: str) -> str:
    """`paused_user` as `paused by a user`."""
    return _STATES.get(state) or state.replace("_", " ")
