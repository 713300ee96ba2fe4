"""The emergency stop: what is in force, and its order of work (INVARIANTS 3.3).

The latch is a file and comes first; everything after it may fail and is taken up again, by the next round or the next process.
A stop is in force when either the file or the ledger says so: a restored ledger does not lift it, and neither does a lost file.
"""

from trading_pipeline.domain.strategies import StrategyState
from trading_pipeline.ports import Reader, Stop
from trading_pipeline.service.desk import Desk

LATCHED = "latched"
"""The state of a row of `latches` in force."""


def in_force(desk: Desk, reader: Reader, strategy: str) -> Stop | None:
    """The stop that keeps a strategy from sending, asking and proposing anything, if there is one.

    Args:
        reader: The transaction of the submission, where it matters that nothing comes between (invariant 52).
    """
    return desk.latch.standing(strategy) or recorded(desk, reader, strategy)


def recorded(desk: Desk, reader: Reader, strategy: str) -> Stop | None:
    """The stop that the ledger knows of, whatever the files say."""
    latch = reader.get("latches", f"account:{desk.broker.account_id}")
    if latch is not None and latch["state"] == LATCHED:
        return Stop(None, latch["reason"], latch["actor"], latch["at"])
    row = reader.get("strategies", strategy)
    if row is not None and row["state"] == StrategyState.EMERGENCY_STOPPED.value:
        return Stop(strategy, row["reason"], row["actor"], row["state_since"])
    return None
