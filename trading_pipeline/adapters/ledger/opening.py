"""The first fact of every ledger: for which environment it was opened."""

from datetime import datetime

from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.errors import EnvironmentMismatch, SettingsError

ENVIRONMENTS = ("live", "paper", "backtest", "demo")


def opened_event(environment: str, at: datetime) -> NewEvent:
    """`ledger.opened`.

    Raises:
        SettingsError: No such environment.
    """
    if environment not in ENVIRONMENTS:
        raise SettingsError(
            f"{environment} is no environment.", value=environment, rule="one of " + ", ".join(ENVIRONMENTS), remedy="correct the setting"
        )
    return NewEvent(EventType.LEDGER_OPENED, "system", "ledger.opened", {"environment": environment}, at, "system")


def check_environment(stamped: str, wanted: str) -> None:
    """Raise EnvironmentMismatch unless both are the same."""
    if stamped != wanted:
        raise EnvironmentMismatch(
            f"This ledger is of the environment {stamped}, and {wanted} was asked for.", value=wanted,
            rule="a ledger holds the facts of one environment, for good", remedy=f"use another home or database, or work as {stamped}",
        )
