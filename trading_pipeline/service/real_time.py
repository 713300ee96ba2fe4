"""The machine's clock, for what is real where market time is not: money. No decision is taken by it (docs/decisions/0013)."""

from datetime import UTC, datetime


def wall_now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)
