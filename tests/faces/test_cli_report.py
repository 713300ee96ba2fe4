"""`trading report`: on a real ledger, with real bars of October and November 2012."""

from datetime import UTC, date, datetime
from decimal import Decimal
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.faces.conftest import Shell
from trading_pipeline.domain.bars import Interval, instant_ns
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.judgement import reliability_curve
from trading_pipeline.faces.evidence import page, pictures
from trading_pipeline.service.reports.figures import TooFew, figures_of
from trading_pipeline.service.reports.judged import Judged, Version
from trading_pipeline.service.reports.model_report import Assessment, ModelReport, Period, Verdict

HOSTILE = '<script>alert("$x$")</script>\u202e数'


@pytest.fixture
def judged(asked: Shell) -> Shell:
    """The proposals of October 15th: one rejected, one left alone; it is the evening of November 30th now."""
    [first, _] = asked("approvals", "--json").json()
    assert asked("reject", first["action_id"], "--reason", "not today").code == 0
    asked.at("2012-11-30T16:30:00")
    return asked


def test_a_report_without_a_decision_says_so(trading: Shell) -> None:
    assert "No decision has been taken yet." in trading("report", "model").out
    assert trading("report", "model", "--json").json()["assessments"] == []


def test_too_few_decisions_are_said_to_be_too_few(judged: Shell) -> None:
    shown = judged("report", "model")
    assert shown.code == 0
    assert "NOT VALIDATED  rules: steady: too few (n = 2, at least 30) of its signals have an outcome." in shown.out
    assert "Measured 8 new outcomes." in shown.err
    assert "Measured" not in judged("report", "model").err


def test_an_outcome_is_that_of_the_archive_s_bars(judged: Shell) -> None:
    """Source: the samples' own open of October 15th and close of October 19th, the fifth session."""
    judged("report", "model")
    with judged.desk() as desk:
        until = datetime(2012, 11, 30, 21, tzinfo=UTC)
        table = desk.market.closed_bars(["GOOG"], Interval.DAY1, datetime(2012, 10, 13, tzinfo=UTC), until)["GOOG"]
    close = table.close[np.flatnonzero(table.start == instant_ns(datetime(2012, 10, 19, 13, 30, tzinfo=UTC)))[0]]
    [five] = [
        event.payload for event in judged.events()
        if event.type is EventType.SIGNAL_OUTCOME and event.payload["symbol"] == "GOOG" and event.payload["horizon"] == "5_bars"
    ]
    assert (five["entry_at"], five["exit_at"]) == ("2012-10-15T13:30:00.000000Z", "2012-10-19T20:00:00.000000Z")
    assert float(five["moved"]) == pytest.approx(close / table.open[0] - 1, abs=1e-6)


def test_saying_no_is_worth_the_opposite_of_what_the_trade_would_have_made(judged: Shell) -> None:
    found = judged("report", "approvals", "--json").json()
    results = [Decimal(event.payload["result"]) for event in judged.events() if event.type is EventType.SHADOW_CLOSED]
    assert results
    assert Decimal(found["approvals_worth"]) == -sum(
        Decimal(each["result"]) for each in found["unsent"] if each["state"] in ("rejected", "expired")
    )
    told = judged("report", "approvals").out
    assert "rejected by a person" in told
    assert "Saying no, or nothing," in told


def test_the_html_report_is_one_file_that_fetches_nothing(judged: Shell) -> None:
    path = judged.project / "report.html"
    assert judged("report", "model", "--html", path).code == 0
    seen = Tags()
    seen.feed(path.read_text(encoding="utf-8"))
    assert "script" not in seen.names
    assert seen.names.count("img") == 3
    assert all(each.startswith("data:image/png;base64,") for each in seen.sources)


def test_what_does_not_fit_is_refused(judged: Shell) -> None:
    assert judged("report", "model", "--since", "yesterday").code == 2
    refused = judged("report", "model", "--symbol", "TSLA", "--since", "2012-10-01", "--json")
    assert (refused.code, refused.error()["value"]) == (2, "--symbol TSLA, --since 2012-10-01")
    assert "rules: steady" in refused.error()["remedy"]
    lost = judged("report", "model", "--html", judged.project / "nowhere" / "report.html", "--json")
    assert (lost.code, lost.error()["value"], lost.out) == (2, str(judged.project / "nowhere"), "")


def test_names_from_outside_are_escaped_on_the_page_and_in_the_plots() -> None:
    """T4: a model's name is text, whatever it says; no letter of it is read as markup or mathematics, or breaks a plot."""
    at = datetime(2024, 8, 28, 20, tzinfo=UTC)
    version = Version("openai", HOSTILE, "analyst/v1", "both")
    figures = figures_of([Judged(version, "s", HOSTILE, Interval.DAY1, at, date(2024, 8, 28), None, 0.0, Decimal("0.01"))], 0.0006)
    assessment = Assessment(
        version, None, Verdict.NOT_VALIDATED, HOSTILE, Period.UNKNOWN, {Period.UNKNOWN: figures}, {HOSTILE: figures},
        {"5_bars": (TooFew(1), TooFew(1))}, reliability_curve([0.5], [True]), (), ((date(2024, 8, 28), 0.01),),
    )
    report = ModelReport(at, "5_bars", Decimal("0.0006"), 30, (assessment,), (), ())
    assert len(pictures(report)) == 3
    seen = Tags()
    seen.feed(page(report))
    assert "script" not in seen.names
    assert "<script>alert" not in page(report)


def test_trades_never_made_cost_what_the_paper_broker_is_set_to(trading: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_PAPER__SPREAD", "0.01")
    monkeypatch.setenv("TRADING_PAPER__COMMISSION_MINIMUM", "2")
    with trading.desk() as desk:
        assert (desk.costs.spread, desk.costs.round_trip, desk.costs.commission_minimum) == (Decimal("0.01"), Decimal("0.0104"), Decimal(2))


class Tags(HTMLParser):
    """The tags of a page, and what its pictures are."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.sources.extend(value or "" for name, value in attrs if name in ("src", "href"))
