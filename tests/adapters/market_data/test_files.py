"""Bars files of every make: what is used, what is repaired and said, what is refused and why."""

import csv
import gzip
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.market_data.cleaning import ImportReport
from trading_pipeline.adapters.market_data.files import FileMarket, ImportOptions, import_file, import_files, symbol_of
from trading_pipeline.adapters.market_data.stamps import DateOrder, Stamp
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.errors import BarsError

NEW_YORK = ZoneInfo("America/New_York")
HEADER = ("timestamp", "open", "high", "low", "close", "volume")
Row = list[object]


@pytest.fixture(scope="module")
def calendar():
    return load_calendar()


@pytest.fixture
def read(tmp_path, calendar) -> Callable[..., tuple[BarTable | None, ImportReport]]:
    """Write rows as a CSV file and import it."""

    def write_and_read(
        rows: Iterable[Row], header: Iterable[str] = HEADER, name: str = "AAA.csv", **options: object
    ) -> tuple[BarTable | None, ImportReport]:
        file = tmp_path / name
        with file.open("w", newline="") as stream:
            csv.writer(stream).writerows([list(header), *rows])
        return import_file(file, calendar, ImportOptions(**options))  # type: ignore[arg-type]

    return write_and_read


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


def test_date_and_time_in_two_columns_are_read_together(read):
    rows = [[*str(row[0]).split(" "), *row[1:]] for row in five_minutes(zone="America/New_York", offset=False)]
    table, report = read(rows, ("Date", "Time", "Open", "High", "Low", "Close", "Vol"))
    assert len(table) == 78
    assert table.bar(0).start == datetime(2024, 8, 28, 13, 30, tzinfo=UTC)
    assert "America/New_York" in report.notes[0]


@pytest.mark.parametrize("zone", ["America/New_York", "America/Chicago", "America/Los_Angeles", "UTC"])
def test_the_zone_of_stamps_without_offset_shows_in_the_hours_they_fill(read, zone):
    table, report = read(five_minutes(zone=zone, offset=False) + five_minutes("2024-12-02", zone=zone, offset=False))
    assert [table.bar(index).start.hour for index in (0, 78)] == [13, 14]
    assert zone in report.notes[0]


def test_a_zone_that_does_not_show_is_refused_until_given(read):
    rows = five_minutes(zone="Europe/Berlin", offset=False)
    _, report = read(rows)
    assert "time zone" in str(report.error)
    table, _ = read(rows, timezone="Europe/Berlin")
    assert table.bar(0).start == datetime(2024, 8, 28, 13, 30, tzinfo=UTC)


def test_a_zone_that_does_not_exist_is_refused(read):
    _, report = read(five_minutes(offset=False), timezone="New York")
    assert "'New York' is no time zone" in str(report.error)


def test_stamps_with_and_without_offset_in_one_file_are_refused(read):
    _, report = read([*five_minutes(count=10), *five_minutes("2024-08-29", offset=False)])
    assert "some do not" in str(report.error)


def test_slashed_dates_are_read_where_a_day_above_twelve_shows_their_order(read):
    def slashed(day: str) -> list[Row]:
        return [[f"{datetime.fromisoformat(str(row[0])):%m/%d/%Y %H:%M}", *row[1:]] for row in five_minutes(day, offset=False)]

    table, _ = read(slashed("2024-08-28"))
    assert len(table) == 78
    _, report = read(slashed("2024-08-07"))
    assert "day or the month first" in str(report.error)
    table, _ = read(slashed("2024-08-07"), date_order=DateOrder.MONTH_FIRST)
    assert table.bar(0).start.day == 7


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


def test_ends_of_bars_are_refused_until_said(read):
    rows = five_minutes(shift=5) + five_minutes("2024-08-29", shift=5)
    _, report = read(rows)
    assert "may be bar ends" in str(report.error)
    table, _ = read(rows, stamp=Stamp.END)
    assert (len(table), table.bar(0).start) == (156, datetime(2024, 8, 28, 13, 30, tzinfo=UTC))


def test_ends_of_bars_with_extended_hours_show_in_the_volume_about_the_open(read):
    def extended(day: str, shift: int) -> list[Row]:
        quiet = [[*row[:5], 40] for row in five_minutes(day, count=108, shift=shift - 30)]
        return [*quiet[:6], *five_minutes(day, shift=shift), *quiet[84:]]

    _, report = read(extended("2024-08-28", 5) + extended("2024-08-29", 5))
    assert "may be bar ends" in str(report.error)
    table, report = read(extended("2024-08-28", 0) + extended("2024-08-29", 0))
    assert report.error is None
    assert len(table) == 156


def test_ends_of_hourly_bars_include_the_short_last_one(read):
    ends = [f"2024-08-28T{clock}-04:00" for clock in ("10:30", "11:30", "12:30", "13:30", "14:30", "15:30", "16:00")]
    table, _ = read([[end, 10.0, 11.0, 9.0, 10.5, 100] for end in ends], stamp=Stamp.END)
    assert [bar.start.minute for bar in table] == [30] * 7
    assert table.last_end == datetime(2024, 8, 28, 20, 0, tzinfo=UTC)


def test_hourly_bars_on_the_full_hour_cannot_be_cut_and_are_refused(read):
    rows = [[f"2024-08-28T{hour:02}:00:00-04:00", 10.0, 11.0, 9.0, 10.5, 100] for hour in range(4, 20)]
    _, report = read(rows)
    assert "anchored at the open" in str(report.error)


@pytest.mark.parametrize("minutes", [2, 30])
def test_an_interval_we_do_not_have_is_refused(read, minutes):
    first = datetime(2024, 8, 28, 13, 30, tzinfo=UTC)
    _, report = read([[(first + timedelta(minutes=minutes * n)).isoformat(), 10.0, 11.0, 9.0, 10.5, 100] for n in range(13)])
    assert f"mostly {minutes} minutes apart" in str(report.error)


def test_an_interval_finer_than_the_rows_is_refused(read):
    _, report = read(five_minutes(), interval=Interval.MIN1)
    assert "said to hold 1min bars" in str(report.error)
    _, report = read(five_minutes(), interval=Interval.DAY1)
    assert "said to hold 1d bars" in str(report.error)


@pytest.mark.parametrize(
    "stamps",
    [
        ("2024-07-02", "2024-07-03", "2024-07-05"),
        ("2024-07-02 00:00:00", "2024-07-03 00:00:00", "2024-07-05 00:00:00"),
        ("2024-07-02T00:00:00Z", "2024-07-03T00:00:00Z", "2024-07-05T00:00:00Z"),
        ("2024-07-02 00:00:00-04:00", "2024-07-03 00:00:00-04:00", "2024-07-05 00:00:00-04:00"),
        ("2024-07-02T13:30:00Z", "2024-07-03T13:30:00Z", "2024-07-05T13:30:00Z"),
        ("20240702", "20240703", "20240705"),
        ("1719878400", "1719964800", "1720137600"),
        ("07/02/2024", "07/03/2024", "07/15/2024"),
    ],
)
def test_a_daily_bar_is_its_session_however_its_date_is_written(read, stamps):
    table, report = read([[stamp, 10.0, 11.0, 9.0, 10.5, 100] for stamp in stamps])
    assert report.error is None, report.lines()
    assert table.interval is Interval.DAY1
    assert [str(day) for day in table.session_days[:2]] == ["2024-07-02", "2024-07-03"]
    assert table.bar(1).end == datetime(2024, 7, 3, 17, 0, tzinfo=UTC)


def test_a_daily_row_on_a_closed_day_is_dropped(read):
    days = [f"2024-07-{day:02}" for day in (1, 2, 3, 4, 5, 8)]
    table, report = read([[day, 10.0, 11.0, 9.0, 10.5, 100] for day in days])
    assert len(table) == 5
    assert rules(report.dropped) == {"on a day the exchange was closed": 1}


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
    with pytest.raises(BarsError, match=r"BBB\.csv has no column for open"):
        FileMarket(tmp_path, calendar)
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


@pytest.mark.parametrize("stamp", ["9999-12-31T00:00:00Z", "0001-01-01T00:00:00+14:00", "9" * 19, "1500-01-01T00:00:00Z", "-1"])
def test_an_instant_that_no_clock_shows_is_a_broken_row(read, stamp):
    rows = five_minutes()
    rows[7][0] = stamp
    table, report = read(rows)
    assert len(table) == 77
    assert rules(report.dropped) == {"no instant in column timestamp": 1}


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
        "  2024-08-28 13:30 to 2024-08-28 20:00 UTC, 0 bars of the calendar missing",
        "  dropped, identical copy of another row: 1 (line 80, 2024-08-28 13:30 UTC)",
        "  repaired, rows sorted, each of these came after a later one: 1 (line 80, 2024-08-28 13:30 UTC)",
    ]
