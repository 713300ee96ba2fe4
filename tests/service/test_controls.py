"""Controls: create, start, pause, resume, finish, revise; and the pause that a failed run brings."""

import hashlib
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from importlib.metadata import version

import pytest

from tests.desks import ALWAYS, DAY, OPEN, PERSON, at, bars, calendar, floor, market, strategy
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import backfill
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode, PauseReason, StrategyState
from trading_pipeline.errors import Conflict, PermissionRequired, StrategyError, TradingError, UnknownName
from trading_pipeline.service import controls, queries
from trading_pipeline.service.steps import spec_of

E = EventType


@pytest.fixture
def stage(tmp_path):
    return floor(tmp_path, market(bars("AAPL"), bars("IBM")), OPEN)


def test_a_start_names_the_code_and_the_definition_it_starts(stage):
    """82."""
    controls.create(stage.desk, strategy(), actor=PERSON)
    controls.start(stage.desk, "buyer", actor=PERSON)
    [started] = stage.events(E.STRATEGY_STARTED)
    assert started.payload["version"] == version("trading-pipeline")
    assert started.payload["spec_digest"] == hashlib.sha256(stage.row("strategies")["spec"].encode()).hexdigest()


def test_a_strategy_is_created_as_a_draft_and_started_by_name(stage):
    spec = strategy(symbols=("AAPL", "IBM"))
    controls.create(stage.desk, spec, actor=PERSON)
    assert stage.row("strategies")["state"] == "draft"
    assert spec_of(stage.row("strategies")) == spec
    assert controls.start(stage.desk, "buyer", actor=PERSON) is StrategyState.RUNNING
    assert stage.types()[-3:] == ["strategy.created", "strategy.starting", "strategy.started"]


def test_a_name_is_used_once_for_good(stage):
    stage.run(strategy())
    controls.finish(stage.desk, "buyer", actor=PERSON)
    with pytest.raises(StrategyError, match="exists already"):
        controls.create(stage.desk, strategy(), actor=PERSON)


@pytest.mark.parametrize("changes", [{"symbols": ("NOPE",)}, {"interval": Interval.MIN1}])
def test_a_strategy_on_bars_that_do_not_exist_is_refused(stage, changes):
    with pytest.raises(UnknownName, match="There are no"):
        controls.create(stage.desk, strategy(**changes), actor=PERSON)
    assert stage.rows("strategies") == []


def test_a_strategy_does_not_start_while_book_and_broker_differ(stage):
    """27."""
    controls.create(stage.desk, strategy(), actor=PERSON)
    stage.broker.trade_by_hand("AAPL", Side.BUY, 3, Decimal(100))
    assert controls.start(stage.desk, "buyer", actor=PERSON) is StrategyState.NOT_READY
    assert stage.row("strategies")["reason"] == "AAPL: booked 0 shares, the broker states 3"
    stage.broker.trade_by_hand("AAPL", Side.SELL, 3, Decimal(100))
    assert controls.start(stage.desk, "buyer", actor=PERSON) is StrategyState.RUNNING


def test_a_pause_stops_entries_and_keeps_what_protects(tmp_path):
    """57, D10."""
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, volumes={at(9, 59): 200.0, at(10, 0): 0.0}))
    sizing = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN1, sizing=sizing))
    stage.cycle(Interval.MIN1)
    assert stage.row("orders", part="entry")["state"] == "partial"
    controls.pause(stage.desk, "buyer", actor=PERSON, reason="lunch")
    assert (stage.row("strategies")["state"], stage.row("strategies")["reason"]) == ("paused_user", "lunch")
    assert stage.row("orders", part="entry")["state"] == "canceled"
    assert stage.row("orders", part="stop-1")["state"] in ("accepted", "partial")
    assert stage.row("positions")["quantity"] == 20
    assert [order.ticket.order_type.value for order in stage.broker.orders()] == ["stop"]


def test_a_paused_strategy_resumes_and_a_running_one_cannot(stage):
    """57."""
    stage.run(strategy())
    with pytest.raises(Conflict):
        controls.resume(stage.desk, "buyer", actor=PERSON)
    controls.pause(stage.desk, "buyer", actor=PERSON)
    stage.broker.trade_by_hand("AAPL", Side.BUY, 3, Decimal(100))
    with pytest.raises(StrategyError, match="cannot resume"):
        controls.resume(stage.desk, "buyer", actor=PERSON)
    stage.broker.trade_by_hand("AAPL", Side.SELL, 3, Decimal(100))
    controls.resume(stage.desk, "buyer", actor=PERSON)
    assert stage.row("strategies")["state"] == "running"


def test_a_finished_strategy_is_history(stage):
    stage.run(strategy())
    controls.finish(stage.desk, "buyer", actor=PERSON)
    acts = (
        lambda: controls.pause(stage.desk, "buyer", actor=PERSON), lambda: controls.resume(stage.desk, "buyer", actor=PERSON),
        lambda: controls.finish(stage.desk, "buyer", actor=PERSON), lambda: controls.start(stage.desk, "buyer", actor=PERSON),
        lambda: controls.revise(stage.desk, strategy(), actor=PERSON),
    )
    for act in acts:
        with pytest.raises(TradingError):
            act()
    assert stage.row("strategies")["state"] == "finished"


def test_an_unknown_strategy_is_named_with_those_that_exist(stage):
    stage.run(strategy())
    for act in (controls.pause, controls.resume, controls.finish, controls.start):
        with pytest.raises(UnknownName, match="buyer"):
            act(stage.desk, "byuer", actor=PERSON)


LOOSER = [
    {"limits": StrategyLimits(max_position_value=Decimal(10_001))}, {"limits": StrategyLimits(max_day_loss=Decimal(1_001))},
    {"limits": StrategyLimits(max_orders_per_hour=11)}, {"limits": StrategyLimits(price_collar=Decimal("0.06"))},
    {"mode": Mode.AUTONOMOUS},
]


@pytest.mark.parametrize("changes", LOOSER, ids=lambda changes: next(iter(changes)))
def test_loosening_is_refused_unless_a_person_confirmed_it(stage, changes):
    """D17."""
    before = strategy(mode=Mode.APPROVAL)
    stage.run(before)
    after = replace(before, **changes)
    with pytest.raises(PermissionRequired, match="would loosen"):
        controls.revise(stage.desk, after, actor=PERSON)
    assert spec_of(stage.row("strategies")) == before
    loosened = controls.loosened_limits(before, after)
    revised = controls.revise(stage.desk, after, actor=PERSON, confirmed=loosened)
    assert revised.payload["loosened"] == loosened != []
    assert (spec_of(stage.row("strategies")), stage.row("strategies")["limits_version"]) == (after, 2)


def test_what_somebody_else_has_tightened_meanwhile_is_not_loosened_by_what_was_confirmed_before(stage):
    """D17: two people revise one strategy; the second was shown what it was before the first."""
    before = strategy(limits=StrategyLimits(max_day_loss=Decimal(900)))
    stage.run(before)
    after = replace(before, limits=StrategyLimits(max_day_loss=Decimal(950)))
    shown = controls.loosened_limits(before, after)
    tighter = replace(before, limits=StrategyLimits(max_day_loss=Decimal(100)))
    controls.revise(stage.desk, tighter, actor=PERSON)
    with pytest.raises(PermissionRequired, match="max_day_loss from 100 to 950"):
        controls.revise(stage.desk, after, actor=PERSON, confirmed=shown)
    assert spec_of(stage.row("strategies")) == tighter


STOPS = {"none": {}, "near": {"stop": Decimal("0.02")}, "far": {"stop": Decimal("0.50")}, "atr": {"atr_stop": Decimal(2)}}


@pytest.mark.parametrize(("old", "new", "found"), [
    ("near", "none", ["stop from 0.02 to off"]), ("near", "far", ["stop from 0.02 to 0.50"]), ("atr", "none", ["atr_stop from 2 to off"]),
    ("near", "atr", ["stop from 0.02 to off"]), ("none", "near", []), ("far", "near", []), ("near", "near", []),
])
def test_a_stop_that_is_farther_away_or_gone_is_a_loosening(old, new, found):
    """D17: every later entry would be held without it."""
    before, after = (strategy(sizing=FractionSizing(**STOPS[name])) for name in (old, new))
    assert controls.loosened_limits(before, after) == found


def test_a_strategy_that_trades_alone_cannot_be_content_with_less_confidence_unconfirmed(stage):
    stage.run(strategy())
    with pytest.raises(PermissionRequired, match=r"min_confidence from 0\.8 to 0\.79"):
        controls.revise(stage.desk, strategy(min_confidence=Decimal("0.79")), actor=PERSON)


def test_letting_a_person_decide_is_no_loosening_whatever_confidence_was_asked_before(stage):
    stage.run(strategy())
    asking = strategy(mode=Mode.APPROVAL, min_confidence=Decimal(0))
    assert controls.revise(stage.desk, asking, actor=PERSON).payload["loosened"] == []
    assert spec_of(stage.row("strategies")) == asking
    back = controls.loosened_limits(asking, strategy(min_confidence=Decimal(0)))
    assert back == ["mode from approval to autonomous"], "trading alone again is one"


def test_tightening_holds_at_once(stage):
    stage.run(strategy())
    tighter = replace(strategy(), limits=StrategyLimits(max_position_value=Decimal(4_000)))
    assert controls.revise(stage.desk, tighter, actor=PERSON).payload["loosened"] == []
    stage.cycle()
    assert stage.denials() == ["strategy_position"]


def test_a_failed_run_is_a_fact_and_pauses_what_it_traded_for(stage):
    stage.run(strategy("daily"), strategy("other", agent=ExpressionAgent(ALWAYS)))
    controls.pause(stage.desk, "other", actor=PERSON)
    due = stage.due()
    controls.record_failed_run(stage.desk, "0123456789abcdef", "cycle", "disk full", [due])
    controls.record_failed_run(stage.desk, "0123456789abcdef", "cycle", "disk full", [due])
    [failed] = stage.events(E.RUN_FAILED)
    assert (failed.payload["strategies"], failed.payload["error"]) == (["daily"], "disk full")
    paused = stage.row("strategies", name="daily")
    assert (paused["state"], paused["reason"]) == ("paused_risk", f"{PauseReason.RUN_FAILED.value}: the run 01234567 of cycle failed")
    assert stage.row("strategies", name="other")["state"] == "paused_user"


def test_a_failed_backfill_pauses_nobody(stage):
    stage.run(strategy())
    turn = backfill(calendar().slots(calendar().previous(DAY), Interval.DAY1)[-1], calendar().session(DAY), "first")
    controls.record_failed_run(stage.desk, "0123456789abcdef", "cycle", "no disk", [turn])
    assert stage.row("strategies")["state"] == "running"


def test_status_counts_what_a_trader_asks_for(stage):
    stage.run(strategy(), strategy("asks", symbols=("IBM",), mode=Mode.APPROVAL))
    stage.cycle()
    status = queries.status(stage.desk)
    assert (status["market"], status["open"], status["session"]) == ("REPLAY", True, "2024-08-28")
    assert (status["pending_approvals"], status["open_orders"], status["trades_today"]) == (1, 0, 1)
    assert status["cash"] == "94997.50"
    assert status["positions"] == [{"strategy": "buyer", "symbol": "AAPL", "quantity": 50, "mark": "100", "unrealised": "-2.50"}]
    assert status["day_pnl"] == "-2.50"
    assert {row["name"]: row["state"] for row in status["strategies"]} == {"asks": "running", "buyer": "running"}


def test_more_symbols_a_longer_wait_and_a_bigger_size_are_looser_too():
    before = strategy(symbols=("AAPL",))
    after = replace(
        before, symbols=("AAPL", "MSFT"), approval_timeout=timedelta(minutes=9), sizing=replace(before.sizing, fraction=Decimal("0.06"))
    )
    assert controls.loosened_limits(before, after) == [
        "approval_timeout from 0:05:00 to 0:09:00", "fraction from 0.05 to 0.06", "symbols by MSFT",
    ]
    assert controls.loosened_limits(after, before) == []
