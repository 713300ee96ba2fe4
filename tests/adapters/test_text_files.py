"""Texts from outside as files: nothing dated after the instant asked for, nothing undated, nothing behind a link."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from trading_pipeline.adapters.text_files import MAX_BYTES, TextFiles
from trading_pipeline.ports import OutsideTexts

NOON = datetime(2026, 3, 5, 17, tzinfo=UTC)
"""12:00 in New York, in winter."""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "AAPL").mkdir()
    return tmp_path


def put(folder, name, words="words", symbol="AAPL"):
    (folder / symbol).mkdir(exist_ok=True)
    (folder / symbol / name).write_text(words)


def told(folder, until=NOON, most=10, symbol="AAPL"):
    texts: OutsideTexts = TextFiles(folder)
    return [(title, words) for title, _, words in texts.about(symbol, until, most)]


def test_the_newest_texts_come_first_with_title_and_time_of_new_york(folder):
    put(folder, "2026-03-04T0930-old-news.txt", "old")
    put(folder, "2026-03-05T1130-new_news.md", "new")
    assert TextFiles(folder).about("AAPL", NOON, 10) == [
        ("new news", datetime(2026, 3, 5, 16, 30, tzinfo=UTC), "new"), ("old news", datetime(2026, 3, 4, 14, 30, tzinfo=UTC), "old"),
    ]
    assert told(folder, most=1) == [("new news", "new")]
    assert told(folder, most=0) == []


def test_nothing_dated_after_the_instant_is_told(folder):
    """73: a replay is not told the future."""
    put(folder, "2026-03-05T1200-at-noon.txt")
    put(folder, "2026-03-05T1201-later.txt")
    assert told(folder) == [("at noon", "words")]
    assert told(folder, NOON - timedelta(microseconds=1)) == []
    assert len(told(folder, NOON + timedelta(minutes=1))) == 2


def test_a_date_alone_means_the_end_of_that_day(folder):
    put(folder, "2026-03-05-daily.txt")
    put(folder, "2026-03-04.txt")
    assert told(folder) == [("", "words")]
    assert ("daily", "words") not in told(folder, datetime(2026, 3, 6, 4, 59, 59, tzinfo=UTC))
    assert ("daily", "words") in told(folder, datetime(2026, 3, 6, 5, 0, tzinfo=UTC))


def test_an_hour_that_comes_twice_is_the_later_one(folder):
    # 2026-11-01: clocks go back from 02:00 EDT to 01:00 EST, so 01:30 is 05:30 and 06:30 UTC.
    put(folder, "2026-11-01T0130-night.txt")
    assert told(folder, datetime(2026, 11, 1, 6, 29, tzinfo=UTC)) == []
    assert told(folder, datetime(2026, 11, 1, 6, 30, tzinfo=UTC)) == [("night", "words")]


def test_an_hour_that_never_comes_is_known_no_sooner_than_the_hour_after(folder):
    # 2026-03-08: clocks go from 02:00 EST to 03:00 EDT; 02:30 would be 06:30 or 07:30 UTC.
    put(folder, "2026-03-08T0230-night.txt")
    assert told(folder, datetime(2026, 3, 8, 7, 29, tzinfo=UTC)) == []
    assert told(folder, datetime(2026, 3, 8, 7, 30, tzinfo=UTC)) == [("night", "words")]


@pytest.mark.parametrize("name", [
    "notes.txt", "2026-3-5-x.txt", "2026-02-30-x.txt", "2026-03-05T2460-x.txt", "2026-03-05T12-x.txt", "x-2026-03-05.txt",
    "2026-03-05-x.pdf", "2026-03-05T1130Z-x.txt", "20260305-x.txt", "٢٠٢٦-03-05-x.txt", "9999-12-31-x.txt",
])
def test_what_has_no_date_is_never_told_and_that_is_said(folder, name):
    put(folder, name)
    put(folder, "2026-03-04-good.txt")
    assert told(folder, datetime(2030, 1, 1, tzinfo=UTC)) == [("good", "words")]
    [why] = TextFiles(folder).left_out("AAPL")
    assert "no date" in why


def test_hidden_files_are_left_out_in_silence(folder):
    put(folder, ".DS_Store")
    assert TextFiles(folder).left_out("AAPL") == []


def test_a_link_leads_nowhere(folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("key")
    (folder / "AAPL" / "2026-03-04-link.txt").symlink_to(secret)
    (folder / "IBM").symlink_to(tmp_path)
    put(folder, "2026-03-04-x.txt", symbol="MSFT")
    assert told(folder) == told(folder, symbol="IBM") == []
    assert "no plain file" in TextFiles(folder).left_out("AAPL")[0]
    assert "is a link" in TextFiles(folder).left_out("IBM")[0]


@pytest.mark.parametrize("symbol", ["../AAPL", "..", "AAPL/../IBM", "aapl", "", "/etc", "A\0"])
def test_a_symbol_is_no_path(folder, symbol):
    put(folder, "2026-03-04-x.txt")
    assert told(folder, symbol=symbol) == []
    assert TextFiles(folder).left_out(symbol) == []


def test_a_pipe_does_not_hold_anybody_up(folder):
    os.mkfifo(folder / "AAPL" / "2026-03-04-pipe.txt")
    (folder / "AAPL" / "2026-03-04-folder.txt").mkdir()
    assert told(folder) == []
    assert len(TextFiles(folder).left_out("AAPL")) == 2


def test_a_long_text_is_cut_and_what_is_no_utf8_replaced(folder):
    put(folder, "2026-03-04-long.txt", "x" * (MAX_BYTES + 5))
    (folder / "AAPL" / "2026-03-03-odd.txt").write_bytes(b"caf\xe9")
    assert [words for _, words in told(folder)] == ["x" * MAX_BYTES, "caf\ufffd"]


def test_a_folder_with_too_many_files_tells_nothing_and_says_so(folder, monkeypatch):
    monkeypatch.setattr("trading_pipeline.adapters.text_files.MAX_FILES", 2)
    for day in (1, 2, 3):
        put(folder, f"2026-03-0{day}-x.txt")
    assert told(folder) == []
    assert "more than 2 files" in TextFiles(folder).left_out("AAPL")[0]


def test_a_folder_that_is_not_there_holds_none(tmp_path):
    assert told(tmp_path / "none") == []
    assert TextFiles(tmp_path / "none").left_out("AAPL") == []


def test_a_title_is_one_visible_line(folder):
    put(folder, "2026-03-04-up\u202edown\x07.txt")
    assert told(folder) == [("updown", "words")]
