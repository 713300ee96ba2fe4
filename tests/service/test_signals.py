"""Step signals: who is asked what, which answers become actions, and who comes too late to ask."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from tests.desks import ALWAYS, CLOSE, DAY, NEVER, OPEN, PERSON, at, bars, calendar, floor, market, samples, strategy
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import backfill
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.strategies import AnalyzerAgent, ExpressionAgent, FractionSizing
from trading_pipeline.service import controls
from trading_pipeline.service.cycle import STEPS, run_cycle
from trading_pipeline.service.deliberation import form_signals
from trading_pipeline.service.market import compute_indicators, receive_bars

E = EventType
TUESDAY = datetime(2024, 8, 27, 13, 30, tzinfo=UTC)


def test_a_question_its_reply_and_the_action_are_three_facts_in_a_chain(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    run_cycle(stage.desk, stage.due())
    [requested], [responded], [generated] = (stage.events(type_) for type_ in (E.LLM_REQUESTED, E.LLM_RESPONDED, E.LLM_ACTION_GENERATED))
    [computed] = stage.events(E.INDICATORS_COMPUTED)
    assert (requested.cause, responded.cause, generated.cause) == (computed.seq, requested.seq, responded.seq)
    assert (responded.payload["provider"], responded.payload["cost"]) == ("rules", "0")
    assert (generated.payload["action"], generated.payload["confidence"], generated.payload["close"]) == ("buy", "1", "100")


def test_hold_is_an_answer_and_no_action(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(agent=ExpressionAgent(NEVER)))
    run_cycle(stage.desk, stage.due())
    [generated] = stage.events(E.LLM_ACTION_GENERATED)
    assert generated.payload["action"] == "hold"
    assert stage.rows("actions") == []


def test_facebook_in_autumn_2012_is_too_young_for_its_sma200(tmp_path):
    """Listed on 2012-05-18, it has 103 bars by 2012-10-12."""
    stage = floor(tmp_path, samples(), datetime(2012, 10, 15, 13, 30, tzinfo=UTC), strategy(symbols=("FB", "IBM"), agent=AnalyzerAgent()))
    run_cycle(stage.desk, stage.due())
    [abstained] = stage.events(E.LLM_ABSTAINED)
    assert (abstained.payload["symbol"], abstained.payload["reason"]) == ("FB", "warm_up")
    assert "SMA200 needs 200 bars; FB has 10" in abstained.payload["detail"]
    [generated] = stage.events(E.LLM_ACTION_GENERATED)
    assert generated.payload["symbol"] == "IBM"
    assert 0 <= generated.payload["score"] <= 100


def test_a_symbol_whose_newest_bar_is_missing_is_not_asked_about_and_abstains(tmp_path):
    stage = floor(tmp_path, market(bars("AAPL"), bars("IBM", without=[TUESDAY])), OPEN, strategy(symbols=("AAPL", "IBM")))
    run_cycle(stage.desk, stage.due())
    assert [question.symbol for question in stage.asked.questions] == ["AAPL"]
    [abstained] = stage.events(E.LLM_ABSTAINED)
    assert (abstained.payload["symbol"], abstained.payload["reason"]) == ("IBM", "no_bar")


def test_a_daily_cycle_is_on_time_until_ten_minutes_after_the_open(tmp_path):
    stage = floor(tmp_path, market(bars()), at(9, 39, 59.999), strategy())
    run_cycle(stage.desk, stage.due())
    assert len(stage.asked.questions) == 1


@pytest.mark.parametrize("now", [at(9, 40), at(12), at(15, 59)])
def test_a_late_cycle_asks_nobody_and_records_the_signals_as_missed(tmp_path, now):
    stage = floor(tmp_path, market(bars()), now, strategy())
    run_cycle(stage.desk, stage.due())
    assert stage.asked.questions == []
    assert stage.events(E.LLM_REQUESTED, E.LLM_ACTION_GENERATED, E.RISK_EVALUATED) == []
    [missed] = stage.events(E.SIGNAL_MISSED)
    assert (missed.payload["strategy"], missed.payload["symbols"]) == ("buyer", ["AAPL"])
    assert missed.payload["reason"].startswith("stale: due at 13:30:00 UTC")


@pytest.mark.parametrize(("interval", "last_in_time", "late"), [
    (Interval.MIN1, timedelta(seconds=119), timedelta(minutes=2)), (Interval.MIN5, timedelta(seconds=599), timedelta(minutes=10)),
    (Interval.HOUR1, timedelta(seconds=599), timedelta(minutes=10)),
])
def test_an_intraday_signal_lives_two_bars_and_ten_minutes_at_most(tmp_path, interval, last_in_time, late):
    """D20."""
    for number, (lag, asked) in enumerate(((last_in_time, 1), (late, 0))):
        source = market(bars(interval=interval, first=date(2024, 8, 27), last=DAY))
        stage = floor(tmp_path / str(number), source, at(11, 30), strategy(interval=interval))
        due = stage.due(interval)
        assert due.bar_end == at(11, 30)
        run_cycle(stage.go(at(11, 30) + lag).desk, due)
        assert len(stage.asked.questions) == asked


def test_the_bar_that_closes_with_the_session_decides_nothing(tmp_path):
    """D27: neither an entry nor an exit."""
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(15, 50), strategy(interval=Interval.MIN5, agent=ExpressionAgent(ALWAYS, NEVER)))
    stage.cycle(Interval.MIN5)
    assert len(stage.asked.questions) == 1
    stage.go(CLOSE + timedelta(seconds=2))
    due = stage.due(Interval.MIN5)
    assert due.bar_end == CLOSE
    run_cycle(stage.desk, due)
    assert len(stage.asked.questions) == 1
    assert [event.payload["cycle"] for event in stage.events(E.SIGNAL_MISSED)] == ["5min@2024-08-28T20:00Z"]
    assert stage.desk.archive.read("AAPL", Interval.MIN5, until=CLOSE).last_end == CLOSE


def test_the_last_bar_of_an_early_close_decides_nothing_either(tmp_path):
    """2024-07-03 closed at 13:00 New York."""
    day = date(2024, 7, 3)
    source = market(bars(interval=Interval.MIN5, first=date(2024, 7, 2), last=day))
    stage = floor(tmp_path, source, at(13, 0, 2, day=day), strategy(interval=Interval.MIN5))
    due = stage.due(Interval.MIN5)
    assert due.bar_end == at(13, day=day)
    run_cycle(stage.desk, due)
    assert stage.asked.questions == []
    assert len(stage.events(E.SIGNAL_MISSED)) == 1


def test_a_backfill_refills_data_and_places_nothing(tmp_path):
    stage = floor(tmp_path, market(bars()), at(9, 31), strategy())
    session = calendar().session(date(2024, 8, 23))
    slot = calendar().slots(calendar().previous(session.day), Interval.DAY1)[-1]
    results = {step: run(stage.desk, backfill(slot, session, "first")) for step, run in STEPS.items()}
    assert results["bars"].counts["added"] > 0
    assert results["indicators"].counts["symbols"] == 1
    assert results["signals"].counts == {"missed": 1}
    assert stage.asked.questions == []
    assert stage.events(E.LLM_REQUESTED, E.RISK_EVALUATED, E.ORDER_INTENT, E.ORDER_SUBMITTED) == []
    assert stage.broker.orders() == []


def test_how_long_a_position_has_been_held_is_counted_in_bars(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(agent=ExpressionAgent(ALWAYS, NEVER, max_bars=3)))
    held = []
    for _ in range(4):
        stage.cycle()
        held.append(stage.asked.questions[-1].bars_held)
        stage.go(calendar().next(stage.desk.today()).open)
    assert held == [None, 1, 2, 3]
    assert [event.payload["action"] for event in stage.events(E.LLM_ACTION_GENERATED)] == ["buy", "hold", "hold", "sell"]


def test_a_strategy_that_was_paused_within_the_cycle_is_not_asked(tmp_path):
    """D10: a pause makes no calls, also when a crashed cycle is run again."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy("one"), strategy("two"))
    due = stage.due()
    receive_bars(stage.desk, due)
    compute_indicators(stage.desk, due)
    controls.pause(stage.desk, "one", actor=PERSON)
    form_signals(stage.desk, due)
    assert [question.strategy for question in stage.asked.questions] == ["two"]
    [missed] = stage.events(E.SIGNAL_MISSED)
    assert missed.payload["strategy"] == "one"
    assert "paused_user" in missed.payload["reason"]


def test_no_question_shows_a_bar_that_has_not_closed(tmp_path):
    """73: no look-ahead: whatever comes after the close cannot be seen."""
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(10), strategy(interval=Interval.MIN1))
    for minute in range(5):
        stage.go(at(10, minute, 1))
        stage.cycle(Interval.MIN1)
    assert [question.bars.last_end for question in stage.asked.questions] == [at(10, minute) for minute in range(5)]


def test_a_strategy_that_its_bars_stop_has_sold_out_is_asked_as_one_that_holds_nothing(tmp_path):
    """The bar that reached the stop is the one decided on, and nobody has looked at the broker in between."""
    sizing = FractionSizing(Decimal("0.05"), stop=Decimal("0.05"))
    spec = strategy(interval=Interval.MIN1, agent=ExpressionAgent(ALWAYS, ALWAYS), sizing=sizing)
    fallen = {at(10, 0): (100.0, 100.0, 94.0, 100.0)}
    stage = floor(tmp_path, market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, at=fallen)), at(10, 0), spec)
    stage.cycle(Interval.MIN1)
    assert stage.row("positions")["quantity"] > 0
    stage.go(at(10, 1)).cycle(Interval.MIN1)
    assert [row["side"] for row in stage.rows("fills", order_by="seq")] == ["buy", "sell"], "stopped out, and not sold a second time"
    assert [row["side"] for row in stage.rows("actions", order_by="generated_seq")] == ["buy", "buy"]
    assert stage.verifies()


def test_a_stop_that_the_next_bars_open_reaches_does_not_change_what_was_held_at_the_close(tmp_path):
    """It sold at the very instant of the decision, which is one about the bar before: nothing is bought back at that open."""
    sizing = FractionSizing(Decimal("0.05"), stop=Decimal("0.05"))
    spec = strategy(interval=Interval.MIN1, agent=ExpressionAgent(ALWAYS, NEVER), sizing=sizing)
    gap = {at(10, 1): (94.0, 94.0, 94.0, 94.0)}
    stage = floor(tmp_path, market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, at=gap)), at(10, 0), spec)
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 1)).cycle(Interval.MIN1)
    assert [row["side"] for row in stage.rows("fills", order_by="seq")] == ["buy", "sell"]
    assert [question.bars_held for question in stage.asked.questions] == [None, 1]
    stage.go(at(10, 2)).cycle(Interval.MIN1)
    assert stage.asked.questions[-1].bars_held is None
