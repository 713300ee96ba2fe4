"""The model report on a real desk: what it says, and what it refuses to say. Prices are written by hand, so every figure is known."""

import json
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import PERSON, bars, calendar, floor, market, samples, strategy
from tests.service.forecasts import CLAUDE, Cutoffs, instant, says, shown
from trading_pipeline.domain.models import Mask, Sight
from trading_pipeline.domain.strategies import AnalyzerAgent, Mode
from trading_pipeline.service import approvals
from trading_pipeline.service.desk import Models
from trading_pipeline.service.reports.figures import TooFew
from trading_pipeline.service.reports.judged import Selection, judged
from trading_pipeline.service.reports.model_report import Period, Verdict, model_report
from trading_pipeline.service.reports.outcomes import measure
from trading_pipeline.service.reports.report_tables import as_json, report_tables

FIRST, LAST = date(2023, 6, 1), date(2023, 12, 29)
DAYS = [session.day for session in calendar().between(date(2023, 7, 3), date(2023, 12, 1))]
"""106 sessions in which decisions are taken."""


def rising(symbol="AAPL", by=1.0):
    """Each bar opens at 100 and closes at 101: from any open to any close later it is always 1 % up. Or as much down."""
    close = 100.0 + by
    prices = (100.0, max(100.0, close), min(100.0, close), close)
    return bars(symbol, first=FIRST, last=LAST, at={session.open: prices for session in calendar().between(FIRST, LAST)})


def stage_of(tmp_path, *tables, cutoffs=None):
    stage = floor(tmp_path, market(*(tables or (rising(),))), calendar().session(DAYS[0]).open)
    models = Models({}, None, Cutoffs(cutoffs if cutoffs is not None else {"claude-x": date(2023, 1, 1)}), None)
    return replace(stage, desk=replace(stage.desk, models=models))


def measured(stage, selection=None):
    measure(stage.go(instant(LAST, stage)).desk)
    return model_report(stage.desk, selection)


def only(report):
    [assessment] = [each for each in report.assessments if not each.version.rules]
    return assessment


def test_every_figure_of_a_market_that_only_rises(tmp_path):
    """80 BUY and 20 SELL of 100: the move is always +1 %, so 80 are right, the mean is (80 - 20) x 1 % / 100 less 0.06 % of costs."""
    stage = stage_of(tmp_path)
    for index, day in enumerate(DAYS[:100]):
        says(stage, day, "AAPL", "sell" if index % 5 == 0 else "buy", "0.8")
    says(stage, DAYS[100], "AAPL", "hold")
    says(stage, DAYS[101], "AAPL", None)
    figures = only(measured(stage)).periods[Period.AFTER]
    assert (figures.decisions, figures.signals, figures.sessions) == (102, 100, 100)
    assert figures.hit_rate.value == 0.8
    assert (round(figures.hit_rate.low, 4), round(figures.hit_rate.high, 4)) == (0.7112, 0.8666)  # Wilson, 80 of 100
    assert figures.per_usd.value == pytest.approx(0.6 * 0.01 - 0.0006)
    assert figures.brier.score == pytest.approx(0.8 * 0.04 + 0.2 * 0.64)
    assert figures.brier.skill == pytest.approx(0.0), "it says the base rate, and no more"
    assert figures.abstained.value == pytest.approx(1 / 102)
    assert figures.cost_per_decision.value == pytest.approx(0.01)
    assert figures.cost == Decimal("1.02")
    assert figures.favourable.value == pytest.approx(0.8 * 0.01)
    assert figures.adverse.value == pytest.approx(-0.2 * 0.01)
    assert isinstance(figures.per_trade, TooFew), "no order was sized"


def test_the_verdict_is_what_the_intervals_say(tmp_path):
    """One stock always rises and one always falls. Who buys the one and sells the other has skill; who buys only the one has luck."""
    stage = stage_of(tmp_path, rising(), rising("IBM", -1.0))
    for index, day in enumerate(DAYS[:60]):
        odd, wrong = index % 2 == 1, index % 6 == 0
        for name, aapl, ibm in (
            ("knows", "sell" if wrong else "buy", "sell"), ("contrary", "buy" if wrong else "sell", "buy"),
            ("coin", "buy" if odd else "sell", "sell" if odd else "buy"), ("bull", "buy", None),
        ):
            says(stage, day, "AAPL", aapl, agent=replace(CLAUDE, prompt=f"{name}/v1"), strategy=name)
            if ibm is not None:
                says(stage, day, "IBM", ibm, agent=replace(CLAUDE, prompt=f"{name}/v1"), strategy=name)
    found = {each.version.prompt: each for each in measured(stage).assessments}
    assert {name: each.verdict for name, each in found.items()} == {
        "knows/v1": Verdict.SKILL, "contrary/v1": Verdict.LOSES, "coin/v1": Verdict.NO_SKILL, "bull/v1": Verdict.NO_SKILL,
    }
    assert found["bull/v1"].periods[Period.AFTER].per_usd.low > 0
    assert found["bull/v1"].reason.endswith("it may be the market's rise and not its judgement")


@pytest.mark.parametrize(("cutoff", "told"), [
    ({"claude-x": date(2023, 12, 1)}, "no bar lies after the end of its training (2023-12-01)"),
    ({}, "the end of its training is not known"),
])
def test_what_it_may_remember_proves_nothing(tmp_path, cutoff, told):
    stage = stage_of(tmp_path, cutoffs=cutoff)
    for day in DAYS[:60]:
        says(stage, day, "AAPL", "buy")
    report = measured(stage)
    assert only(report).verdict is Verdict.NOT_VALIDATED
    assert told in only(report).reason
    assert "NOT VALIDATED" in report.headline


def test_bars_before_and_after_the_training_are_counted_apart(tmp_path):
    """Trained up to the close of the 40th decision's bar."""
    stage = stage_of(tmp_path, cutoffs={"claude-x": DAYS[39]})
    for index, day in enumerate(DAYS[:80]):
        says(stage, day, "AAPL", "buy" if index <= 40 else "sell")
    found = only(measured(stage))
    assert {period: figures.signals for period, figures in found.periods.items()} == {Period.AFTER: 39, Period.BEFORE: 41}
    assert found.periods[Period.BEFORE].hit_rate.value == 1
    assert found.periods[Period.AFTER].hit_rate.value == 0
    assert (found.basis, found.verdict) == (Period.AFTER, Verdict.LOSES)


def test_below_the_fewest_cases_nothing_is_shown_but_how_few_there_are(tmp_path):
    stage = stage_of(tmp_path)
    for day in DAYS[:7]:
        says(stage, day, "AAPL", "buy")
    report = measured(stage)
    figures = only(report).periods[Period.AFTER]
    assert {figures.hit_rate, figures.per_usd, figures.abstained, figures.brier} == {TooFew(7)}
    assert only(report).reason == "too few (n = 7, at least 30) of its signals have an outcome after the end of its training"
    assert as_json(figures.hit_rate) == {"n": 7, "too_few": "too few (n = 7, at least 30)"}


def test_versions_are_compared_over_the_same_bars_only(tmp_path):
    """Both sights see 40 bars; the picture alone was asked about 20 others besides, which count for nothing here.

    Right is worth 0.94 % a bar, wrong -1.06 %, to hold 0. Both: always right. Picture: right on half of them, holds on the others.
    """
    stage = stage_of(tmp_path)
    both, picture = shown(Sight.BOTH), shown(Sight.PICTURE)
    for index, day in enumerate(DAYS[:60]):
        if index < 40:
            says(stage, day, "AAPL", "buy", agent=both, strategy="both")
        says(stage, day, "AAPL", "sell" if index >= 40 else "buy" if index % 2 else "hold", agent=picture, strategy="picture")
        says(stage, day, "AAPL", "buy", agent=AnalyzerAgent(), strategy="rules")
    report = measured(stage)
    by_kind = {(each.what, each.first): each for each in report.comparisons}
    sight = by_kind["sight", "claude-x · analyst/v1 · both"]
    assert sight.second == "claude-x · analyst/v1 · picture"
    assert (sight.first_mean, sight.second_mean) == (pytest.approx(0.0094), pytest.approx(0.0047))
    assert sight.difference.n == 40
    assert sight.difference.value == pytest.approx(0.0047)
    assert sight.difference.low > 0
    assert sight.agree == 0.5
    baseline = by_kind["baseline", "claude-x · analyst/v1 · both"]
    assert (baseline.second, baseline.difference.value) == ("rules: analyzer", pytest.approx(0))
    assert by_kind["always buying", "claude-x · analyst/v1 · picture"].second_mean == pytest.approx(0.0094)


def test_masking_is_compared_over_all_bars_those_it_may_remember_included(tmp_path):
    stage = stage_of(tmp_path, cutoffs={"claude-x": date(2023, 12, 1)})
    for day in DAYS[:40]:
        says(stage, day, "AAPL", "buy", agent=CLAUDE, strategy="open")
        says(stage, day, "AAPL", "sell", agent=shown(Sight.NUMBERS, Mask.SYMBOL, Mask.DATES), strategy="masked")
    [masking] = [each for each in measured(stage).comparisons if each.what == "masking"]
    assert masking.period is Period.ALL
    assert masking.second == "claude-x · analyst/v1 · numbers, without dates, symbol"
    assert masking.difference.value == pytest.approx(0.02), "it knew the name"


def test_a_selection_narrows_models_and_keeps_the_rules_to_compare_with(tmp_path):
    stage = stage_of(tmp_path, rising(), rising("IBM"))
    for day in DAYS[:35]:
        for symbol in ("AAPL", "IBM"):
            says(stage, day, symbol, "buy")
            says(stage, day, symbol, "buy", agent=AnalyzerAgent(), strategy="rules")
        says(stage, day, "AAPL", "buy", agent=replace(CLAUDE, model="claude-y"), strategy="other")
    report = measured(stage, Selection(model="claude-x", symbol="IBM", since=DAYS[3]))
    assert [each.version.model for each in report.assessments] == ["claude-x"]
    assert set(only(report).symbols) == {"IBM"}
    assert only(report).periods[Period.AFTER].signals == 32
    assert "baseline" in {each.what for each in report.comparisons}


def test_nothing_decided_is_said_and_no_error(tmp_path):
    report = model_report(stage_of(tmp_path).desk)
    assert report.headline == "No decision has been taken yet."
    assert report_tables(report) == []


def test_a_report_is_json_through_and_through(tmp_path):
    stage = stage_of(tmp_path)
    for day in DAYS[:35]:
        says(stage, day, "AAPL", "buy")
    text = json.dumps(as_json(measured(stage)), allow_nan=False)
    assert json.loads(text)["assessments"][0]["verdict"] == "NO SKILL SHOWN"


def test_no_outcome_looks_ahead_whatever_the_market(tmp_path):
    """What a report says of a day is the same, however much of the future the source already has."""
    few, many = tmp_path / "few", tmp_path / "many"
    reports = []
    for folder, last in ((few, DAYS[50]), (many, LAST)):
        table = rising()
        stage = stage_of(folder, table.until(calendar().session(last).close))
        for day in DAYS[:50]:
            says(stage, day, "AAPL", "buy")
        measure(stage.go(instant(DAYS[50], stage)).desk)
        reports.append(as_json(model_report(stage.desk)))
    assert reports[0] == reports[1]


def test_the_rules_agent_on_real_bars_from_signals_to_the_report(tmp_path):
    """Sixty sessions of five real stocks, decided, measured and judged; the ledger verifies and a second report says the same."""
    days = [session.day for session in calendar().between(date(2012, 3, 1), date(2012, 6, 29))][:60]
    source = samples()
    names = ("AAPL", "GOOG", "IBM", "MSFT")
    known = [name for name in names if source.intervals(name)]
    assert len(known) > 2
    stage = floor(tmp_path, source, calendar().session(days[0]).open + timedelta(seconds=5), strategy(
        "rules", symbols=tuple(known), agent=AnalyzerAgent(),
    ))
    for day in days:
        stage.go(calendar().session(day).open + timedelta(seconds=5)).cycle()
    measure(stage.desk)
    report = model_report(stage.desk)
    [assessment] = report.assessments
    assert assessment.version.label == "rules: analyzer"
    assert (assessment.cutoff, assessment.basis) == (None, Period.ALL)
    decided = judged(stage.desk.ledger)
    assert len(decided) == 60 * len(known)
    by_hand = [each for each in decided if "1_bar" in each.outcomes]
    first = by_hand[0]
    table = source.closed_bars([first.symbol], first.interval, first.bar_end, stage.desk.now())[first.symbol]
    assert first.outcomes["1_bar"].moved == pytest.approx(table.close[0] / table.open[0] - 1, abs=1e-4)
    assert stage.verifies()
    assert as_json(model_report(stage.desk)) == as_json(report)


def test_what_was_never_sent_is_counted_with_the_decisions_it_came_of(tmp_path):
    """Two proposals rejected, of AAPL that always rises and of IBM that always falls: saying no cost the one and saved the other."""
    stage = floor(
        tmp_path, market(rising(), rising("IBM", -1.0)), calendar().session(DAYS[0]).open + timedelta(seconds=5),
        strategy("asks", symbols=("AAPL", "IBM"), mode=Mode.APPROVAL),
    )
    stage.cycle()
    for row in stage.rows("approvals"):
        approvals.reject(stage.desk, row["action_id"], actor=PERSON, reason="no")
    measure(stage.go(instant(LAST, stage)).desk)
    worth = {symbol: model_report(stage.desk, Selection(symbol=symbol)).approvals_worth for symbol in ("AAPL", "IBM")}
    both = model_report(stage.desk)
    assert worth["AAPL"] < 0 < worth["IBM"]
    assert both.approvals_worth == sum(worth.values())
    assert [(each.state, each.n, each.filled) for each in both.unsent] == [("rejected", 2, 2)]
    assert model_report(stage.desk, Selection(model="claude-x")).unsent == ()
