"""Snapshots, the day's baseline and the session's close: cash is conserved, and a day is counted once."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import ALWAYS, CLOSE, DAY, NEVER, OPEN, PERSON, at, bars, calendar, floor, market, strategy
from tests.model_facts import answered, asked
from tests.oracle.forging import record
from tests.service.minutes import bracketed, decided, intended, minute_bars
from trading_pipeline.adapters.brokers.paper_faults import ShowLate
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.strategies import Entry, ExpressionAgent, FractionSizing, Lifetime, Mode
from trading_pipeline.errors import MarketDataError
from trading_pipeline.oracle import check
from trading_pipeline.service import controls
from trading_pipeline.service.accounting import compare_with_broker, portfolio_of
from trading_pipeline.service.submitter.closing import close_session, sessions_to_close

E = EventType
THURSDAY = date(2024, 8, 29)


def closing(stage, day=DAY):
    return close_session(stage.desk, stage.desk.calendar.session(day))


def test_the_first_cycle_funds_the_book_from_the_broker_and_fixes_the_baseline(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.cycle()
    assert (stage.row("cash")["deposited"], stage.row("sessions")["baseline_equity"]) == (100_000, 100_000)


def test_equity_is_what_was_deposited_and_what_was_earned(tmp_path):
    """30: bought at 100.03 and $1; at 110 the 50 shares have earned 497.50."""
    up = {at(9, 30, day=THURSDAY): (110.0,) * 4}
    stage = floor(tmp_path, market(bars(at=up)), OPEN, strategy())
    stage.cycle()
    stage.go(at(9, 30, day=THURSDAY)).cycle()
    cash = stage.row("cash")
    for snapshot in stage.rows("snapshots"):
        assert snapshot["equity"] == cash["deposited"] + snapshot["realised"] + snapshot["unrealised"]
        assert snapshot["equity"] == snapshot["cash"] + snapshot["market_value"]
    newest = stage.rows("snapshots", order_by="seq")[-1]
    assert (newest["unrealised"], newest["equity"]) == (Decimal("497.50"), Decimal("100497.50"))


def test_the_days_profit_is_measured_from_its_own_baseline_and_survives_a_restart(tmp_path):
    """30: Thursday opens ten dollars higher than Wednesday closed: that is Thursday's profit."""
    up = {at(9, 30, day=THURSDAY): (110.0,) * 4}
    stage = floor(tmp_path, market(bars(at=up)), OPEN, strategy())
    stage.cycle()
    assert stage.rows("snapshots")[-1]["day_pnl"] == Decimal("-2.50")
    again = stage.restarted().go(at(9, 30, day=THURSDAY))
    again.cycle()
    assert stage.row("sessions", session="2024-08-29")["baseline_equity"] == Decimal("99997.50")
    assert stage.rows("snapshots", session="2024-08-29")[-1]["day_pnl"] == 500


def test_a_round_trip_leaves_cash_that_equals_the_brokers_to_the_cent(tmp_path):
    """27."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(agent=ExpressionAgent(ALWAYS, ALWAYS)))
    stage.cycle()
    stage.go(at(9, 30, day=THURSDAY)).cycle()
    assert stage.row("cash")["cash"] == stage.broker.account().cash
    assert stage.row("positions")["realised"] == stage.row("cash")["cash"] - 100_000 < ZERO


def test_the_days_report_says_what_models_cost_by_strategy_and_not_what_they_cost_before(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(), strategy("other"))
    with stage.desk.ledger.transaction() as tx:
        tx.append(asked("yesterday", strategy="buyer"), answered("yesterday", strategy="buyer", cost="9"))
    stage.cycle()
    with stage.desk.ledger.transaction() as tx:
        tx.append(
            asked("c1", strategy="buyer"), answered("c1", strategy="buyer", cost="0.012"), asked("c2", strategy="buyer"),
            answered("c2", strategy="buyer", cost="0.05", trouble="timeout"), asked("c1", strategy="other", reserved="0.25"),
        )
    strategies = closing(stage.go(CLOSE))["strategies"]
    assert {name: figures["model_cost"] for name, figures in strategies.items()} == {"buyer": "0.06", "other": "0.25"}


def test_a_held_symbol_without_any_price_is_an_error_and_never_a_stand_in(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.cycle()
    blind = floor(tmp_path / "elsewhere", market(bars("IBM")), OPEN).desk
    blind = stage.restarted(market=blind.market, archive=blind.archive).desk
    with pytest.raises(MarketDataError, match="AAPL is held and has no price"):
        portfolio_of(blind, blind.ledger)


def test_a_halted_symbol_is_valued_at_its_newest_close(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.cycle()
    silent = stage.restarted(market=market(bars(last=date(2024, 8, 27))))
    assert portfolio_of(silent.desk, silent.desk.ledger).marks == {"AAPL": Decimal(100)}


@pytest.mark.parametrize("before", [True, False])
def test_a_trade_at_the_very_instant_of_the_opening_balance_is_booked_once(tmp_path, before):
    """28: what the balance has already, or what came after it; on a clock that stands still both are of one instant."""
    stage = floor(tmp_path, market(bars(), bars("IBM")), OPEN, strategy(agent=ExpressionAgent(NEVER, NEVER)))
    if before:
        stage.broker.trade_by_hand("IBM", Side.BUY, 5, Decimal(100))
        stage.broker.trade_by_hand("IBM", Side.SELL, 5, Decimal(100))
    stage.cycle()
    if not before:
        stage.broker.trade_by_hand("IBM", Side.BUY, 5, Decimal(100))
    stage.go(OPEN + timedelta(minutes=1)).release()
    assert compare_with_broker(stage.desk) == []
    assert [row["quantity"] for row in stage.rows("positions")] == ([] if before else [5])


class Choosy:
    """A source that refuses to be asked about what it does not know, as Yahoo does."""

    def __init__(self, source):
        self._source = source

    def __getattr__(self, name):
        return getattr(self._source, name)

    def quotes(self, symbols, at):
        if any(not self._source.intervals(symbol) for symbol in symbols):
            raise MarketDataError("unknown")
        return self._source.quotes(symbols, at)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("symbol", ["ZZZZ", "AAPL  240920C00150000", "BRK B", "zz top; DROP"])
def test_what_only_somebody_else_trades_stops_nothing_of_ours(tmp_path, symbol, side):
    """28: valued at its last execution, by the book and by the paper broker; nobody else has a price."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(agent=ExpressionAgent(ALWAYS, ALWAYS)))
    stage.cycle()
    stage = replace(stage, desk=replace(stage.desk, market=Choosy(stage.desk.market)))
    stage.go(OPEN + timedelta(minutes=1)).broker.trade_by_hand(symbol, side, 5, Decimal(10))
    stage.go(at(9, 30, day=THURSDAY)).cycle()
    assert (stage.row("positions", symbol="AAPL")["quantity"], compare_with_broker(stage.desk)) == (0, [])
    assert portfolio_of(stage.desk, stage.desk.ledger).marks == {symbol: Decimal(10)}
    assert stage.broker.account().equity == portfolio_of(stage.desk, stage.desk.ledger).equity
    assert stage.verifies()


# The session's close


def test_the_close_is_due_at_the_calendars_close_and_done_once(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.cycle()
    stage.go(CLOSE - timedelta(seconds=1))
    assert sessions_to_close(stage.desk) == []
    stage.go(CLOSE)
    assert [session.day for session in sessions_to_close(stage.desk)] == [DAY]
    report = closing(stage)
    head = stage.desk.ledger.head()
    assert closing(stage) == report
    assert stage.desk.ledger.head() == head
    assert sessions_to_close(stage.desk) == []


def test_on_an_early_close_it_is_due_at_one_in_the_afternoon(tmp_path):
    """2024-07-03."""
    day = date(2024, 7, 3)
    stage = floor(tmp_path, market(bars()), at(9, 30, day=day), strategy())
    stage.cycle()
    stage.go(at(12, 59, 59, day=day))
    assert sessions_to_close(stage.desk) == []
    stage.go(at(13, day=day))
    assert closing(stage, day)["early_close"] is True
    assert stage.row("sessions")["state"] == "closed"


def test_a_strategy_of_the_session_finishes_and_one_that_stays_open_goes_on(tmp_path):
    """58."""
    specs = (strategy("today", lifetime=Lifetime.SESSION), strategy("stays", lifetime=Lifetime.OPEN))
    stage = floor(tmp_path, market(bars()), OPEN, *specs)
    stage.cycle()
    stage.go(OPEN + timedelta(seconds=5)).release()
    stage.go(CLOSE)
    report = closing(stage)
    states = {row["name"]: row["state"] for row in stage.rows("strategies")}
    assert states == {"today": "finished", "stays": "running"}
    assert {row["strategy"]: row["quantity"] for row in stage.rows("positions")} == {"today": 50, "stays": 50}, "positions are kept"
    assert set(report["strategies"]) == {"today", "stays"}
    assert report["strategies"]["today"]["bought"] == "5001.50"
    assert {event.payload["strategy"] for event in stage.events(E.STRATEGY_REPORTED)} == {"today", "stays"}


def test_at_the_close_entries_are_gone_and_proposals_void_and_what_protects_stays(tmp_path):
    """58."""
    sizing = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"))
    patient = FractionSizing(fraction=Decimal("0.05"), entry=Entry.PULLBACK)
    source = market(bars("AAPL"), bars("IBM", at={session.open: (110.0,) * 4 for session in calendar().between(date(2024, 8, 27), DAY)}))
    specs = (
        strategy("holds", sizing=sizing), strategy("waits", symbols=("IBM",), sizing=patient),
        strategy("asks", symbols=("IBM",), mode=Mode.APPROVAL),
    )
    stage = floor(tmp_path, source, OPEN, *specs)
    stage.cycle()
    stage.go(OPEN + timedelta(seconds=3)).release()
    assert stage.row("orders", strategy="waits")["state"] == "accepted"
    assert stage.row("approvals")["state"] == "pending"
    stage.go(CLOSE)
    closing(stage)
    assert stage.row("orders", strategy="waits")["state"] in ("canceled", "expired")
    assert stage.row("approvals")["state"] in ("voided", "expired")
    assert [order.ticket.order_type.value for order in stage.broker.orders()] == ["stop"]
    assert stage.row("orders", part="stop-1")["state"] == "accepted"


def test_a_close_that_comes_late_leaves_the_next_sessions_proposals_alone(tmp_path):
    """The daemon was down over night and wakes in the next session, whose cycle ran first."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(agent=ExpressionAgent(NEVER)), strategy("asks", mode=Mode.APPROVAL))
    stage.cycle()
    stage.go(at(9, 30, day=THURSDAY)).release()
    stage.cycle()
    assert [row["session"] for row in stage.rows("actions", state="pending")] == ["2024-08-29"]
    closing(stage)
    assert [row["session"] for row in stage.rows("actions", state="pending")] == ["2024-08-29"]


def overdue(tmp_path, started):
    """Wednesday's session was opened and never closed; a strategy of a session was started at that instant."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.cycle()
    return stage.go(started).run(strategy("fresh", lifetime=Lifetime.SESSION))


@pytest.mark.parametrize(("started", "state"), [
    (CLOSE - timedelta(microseconds=1), "finished"), (CLOSE, "running"), (at(9, 25, day=THURSDAY), "running"),
])
def test_a_close_that_comes_late_finishes_no_strategy_that_was_started_after_it(tmp_path, started, state):
    """58: it lasts for the next session, and its own close finishes it."""
    stage = overdue(tmp_path, started)
    closing(stage.go(at(9, 28, day=THURSDAY)))
    assert stage.row("strategies", name="fresh")["state"] == state
    if state == "running":
        stage.go(at(9, 30, 1, day=THURSDAY)).cycle()
        closing(stage.go(CLOSE + timedelta(days=1)), THURSDAY)
        assert (stage.row("strategies", name="fresh")["state"], stage.row("strategies", name="fresh")["reason"]) == (
            "finished", "the session 2024-08-29 closed",
        )
    assert check(record(stage.desk.ledger)) == []


def test_a_close_that_comes_late_finishes_what_has_only_gone_on_since(tmp_path):
    """58: a close in time would have finished it while it was paused."""
    stage = overdue(tmp_path, CLOSE - timedelta(hours=1))
    controls.pause(stage.desk, "fresh", actor=PERSON)
    controls.resume(stage.go(at(9, 25, day=THURSDAY)).desk, "fresh", actor=PERSON)
    closing(stage)
    assert stage.row("strategies", name="fresh")["reason"] == "the session 2024-08-28 closed"


def test_a_close_takes_back_entries_of_its_session_that_were_never_sent_and_none_of_the_next(tmp_path):
    """58, C2."""
    stage = floor(tmp_path, minute_bars("AAPL", "IBM"), at(15, 50, 1), bracketed())
    intended(stage, decided(stage))
    stage.run(bracketed(name="next", symbols=("IBM",)))
    stage.go(at(9, 40, 1, day=THURSDAY))
    intended(stage, decided(stage), strategy="next")
    closing(stage)
    assert {(row["strategy"], row["session"], row["state"]) for row in stage.rows("orders")} == {
        ("buyer", "2024-08-28", "denied"), ("next", "2024-08-29", "intent"),
    }
    assert {row["reason"] for row in stage.rows("orders", strategy="buyer")} == {"the session 2024-08-28 closed"}


def test_the_report_counts_the_sessions_own_trades(tmp_path):
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN1, agent=ExpressionAgent(ALWAYS, ALWAYS)))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 3, 1)).cycle(Interval.MIN1)
    report = closing(stage.go(CLOSE))
    figures = report["strategies"]["buyer"]
    assert (report["fills"], figures["fills"], figures["bought"], figures["sold"]) == (2, 2, "5001.50", "4998.50")
    assert figures["day_pnl"] == figures["total_pnl"] == report["day_pnl"] == "-5.00"
    assert report["equity"] == "99995.00"


def test_cash_that_the_broker_states_otherwise_is_said_and_buys_nothing(tmp_path):
    """27: a fee, a dividend, a transfer: a cent that nothing explains stops entries, and keeps nobody from selling."""
    stage = floor(tmp_path, market(bars(), bars("IBM")), OPEN - timedelta(days=1), strategy())
    other = strategy("other", symbols=("IBM",))
    stage.run(replace(other, agent=ExpressionAgent(NEVER, NEVER))).cycle()
    closing(stage.go(CLOSE - timedelta(days=1)), date(2024, 8, 27))
    with stage.book.change() as book:
        book.cash -= Decimal("0.01")
    booked = stage.row("cash")["cash"]
    assert compare_with_broker(stage.desk) == [f"cash: booked {booked:f} USD, the broker states {booked - Decimal('0.01'):f}"]
    controls.revise(stage.desk, strategy(agent=ExpressionAgent(NEVER, ALWAYS)), actor=PERSON)
    controls.revise(stage.desk, other, actor=PERSON)
    stage.run(replace(other, name="late"))
    assert stage.row("strategies", name="late")["state"] == "not_ready"
    stage.go(OPEN).cycle()
    assert stage.denials() == ["unknown_order"]
    assert [(row["symbol"], row["side"]) for row in stage.rows("fills", order_by="seq")] == [("AAPL", "buy"), ("AAPL", "sell")]
    assert stage.events(E.RECONCILED)[-1].payload["agrees"] is False


def test_an_execution_that_the_broker_does_not_show_yet_is_in_no_balance_either(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN - timedelta(days=1), strategy())
    stage.faults.on_every_submit(ShowLate(timedelta(seconds=30)))
    stage.cycle()
    assert stage.broker.positions() == {}
    assert stage.broker.account().cash == stage.broker.account().equity == 100_000
    assert compare_with_broker(stage.desk) == []
