"""What an invariant is to the oracle: a number of INVARIANTS section 2, a sentence, the facts it looks at, and the check."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trading_pipeline.oracle.fact import Fact
from trading_pipeline.oracle.state import State

Check = Callable[[State, Fact], Iterable[str]]
"""What is wrong with a fact, in sentences with the values, given everything that came before it; nothing when nothing is."""
EVERY = ("*",)
"""The types of an invariant that looks at every fact."""
ORDER_FACTS = (
    "order.denied", "order.submitted", "order.accepted", "order.rejected", "order.unknown", "order.partially_filled", "order.filled",
    "order.cancel_requested", "order.canceled", "order.expired", "order.not_placed", "order.late_found",
    "order.quarantined", "order.released",
)
"""Facts about an order that exists; an intent and an adoption begin one."""
FILLED = ("order.partially_filled", "order.filled", "external.filled")


@dataclass(frozen=True, slots=True)
class Invariant:
    """One row of the table."""

    number: int
    says: str
    types: tuple[str, ...]
    check: Check
