"""Ledgers as a backup has them, and what goes on at the broker after the backup was made."""

import copy

from tests.desks import OPEN, Floor
from tests.service.minutes import decided
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.bars import Interval
from trading_pipeline.service.cycle import run_cycle


def backup(stage: Floor) -> MemoryLedger:
    """The ledger as it is now, for a desk that is put back to it."""
    assert isinstance(stage.desk.ledger, MemoryLedger)
    made = MemoryLedger("demo", opened_at=OPEN)
    made._store = copy.deepcopy(stage.desk.ledger._store)
    return made


def before_its_orders(stage: Floor, interval: Interval = Interval.DAY1) -> MemoryLedger:
    """A backup that was made before the newest cycle's orders; they are sent after that."""
    due = decided(stage, interval)
    made = backup(stage)
    run_cycle(stage.desk, due)
    return made
