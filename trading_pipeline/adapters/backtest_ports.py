"""What a desk of a backtest has in the place of files that outlive a process: no emergency stop, no anchors.

The stops and anchors of the home belong to its own account and ledger; a backtest neither heeds nor touches them.
"""

from collections.abc import Collection

from trading_pipeline.errors import InputError
from trading_pipeline.ports import Anchor, Stop


class NoLatch:
    """A `Latch` that nothing stands on; there is nothing to stop either."""

    def stop(self, stop: Stop) -> Stop:
        """Refused: InputError."""
        raise InputError(
            "A backtest has no emergency stop.", value=stop.strategy or "account", rule="what is history cannot be stopped",
            remedy="interrupt the backtest with Ctrl-C",
        )

    def stops(self) -> list[Stop]:
        """None."""
        return []

    def standing(self, strategy: str) -> Stop | None:  # noqa: ARG002 -- the port's name
        """None."""
        return None

    def clear(self, stops: Collection[Stop]) -> None:
        """Nothing to clear."""


class NoAnchors:
    """`Anchors` of a ledger that can be computed again: none are kept."""

    def record(self, anchor: Anchor) -> None:
        """Not kept."""

    def restart(self, anchor: Anchor) -> None:
        """Nothing to begin anew."""

    def all(self) -> list[Anchor]:
        """None."""
        return []

    def newest(self) -> Anchor | None:
        """None."""
        return None
