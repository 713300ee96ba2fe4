"""36: the day's loss: what counts as one, that strategies pause at the limit, and that nothing goes on until a person grants more (D12)."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import DAY, OPEN, PERSON, at, bars, floor, market, strategy
from tests.service.minutes import MINUTES, minute_bars
from tests.service.pauses import FEES, holding, paused, states
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.strategies import ExpressionAgent
from trading_pipeline.errors import Conflict, InputError, PermissionRequired, StrategyError, UnknownName
from trading_pipeline.service import controls
from trading_pipeline.service.grants import grant_loss
from trading_pipeline.service.judging.breakers import review
from trading_pipeline.service.judging.causes import book_of
from trading_pipeline.service.submitter.closing import close_session

E, D = EventType, Decimal


def falling(price):
    """Minutes at $100 until 10:05, at another price from then on."""
    first, last = date(2024, 8, 27), date(2024, 8, 29)
    moved = {at(10, minute): (price,) * 4 for minute in range(5, 60)}
    return market(bars("AAPL", Interval.MIN1, first, last, at=moved))


# The day's loss, D12


@pytest.mark.parametrize(("limit", "state"), [("2.51", "running"), ("2.50", "paused_risk")])
def test_fees_alone_reach_the_limit_and_equality_pauses(tmp_path, limit, state):
    """36, D12, fault 53: by fee, at equality."""
    stage = holding(tmp_path, limits=AccountLimits(max_day_loss=D(limit)))
    assert book_of(stage.desk, stage.desk.ledger).day_pnl == -FEES
    review(stage.desk)
    assert states(stage) == {"buyer": state}


@pytest.mark.parametrize(("limit", "state"), [("502.51", "running"), ("502.50", "paused_risk")])
@pytest.mark.parametrize("level", ["account", "strategy"])
def test_an_open_loss_reaches_the_limit_of_the_account_or_of_the_strategy(tmp_path, limit, state, level):
    """36, D12, fault 53: by an unrealised move, of $10 on 50 shares."""
    loss = {"max_day_loss": D(limit)}
    spec = strategy(**MINUTES, limits=StrategyLimits(**(loss if level == "strategy" else {})))
    stage = holding(tmp_path, falling(90.0), spec, limits=AccountLimits(**(loss if level == "account" else {})))
    stage.go(at(10, 5, 1))
    review(stage.desk)
    assert states(stage) == {"buyer": state}
    if state == "paused_risk":
        event = stage.events(E.STRATEGY_PAUSED)[-1]
        assert (event.payload["measured"], event.payload["limit"], event.actor) == ("$502.50", "below $502.50", "desk")
        option = "" if level == "account" else " --strategy buyer"
        assert f"`trading limits grant AMOUNT{option}`" in event.payload["reason"]


@pytest.mark.parametrize("amount", ["5000", "-5000"])
def test_money_paid_in_or_out_is_neither_a_gain_nor_a_loss(tmp_path, amount):
    """30, fault 53: by deposit."""
    stage = holding(tmp_path, limits=AccountLimits(max_day_loss=FEES))
    payload = {"account": "PAPER-1", "amount": D(amount), "source": "bank"}
    with stage.desk.ledger.transaction() as tx:
        tx.append(NewEvent(E.ACCOUNT_FUNDED, "account", "account.funded:again", payload, stage.desk.now(), "broker:paper"))
    book = book_of(stage.desk, stage.desk.ledger)
    assert (book.day_pnl, book.portfolio.equity) == (-FEES, D(100_000) - FEES + D(amount))
    review(stage.desk)
    assert states(stage) == {"buyer": "paused_risk"}


def test_money_paid_in_between_sessions_is_none_of_the_next_days_profit(tmp_path):
    """30: the baseline is the last close, the deposit came after it."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.cycle()
    stage.go(at(16, 5))
    close_session(stage.desk, stage.desk.calendar.session(DAY))
    payload = {"account": "PAPER-1", "amount": D(700), "source": "bank"}
    with stage.desk.ledger.transaction() as tx:
        tx.append(NewEvent(E.ACCOUNT_FUNDED, "account", "account.funded:again", payload, stage.desk.now(), "broker:paper"))
    stage.go(OPEN + timedelta(days=1)).cycle()
    assert book_of(stage.desk, stage.desk.ledger).day_pnl == 0


def test_after_a_restart_it_is_still_paused_on_the_same_baseline(tmp_path):
    """30, 36, fault 54: row 54."""
    stage = holding(tmp_path, falling(90.0), limits=AccountLimits(max_day_loss=D(500)))
    stage.go(at(10, 5, 1))
    review(stage.desk)
    baseline = stage.row("sessions")["baseline_equity"]
    again = stage.restarted().go(at(10, 9, 1))
    assert review(again.desk) == []
    assert (paused(again), again.row("sessions")["baseline_equity"]) == (("paused_risk", "loss"), baseline)
    again.cycle(Interval.MIN1)
    assert len(again.rows("orders")) == 1
    assert again.verifies()


def test_two_strategies_each_within_the_limit_pause_when_they_lose_too_much_together(tmp_path):
    """42, fault 55: for the day's loss: $2.50 each, $4 together."""
    first, last = date(2024, 8, 27), DAY
    source = market(bars("AAPL", Interval.MIN1, first, last), bars("IBM", Interval.MIN1, first, last))
    mine = StrategyLimits(max_day_loss=D(4))
    specs = strategy("one", **MINUTES, limits=mine), strategy("two", symbols=("IBM",), **MINUTES, limits=mine)
    stage = holding(tmp_path, source, *specs, limits=AccountLimits(max_day_loss=D(4)))
    stage.go(at(10, 0, 32)).release()
    stage.go(at(10, 1, 1))
    assert stage.desk.ledger.find("fills", strategy="two"), "the second was released after the account's gap"
    review(stage.desk)
    assert (paused(stage, "one"), paused(stage, "two")) == (("paused_risk", "loss"), ("paused_risk", "loss"))


@pytest.mark.parametrize("held", [False, True], ids=["purchase", "sale"])
def test_half_of_a_trade_that_is_booked_while_the_review_reads_is_no_loss(tmp_path, monkeypatch, held):
    """36: cash as it was before it, shares as they are after it; and no price was looked up for what was not held yet."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES, agent=ExpressionAgent("close > 0", "close > 0")))
    if held:
        stage.cycle(Interval.MIN1)
        stage.go(at(10, 1, 1))
    read = stage.desk.ledger.get

    def then_traded(table, key):
        row = read(table, key)
        if table == "cash":
            monkeypatch.undo()
            stage.cycle(Interval.MIN1)
        return row

    monkeypatch.setattr(stage.desk.ledger, "get", then_traded)
    assert review(stage.desk) == []
    assert states(stage) == {"buyer": "running"}


def test_one_strategys_limit_pauses_that_one_alone(tmp_path):
    first, last = date(2024, 8, 27), DAY
    source = market(bars("AAPL", Interval.MIN1, first, last), bars("IBM", Interval.MIN1, first, last))
    specs = strategy("one", **MINUTES, limits=StrategyLimits(max_day_loss=FEES)), strategy("two", symbols=("IBM",), **MINUTES)
    stage = holding(tmp_path, source, *specs)
    stage.go(at(10, 1, 1))
    review(stage.desk)
    assert states(stage) == {"one": "paused_risk", "two": "running"}


# A grant


@pytest.fixture
def lost(tmp_path):
    """Paused at a loss of $502.50, by the account's limit of $500."""
    stage = holding(tmp_path, falling(90.0), limits=AccountLimits(max_day_loss=D(500)))
    stage.go(at(10, 5, 1))
    review(stage.desk)
    return stage


def test_nothing_goes_on_after_a_loss_until_a_person_grants_more_and_resumes(lost):
    """D12: never automatic."""
    with pytest.raises(StrategyError, match=r"cannot resume: the account lost \$502\.50 today, of at most \$500\.00"):
        controls.resume(lost.desk, "buyer", actor=PERSON)
    grant_loss(lost.desk, D("2.50"), actor=PERSON, confirmed=D("2.50"))
    with pytest.raises(StrategyError, match="cannot resume"):
        controls.resume(lost.desk, "buyer", actor=PERSON)
    grant_loss(lost.desk, D("0.01"), actor=PERSON, confirmed=D("0.01"))
    assert [(row["scope"], row["amount"]) for row in lost.rows("grants")] == [("account", D("2.51"))]
    assert (review(lost.desk), paused(lost)) == ([], ("paused_risk", "loss")), "a grant lets nothing go on"
    controls.resume(lost.desk, "buyer", actor=PERSON)
    again = lost.restarted()
    assert (review(again.desk), states(again)) == ([], {"buyer": "running"})
    assert again.verifies()


def test_a_grant_is_for_one_session_and_one_level(lost):
    grant_loss(lost.desk, D(400), strategy="buyer", actor=PERSON, confirmed=D(400))
    with pytest.raises(StrategyError, match="cannot resume: the account lost"):
        controls.resume(lost.desk, "buyer", actor=PERSON)
    grant_loss(lost.desk, D(400), actor=PERSON, confirmed=D(400))
    book = book_of(lost.desk, lost.desk.ledger)
    assert book.granted == {"account": D(400), "strategy:buyer": D(400)}
    lost.go(at(10, 0, 1, day=date(2024, 8, 29)))
    assert book_of(lost.desk, lost.desk.ledger).granted == {}


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "Infinity", "0.001"])
def test_only_an_amount_is_granted(lost, amount):
    with pytest.raises(InputError, match="is no amount to grant"):
        grant_loss(lost.desk, D(amount), actor=PERSON, confirmed=D(amount))


def test_only_a_person_who_typed_it_again_grants(lost):
    """49: nothing of the pipeline can."""
    for actor, confirmed in ((PERSON, None), (PERSON, D(50)), ("desk", D(500)), ("demo:person", D(500)), ("user: ", D(500))):
        with pytest.raises(PermissionRequired):
            grant_loss(lost.desk, D(500), actor=actor, confirmed=confirmed)
    with pytest.raises(UnknownName):
        grant_loss(lost.desk, D(500), strategy="byuer", actor=PERSON, confirmed=D(500))
    assert lost.rows("grants") == []


def test_nothing_is_granted_while_the_market_is_closed(lost):
    lost.go(at(16, 0, 1))
    with pytest.raises(Conflict, match="No session is open"):
        grant_loss(lost.desk, D(500), actor=PERSON, confirmed=D(500))
