"""The machine's clock, for what is real where market time is not: money, and a broker's answer. No decision is taken by it
(docs/decisions/0013)."""

import time
from datetime import UTC, datetime


def wall_now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)


def pause() -> None:
    """Wait a tenth of a second for what somebody else is about to say."""
    time.sleep(0.1)
