"""The evidence in Dagster: measured once after a close, shown as a trader reads it, and never in the way of trading."""

import base64
import io
from datetime import date, timedelta
from decimal import Decimal

import dagster as dg
import pytest

from assets import evidence
from tests.desks import CLOSE, DAY, OPEN, PERSON, bars, calendar, floor, market, strategy
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.strategies import FractionSizing, Mode
from trading_pipeline.service import approvals
from trading_pipeline.service.submitter.closing import close_session

E = EventType
SIZED = FractionSizing(Decimal("0.05"), stop=Decimal("0.05"), target=Decimal("0.04"))
NEXT = calendar().next(DAY).day


@pytest.fixture
def closed(tmp_path):
    """A session in which somebody said no, at its close."""
    prices = {OPEN: (100.0, 104.0, 98.0, 102.0)}
    stage = floor(
        tmp_path, market(bars(at=prices, last=date(2024, 9, 30))), OPEN + timedelta(seconds=5),
        strategy("asks", mode=Mode.APPROVAL, sizing=SIZED),
    )
    stage.cycle()
    approvals.reject(stage.desk, stage.row("actions")["action_id"], actor=PERSON, reason="no")
    close_session(stage.go(CLOSE).desk, calendar().session(DAY))
    return stage


def materialized(result):
    return {event.asset_key.to_user_string(): event.materialization for event in result.get_asset_materialization_events()}


def test_a_closed_session_is_measured_once(house, closed):
    [request] = house.tick("evidence", closed)
    assert (request.partition_key, request.tags["dagster/priority"]) == ("2024-08-28", "-5")
    assert house.launch(request, "evidence", closed).success
    assert house.tick("evidence", closed) == []
    assert len(closed.events(E.SIGNAL_OUTCOME)) == 1
    before = closed.types()
    assert house.run("evidence", closed, {}, "2024-08-28").success
    assert closed.types() == before, "a second materialisation changes nothing"


def test_nothing_is_measured_before_a_close(house, tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN + timedelta(seconds=5), strategy())
    stage.cycle()
    assert house.tick("evidence", stage) == []


@pytest.mark.parametrize("asset", ["outcomes", "model_report"])
def test_who_finds_them_never_materialized_reads_when_they_will_be(asset):
    [definition] = [each for each in (evidence.outcomes, evidence.model_report) if each.key.to_user_string() == asset]
    told = definition.descriptions_by_key[definition.key]
    assert "after each session's close" in told
    assert "first" in told


def test_a_failed_measuring_is_tried_again_and_pauses_nothing(house, closed, monkeypatch):
    def broken(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr("assets.evidence.measure", broken)
    [result] = house.tick_and_launch("evidence", "evidence", closed)
    assert not result.success
    assert closed.row("strategies")["state"] == "running"
    monkeypatch.undo()
    monkeypatch.setattr("sensors.bar_close.minutes_coincide", lambda _desk: False)
    [result] = house.tick_and_launch("evidence", "evidence", closed)
    assert result.success


def test_outcomes_are_shown_as_a_trader_reads_them(house, closed):
    stage = closed.go(calendar().session(date(2024, 9, 26)).close)
    shown = materialized(house.run("evidence", stage, {}, "2024-09-26"))["outcomes"].metadata
    assert (shown["outcomes"].value, shown["trades_never_made"].value, shown["without_bars"].value) == (4, 1, 0)
    first = shown["newest_outcomes"].value.records[-1].data
    assert (first["symbol"], first["action"], first["later"], first["moved"], first["was"]) == ("AAPL", "BUY", "1 bar", "+2.00%", "right")
    [shadow] = [record.data for record in shown["newest_trades_never_made"].value.records]
    assert (shadow["ended"], shadow["would have made (USD)"], shadow["by"]) == ("rejected", "196.50", "entry, target")


def test_bars_that_are_missing_fail_the_check_and_not_the_run(house, closed):
    stage = closed.restarted(market=market(bars(last=date(2024, 8, 27)))).go(calendar().session(NEXT).close)
    result = house.run("evidence", stage, {}, NEXT.isoformat())
    assert result.success
    [check] = [each for each in result.get_asset_check_evaluations() if each.check_name == "outcomes_are_there"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_the_report_shows_its_verdict_and_its_plots(house, closed):
    from PIL import Image

    shown = materialized(house.run("evidence", closed, {}, "2024-08-28"))["model_report"].metadata
    assert shown["headline"].value.startswith("rules: asks: NOT VALIDATED, too few (n = 0, at least 30)")
    words = shown["pictures"].value.split("(data:image/png;base64,")[1:]
    sizes = [Image.open(io.BytesIO(base64.b64decode(word.partition(")")[0]))).size for word in words]
    assert len(sizes) == 3
    assert all(width >= 700 for width, _ in sizes)
    [verdict] = shown["verdict"].value.records
    assert verdict.data["trained up to"] == "not trained"
    assert shown["whole_report"].value.endswith(".html")
