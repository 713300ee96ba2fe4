"""37, 40, 43: breakers: strategies pause by figures and go on by figures, whoever looks and however often (F4, D13, D15)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import ALWAYS, DAY, OPEN, PERSON, at, bars, floor, market, strategy
from tests.service.minutes import MINUTES, minute_bars
from tests.service.pauses import FEES, holding, paused, states
from trading_pipeline.adapters.brokers.paper_faults import Call, Empty, NotReady, Refuse
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import client_id
from trading_pipeline.domain.strategies import ExpressionAgent, Mode, PauseReason
from trading_pipeline.errors import Conflict, StrategyError
from trading_pipeline.service import controls
from trading_pipeline.service.judging.breakers import review
from trading_pipeline.service.judging.causes import book_of
from trading_pipeline.service.timetable import due_cycles

E, D = EventType, Decimal


# Orders an hour, D15


def test_too_many_orders_pause_until_the_hour_has_room_and_no_longer(tmp_path):
    """37, D15: two orders, of 10:50:01 and 10:52:01; the clock hour has room at 11:00, the sliding one at 11:50:01."""
    at_once = StrategyLimits(max_orders_per_hour=2, cool_off=None, revenge_wait=None)
    spec = strategy(**MINUTES, agent=ExpressionAgent(ALWAYS, ALWAYS), limits=at_once)
    stage = floor(tmp_path, minute_bars(), at(10, 50, 1), spec)
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 52, 1)).cycle(Interval.MIN1)
    assert [row["submitted_at"] for row in stage.rows("orders", order_by="submitted_at")] == [at(10, 50, 1), at(10, 52, 1)]
    stage.go(at(10, 53, 1)).cycle(Interval.MIN1)
    event = stage.events(E.STRATEGY_PAUSED)[-1]
    assert (paused(stage), event.payload["measured"], event.payload["limit"]) == (("paused_risk", "rate"), "2", "below 2")
    with pytest.raises(StrategyError, match="2 orders within the hour"):
        controls.resume(stage.desk, "buyer", actor=PERSON)
    for clock in (at(11, 0, 1), at(11, 50, 0.999)):
        stage.go(clock)
        assert (review(stage.desk), paused(stage)) == ([], ("paused_risk", "rate"))
    stage.restarted().go(at(11, 50, 1))
    assert [cycle.interval for cycle in due_cycles(stage.desk)] == [Interval.MIN1], "somebody looks, though nobody runs"
    stage.cycle(Interval.MIN1)
    event = stage.events(E.STRATEGY_RESUMED)[-1]
    assert (states(stage), event.actor, event.payload["cleared"]) == ({"buyer": "running"}, "desk", "rate")
    assert len(stage.rows("orders")) == 3, "it takes part in the very cycle that saw it"


# Data


def test_stale_data_pause_and_fresh_ones_let_go_on(tmp_path):
    """73, fault 51: no bar from 10:05 to 10:14; at 10:07:01 the newest is 2 bars behind, at 10:08:01 it is 3."""
    gone = [at(10, minute) for minute in range(5, 15)]
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, without=gone))
    stage = floor(tmp_path, source, at(10, 4, 1), strategy(**MINUTES))
    stage.cycle(Interval.MIN1)
    for minute, state in ((5, "running"), (7, "running"), (8, "paused_risk"), (14, "paused_risk")):
        stage.go(at(10, minute, 1)).cycle(Interval.MIN1)
        assert states(stage) == {"buyer": state}
    event = stage.events(E.STRATEGY_PAUSED)[-1]
    assert (event.payload["measured"], event.payload["limit"]) == ("3 bars behind", "at most 2")
    assert event.payload["reason"] == "data: the data are 3 bars behind: of AAPL the newest closed at 2024-08-28 14:05 UTC"
    stage.restarted().go(at(10, 16, 1)).cycle(Interval.MIN1)
    assert states(stage) == {"buyer": "running"}


def test_a_feed_that_repeats_its_last_price_pauses_until_somebody_trades_again(tmp_path):
    """73, fault 51: no share trades from 10:05 to 10:19, and every minute has its bar; the tenth of them closes at 10:15."""
    silent = {at(10, minute): 0.0 for minute in range(5, 20)}
    spec = strategy(**MINUTES)
    stage = floor(tmp_path, minute_bars(volumes=silent), at(10, 4, 1), spec)
    stage.cycle(Interval.MIN1)
    for minute, state in ((8, "running"), (14, "running"), (15, "paused_risk"), (20, "paused_risk"), (21, "running")):
        stage.go(at(10, minute, 1)).cycle(Interval.MIN1)
        stage.go(at(10, minute, 2))
        review(stage.desk)
        assert states(stage) == {"buyer": state}, minute
    event = stage.events(E.STRATEGY_PAUSED)[-1]
    assert (event.payload["measured"], event.payload["limit"]) == ("10 bars and more at one price, without volume", "below 10")
    assert event.payload["reason"].endswith("of AAPL, up to 2024-08-28 14:15 UTC")


@pytest.mark.parametrize("price", [(100.0, 100.01, 100.0, 100.0), (99.0, 99.0, 99.0, 99.0)])
def test_prices_that_move_without_volume_are_a_sources_way_and_no_frozen_feed(tmp_path, price):
    """73, fault 51: some sources state no volume at all."""
    silent = {at(10, minute): 0.0 for minute in range(5, 20)}
    stage = floor(tmp_path, minute_bars(volumes=silent, at={at(10, 12): price}), at(10, 4, 1), strategy(**MINUTES))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 16, 1)).cycle(Interval.MIN1)
    assert states(stage) == {"buyer": "running"}


def test_one_stale_symbol_of_several_is_the_rulebooks_business(tmp_path):
    first, last = date(2024, 8, 27), DAY
    gone = [at(10, minute) for minute in range(5, 30)]
    source = market(bars("AAPL", Interval.MIN1, first, last, without=gone), bars("IBM", Interval.MIN1, first, last))
    stage = floor(tmp_path, source, at(10, 4, 1), strategy(symbols=("AAPL", "IBM"), **MINUTES))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 20, 1)).cycle(Interval.MIN1)
    assert states(stage) == {"buyer": "running"}


# Rejections


def test_a_person_who_looked_at_five_rejections_begins_to_count_anew(tmp_path):
    """43."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    for minute in range(0, 14, 2):
        stage.go(at(10, minute, 1))
        name = client_id(action_id("buyer", f"1min@2024-08-28T14:{minute:02}Z", "AAPL"), "entry")
        stage.faults.on_submit(name, Refuse("no"))
        stage.cycle(Interval.MIN1)
        if minute == 8:
            review(stage.desk)
            assert paused(stage) == ("paused_risk", "rejects")
            assert (review(stage.desk), paused(stage.restarted())) == ([], ("paused_risk", "rejects")), "not by itself"
            controls.resume(stage.desk, "buyer", actor=PERSON)
    assert states(stage) == {"buyer": "running"}
    assert [row["state"] for row in stage.rows("orders")] == ["rejected"] * 7
    assert book_of(stage.desk, stage.desk.ledger).track.rejects == {"buyer": 2}


def test_rejections_in_a_row_are_counted_over_days_and_a_pair_once(tmp_path):
    """43: a daily strategy sends one order a day; a stop and the target that it pairs with are one."""
    stage = floor(tmp_path, market(bars()), at(9, 30, day=date(2024, 8, 20)), strategy())
    stage.faults.on_every_submit(Refuse("not today"))
    for session in stage.desk.calendar.between(date(2024, 8, 20), date(2024, 8, 30)):
        stage.go(session.open).cycle()
    assert paused(stage) == ("paused_risk", "rejects")
    assert len(stage.rows("orders", state="rejected")) == 5


def test_an_order_that_was_taken_in_between_ends_the_row(tmp_path):
    """43: four refused, one taken, and again from the start; also of one instant."""
    spec = strategy(symbols=("AAPL", "IBM"), agent=ExpressionAgent(ALWAYS))
    stage = floor(tmp_path, market(bars(), bars("IBM")), at(9, 30, day=date(2024, 8, 20)), spec)
    for day in (20, 21):
        stage.faults.on_every_submit(Refuse("not today"))
        stage.go(at(9, 30, day=date(2024, 8, day))).cycle()
    assert len(stage.rows("orders", state="rejected")) == book_of(stage.desk, stage.desk.ledger).track.rejects["buyer"] >= 2
    stage.faults.on_every_submit()
    stage.go(at(9, 30, day=date(2024, 8, 22))).cycle()
    assert [row["state"] for row in stage.rows("orders", order_by="intent_seq")][-1] == "filled"
    assert book_of(stage.desk, stage.desk.ledger).track.rejects == {}


# The broker


def unready(stage, times=1):
    stage.faults.on_call(Call.POSITIONS, *[NotReady()] * times)


def test_the_third_error_of_the_broker_in_a_row_makes_strategies_not_ready(tmp_path):
    """21."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(mode=Mode.APPROVAL, **MINUTES))
    stage.cycle(Interval.MIN1)
    unready(stage, 2)
    assert (review(stage.desk), review(stage.restarted().desk), states(stage)) == ([], [], {"buyer": "running"})
    unready(stage)
    [said] = review(stage.desk)
    event = stage.events(E.STRATEGY_NOT_READY)[-1]
    assert (paused(stage), event.payload["measured"]) == (("not_ready", "session"), "3 errors in a row")
    assert said.startswith("buyer is not ready: ")
    assert stage.row("approvals")["state"] == "voided"


def test_an_answer_in_between_begins_the_count_anew(tmp_path):
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    for _ in range(3):
        unready(stage, 2)
        for _ in range(3):
            review(stage.desk)
    assert states(stage) == {"buyer": "running"}


@pytest.mark.parametrize(("away", "autonomous"), [(timedelta(minutes=14, seconds=59), "running"), (timedelta(minutes=15), "paused_user")])
def test_once_the_broker_answers_a_strategy_that_trades_alone_goes_on_within_a_quarter_of_an_hour(tmp_path, away, autonomous):
    """3.3: one whose proposals a person decides goes on in any case."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy("alone", **MINUTES), strategy("asks", mode=Mode.APPROVAL, **MINUTES))
    unready(stage, 3)
    for _ in range(3):
        review(stage.desk)
    assert states(stage) == {"alone": "not_ready", "asks": "not_ready"}
    stage.go(stage.desk.now() + away)
    review(stage.restarted().desk)
    assert states(stage) == {"alone": autonomous, "asks": "running"}


def test_not_ready_lasts_while_book_and_broker_disagree(tmp_path):
    """21, 27: the broker answers again, at first as if nothing were held."""
    stage = holding(tmp_path)
    unready(stage, 3)
    for _ in range(3):
        review(stage.desk)
    stage.faults.on_call(Call.POSITIONS, None, Empty(), Empty())
    assert (review(stage.desk), states(stage)) == ([], {"buyer": "not_ready"})
    assert (len(review(stage.desk)), states(stage)) == (1, {"buyer": "running"})


def test_a_start_that_failed_is_a_persons_to_repeat(tmp_path):
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1))
    controls.create(stage.desk, strategy(**MINUTES), actor=PERSON)
    unready(stage, 2)
    controls.start(stage.desk, "buyer", actor=PERSON)
    assert states(stage) == {"buyer": "not_ready"}
    assert (review(stage.desk), states(stage)) == ([], {"buyer": "not_ready"})


# Whoever looks


def test_a_pause_cancels_and_voids_like_a_persons(tmp_path):
    """57, D10."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(mode=Mode.APPROVAL, **MINUTES))
    stage.cycle(Interval.MIN1)
    assert controls.pause_by_itself(stage.desk, "buyer", PauseReason.BUDGET, "spent")
    assert stage.row("approvals")["state"] == "voided"
    assert not controls.pause_by_itself(stage.desk, "buyer", PauseReason.BUDGET, "spent"), "it does not run any more"


def test_however_many_look_a_strategy_pauses_once(tmp_path):
    stage = holding(tmp_path, limits=AccountLimits(max_day_loss=FEES))
    with ThreadPoolExecutor(8) as pool:
        said = [each for told in pool.map(lambda _: review(stage.desk), range(24)) for each in told]
    assert (len(said), len(stage.events(E.STRATEGY_PAUSED))) == (1, 1)
    assert stage.verifies()


def test_nothing_is_reviewed_while_the_market_is_closed(tmp_path):
    stage = holding(tmp_path, limits=AccountLimits(max_day_loss=FEES))
    stage.go(at(16, 0, 1))
    assert (review(stage.desk), states(stage)) == ([], {"buyer": "running"})


@pytest.mark.parametrize("why", [PauseReason.LOSS, PauseReason.REJECTS, PauseReason.MODEL, PauseReason.RUN_FAILED])
def test_what_a_person_must_look_at_never_clears_by_itself(tmp_path, why):
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    controls.pause_by_itself(stage.desk, "buyer", why, "as it is")
    for clock in (at(10, 1, 1), at(15, 0), at(9, 31, 1, day=date(2024, 8, 29))):
        stage.go(clock)
        assert (review(stage.desk), paused(stage)) == ([], ("paused_risk", why.value))


# What a person must look at counts also while a strategy waits


def waiting(tmp_path, why=None, **options):
    """50 shares bought at 10:00, worth $100, $90 from 10:05 to 10:20, $100 again; it waits for what clears, or else for the broker."""
    first, last = date(2024, 8, 27), date(2024, 8, 29)
    fell = {at(10, minute): (90.0,) * 4 for minute in range(5, 20)}
    limits = options.pop("limits", AccountLimits(max_day_loss=D(500)))
    stage = holding(tmp_path, market(bars("AAPL", Interval.MIN1, first, last, at=fell)), limits=limits)
    if why is None:
        unready(stage, 3)
        for _ in range(3):
            review(stage.desk)
    else:
        controls.pause_by_itself(stage.desk, "buyer", why, "for now")
    return stage


@pytest.mark.parametrize(("why", "state"), [(PauseReason.RATE, "paused_risk"), (PauseReason.DATA, "paused_risk"), (None, "not_ready")])
def test_a_loss_at_its_limit_while_a_strategy_waits_is_a_persons_to_end(tmp_path, why, state):
    """36, 54, D12: $1,000 lost at 10:07 and won back by 10:25; not even the next morning does it go on."""
    stage = waiting(tmp_path, why)
    assert states(stage) == {"buyer": state}
    [said] = review(stage.go(at(10, 7, 1)).desk)
    assert said.startswith("buyer paused: the account lost $502.50 today")
    assert (paused(stage), stage.events(E.STRATEGY_PAUSED)[-1].payload["measured"]) == (("paused_risk", "loss"), "$502.50")
    for clock in (at(10, 25), at(15, 0), at(9, 31, 1, day=date(2024, 8, 29))):
        assert (review(stage.go(clock).desk), paused(stage)) == ([], ("paused_risk", "loss"))
    assert stage.verifies()


@pytest.mark.parametrize("why", [PauseReason.RUN_FAILED, PauseReason.MODEL, PauseReason.REJECTS])
def test_what_a_person_must_look_at_holds_a_strategy_that_would_have_gone_on_by_itself(tmp_path, why):
    """54, 64, D12."""
    stage = waiting(tmp_path, PauseReason.RATE)
    assert controls.pause_by_itself(stage.desk, "buyer", why, "as it is")
    assert (review(stage.go(at(10, 1, 1)).desk), paused(stage)) == ([], ("paused_risk", why.value))


def test_what_clears_by_itself_does_not_take_the_place_of_what_does(tmp_path):
    stage = waiting(tmp_path, PauseReason.RATE)
    assert not controls.pause_by_itself(stage.desk, "buyer", PauseReason.DATA, "stale")
    assert paused(stage) == ("paused_risk", "rate")


@pytest.mark.parametrize("why", [PauseReason.RUN_FAILED, PauseReason.MODEL])
def test_what_a_person_must_look_at_is_not_cleared_by_a_review_that_began_before(tmp_path, why):
    """49, 54, D12: it had seen another pause; between its look and its word the broker is asked."""
    stage = waiting(tmp_path, PauseReason.RATE)
    stage.go(at(10, 1, 1))

    class Meanwhile:
        def __getattr__(self, name):
            if name == "positions" and paused(stage)[1] == "rate":
                calls.append(name)
                if len(calls) == 2:
                    assert controls.pause_by_itself(stage.desk, "buyer", why, "meanwhile")
            return getattr(stage.desk.broker, name)

    calls: list[str] = []
    assert review(replace(stage.desk, broker=Meanwhile())) == []
    assert (len(calls), paused(stage)) == (2, ("paused_risk", why.value))


@pytest.mark.parametrize("why", [PauseReason.RATE, PauseReason.BUDGET])
def test_a_person_pauses_what_would_go_on_by_itself(tmp_path, why):
    """D10: then only a person lets it go on."""
    stage = waiting(tmp_path, why)
    controls.pause(stage.desk, "buyer", actor=PERSON)
    assert (review(stage.go(at(10, 1, 1)).desk), states(stage)) == ([], {"buyer": "paused_user"})
    controls.resume(stage.desk, "buyer", actor=PERSON)
    assert states(stage) == {"buyer": "running"}


def test_what_waits_for_a_person_needs_no_other_pause(tmp_path):
    """64, D10: another reason would hide the one it has."""
    stage = waiting(tmp_path, PauseReason.MODEL)
    with pytest.raises(Conflict, match="waits for a person already"):
        controls.pause(stage.desk, "buyer", actor=PERSON)
    assert paused(stage) == ("paused_risk", "model")


# Volatility, D13


WIDE = {at(9, 30, day=date(2024, 8, day)): (100.0, 103.0, 97.0, 100.0) for day in (21, 22, 23, 26, 27)}


def test_a_volatile_symbol_is_not_entered_and_is_left(tmp_path):
    """40, D13: six dollars of range each day for a week, after months without any; X and P pass, and another process judges the same."""
    first = date(2024, 3, 1)
    other = bars("IBM", first=first)
    calm, wide = market(bars("AAPL", first=first), other), market(bars("AAPL", first=first, at=WIDE), other)
    stage = floor(tmp_path, calm, at(9, 30, day=date(2024, 8, 20)), strategy("leaves"))
    stage.cycle()
    assert stage.row("positions")["quantity"] == 50
    stage = stage.restarted(market=wide).go(OPEN)
    controls.revise(stage.desk, strategy("leaves", agent=ExpressionAgent("close < 0", ALWAYS)), actor=PERSON)
    seq = stage.desk.ledger.head()[0]
    stage.run(strategy("enters", symbols=("AAPL", "IBM"))).cycle()
    verdicts = {
        (event.payload["strategy"], event.payload["symbol"]): verdict
        for event in stage.desk.ledger.events(after=seq, types=(E.RISK_EVALUATED,))
        for verdict in event.payload["verdicts"]
        if verdict["rule"] == "volatility"
    }
    entry, quiet, exit_ = verdicts["enters", "AAPL"], verdicts["enters", "IBM"], verdicts["leaves", "AAPL"]
    # Six dollars, against a usual range below a cent: 600 times a cent of $100.
    assert (entry["outcome"], entry["measured"], entry["limit"]) == ("deny", "600.00 times", "below 3 times its usual range")
    assert entry["detail"] == "tripped by the bar of 2024-08-21 20:00 UTC"
    assert (quiet["outcome"], quiet["measured"], exit_["outcome"]) == ("allow", "0.00 times", "exempt")
    stage.restarted().go(OPEN + timedelta(seconds=2)).release()
    assert stage.row("positions", strategy="leaves")["quantity"] == 0
    assert stage.rows("positions", strategy="enters", symbol="AAPL") == []
