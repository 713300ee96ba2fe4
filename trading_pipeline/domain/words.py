"""States and values as people say them; where no state is listed, the name itself with spaces is a word.

One table for strategies, actions and orders: a state that two of them share means the same to a person.
"""

import json
import re
from datetime import datetime
from decimal import Decimal

_STATES = {
    "paused_user": "paused by a user", "paused_risk": "paused by the system", "not_ready": "not ready",
    "emergency_stopped": "stopped in an emergency", "pending": "waiting", "voided": "void", "consumed": "acted on",
    "intent": "not sent yet", "submitted": "sent", "accepted": "working", "partial": "partly filled", "cancel_pending": "being cancelled",
    "canceled": "cancelled", "unknown": "in doubt", "not_placed": "never reached the broker", "late_found": "found late",
}


def state_words(state: str) -> str:
    """`paused_user` as `paused by a user`."""
    return _STATES.get(state) or state.replace("_", " ")


def names(sentence: str, value: object) -> bool:
    """Whether a sentence names a value, in whichever form people read it."""
    match value:
        case datetime():
            forms = [f"{value:%Y-%m-%d %H:%M}"]
        case bool() | list() | tuple() | dict():
            forms = [json.dumps(value, default=str, ensure_ascii=False)]
        case int() | float() | Decimal():
            forms = [f"{value:,}", f"{value:,.2f}"]
        case _:
            words = set(re.findall(r"\w+", sentence.lower()))
            return str(value) in sentence or words.issuperset(re.findall(r"\w+", str(value).lower()))
    return any(form in sentence for form in (str(value), *forms))
