"""What happened after each signal, and what trades that were never made would have brought. Every price is written out by hand."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from tests.desks import ALWAYS, CLOSE, DAY, NEVER, OPEN, PERSON, at, bars, calendar, floor, market, strategy
from tests.oracle.forging import record
from tests.service.replaying import replayed
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.shadow import FillCosts
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode
from trading_pipeline.oracle import check
from trading_pipeline.service import approvals
from trading_pipeline.service.reports.outcomes import horizon_end, marker, measure, session_to_measure
from trading_pipeline.service.submitter.closing import close_session

E = EventType


def open_of(day: date) -> datetime:
    return calendar().session(day).open


def close_of(day: date) -> datetime:
    return calendar().session(day).close


# 2024-08-28 is a Wednesday; the fifth session from it on is Wednesday the 4th, Monday the 2nd being Labor Day.
AFTER = {
    open_of(date(2024, 8, 28)): (100.0, 104.0, 98.0, 102.0),
    open_of(date(2024, 8, 29)): (102.0, 106.0, 101.0, 105.0),
    open_of(date(2024, 9, 4)): (99.0, 99.5, 94.0, 98.0),
}


def asked(tmp_path, *specs, splits=(), prices=AFTER, **given):
    """A desk whose strategies decided in the first minute of the 28th."""
    return_ = floor(tmp_path, market(bars(at=prices, **given), splits=splits), OPEN + timedelta(seconds=5), *(specs or (strategy(),)))
    return_.cycle()
    return return_


def outcomes(stage):
    return {event.payload["horizon"]: event.payload for event in stage.events(E.SIGNAL_OUTCOME)}


def test_an_outcome_appears_only_once_its_bar_has_closed(tmp_path):
    stage = asked(tmp_path)
    assert measure(stage.desk).outcomes == 0
    measure(stage.go(CLOSE - timedelta(seconds=1)).desk)
    assert outcomes(stage) == {}
    measure(stage.go(CLOSE).desk)
    assert set(outcomes(stage)) == {"1_bar"}
    measure(stage.go(close_of(date(2024, 8, 29))).desk)
    assert set(outcomes(stage)) == {"1_bar", "1_session"}
    measure(stage.go(close_of(date(2024, 9, 4))).desk)
    assert set(outcomes(stage)) == {"1_bar", "1_session", "5_bars"}


def test_a_move_is_measured_from_the_next_open_to_the_close_with_its_best_and_worst(tmp_path):
    stage = asked(tmp_path)
    measure(stage.go(close_of(date(2024, 9, 4))).desk)
    one, five = outcomes(stage)["1_bar"], outcomes(stage)["5_bars"]
    assert (one["entry"], one["exit"], one["moved"], one["right"]) == ("100", "102", "0.02000000", True)
    assert (one["adverse"], one["favourable"]) == ("-0.02000000", "0.04000000")
    assert (five["exit"], five["moved"], five["right"]) == ("98", "-0.02000000", False)
    assert (five["adverse"], five["favourable"]) == ("-0.06000000", "0.06000000")
    assert one["entry_at"] == "2024-08-28T13:30:00.000000Z"
    assert five["exit_at"] == "2024-09-04T20:00:00.000000Z"


def test_a_hold_has_an_outcome_and_no_direction(tmp_path):
    stage = asked(tmp_path, strategy(agent=ExpressionAgent(NEVER)))
    measure(stage.go(CLOSE).desk)
    one = outcomes(stage)["1_bar"]
    assert (one["action"], one["moved"], one["right"], one["adverse"]) == ("hold", "0.02000000", None, None)


def test_a_sell_is_right_when_the_price_falls_by_more_than_trading_costs(tmp_path):
    """It sells on the 29th what it bought on the 28th; the open of the 29th is 102 and the close 101.95, less than 0.06 % below."""
    prices = AFTER | {open_of(date(2024, 8, 29)): (102.0, 106.0, 101.0, 101.95)}
    stage = asked(tmp_path, strategy(agent=ExpressionAgent(ALWAYS, ALWAYS)), prices=prices)
    stage.go(open_of(date(2024, 8, 29)) + timedelta(seconds=5)).cycle()
    measure(stage.go(close_of(date(2024, 9, 4))).desk)
    sold = {event.payload["horizon"]: event.payload for event in stage.events(E.SIGNAL_OUTCOME) if event.payload["action"] == "sell"}
    assert sold["1_bar"]["right"] is False
    assert sold["1_bar"]["cost"] == "0.0006"
    assert (sold["1_bar"]["adverse"], sold["1_bar"]["favourable"]) == ("-0.03921569", "0.00980392")


def test_measuring_again_changes_nothing(tmp_path):
    stage = asked(tmp_path)
    measure(stage.go(close_of(date(2024, 9, 4))).desk)
    before = stage.types()
    assert measure(stage.desk).outcomes == 0
    assert stage.types() == before
    assert stage.verifies()


def test_a_split_on_the_way_is_no_move(tmp_path):
    """Two for one on the 29th: a close of 51 is the 102 of before."""
    halves = {open_of(day): (51.0, 52.0, 50.0, 51.0) for day in (date(2024, 8, 29), date(2024, 8, 30))}
    stage = asked(tmp_path, prices=AFTER | halves, splits=(Split("AAPL", date(2024, 8, 29), Decimal(2)),))
    measure(stage.go(close_of(date(2024, 8, 29))).desk)
    session = outcomes(stage)["1_session"]
    assert (session["entry"], session["exit"], session["moved"]) == ("100", "102", "0.02000000")
    assert session["favourable"] == "0.04000000"


def test_a_bad_print_is_nobodys_outcome(tmp_path):
    """The 5th is 1,000 times off and both its neighbours agree: the horizon's last good close stands for it."""
    bad = {open_of(date(2024, 9, 4)): (100.0, 400.0, 100.0, 400.0)}
    stage = asked(tmp_path, prices=bad)
    measure(stage.go(close_of(date(2024, 9, 5))).desk)
    assert outcomes(stage)["5_bars"]["exit"] == "100"


def test_bars_that_are_missing_are_waited_for_and_then_given_up(tmp_path):
    """The source loses the symbol on the day of the decision."""
    stage = asked(tmp_path)
    stage = stage.restarted(market=market(bars(last=date(2024, 8, 27))))
    waiting = measure(stage.go(close_of(date(2024, 9, 26))).desk, date(2024, 9, 26))
    assert (waiting.outcomes, waiting.waiting, waiting.without_bars, waiting.unmeasurable) == (0, 0, 4, 0)
    late = measure(stage.go(close_of(date(2024, 11, 1))).desk, date(2024, 11, 1))
    assert (late.outcomes, late.waiting, late.without_bars, late.unmeasurable) == (0, 0, 0, 4)
    assert measure(stage.desk).unmeasurable == 0, "what was given up is looked at no more"


def test_intraday_horizons_are_counted_in_bars_and_end_with_sessions():
    five = Interval.MIN5
    assert horizon_end(calendar(), five, at(10), "1_bar") == at(10, 5)
    assert horizon_end(calendar(), five, at(15, 45), "5_bars") == at(9, 40, day=date(2024, 8, 29))
    assert horizon_end(calendar(), five, at(10), "1_session") == close_of(date(2024, 8, 29))
    assert horizon_end(calendar(), Interval.DAY1, close_of(date(2024, 7, 2)), "1_bar") == datetime(2024, 7, 3, 17, tzinfo=UTC)
    assert horizon_end(calendar(), Interval.HOUR1, at(15, 30), "1_bar") == CLOSE, "the last hourly bar is half a one"


def test_the_session_is_measured_once_after_its_close(tmp_path):
    stage = asked(tmp_path)
    assert session_to_measure(stage.desk) is None
    session = calendar().session(DAY)
    close_session(stage.go(CLOSE).desk, session)
    assert session_to_measure(stage.desk) == session
    found = measure(stage.desk, DAY)
    assert found.outcomes == 1
    assert session_to_measure(stage.desk) is None
    mark = stage.desk.ledger.event_by_key(marker(DAY))
    assert (mark.payload["outcomes"], mark.payload["waiting"]) == (1, 3)
    [signal] = stage.events(E.LLM_ACTION_GENERATED)
    assert mark.payload["resume_after"] == signal.seq - 1, "its longer horizons are still open"
    measure(stage.go(close_of(date(2024, 9, 4))).desk)
    assert set(outcomes(stage)) == {"1_bar", "1_session", "5_bars"}


# Trades that were never made

BRACKETED = {"mode": Mode.APPROVAL, "sizing": FractionSizing(Decimal("0.05"), stop=Decimal("0.05"), target=Decimal("0.04"))}


def proposed(tmp_path, prices=AFTER, **changes):
    stage = asked(tmp_path, strategy(**(BRACKETED | changes)), prices=prices)
    [row] = stage.rows("actions")
    return stage, row


def test_a_rejected_proposal_is_followed_to_its_target(tmp_path):
    """50 shares: bought at 100 x 1.0003 = 100.03, sold at the target of 104 on the first day, $1.00 commission each way."""
    stage, row = proposed(tmp_path)
    approvals.reject(stage.desk, row["action_id"], actor=PERSON, reason="not today")
    end = close_of(date(2024, 9, 26))
    assert measure(stage.go(CLOSE).desk).shadows == 0, "the horizon is not over"
    source = market(bars(at=AFTER, last=date(2024, 9, 30)))
    measure(stage.restarted(market=source).go(end).desk)
    [shadow] = [event.payload for event in stage.events(E.SHADOW_CLOSED)]
    assert (shadow["state"], shadow["quantity"], shadow["staked"]) == ("rejected", 50, "5000.00")
    assert [(fill["leg"], fill["price"]) for fill in shadow["fills"]] == [("entry", "100.0300"), ("target", "104.00")]
    assert shadow["result"] == "196.50"  # 50 x 3.97 - 2


def test_nobody_answering_is_followed_too_and_the_stop_comes_first(tmp_path):
    """A day that reaches 104 and 94: the stop at 95 counts, which takes at 95 x 0.9997 = 94.9715."""
    both = {open_of(date(2024, 8, 28)): (100.0, 104.0, 94.0, 102.0)}
    stage, _ = proposed(tmp_path, both)
    stage.go(at(9, 50)).release()
    assert stage.row("actions")["state"] == "expired"
    measure(stage.restarted(market=market(bars(at=both, last=date(2024, 9, 30)))).go(close_of(date(2024, 9, 26))).desk)
    [shadow] = [event.payload for event in stage.events(E.SHADOW_CLOSED)]
    assert [fill["leg"] for fill in shadow["fills"]] == ["entry", "stop"]
    assert shadow["result"] == "-254.92"  # 50 x (94.9715 - 100.03) - 2, half to even


def test_a_denied_proposal_without_a_bracket_is_sold_at_the_horizon(tmp_path):
    """Below a dollar it is denied. Bought at 0.9 x 1.0003, up to the next 0.0001: 0.9003. Sold at 0.95 x 0.9997, down: 0.9497."""
    prices = {open_of(date(2024, 9, 25)): (0.9, 0.95, 0.9, 0.95)}
    stage = floor(tmp_path, market(bars(price=0.9, at=prices, last=date(2024, 9, 30))), OPEN + timedelta(seconds=5), strategy())
    stage.cycle()
    assert stage.row("actions")["state"] == "denied"
    measure(stage.go(close_of(date(2024, 9, 26))).desk)
    [shadow] = [event.payload for event in stage.events(E.SHADOW_CLOSED)]
    assert [(fill["leg"], fill["price"]) for fill in shadow["fills"]] == [("entry", "0.9003"), ("horizon", "0.9497")]
    shares = shadow["quantity"]
    assert Decimal(shadow["result"]) == round(shares * Decimal("0.0494") - 2 * max(1, shares * Decimal("0.005")), 2)


def test_the_desks_costs_are_those_of_its_paper_broker():
    from trading_pipeline.adapters.brokers.paper_book import PaperSettings

    paper, costs = PaperSettings(), FillCosts()
    assert (paper.spread, paper.slippage, paper.commission_per_share, paper.commission_minimum) == (
        costs.spread, costs.slippage, costs.commission_per_share, costs.commission_minimum,
    )


# The record


def test_the_replay_and_the_oracle_accept_what_was_measured(tmp_path):
    """Outcomes are facts like any other: the session derives again, and a judge that shares no code finds nothing wrong."""
    stage, row = proposed(tmp_path)
    approvals.reject(stage.desk, row["action_id"], actor=PERSON, reason="not today")
    measure(stage.go(CLOSE).desk, DAY)
    measure(stage.restarted(market=market(bars(at=AFTER, last=date(2024, 9, 30)))).go(close_of(date(2024, 9, 26))).desk)
    assert len(stage.events(E.SHADOW_CLOSED)) == 1
    assert stage.verifies()
    assert replayed(stage).ok
    assert list(check(record(stage.desk.ledger))) == []
