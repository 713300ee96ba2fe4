"""Discipline after losses, from fills to verdicts (F5), and the cooldowns of D3 and D4 across restarts: facts of the ledger alone."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import ALWAYS, DAY, PERSON, at, bars, floor, market, strategy
from tests.service.minutes import MINUTES, approved
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import OrderClass, OrderIntent, OrderType, Side
from trading_pipeline.domain.rulebook import judge
from trading_pipeline.domain.strategies import ExpressionAgent, Mode
from trading_pipeline.errors import Conflict, UnknownName
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.judging.book import Book
from trading_pipeline.service.judging.outside import look

E, D = EventType, Decimal
FLIPS = ExpressionAgent(ALWAYS, ALWAYS)
"""Buys when flat, sells when not: at one price a round trip of 50 loses $5.00, $0.03 a share each way and a commission of $1."""
RISES = {at(10, minute): (110.0,) * 4 for minute in range(37, 60)} | {at(11, minute): (110.0,) * 4 for minute in range(60)}


def flipping(tmp_path, prices=None, **limits):
    """One order a minute from 10:00:01 on."""
    source = market(bars("AAPL", Interval.MIN1, date(2024, 8, 27), DAY, at=prices or {}))
    own = StrategyLimits(**{"max_orders_per_hour": 60, "revenge_wait": None} | limits)
    return floor(tmp_path, source, at(10, 0, 1), strategy(**MINUTES, agent=FLIPS, limits=own))


def trade(stage, *minutes):
    for minute in minutes:
        stage.go(at(10, minute, 1)).cycle(Interval.MIN1)
    return stage


def told(stage, rule):
    """The newest verdict of a rule on an entry."""
    return next(
        verdict
        for event in reversed(stage.events(E.RISK_EVALUATED))
        if event.payload["side"] == "buy"
        for verdict in event.payload["verdicts"]
        if verdict["rule"] == rule
    )


def test_after_three_losing_round_trips_in_a_row_nothing_is_entered_for_half_an_hour(tmp_path):
    """The third closes at 10:05:01; exactly half an hour later it is over."""
    stage = trade(flipping(tmp_path), 0, 1, 2, 3, 4)
    assert told(stage, "cool_off")["measured"] == "2 losing round trips in a row"
    trade(stage, 5, 6)
    assert stage.denials() == ["cool_off"]
    verdict = told(stage, "cool_off")
    assert (verdict["measured"], verdict["limit"], verdict["detail"]) == (
        "60.000 s", "1800.000 s", "after 3 losing round trips in a row",
    )
    trade(stage.restarted(), 34)
    assert stage.denials() == ["cool_off", "cool_off"]
    trade(stage.restarted(), 35)
    assert (told(stage, "cool_off")["measured"], stage.denials()) == ("1800.000 s", ["cool_off", "cool_off"])
    assert stage.verifies()


def test_then_entries_are_half_as_large_until_one_wins(tmp_path):
    """5 % of $99,985 is 49 shares, of which it buys 24, sold at $110; then 5 % of $100,221 at $110 again."""
    stage = trade(flipping(tmp_path, RISES), 0, 1, 2, 3, 4, 5, 35)
    assert [row["quantity"] for row in stage.rows("orders", side="buy", order_by="submitted_at")] == [50, 49, 49, 24]
    verdict = told(stage, "recovery_size")
    assert (verdict["outcome"], verdict["limit"]) == ("allow", "$5,000.00")
    assert verdict["detail"] == "50.00% of $10,000.00: no round trip has won since 3 in a row lost"
    trade(stage, 38, 39)
    assert [row["quantity"] for row in stage.rows("orders", side="buy", order_by="submitted_at")] == [50, 49, 49, 24, 45]
    assert told(stage, "recovery_size")["detail"] == "not recovering"


def test_the_next_session_begins_without_a_streak(tmp_path):
    source = market(bars("AAPL", Interval.MIN1, date(2024, 8, 27), date(2024, 8, 29)))
    stage = floor(
        tmp_path, source, at(15, 50, 1), strategy(**MINUTES, agent=FLIPS, limits=StrategyLimits(max_orders_per_hour=60, revenge_wait=None)),
    )
    for minute in range(50, 57):
        stage.go(at(15, minute, 1)).cycle(Interval.MIN1)
    assert stage.denials() == ["cool_off"]
    stage.go(at(9, 31, 1, day=date(2024, 8, 29))).cycle(Interval.MIN1)
    assert stage.denials() == ["cool_off"]
    assert [row["quantity"] for row in stage.rows("orders", side="buy", order_by="submitted_at")] == [50, 49, 49, 49]


def test_one_strategys_losses_are_none_of_anothers(tmp_path):
    source = market(*(bars(symbol, Interval.MIN1, date(2024, 8, 27), DAY) for symbol in ("AAPL", "IBM")))
    limits = StrategyLimits(max_orders_per_hour=60, revenge_wait=None)
    other = strategy("other", symbols=("IBM",), **MINUTES, agent=ExpressionAgent("close < 0"), limits=limits)
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(**MINUTES, agent=FLIPS, limits=limits), other)
    trade(stage, 0, 1, 2, 3, 4, 5)
    controls.revise(stage.desk, replace(other, agent=FLIPS), actor=PERSON)
    trade(stage, 6)
    stage.go(at(10, 6, 3)).release()
    assert stage.denials() == ["cool_off"]
    assert stage.row("positions", strategy="other")["quantity"] == 49


def test_nobody_goes_back_into_a_symbol_for_half_an_hour_after_selling_it_at_a_loss(tmp_path):
    source = market(*(bars(symbol, Interval.MIN1, date(2024, 8, 27), DAY) for symbol in ("AAPL", "IBM")))
    limits = StrategyLimits(max_orders_per_hour=60)
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(**MINUTES, agent=FLIPS, limits=limits))
    trade(stage, 0, 1, 2)
    assert stage.denials() == ["revenge_entry"]
    assert (told(stage, "revenge_entry")["measured"], told(stage, "revenge_entry")["limit"]) == ("60.000 s", "1800.000 s")
    other = strategy(**MINUTES, symbols=("IBM",), agent=FLIPS, limits=limits)
    controls.revise(stage.desk, other, actor=PERSON, confirmed=["symbols by IBM"])
    trade(stage.restarted(), 3)
    assert stage.denials() == ["revenge_entry"], "another symbol is no revenge"
    controls.revise(stage.desk, strategy(**MINUTES, agent=FLIPS, limits=limits), actor=PERSON, confirmed=["symbols by AAPL"])
    trade(stage.restarted(), 30, 31)
    assert stage.denials() == ["revenge_entry", "revenge_entry"]
    assert stage.row("positions", symbol="AAPL")["quantity"] == 49, "at 10:31:01, half an hour after the sale"


def test_each_rule_can_be_switched_off(tmp_path):
    stage = trade(flipping(tmp_path, cool_off=None, recovery_size=None), *range(10))
    assert stage.denials() == []
    assert {told(stage, rule)["measured"] for rule in ("cool_off", "recovery_size", "revenge_entry")} == {"off"}


@pytest.mark.parametrize("changes", [
    {"losing_streak": 4}, {"cool_off": timedelta(minutes=29)}, {"cool_off": None}, {"recovery_size": D("0.51")}, {"recovery_size": None},
    {"revenge_wait": timedelta(minutes=29)}, {"revenge_wait": None},
])
def test_less_discipline_is_a_loosening(changes):
    """D17: in both directions."""
    strict, lax = strategy(), strategy(limits=StrategyLimits(**changes))
    [name] = changes
    [found] = controls.loosened_limits(strict, lax)
    assert found.startswith(f"{name} from ")
    assert controls.loosened_limits(lax, strict) == []


# Row 56: cooldown and duplicate to the millisecond, across a restart and across strategies


def asked(strategy_name="buyer", side=Side.BUY):
    entry = side is Side.BUY
    return OrderIntent(
        "other-action", "entry" if entry else "exit", "PAPER-1", "demo", strategy_name, "AAPL", side,
        OrderClass.ENTRY if entry else OrderClass.EXIT, 10, OrderType.MARKETABLE, D(100), D("102.00") if entry else D("98.00"),
    )


def stopped_by(stage, intent):
    """The rules of time that would stop an order now, by a process that has just started."""
    again = stage.restarted()
    spec = strategy(intent.strategy, **MINUTES)
    book = Book.read(again.desk, again.desk.ledger, look(again.desk, again.desk.ledger, ["AAPL"], Interval.MIN1))
    found = {verdict.rule for verdict in judge(intent, book.context(spec, intent, release=None)).denials}
    return found & {"cooldown", "duplicate_action"}


@pytest.mark.parametrize(("after", "stopped"), [
    (29.999, {"cooldown", "duplicate_action"}), (30, {"duplicate_action"}), (59.999, {"duplicate_action"}), (60, set()),
])
def test_cooldown_and_duplicate_hold_to_the_millisecond_across_a_restart(tmp_path, after, stopped):
    """Row 56: the action and its order are of 10:00:01."""
    source = market(bars("AAPL", Interval.MIN1, date(2024, 8, 27), DAY))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(**MINUTES), strategy("other", **MINUTES, agent=ExpressionAgent("close < 0")))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 1 + after))
    assert stopped_by(stage, asked()) == stopped
    assert stopped_by(stage, asked(side=Side.SELL)) == stopped & {"cooldown"}, "the other side is no duplicate"
    assert stopped_by(stage, asked("other")) == set(), "another strategy is not held back (D3)"


# Row 59: limits tightened while a person is asked


@pytest.mark.parametrize("level", ["account", "strategy", "discipline"])
def test_limits_that_tighten_while_a_proposal_waits_void_it(tmp_path, level):
    """48, D17, fault 59: row 59, 48, D17."""
    source = market(bars("AAPL", Interval.MIN1, date(2024, 8, 27), DAY))
    spec = strategy(**MINUTES, mode=Mode.APPROVAL)
    stage = floor(tmp_path, source, at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    name = stage.row("approvals", state="pending")["action_id"]
    if level == "account":
        stage = stage.restarted(limits=AccountLimits(max_day_loss=D(900)))
        stage.go(at(10, 0, 5)).release()
    else:
        tighter = {"cool_off": timedelta(hours=1)} if level == "discipline" else {"max_day_loss": D(900)}
        controls.revise(stage.desk, replace(spec, limits=StrategyLimits(**tighter)), actor=PERSON)
    assert stage.row("approvals", action_id=name)["state"] == "voided"
    with pytest.raises((Conflict, UnknownName)):
        approvals.approve(stage.desk, name, actor=PERSON)
    stage.go(at(10, 0, 10)).release()
    assert stage.rows("orders") == []
    stage.go(at(10, 2, 1)).cycle(Interval.MIN1)
    assert approved(stage) != name, "the next proposal is judged under the new ones"
