"""Split tables as CSV files."""

from datetime import date
from decimal import Decimal

import pytest

from trading_pipeline.adapters.market_data.splits import load_splits, sample_splits, save_splits
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.errors import BarsError, StorageError


def test_the_packaged_table_is_the_history_of_apple_and_microsoft():
    assert sample_splits() == (
        Split("AAPL", date(2000, 6, 21), Decimal(2)), Split("MSFT", date(2003, 2, 18), Decimal(2)),
        Split("AAPL", date(2005, 2, 28), Decimal(2)),
    )  # fmt: skip


def test_a_table_of_ones_own_may_have_notes_fractions_and_reverse_splits(tmp_path):
    file = tmp_path / "splits.csv"
    file.write_text("# mine\nsymbol,session,ratio\n\nnvda,2024-06-10,10\nGE,2021-08-02,1/8\nABC,2020-01-02,3/2\n")
    assert load_splits(file) == (
        Split("ABC", date(2020, 1, 2), Decimal("1.5")), Split("GE", date(2021, 8, 2), Decimal("0.125")),
        Split("NVDA", date(2024, 6, 10), Decimal(10)),
    )  # fmt: skip


@pytest.mark.parametrize(
    "line", ["NVDA,2024-06-10", "NVDA,10.06.2024,10", "NVDA,2024-06-10,ten", "NVDA,2024-06-10,1/0", "NVDA,2024-06-10,10,note"]
)
def test_a_line_that_is_no_split_is_named(tmp_path, line):
    file = tmp_path / "splits.csv"
    file.write_text(f"symbol,session,ratio\nGE,2021-08-02,1/8\n{line}\n")
    with pytest.raises(BarsError, match=r"Line 3 of .* is no split"):
        load_splits(file)


def test_a_ratio_of_zero_is_no_split(tmp_path):
    file = tmp_path / "splits.csv"
    file.write_text("symbol,session,ratio\nNVDA,2024-06-10,0\n")
    with pytest.raises(BarsError, match="cannot split by 0"):
        load_splits(file)


def test_the_same_split_twice_is_refused(tmp_path):
    file = tmp_path / "splits.csv"
    file.write_text("symbol,session,ratio\nGE,2021-08-02,1/8\nGE,2021-08-02,8\n")
    with pytest.raises(BarsError, match="repeats GE"):
        load_splits(file)


@pytest.mark.parametrize("content", [b"", b"# notes only\n", b"a,b,c\n1,2,3\n", b"\xff\xfe"])
def test_a_file_that_is_no_split_table_is_refused(tmp_path, content):
    file = tmp_path / "splits.csv"
    file.write_bytes(content)
    with pytest.raises(BarsError, match=r"splits\.csv"):
        load_splits(file)


def test_a_saved_table_is_loaded_as_it_was(tmp_path):
    save_splits(tmp_path / "home" / "splits.csv", sample_splits())
    assert load_splits(tmp_path / "home" / "splits.csv") == sample_splits()
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["splits.csv"]


def test_a_table_that_cannot_be_saved_is_a_storage_error(tmp_path):
    (tmp_path / "home").write_text("a file in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        save_splits(tmp_path / "home" / "splits.csv", sample_splits())
