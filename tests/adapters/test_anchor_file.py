"""4, 7: anchors and the fallback journal: lines that survive what stops their writer."""

from datetime import UTC, datetime, timedelta

import pytest

from trading_pipeline.adapters.anchor_file import AnchorFile
from trading_pipeline.adapters.journal_file import JournalFile
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.errors import StorageError
from trading_pipeline.ports import Anchor, Anchors

AT = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)


def anchor(seq: int) -> Anchor:
    return Anchor(seq, seq.to_bytes(32, "big"), AT + timedelta(seconds=seq))


class AnchorsContract:
    """Inherit and define the fixture `anchors`, empty."""

    def test_nothing_is_anchored_at_first(self, anchors: Anchors):
        assert (anchors.all(), anchors.newest()) == ([], None)

    def test_anchors_come_back_in_order(self, anchors: Anchors):
        for seq in (1, 5, 900):
            anchors.record(anchor(seq))
        assert anchors.all() == [anchor(1), anchor(5), anchor(900)]
        assert anchors.newest() == anchor(900)

    def test_what_is_no_later_changes_nothing(self, anchors: Anchors):
        for seq in (7, 7, 3):
            anchors.record(anchor(seq))
        assert anchors.all() == [anchor(7)]


class TestAnchorFile(AnchorsContract):
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "home" / "anchors.jsonl"

    @pytest.fixture
    def anchors(self, path):
        return AnchorFile(path)

    def test_a_line_that_was_cut_off_leaves_the_one_before(self, anchors, path):
        anchors.record(anchor(1))
        anchors.record(anchor(2))
        path.write_bytes(path.read_bytes()[:-20])
        assert anchors.newest() == anchor(1)
        anchors.record(anchor(3))
        assert anchors.all() == [anchor(1), anchor(3)]

    def test_the_newest_of_very_many_is_found_at_the_end(self, anchors):
        for seq in range(1, 200):
            anchors.record(anchor(seq))
        assert (anchors.newest(), len(anchors.all())) == (anchor(199), 199)

    def test_what_another_process_adds_is_the_newest_from_then_on(self, anchors, path):
        anchors.record(anchor(1))
        assert anchors.newest() == anchor(1)
        AnchorFile(path).record(anchor(2))
        assert (anchors.newest(), anchors.newest()) == (anchor(2), anchor(2))

    def test_lines_that_two_processes_wrote_the_other_way_round_weaken_nothing(self, anchors, path):
        anchors.record(anchor(8))
        later = path.read_text()
        path.unlink()
        anchors.record(anchor(7))
        path.write_text(later + path.read_text())
        assert anchors.newest() == anchor(8)

    def test_after_a_restart_only_what_follows_holds_and_nothing_is_deleted(self, anchors, path):
        for seq in (1, 900):
            anchors.record(anchor(seq))
        anchors.restart(anchor(20))
        anchors.record(anchor(30))
        assert anchors.all() == [anchor(20), anchor(30)]
        assert len(path.read_text().splitlines()) == 4

    @pytest.mark.parametrize("line", [
        "[" * 100_000, '{"seq": 1e999, "hash": "00", "at": "2026-03-02T14:30:00Z"}',
        '{"seq": -5, "hash": "00", "at": "2026-03-02T14:30:00Z"}',
        '{"seq": 900, "hash": "00", "at": "0001-01-01T00:00:00+23:00"}',
    ])
    def test_a_line_that_somebody_has_touched_is_no_anchor(self, anchors, path, line):
        anchors.record(anchor(7))
        with path.open("a") as file:
            file.write(f"{line}\n")
        assert (anchors.all(), anchors.newest()) == ([anchor(7)], anchor(7))

    def test_what_the_disk_refuses_is_told(self, path):
        path.parent.write_text("no folder")
        with pytest.raises(StorageError):
            AnchorFile(path).record(anchor(1))


def fact(number: int) -> NewEvent:
    return NewEvent(EventType.STOP_REPORTED, "account", f"stop.reported:{number}", {"clean": False, "number": number}, AT, "user:anna")


class TestJournalFile:
    @pytest.fixture
    def journal(self, tmp_path):
        return JournalFile(tmp_path / "journal.jsonl")

    def test_facts_wait_until_they_are_merged(self, journal):
        assert journal.waiting() == ([], 0)
        journal.write(fact(1))
        journal.write(fact(2))
        waiting, lines = journal.waiting()
        assert (waiting, lines) == ([fact(1), fact(2)], 2)
        journal.merged(lines)
        assert journal.waiting()[0] == []

    def test_a_fact_written_while_others_are_merged_is_not_lost(self, journal):
        journal.write(fact(1))
        _, lines = journal.waiting()
        journal.write(fact(2))
        journal.merged(lines)
        assert journal.waiting()[0] == [fact(2)]

    def test_a_line_that_was_cut_off_is_no_fact(self, journal, tmp_path):
        journal.write(fact(1))
        path = tmp_path / "journal.jsonl"
        path.write_bytes(path.read_bytes() + b'{"type": "stop.rep')
        journal.write(fact(2))
        waiting, lines = journal.waiting()
        assert (waiting, lines) == ([fact(1), fact(2)], 3)

    @pytest.mark.parametrize("line", [
        "[" * 100_000, '{"merged": 1e999}', '{"merged": 99999}', '{"merged": -1}', '{"merged": "many"}', "\0\0",
        '{"type": "stop.reported", "stream": [], "key": "k", "payload": {}, "actor": "user:a", "at": "2026-03-02T14:30:00Z"}',
        '{"type": "stop.reported", "stream": "account", "key": "k", "payload": [], "actor": "user:a", "at": "2026-03-02T14:30:00Z"}',
        '{"type": "stop.reported", "stream": "account", "key": "k", "payload": {}, "actor": "user:a", "at": "0001-01-01T00:00:00+23:00"}',
    ])
    def test_a_line_that_somebody_has_touched_hides_no_fact_after_it(self, journal, tmp_path, line):
        (tmp_path / "journal.jsonl").write_text(f"{line}\n")
        journal.write(fact(1))
        assert journal.waiting() == ([fact(1)], 2)
