"""What is the Parquet archive's own: its files, damage to them, and several writers."""

import fcntl
import os
import subprocess
import sys
from datetime import UTC, date, datetime

import pyarrow.parquet as pq
import pytest

from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.market_data import parquet_archive
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.adapters.market_data.synthetic import SyntheticMarket
from trading_pipeline.domain.bars import Interval
from trading_pipeline.errors import BarsError, StorageError

LATE = datetime(2025, 1, 1, tzinfo=UTC)


def table_of(interval: Interval, symbol: str = "AAA", seed: int = 11):
    market = SyntheticMarket(seed, [symbol], interval, date(2023, 12, 28), date(2024, 1, 4), load_calendar())
    return market.closed_bars([symbol], interval, None, LATE)[symbol]


@pytest.fixture
def archive(tmp_path):
    return ParquetArchive(tmp_path)


def test_daily_bars_have_a_file_a_year_and_intraday_bars_a_file_a_session(archive):
    archive.append(table_of(Interval.DAY1))
    archive.append(table_of(Interval.HOUR1))
    files = sorted(str(path.relative_to(archive.root)) for path in archive.root.rglob("*.parquet"))
    assert files == [
        "1d/AAA/2023.parquet", "1d/AAA/2024.parquet",
        "1h/AAA/2023-12-28.parquet", "1h/AAA/2023-12-29.parquet", "1h/AAA/2024-01-02.parquet", "1h/AAA/2024-01-03.parquet",
        "1h/AAA/2024-01-04.parquet",
    ]  # fmt: skip


def test_files_can_be_read_by_anything_that_reads_parquet(archive):
    archive.append(table_of(Interval.DAY1))
    rows = pq.read_table(archive.root / "1d/AAA/2024.parquet", partitioning=None)
    assert rows.column_names == ["start", "end", "open", "high", "low", "close", "volume"]
    assert str(rows.schema.field("start").type) == "timestamp[ns, tz=UTC]"
    assert rows["start"][0].as_py() == datetime(2024, 1, 2, 14, 30, tzinfo=UTC)


def test_an_append_that_changes_nothing_writes_nothing(archive):
    archive.append(table_of(Interval.DAY1))
    before = {path: path.stat().st_mtime_ns for path in archive.root.rglob("*.parquet")}
    archive.append(table_of(Interval.DAY1))
    assert {path: path.stat().st_mtime_ns for path in archive.root.rglob("*.parquet")} == before


def test_a_reader_sees_what_another_object_appended_after_it_read(archive):
    table = table_of(Interval.DAY1)
    archive.append(table.rows(0, 3))
    assert len(archive.read("AAA", Interval.DAY1, until=LATE)) == 3
    ParquetArchive(archive.root).append(table)
    assert archive.read("AAA", Interval.DAY1, until=LATE) == table


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_a_damaged_file_is_named_with_its_remedy_and_spoils_no_other(archive, damage):
    archive.append(table_of(Interval.DAY1))
    archive.append(table_of(Interval.DAY1, "BBB"))
    path = archive.root / "1d/AAA/2024.parquet"
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "garbage": b"\x00" * 500, "empty": b""}[damage])
    with pytest.raises(BarsError, match=r"2024\.parquet") as caught:
        archive.read("AAA", Interval.DAY1, until=LATE)
    assert "move the file away" in caught.value.remedy
    assert archive.read("BBB", Interval.DAY1, until=LATE) == table_of(Interval.DAY1, "BBB")


def test_after_a_damaged_file_is_moved_away_its_bars_can_be_appended_again(archive):
    table = table_of(Interval.DAY1)
    archive.append(table)
    path = archive.root / "1d/AAA/2024.parquet"
    path.write_bytes(b"damage")
    with pytest.raises(BarsError):
        archive.append(table)
    path.unlink()
    archive.append(table)
    assert archive.read("AAA", Interval.DAY1, until=LATE) == table


def test_a_file_of_another_symbol_is_not_read_as_this_one(archive):
    archive.append(table_of(Interval.DAY1))
    other = archive.root / "1d/BBB"
    other.mkdir()
    (other / "2024.parquet").write_bytes((archive.root / "1d/AAA/2024.parquet").read_bytes())
    with pytest.raises(BarsError, match="BBB"):
        archive.read("BBB", Interval.DAY1, until=LATE)


def test_files_that_a_crash_left_half_written_are_passed_over(archive):
    archive.append(table_of(Interval.DAY1))
    (archive.root / "1d/AAA/.2024-abc.tmp").write_bytes(b"half")
    assert archive.read("AAA", Interval.DAY1, until=LATE) == table_of(Interval.DAY1)
    assert archive.symbols() == ("AAA",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_a_storage_error(archive):
    """fault 32."""
    archive.root.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be written"):
        archive.append(table_of(Interval.DAY1))
    archive.root.chmod(0o700)


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "archive").write_text("a file in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        ParquetArchive(tmp_path / "archive").append(table_of(Interval.DAY1))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")  # noqa: PTH110
def test_a_full_disk_is_a_storage_error_and_leaves_the_old_file(archive, monkeypatch):
    """fault 31."""
    table = table_of(Interval.DAY1)
    archive.append(table.rows(0, 3))

    def on_full_device(**_: object) -> tuple[int, str]:
        left = archive.root / "1d/AAA/.left.tmp"
        left.touch()
        return os.open("/dev/full", os.O_WRONLY), str(left)

    monkeypatch.setattr("trading_pipeline.adapters.market_data.parquet_archive.tempfile.mkstemp", on_full_device)
    with pytest.raises(StorageError, match="No space left"):
        archive.append(table)
    assert archive.read("AAA", Interval.DAY1, until=LATE) == table.rows(0, 3)
    assert not (archive.root / "1d/AAA/.left.tmp").exists()


WRITER = """
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.adapters.market_data.synthetic import SyntheticMarket
from trading_pipeline.domain.bars import Interval

root, cache, remainder = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
market = SyntheticMarket(11, ["AAA"], Interval.DAY1, date(2024, 1, 2), date(2024, 2, 16), load_calendar(cache))
table = market.closed_bars(["AAA"], Interval.DAY1, None, datetime(2025, 1, 1, tzinfo=UTC))["AAA"]
archive = ParquetArchive(root)
print(sum(archive.append(table.rows(index, index + 1)).added for index in range(len(table)) if index % 2 == remainder))
"""


def test_two_processes_that_append_at_once_lose_nothing(tmp_path):
    cache = tmp_path / "cache"
    calendar = load_calendar(cache)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "archive"), str(cache), str(remainder)], stdout=subprocess.PIPE, text=True
        )
        for remainder in (0, 1)
    ]
    added = [int(writer.communicate(timeout=60)[0]) for writer in writers]
    days = [session.day for session in calendar.between(date(2024, 1, 2), date(2024, 2, 16))]
    assert sum(added) == len(days)
    assert list(ParquetArchive(tmp_path / "archive").sessions("AAA", Interval.DAY1)) == days


def test_a_writer_that_does_not_let_go_is_an_error_that_says_so(archive, monkeypatch):
    monkeypatch.setattr(parquet_archive, "LOCK_SECONDS", 0.05)
    table = table_of(Interval.DAY1)
    archive.append(table)
    with (archive.root / "1d" / "AAA" / ".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match=r"has been locked for 0.05 s") as refused:
            archive.append(table)
    assert "find the process" in refused.value.remedy
    assert archive.append(table).unchanged == len(table)
