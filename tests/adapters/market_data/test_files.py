"""Bars files of every make: what is used, what is repaired and said, what is refused and why."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.adapters.market_data.bars_files import HEADER, five_minutes, rules
from trading_pipeline.adapters.market_data.files import FileMarket, ImportOptions, import_file, import_files, symbol_of
from trading_pipeline.domain.bars import Interval
from trading_pipeline.errors import BarsError


def test_a_plain_file_is_used_as_it_is(read):
    table, report = read(five_minutes())
    assert (table.symbol, table.interval, len(table)) == ("AAA", Interval.MIN5, 78)
    assert (table.bar(0).start, table.last_end) == (datetime(2024, 8, 28, 13, 30, tzinfo=UTC), datetime(2024, 8, 28, 20, 0, tzinfo=UTC))
    assert (report.read, report.kept, report.missing, report.dropped, report.repaired, report.notes) == (78, 78, 0, (), (), ())


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("AAPL.csv.gz", "AAPL"), ("NVDA_2024-08.csv.gz", "NVDA"), ("brk.b_1d.csv", "BRK.B"), ("SPY.parquet", "SPY"), ("QQQ_a_b.csv", "QQQ")],
)
def test_the_symbol_is_the_name_up_to_the_first_underscore(name, symbol):
    assert symbol_of(Path(name)) == symbol


def test_a_name_without_a_symbol_is_refused(read):
    _, report = read(five_minutes(), name="_bars.csv")
    assert "no symbol" in str(report.error)


def test_the_same_rows_in_every_container_and_layout_make_the_same_bars(tmp_path, calendar, read):
    plain, _ = read(five_minutes())
    rows = five_minutes()
    text = "\n".join([",".join(HEADER), *(",".join(map(str, row)) for row in rows)])
    (tmp_path / "AAA_gz.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "AAA_semicolons.csv").write_text(text.replace(",", ";"))
    (tmp_path / "AAA_bom.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    (tmp_path / "AAA_blank.csv").write_text(text.replace("\n", "\n\n") + "\n")
    columns = {name: [row[index] for row in rows] for index, name in enumerate(HEADER)}
    pq.write_table(pa.table(columns), tmp_path / "AAA_text.parquet")
    instants = pa.array([datetime.fromisoformat(str(stamp)) for stamp in columns["timestamp"]], pa.timestamp("us", tz="America/New_York"))
    pq.write_table(pa.table({**columns, "timestamp": instants}), tmp_path / "AAA_typed.parquet")
    epochs = [int(datetime.fromisoformat(str(stamp)).timestamp() * 1000) for stamp in columns["timestamp"]]
    pq.write_table(pa.table({**columns, "timestamp": epochs}), tmp_path / "AAA_epoch.parquet")
    files = sorted(tmp_path.glob("AAA_*"))
    assert len(files) == 7
    for file in files:
        table, report = import_file(file, calendar, ImportOptions())
        assert report.error is None, report.lines()
        assert table == plain, file.name


def test_a_packed_file_that_unpacks_to_too_much_is_refused(tmp_path, calendar, monkeypatch):
    monkeypatch.setattr("trading_pipeline.adapters.market_data.rows.MOST_BYTES", 1 << 20)
    bomb = tmp_path / "AAA.csv.gz"
    bomb.write_bytes(gzip.compress(b"timestamp,open,high,low,close,volume\n" + b"2024-08-28,1,1,1,1,1\n" * 60_000))
    table, report = import_file(bomb, calendar, ImportOptions())
    assert table is None
    assert "too large" in report.error.message


def test_columns_of_other_names_can_be_named(read):
    header = ("when", "first", "top", "bottom", "last", "shares")
    _, refused = read(five_minutes(), header)
    assert "no column for open" in str(refused.error)
    columns = {"time": "when", "open": "first", "high": "top", "low": "bottom", "close": "last", "volume": "shares"}
    table, _ = read(five_minutes(), header, columns=columns)
    assert len(table) == 78


def test_a_mapping_to_a_column_that_is_not_there_is_refused(read):
    _, report = read(five_minutes(), columns={"volume": "turnover"})
    assert "'turnover'" in str(report.error)


def test_rows_outside_regular_hours_are_cut_off_and_counted(read):
    rows = [*five_minutes("2024-11-29", count=60)]  # closes at 13:00: 42 bars
    table, report = read(rows)
    assert len(table) == 42
    assert rules(report.dropped) == {"outside regular hours": 18}
    assert report.dropped[0].examples[0] == "line 44, 2024-11-29 18:00 UTC"


def test_a_closed_day_is_outside_regular_hours(read):
    _, report = read([*five_minutes("2025-01-09"), *five_minutes("2025-01-10")])
    assert rules(report.dropped) == {"outside regular hours": 78}


def test_identical_copies_are_merged_and_of_equal_prices_the_fuller_is_kept(read):
    rows = five_minutes()
    partial = [*rows[5][:5], 7]
    table, report = read([*rows, rows[3], partial])
    assert len(table) == 78
    assert table.volume[5] == 1005
    assert rules(report.dropped) == {"identical copy of another row": 1, "copy of another row with less volume": 1}


def test_rows_of_one_time_with_different_prices_are_all_dropped(read):
    rows = five_minutes() + five_minutes("2024-08-29")
    table, report = read([*rows, [rows[3][0], 10.0, 11.0, 9.0, 10.7, 1003]])
    assert len(table) == 155
    assert rules(report.dropped) == {"same time, different prices: all of these rows": 2}
    assert report.missing == 1


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        (4, "", "price missing or not finite"), (4, "n/a", "price missing or not finite"), (2, "inf", "price missing or not finite"),
        (3, 0, "price zero or negative"), (2, 8.0, "high below low"), (2, 10.2, "high below open or close"),
        (3, 10.3, "low above open or close"), (5, -5, "volume missing or negative"), (5, "", "volume missing or negative"),
        (0, "tomorrow", "no instant in column timestamp"),
    ],
)  # fmt: skip
def test_a_broken_row_is_dropped_with_its_line(read, column, value, rule):
    rows = five_minutes() + five_minutes("2024-08-29")
    rows[7][column] = value
    table, report = read(rows)
    assert len(table) == 155
    assert rules(report.dropped) == {rule: 1}
    assert report.dropped[0].examples[0].startswith("line 9")


def test_a_row_of_another_length_is_dropped_with_its_line(read):
    rows = five_minutes()
    rows[4] = rows[4][:4]
    table, report = read(rows)
    assert (len(table), report.read) == (77, 78)
    assert (rules(report.dropped), report.dropped[0].examples) == ({"wrong number of cells": 1}, ("line 6",))


def test_a_bad_print_between_good_ones_is_dropped(read):
    rows = five_minutes()
    rows[9][1:5] = [1000.0, 1100.0, 900.0, 1050.0]
    table, report = read(rows)
    assert len(table) == 77
    assert [note.rows for note in report.dropped] == [1]


def test_a_high_that_misses_by_rounding_is_widened_and_said(read):
    rows = five_minutes()
    rows[9][1:5] = [10.0, 10.4999999, 9.0, 10.5]
    table, report = read(rows)
    assert table.high[9] == 10.5
    assert [note.rows for note in report.repaired] == [1]


def test_a_file_of_which_too_much_is_broken_is_refused_whole(read):
    rows = five_minutes()
    for row in rows[10:14]:
        row[4] = ""
    table, report = read(rows)
    assert table is None
    assert (report.kept, report.refused) == (0, True)
    assert "4 rows of AAA.csv are broken" in str(report.error)


def test_rows_newest_first_are_sorted_and_said(read):
    table, report = read(list(reversed(five_minutes())))
    assert len(table) == 78
    assert list(rules(report.repaired)) == ["rows were newest first, sorted"]


def test_a_file_of_several_symbols_is_refused(read):
    rows = [["AAA" if index else "BBB", *row] for index, row in enumerate(five_minutes())]
    _, report = read(rows, ("symbol", *HEADER))
    assert "holds rows of BBB" in str(report.error)


NO_TABLES = [b"", b"timestamp,open,high,low,close,volume\n", b"\x1f\x8b\x08broken", b"\xff\xfe\x00", b'"never closed']


@pytest.mark.parametrize("content", NO_TABLES)
@pytest.mark.parametrize("name", ["AAA.csv", "AAA.csv.gz", "AAA.parquet"])
def test_a_file_that_is_no_table_is_refused_by_name(tmp_path, calendar, content, name):
    (tmp_path / name).write_bytes(content)
    table, report = import_file(tmp_path / name, calendar, ImportOptions())
    assert table is None
    assert name in str(report.error)
    assert report.error.remedy


def test_a_folder_without_bars_names_the_folders_inside_that_have_some(tmp_path, calendar):
    with pytest.raises(BarsError, match="no bars file"):
        FileMarket(tmp_path, calendar)
    (tmp_path / "5min").mkdir()
    (tmp_path / "5min/AAA.csv").write_text("x")
    with pytest.raises(BarsError, match="give one of its folders: 5min"):
        FileMarket(tmp_path, calendar)
    with pytest.raises(BarsError, match="cannot be read"):
        FileMarket(tmp_path / "nowhere", calendar)


def test_a_market_with_a_refused_file_says_so_unless_told_to_go_on(tmp_path, calendar, read):
    read(five_minutes())
    (tmp_path / "BBB.csv").write_text("date,close,volume\n2024-08-28,1,1\n")
    with pytest.raises(BarsError, match=r"BBB\.csv has no column for open") as caught:
        FileMarket(tmp_path, calendar)
    assert caught.value.remedy.endswith("; or take the file out of the folder")
    market = FileMarket(tmp_path, calendar, skip_refused=True)
    assert market.symbols == ("AAA",)
    assert [report.refused for report in market.reports] == [False, True]


def test_a_session_in_two_files_is_taken_whole_from_the_fuller_one(tmp_path, calendar, read):
    read(five_minutes("2024-08-28", count=70) + five_minutes("2024-08-29"), name="AAA_one.csv")
    other = [[*row[:5], 5] for row in five_minutes("2024-08-28")]
    read(other, name="AAA_two.csv")
    imported = import_files(tmp_path, calendar, ImportOptions())
    (table,) = imported.tables
    assert len(table) == 156
    assert set(table.volume[:78]) == {5.0}
    assert imported.notes == ("AAA 5min: 1 sessions of AAA_one.csv are taken from another file that has more bars",)


def test_splits_beside_the_files_are_the_markets(tmp_path, calendar, read):
    read(five_minutes())
    assert FileMarket(tmp_path, calendar).splits == ()
    (tmp_path / "splits.csv").write_text("symbol,session,ratio\nAAA,2024-08-29,2\n")
    assert [str(split.session) for split in FileMarket(tmp_path, calendar).splits] == ["2024-08-29"]


CELLS = st.one_of(
    st.text(max_size=12), st.floats().map(str), st.integers().map(str), st.datetimes().map(str), st.dates().map(str),
    st.sampled_from(["", "9999-12-31", "0001-01-01T00:00:00+14:00", "2/30/2024", "99999999", "9" * 19, "1e400", "\x00", '"']),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.tuples(st.integers(0, 77), st.integers(0, 5), CELLS), max_size=4), cut=st.integers(2, 78))
def test_whatever_stands_in_a_file_each_row_is_accounted_for_or_the_file_refused(read, cells, cut):
    rows = five_minutes()
    for row, column, cell in cells:
        rows[row][column] = cell
    table, report = read(rows[:cut])
    if report.error is not None:
        assert table is None
        assert report.error.rule
        assert report.error.remedy
        return
    assert len(table) == report.kept
    assert report.kept + sum(rules(report.dropped).values()) == report.read


def test_a_report_reads_as_lines(read):
    _, report = read([*five_minutes(), five_minutes()[0]])
    assert report.lines() == [
        "AAA.csv: AAA 5min, 79 rows read, 78 kept",
        "  2024-08-28 13:30 UTC to 2024-08-28 20:00 UTC, 0 bars of the calendar missing",
        "  dropped, identical copy of another row: 1 (line 80, 2024-08-28 13:30 UTC)",
        "  repaired, rows sorted, each of these came after a later one: 1 (line 80, 2024-08-28 13:30 UTC)",
    ]
