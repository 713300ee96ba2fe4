"""What stands outside the database, and is good with everything else down: stops, and anchors of the chain."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from trading_pipeline.domain.events import storable


@dataclass(frozen=True, slots=True)
class Stop:
    """An emergency stop in force: of one strategy, for ever, or of the account until a person clears the latch.

    Its text is made one that every ledger takes: a stop is written down whatever a terminal, a paste or a file has handed over.
    """

    strategy: str | None
    """None: the whole account."""
    reason: str
    actor: str
    at: datetime

    def __post_init__(self) -> None:
        """Make the text storable."""
        object.__setattr__(self, "reason", storable(self.reason, 500))
        object.__setattr__(self, "actor", storable(self.actor, 200) or "unknown")


class Latch(Protocol):
    """Emergency stops as files: readable and writable with everything else down (invariants 51, 52, 55)."""

    def stop(self, stop: Stop) -> Stop:
        """Latch; durable on return. What is latched already stays as it was and is returned; the account's next press stands beside it.

        Raises:
            StorageError: It could not be made durable: nothing is confirmed.
        """

    def stops(self) -> list[Stop]:
        """Every stop in force, read anew, and every press of the account's first; one that cannot be read stops the whole account."""

    def standing(self, strategy: str) -> Stop | None:
        """The stop that keeps the strategy from sending anything, if there is one."""

    def clear(self, stops: Collection[Stop]) -> None:
        """Take these presses of the account's stop away, and none that anybody has made beside them, however shortly before.

        Raises:
            StorageError: Not all of them could be.
        """


@dataclass(frozen=True, slots=True)
class Anchor:
    """The chain's head as it was once."""

    seq: int
    hash: bytes
    at: datetime


class Anchors(Protocol):
    """Heads of the chain outside the database, so that truncation, rewriting and an old backup are found (invariant 4)."""

    def record(self, anchor: Anchor) -> None:
        """Write it down for good; one that is no later than the newest changes nothing."""

    def restart(self, anchor: Anchor) -> None:
        """Begin anew from this head: a person has accepted a ledger that is older than the anchors, which no longer count."""

    def all(self) -> list[Anchor]:
        """Those that count, oldest first."""

    def newest(self) -> Anchor | None:
        """The last one."""
