"""What is the archive in memory's own: what was read stays as it was, whatever is appended or corrected later."""

from dataclasses import replace
from datetime import UTC, date, datetime

from tests.desks import bars
from trading_pipeline.adapters.market_data.memory_archive import MemoryArchive
from trading_pipeline.domain.bars import Interval

LATE = datetime(2030, 1, 1, tzinfo=UTC)


def minutes():
    """Ten sessions of minutes: 3,900 rows, several times the room that is made at first."""
    return bars(interval=Interval.MIN1, first=date(2024, 8, 19), last=date(2024, 8, 30))


def test_bars_appended_one_by_one_are_those_appended_at_once():
    table, archive = minutes().rows(0, 1_500), MemoryArchive()
    for index in range(len(table)):
        archive.append(table.rows(index, index + 1))
    assert archive.read("AAPL", Interval.MIN1, until=LATE) == table


def test_what_was_read_stays_as_it_was_when_bars_come_and_when_one_is_corrected():
    table, archive = minutes(), MemoryArchive()
    archive.append(table.rows(0, 700))
    read = archive.read("AAPL", Interval.MIN1, until=LATE)
    archive.append(table.rows(700, 2_000))
    archive.append(replace(table.rows(10, 11), volume=table.volume[10:11] + 1))
    assert read == table.rows(0, 700)
    assert archive.read("AAPL", Interval.MIN1, until=LATE).volume[10] == table.volume[10] + 1
    assert len(archive.read("AAPL", Interval.MIN1, until=LATE)) == 2_000
