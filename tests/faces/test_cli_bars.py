"""`trading bars ...`: what comes into the archive, and that a broken file never does in silence."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faces.conftest import STRATEGY, Shell
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.domain.bars import Interval

HEAD = "date,open,high,low,close,volume\n"
GOOD = HEAD + "2012-10-15,10,11,9,10.5,1000\n2012-10-16,10.5,12,10,11,2000\n2012-10-17,11,12,10,11.5,1500\n"
BROKEN = HEAD + "2012-10-15,10,9,11,10.5,1000\n2012-10-16,-1,12,10,11,2000\n2012-10-17,nan,12,10,11.5,1500\n"
FAR = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "bars"
    made.mkdir()
    (made / "GOOD.csv").write_text(GOOD)
    return made


def closes(trading: Shell, symbol: str) -> list[float]:
    found: list[float] = ParquetArchive(trading.home / "archive").read(symbol, Interval.DAY1, until=FAR).close.tolist()
    return found


def test_a_good_folder_is_imported_and_listed(trading: Shell, folder: Path) -> None:
    said = trading("bars", "import", folder)
    assert said.code == 0
    assert "GOOD.csv: GOOD 1d, 3 rows, 3 kept" in said.out
    assert closes(trading, "GOOD") == [10.5, 11.0, 11.5]
    [held] = trading("bars", "list", "--json").json()
    assert (held["symbol"], held["interval"], held["bars"], held["sessions"]) == ("GOOD", "1d", 3, 3)
    again = trading("bars", "import", folder, "--json").json()["archived"]
    assert again == [{"symbol": "GOOD", "interval": "1d", "added": 0, "replaced": 0, "unchanged": 3}]


def test_an_imported_symbol_that_the_source_does_not_know_can_be_traded(trading: Shell, folder: Path) -> None:
    mine = trading.strategy(STRATEGY.format(mode="approval", order=10_000).replace("FB", "GOOD"))
    refused = trading("strategy", "create", mine, "--json")
    assert (refused.code, refused.error()["value"]) == (2, "GOOD")
    assert "trading bars import" in refused.error()["remedy"]
    rows = [f"2012-{day},10,11,9,10.5,1000000" for day in ("10-10", "10-11", "10-12", "10-15", "10-16")]
    (folder / "GOOD.csv").write_text(HEAD + "\n".join(rows))
    said = trading("bars", "import", folder)
    assert "replay ends" not in said.out
    assert trading("strategy", "create", mine).code == 0
    trading("strategy", "start", "steady")
    assert trading("run").code == 0
    [asked] = [row for row in trading("approvals", "--json").json() if row["symbol"] == "GOOD"]
    assert asked["shown"]["reference"].startswith("10"), "the open of the bar that contains now, and no later price"
    assert trading.attended("approve", asked["action_id"], "--yes").code == 0
    trading.at("2012-10-15T09:30:15")
    trading("run")
    assert [each["symbol"] for each in trading("status", "--json").json()["positions"]] == ["GOOD"]


def test_bars_that_the_homes_replay_never_reaches_are_said_with_what_to_do(trading: Shell, folder: Path) -> None:
    (folder / "GOOD.csv").write_text(GOOD.replace("2012-10", "2024-07"))
    said = trading("bars", "import", folder)
    assert said.code == 0
    assert "GOOD: these bars begin after this home's replay ends (2013-03-01 16:00)" in said.out
    assert f"trading up --bars {folder}" in said.out
    assert any("replay ends" in note for note in trading("bars", "import", folder, "--json").json()["notes"])


def test_one_broken_file_stops_the_import_of_all(trading: Shell, folder: Path) -> None:
    (folder / "BAD.csv").write_text(BROKEN)
    said = trading("bars", "import", folder, "--json")
    assert said.code == 2
    assert said.error()["error"] == "BarsError"
    assert "--keep-going" in said.error()["remedy"]
    assert {file["file"]: file["refused"] for file in said.json()["files"]} == {"BAD.csv": True, "GOOD.csv": False}
    assert not (trading.home / "archive").exists()


def test_keep_going_imports_the_others_and_still_reports_the_broken_one(trading: Shell, folder: Path) -> None:
    (folder / "BAD.csv").write_text(BROKEN)
    said = trading("bars", "import", folder, "--keep-going")
    assert said.code == 0
    assert "refused  BAD.csv" in said.out
    assert closes(trading, "GOOD") == [10.5, 11.0, 11.5]
    assert closes(trading, "BAD") == []


def test_keep_going_with_nothing_good_is_a_failure_that_says_so(trading: Shell, folder: Path) -> None:
    (folder / "GOOD.csv").write_text(BROKEN)
    said = trading("bars", "import", folder, "--keep-going")
    assert said.code == 1
    assert "0 of 1 file imported." in said.out
    assert "--keep-going" not in trading("bars", "import", folder, "--json").error()["remedy"], "there are no others"


def test_daily_rows_are_named_by_their_dates_and_unreadable_ones_by_their_text(trading: Shell, folder: Path) -> None:
    rows = [f"2012-{day},10,11,9,10.5,1000" for day in ("10-08", "10-10", "10-11", "10-12", "10-15")]
    (folder / "GOOD.csv").write_text(HEAD + "\n".join([*rows[:2], "2012-10-13,10,11,9,10.5,1000", *rows[2:]]))
    said = trading("bars", "import", folder).out
    assert "2012-10-08 to 2012-10-15, 1 bar missing" in said
    assert "(line 4, 2012-10-13)" in said, "a Saturday"
    assert "1 of 1 file imported." in said
    (folder / "GOOD.csv").write_text(HEAD + "\n".join([*rows, "foo,10,11,9,10.5,1000"]))
    assert "(line 7, 'foo')" in trading("bars", "import", folder).out


@pytest.mark.parametrize(
    ("arguments", "value"),
    [(["--interval", "7min"], "7min"), (["--stamp", "middle"], "middle"), (["--column", "price=Open"], "price=Open")],
)
def test_an_option_that_means_nothing_is_refused(trading: Shell, folder: Path, arguments: list[str], value: str) -> None:
    said = trading("bars", "import", folder, *arguments, "--json")
    assert (said.code, said.error()["value"]) == (2, value)
    assert not (trading.home / "archive").exists()


def test_a_folder_without_bars_is_refused(trading: Shell, tmp_path: Path) -> None:
    said = trading("bars", "import", tmp_path / "nowhere")
    assert said.code == 2
    assert "nowhere" in said.err


def test_a_home_that_cannot_be_written_is_a_storage_error(trading: Shell, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    said = trading("bars", "import", folder, "--home", tmp_path / "file" / "home", "--json")
    assert (said.code, said.error()["error"]) == (4, "StorageError")
    assert said.error()["remedy"]


def test_fetching_fills_the_archive_up_to_the_market_clock_and_no_further(trading: Shell) -> None:
    assert trading("bars", "fetch", "ibm").code == 0
    held = ParquetArchive(trading.home / "archive").read("IBM", Interval.DAY1, until=FAR)
    assert held.last_end == datetime(2012, 10, 12, 20, tzinfo=UTC)
    assert trading("bars", "fetch", "IBM", "--json").json()[0]["added"] == 0


@pytest.mark.parametrize(
    ("arguments", "value"),
    [(["NOSUCH"], "NOSUCH"), (["IBM", "NOSUCH"], "NOSUCH"), (["IBM", "--interval", "5min"], "IBM"), ([], "")],
)
def test_what_the_source_does_not_have_is_refused(trading: Shell, arguments: list[str], value: str) -> None:
    said = trading("bars", "fetch", *arguments, "--json")
    assert (said.code, said.error()["value"]) == (2, value)
    assert not (trading.home / "archive").exists()
