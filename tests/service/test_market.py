"""Steps bars, indicators and charts: what is archived, what becomes a fact, what can be computed."""

import struct
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
import talib

from tests.desks import DAY, OPEN, Killed, at, bars, calendar, crashing, floor, market, samples, strategy
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.cycles import backfill
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.indicators import indicator
from trading_pipeline.domain.strategies import AnalyzerAgent, ExpressionAgent
from trading_pipeline.service.cycle import run_cycle
from trading_pipeline.service.market import compute_indicators, receive_bars, render_charts

TUESDAY = datetime(2024, 8, 27, 13, 30, tzinfo=UTC)
MONDAY = datetime(2024, 8, 26, 13, 30, tzinfo=UTC)
SMA = strategy(indicators=(indicator("sma_20"), indicator("sma_200")))
SEEN = ChartSpec(bars=60, overlays=("sma_20",), panels=("rsi_14",))


def test_the_first_cycle_archives_all_history_and_makes_facts_of_the_newest_bars(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    receive_bars(stage.desk, stage.due())
    held = stage.desk.archive.read("AAPL", Interval.DAY1, until=OPEN)
    assert held == bars().until(OPEN)
    newest = stage.events(EventType.BAR_RECEIVED)[-1].payload
    assert (newest["symbol"], newest["end"], newest["close"]) == ("AAPL", "2024-08-27T20:00:00.000000Z", "100")


def test_the_bar_that_is_forming_is_not_received(tmp_path):
    stage = floor(tmp_path, market(bars(at={OPEN: (1.0, 1.0, 1.0, 1.0)})), at(12), strategy())
    receive_bars(stage.desk, stage.due())
    assert stage.desk.archive.read("AAPL", Interval.DAY1, until=at(19)).last_end == at(16, day=date(2024, 8, 27))


def test_a_second_run_of_a_cycle_changes_nothing(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, replace(SMA, chart=SEEN))
    first = run_cycle(stage.desk, stage.due())
    head = stage.desk.ledger.head()
    again = run_cycle(stage.desk, stage.due())
    assert stage.desk.ledger.head() == head
    assert all(result.replayed for result in again)
    assert [result.seqs for result in again] == [result.seqs for result in first]


def test_a_bar_that_makes_no_sense_is_dropped_and_said(tmp_path):
    """73, fault 50."""
    high_below_low = (100.0, 90.0, 110.0, 100.0)
    stage = floor(tmp_path, market(bars(at={MONDAY: high_below_low})), OPEN, strategy())
    result = receive_bars(stage.desk, stage.due())
    assert result.counts["dropped"] == 1
    [dropped] = stage.events(EventType.BAR_DROPPED)
    assert (dropped.payload["symbol"], dropped.payload["start"]) == ("AAPL", "2024-08-26T13:30:00.000000Z")
    assert dropped.payload["reason"]
    archived = stage.desk.archive.read("AAPL", Interval.DAY1, until=OPEN)
    assert len(archived) == len(bars().until(OPEN)) - 1


def test_a_gap_of_days_is_refilled_by_the_next_cycle(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    run_cycle(stage.desk, stage.due())
    stage.go(at(9, 30, day=date(2024, 9, 4)))
    result = receive_bars(stage.desk, stage.due())
    received = [event.payload["start"][:10] for event in stage.events(EventType.BAR_RECEIVED)]
    assert result.counts["added"] == 4
    assert received[-4:] == ["2024-08-28", "2024-08-29", "2024-08-30", "2024-09-03"]


def test_a_symbol_without_the_newest_bar_is_noted_and_the_others_go_on(tmp_path):
    source = market(bars("AAPL"), bars("IBM", without=[TUESDAY]))
    stage = floor(tmp_path, source, OPEN, strategy(symbols=("AAPL", "IBM")))
    result = receive_bars(stage.desk, stage.due())
    assert result.counts["missing"] == 1
    assert result.notes == ("IBM: no bar that closed at 2024-08-27 20:00 UTC",)


@pytest.mark.parametrize(("what", "call"), [("ledger", 1), ("archive", 1), ("ledger", 2)])
def test_a_crash_anywhere_in_the_step_leaves_no_hole_in_archive_or_record(tmp_path, what, call):
    stage = floor(tmp_path, market(bars("AAPL"), bars("IBM")), OPEN, strategy(symbols=("AAPL", "IBM")))
    place = (stage.desk.ledger, "transaction") if what == "ledger" else (stage.desk.archive, "append")
    with pytest.raises(Killed), crashing(*place, on=call):
        receive_bars(stage.desk, stage.due())
    receive_bars(stage.restarted().desk, stage.due())
    for symbol in ("AAPL", "IBM"):
        facts = [event for event in stage.events(EventType.BAR_RECEIVED) if event.payload["symbol"] == symbol]
        assert [event.payload["start"][:10] for event in facts] == ["2024-08-23", "2024-08-26", "2024-08-27"]
        assert stage.desk.archive.read(symbol, Interval.DAY1, until=OPEN) == bars(symbol).until(OPEN)


def test_a_bar_that_was_imported_before_its_cycle_becomes_a_fact_too(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.desk.archive.append(bars().until(OPEN))
    run_cycle(stage.desk, stage.due())
    [received] = stage.events(EventType.BAR_RECEIVED)[-1:]
    [computed] = stage.events(EventType.INDICATORS_COMPUTED)
    assert computed.cause == received.seq


def test_a_correction_of_a_bar_is_a_fact_beside_the_first_one(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    run_cycle(stage.desk, stage.due())
    corrected = stage.restarted(market=market(bars(at={TUESDAY: (100.0, 103.0, 100.0, 102.0)})))
    session = calendar().session(DAY)
    of = calendar().slots(calendar().previous(DAY), Interval.DAY1)[-1]
    corrected.go(at(12))
    result = receive_bars(corrected.desk, backfill(of, session, "first"))
    closes = [event.payload["close"] for event in stage.events(EventType.BAR_RECEIVED) if event.payload["start"].startswith("2024-08-27")]
    assert result.counts["replaced"] == 1
    assert closes == ["100", "102"]


def test_a_correction_back_to_the_first_value_is_a_fact_too(tmp_path):
    """The newest fact is what the archive holds; the same values once more are no fact."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    run_cycle(stage.desk, stage.due())
    session, of = calendar().session(DAY), calendar().slots(calendar().previous(DAY), Interval.DAY1)[-1]
    for number, close in enumerate((102.0, 100.0, 100.0, 102.0)):
        desk = stage.restarted(market=market(bars(at={TUESDAY: (100.0, 103.0, 100.0, close)}))).desk
        receive_bars(desk, backfill(of, session, f"attempt {number}"))
    closes = [event.payload["close"] for event in stage.events(EventType.BAR_RECEIVED) if event.payload["start"].startswith("2024-08-27")]
    assert closes == ["100", "102", "100", "102"]
    assert stage.desk.archive.read("AAPL", Interval.DAY1, until=OPEN).close[-1] == 102.0


def test_a_backfill_into_an_empty_archive_brings_the_history_before_it(tmp_path):
    stage = floor(tmp_path, market(bars()), at(9, 31), strategy())
    session = calendar().session(DAY)
    of = calendar().slots(calendar().previous(DAY), Interval.DAY1)[-1]
    receive_bars(stage.desk, backfill(of, session, "first"))
    run_cycle(stage.desk, stage.due())
    assert stage.desk.archive.read("AAPL", Interval.DAY1, until=OPEN) == bars().until(OPEN)


# Indicators


def test_indicators_equal_talib_over_the_split_adjusted_prices(tmp_path):
    now = datetime(2012, 10, 15, 13, 30, tzinfo=UTC)
    wanted = ("sma_20", "sma_200", "rsi_14", "atr_14")
    spec = strategy(agent=AnalyzerAgent(), indicators=tuple(map(indicator, wanted)))
    stage = floor(tmp_path, samples(), now, spec)
    run_cycle(stage.desk, stage.due())
    [computed] = stage.events(EventType.INDICATORS_COMPUTED)
    # AAPL's last split before 2012 was in 2005: its unadjusted history since is what TA-Lib may see as it is.
    history = samples().closed_bars(["AAPL"], Interval.DAY1, None, now)["AAPL"].tail(600)
    expected = {
        "sma_20": talib.SMA(history.close, 20)[-1], "sma_200": talib.SMA(history.close, 200)[-1],
        "rsi_14": talib.RSI(history.close, 14)[-1], "atr_14": talib.ATR(history.high, history.low, history.close, 14)[-1],
    }
    values = computed.payload["values"]
    assert {name: float(values[name]) for name in wanted} == pytest.approx(expected, rel=1e-8)


def test_what_is_in_warm_up_has_no_value_and_is_named(tmp_path):
    stage = floor(tmp_path, market(bars(first=date(2024, 6, 3))), OPEN, SMA)
    run_cycle(stage.desk, stage.due())
    [computed] = stage.events(EventType.INDICATORS_COMPUTED)
    assert computed.payload["values"]["sma_20"] == "100"
    assert computed.payload["values"]["sma_200"] is None
    assert computed.payload["warm_up"] == ["sma_200"]


def test_apple_across_its_split_of_2005_has_no_false_step(tmp_path):
    """The two-for-one split of 2005-02-28 halves the printed price; the averages do not see it."""
    spec = strategy(symbols=("AAPL",), indicators=(indicator("sma_20"),))
    stage = floor(tmp_path, samples(), datetime(2005, 2, 25, 14, 30, tzinfo=UTC), spec)
    values = []
    for _ in range(4):
        run_cycle(stage.desk, stage.due())
        values.append(float(stage.events(EventType.INDICATORS_COMPUTED)[-1].payload["values"]["sma_20"]))
        stage.go(calendar().next(stage.desk.today()).open)
    raw = samples().closed_bars(["AAPL"], Interval.DAY1, None, stage.clock.now())["AAPL"]
    days = {str(day): close for day, close in zip(raw.session_days, raw.close, strict=True)}
    assert days["2005-02-25"] / days["2005-02-28"] == pytest.approx(2, abs=0.05), "the printed price halves"
    before, *after = values
    assert after[0] == pytest.approx(before / 2, rel=0.03), "from the day of the split on, all history is in new shares"
    assert all(later == pytest.approx(earlier, rel=0.03) for earlier, later in pairwise(after))


def test_a_split_halves_the_history_and_leaves_the_archive_as_it_was(tmp_path):
    """By hand: 200 until Tuesday, 100 from Tuesday on, two for one: the average of 20 is 100 flat."""
    before = dict.fromkeys((session.open for session in calendar().between(date(2024, 6, 3), date(2024, 8, 26))), (200.0,) * 4)
    source = market(bars(at=before), splits=[Split("AAPL", date(2024, 8, 27), Decimal(2))])
    stage = floor(tmp_path, source, OPEN, SMA)
    run_cycle(stage.desk, stage.due())
    [computed] = stage.events(EventType.INDICATORS_COMPUTED)
    assert computed.payload["values"]["sma_20"] == "100"
    archived = stage.desk.archive.read("AAPL", Interval.DAY1, until=OPEN, count=2)
    assert archived.close.tolist() == [200.0, 100.0]


def test_no_indicator_sees_the_bar_that_is_forming(tmp_path):
    calm = floor(tmp_path / "calm", market(bars()), at(9, 31), SMA)
    wild = floor(tmp_path / "wild", market(bars(at={OPEN: (100.0, 900.0, 1.0, 500.0)})), at(9, 31), SMA)
    seen = []
    for stage in (calm, wild):
        compute_indicators(stage.desk, _received(stage))
        seen.append(stage.events(EventType.INDICATORS_COMPUTED)[0].payload["values"])
    assert seen[0] == seen[1]


def _received(stage):
    due = stage.due()
    receive_bars(stage.desk, due)
    return due


# Charts


def test_a_chart_is_stored_by_its_digest_and_is_a_picture(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(chart=SEEN))
    run_cycle(stage.desk, stage.due())
    [rendered] = stage.events(EventType.CHART_RENDERED)
    picture = stage.desk.objects.get(rendered.payload["sha256"])
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (1000, 700)
    [asked] = stage.asked.questions
    assert asked.chart == rendered.payload["sha256"]
    [requested] = stage.events(EventType.LLM_REQUESTED)
    assert requested.cause == rendered.seq


def test_two_strategies_with_the_same_chart_share_one_picture(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy("one", chart=SEEN), strategy("two", chart=SEEN))
    run_cycle(stage.desk, stage.due())
    [rendered] = stage.events(EventType.CHART_RENDERED)
    assert sorted(rendered.payload["strategies"]) == ["one", "two"]


def test_a_symbol_with_one_bar_has_no_chart_and_it_is_said(tmp_path):
    source = market(bars(first=date(2024, 8, 27)))
    stage = floor(tmp_path, source, OPEN, strategy(chart=SEEN))
    receive_bars(stage.desk, stage.due())
    compute_indicators(stage.desk, stage.due())
    result = render_charts(stage.desk, stage.due())
    assert result.counts == {"too_short": 1}
    assert result.notes == ("AAPL: a chart needs two bars, there are 1",)


def test_indicators_the_agent_needs_are_computed_without_being_listed(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(agent=ExpressionAgent("ema_9 > 0")))
    run_cycle(stage.desk, stage.due())
    [computed] = stage.events(EventType.INDICATORS_COMPUTED)
    assert computed.payload["values"]["ema_9"] == "100"


def test_intraday_bars_of_a_day_are_received_one_at_a_time(tmp_path):
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 26)))
    stage = floor(tmp_path, source, at(10), strategy(interval=Interval.MIN5))
    for _ in range(3):
        run_cycle(stage.desk, stage.due(Interval.MIN5))
        stage.go(stage.clock.now() + timedelta(minutes=5))
    counts = [stage.desk.ledger.event_by_key(f"step:5min@2024-08-28T{clock}Z:bars").payload["counts"] for clock in ("14:05", "14:10")]
    assert [count["added"] for count in counts] == [1, 1]
    assert np.all(np.diff(stage.desk.archive.read("AAPL", Interval.MIN5, until=at(16)).start) > 0)
