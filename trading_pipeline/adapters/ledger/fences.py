"""The refusal that both ledgers give to a submitter whose lease has passed on."""

from trading_pipeline.errors import Fenced
from trading_pipeline.ports import Fence


def fenced(fence: Fence) -> Fenced:
    """The error of a lease that has passed on."""
    return Fenced(
        f"The lease {fence.name} is no longer held under number {fence.token}.", value=fence.token,
        rule="one submitter per account: a newer holder, or a stop, fences the one before (invariant 22)",
        remedy="end this process; a new one takes the lease and reconciles first",
    )
