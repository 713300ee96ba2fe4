"""Rows of bars files, as tests of the importer write them."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
HEADER = ("timestamp", "open", "high", "low", "close", "volume")
Row = list[object]


def five_minutes(day: str = "2024-08-28", count: int = 78, zone: str = "UTC", offset: bool = True, shift: int = 0) -> list[Row]:
    """Rows of a session from 09:30 New York on, all alike but for volume: much at the open and the close, as it is."""
    first = datetime.fromisoformat(f"{day}T09:30").replace(tzinfo=NEW_YORK) + timedelta(minutes=shift)
    rows: list[Row] = []
    for index in range(count):
        at = (first + timedelta(minutes=5 * index)).astimezone(ZoneInfo(zone))
        volume = 9000 if index in (0, count - 1) else 1000 + index
        rows.append([at.isoformat() if offset else f"{at:%Y-%m-%d %H:%M:%S}", 10.0, 11.0, 9.0, 10.5, volume])
    return rows


def rules(notes: Iterable[object]) -> dict[str, int]:
    return {note.rule: note.rows for note in notes}  # type: ignore[attr-defined]
