"""What becomes of work that was not done when it was due: one policy an asset (A7), as data.

The machine slept, the daemon was dead, or the processor was busy. What happened in the market can be had later and is;
what would have been decided then cannot, and is never made up. The timetable writes these words into the record, the
assets show them, and the tests hold the steps to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class WhenMissed(StrEnum):
    """What happens to an asset's missed work."""

    REFILLED = "refilled"
    """Made good as if it had been done in time."""
    SKIPPED = "skipped"
    """Not done any more, and recorded as missed with the reason."""
    NEVER_LATE = "never_late"
    """Refused after its time, whoever asks."""
    CAUGHT_UP = "caught_up"
    """Happened without us, and is booked with its own time as soon as we are back."""
    AS_OF_NOW = "as_of_now"
    """Done once for the present; what it would have been in between is not made up."""


@dataclass(frozen=True, slots=True)
class MissedWork:
    """The policy of one asset, with a sentence for people."""

    treatment: WhenMissed
    says: str


MISSED_WORK: Mapping[str, MissedWork] = MappingProxyType({
    "bars": MissedWork(WhenMissed.REFILLED, "The next cycle archives every bar that has closed since the newest one it has."),
    "indicators": MissedWork(
        WhenMissed.REFILLED, "Computed over the refilled bars, those of the gap included; a backfill materialises a missed session itself.",
    ),
    "charts": MissedWork(WhenMissed.REFILLED, "Drawn from the refilled bars; a backfill draws those of a missed session itself."),
    "signals": MissedWork(
        WhenMissed.SKIPPED,
        "Only the newest close is decided on, within two bars and ten minutes at most; others are recorded as missed and nobody is asked.",
    ),
    "verdicts": MissedWork(WhenMissed.SKIPPED, "Without a signal there is nothing to judge; a proposal judged too late is denied for it."),
    "orders": MissedWork(
        WhenMissed.NEVER_LATE, "Sent before the action expires and while the session is open, or not at all; nothing is sent afterwards.",
    ),
    "fills": MissedWork(WhenMissed.CAUGHT_UP, "Executions that happened meanwhile are asked for and booked, each once, at their own time."),
    "portfolio_snapshots": MissedWork(WhenMissed.AS_OF_NOW, "One snapshot of what is held now; none is made up for the time between."),
    "outcomes": MissedWork(WhenMissed.CAUGHT_UP, "Measured from closed bars, by the next close's run at the latest, and the same then."),
    "model_report": MissedWork(WhenMissed.AS_OF_NOW, "One report on everything that is known now."),
})
"""By asset, in the order of the chain."""


def treated(treatment: WhenMissed) -> tuple[str, ...]:
    """The assets whose missed work is treated so."""
    return tuple(name for name, work in MISSED_WORK.items() if work.treatment is treatment)
