"""What a home's database says of itself, for an emergency stop that cannot rely on the home's settings or clock."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from trading_pipeline.adapters.ledger.connecting import engine_for
from trading_pipeline.adapters.ledger.database_errors import translating


@dataclass(frozen=True, slots=True)
class AtHand:
    """Read without a lock, so that nobody who writes is waited for."""

    environment: str | None
    """As stamped; None before the ledger's first fact."""
    accounts: tuple[str, ...]
    """Of the paper broker."""
    newest: tuple[datetime, datetime] | None
    """Of the newest fact: its market time, and when it was recorded."""


def read_at_hand(url: sa.URL, revive: Callable[[], object] | None) -> AtHand:
    """Ask the database; the errors are those of a ledger that cannot be read."""
    engine = engine_for(url, revive)
    try:
        with translating(), engine.connect() as connection:
            stamped = connection.scalar(sa.text("SELECT environment FROM ledger_head"))
            accounts = connection.scalars(sa.text("SELECT account FROM paper.accounts ORDER BY account")).all()
            newest = connection.execute(sa.text("SELECT at, recorded_at FROM events ORDER BY seq DESC LIMIT 1")).one_or_none()
    finally:
        engine.dispose()
    return AtHand(stamped, tuple(accounts), None if newest is None else (newest.at, newest.recorded_at))
