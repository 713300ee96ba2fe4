"""The fallback journal (invariant 7): where facts of an emergency go while the ledger takes none, until a boot merges them."""

from typing import Protocol

from trading_pipeline.domain.events import NewEvent
from trading_pipeline.errors import StorageError


class Journal(Protocol):
    """Facts outside the database, durable one by one."""

    def write(self, event: NewEvent) -> None:
        """Keep a fact.

        Raises:
            StorageError: It could not be made durable.
        """

    def waiting(self) -> tuple[list[NewEvent], int]:
        """Facts that are not in the ledger yet, oldest first, and the number to give to `merged` once they are."""

    def merged(self, lines: int) -> None:
        """Say that the facts of one `waiting` are in the ledger."""


class NoJournal:
    """For a desk whose ledger lives as long as its process: a backtest's, a test's."""

    def write(self, event: NewEvent) -> None:
        """Refuse."""
        raise StorageError(
            f"The fact {event.key} could not be kept.", value=event.key, rule="what the ledger does not take goes into the journal",
            remedy="this desk has no journal",
        )

    def waiting(self) -> tuple[list[NewEvent], int]:
        """Nothing."""
        return [], 0

    def merged(self, lines: int) -> None:
        """Nothing to say."""
