"""The page and the line that every harness ends with."""

import json

import pytest

from tests.evidence import report


def test_the_last_line_of_stdout_is_the_result_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPORT", raising=False)
    report.finish("kills", "Kills", {"kills": 1000, "lost": 0}, {"lost": 1000}, command="make kills N=1000")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("RESULT ")
    assert json.loads(last.removeprefix("RESULT ")) == {"kills": 1000, "lost": 0}


def test_a_zero_stands_beside_its_bound() -> None:
    # INVARIANTS section 5: "0 in 10,000" bounds the failure rate at 3.0e-4.
    text = report.page("Kills", {"kills": 10_000, "lost": 0}, {"lost": 10_000}, ["SIGKILL is no power loss."], "make kills N=10000")
    assert "| lost | 0 | of 10,000; rate below 3.0e-04 (95 %, rule of three) |" in text
    assert "`make kills N=10000`" in text and text.endswith("SIGKILL is no power loss.\n")
    assert all(f"| {fact} |" in text for fact in ("date", "commit", "cores", "memory", "system", "python"))


def test_a_figure_that_is_not_zero_claims_no_bound() -> None:
    assert "| lost | 2 | of 100 |" in report.page("Kills", {"lost": 2}, {"lost": 100}, [], "make kills")


def test_nothing_tried_bounds_nothing() -> None:
    assert report.rule_of_three(0) == 1.0


def test_a_zero_of_a_figure_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="lsot"):
        report.finish("kills", "Kills", {"lost": 0}, {"lsot": 10}, command="make kills")


def test_a_page_is_written_where_it_is_asked_for(tmp_path: report.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setenv("REPORT", "1")
    report.finish("kills", "Kills", {"lost": 0}, {"lost": 30}, command="make kills")
    assert (tmp_path / "docs" / "evidence" / "kills.md").read_text(encoding="utf-8").startswith("# Kills\n")
