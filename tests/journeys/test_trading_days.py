"""The founding documents' days, step by step, asserting the ledger: a person approves, a machine trades alone; real minutes; any market."""

from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.desks import ALWAYS, CLOSE, DAY, OPEN, PERSON, at, bars, calendar, floor, market, strategy
from trading_pipeline.adapters.market_data.files import FileMarket
from trading_pipeline.adapters.market_data.synthetic import SyntheticMarket
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import MAX_ORDER_VALUE, AccountLimits
from trading_pipeline.domain.strategies import AnalyzerAgent, ExpressionAgent, FractionSizing, Lifetime, Mode
from trading_pipeline.service import approvals, queries
from trading_pipeline.service.accounting import compare_with_broker
from trading_pipeline.service.record.verification import verify
from trading_pipeline.service.submitter.closing import close_session, sessions_to_close

E = EventType
MINUTE_BARS = Path(__file__).parents[2].parent / "shared" / "data" / "bars" / "1min"
SEEN = ChartSpec(bars=60, overlays=("sma_20",), panels=("rsi_14",))


def story(stage, after=0):
    """The facts of a decision, without the bookkeeping of steps and bars."""
    left_out = {"step.completed", "bar.received", "reconciliation.completed"}
    return [name for name in stage.types(after) if name not in left_out]


def test_a_day_in_which_a_person_decides(tmp_path):
    """Mode 1: bar, indicators, chart, model, rulebook, the question, the answer, the order, its fill, the portfolio, the close."""
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=DAY))
    spec = strategy(
        mode=Mode.APPROVAL, interval=Interval.MIN5, chart=SEEN, lifetime=Lifetime.SESSION, agent=ExpressionAgent(ALWAYS, "", 6),
        sizing=FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"), target=Decimal("0.10")),
    )
    stage = floor(tmp_path, source, at(9, 36), spec)
    assert story(stage) == ["ledger.opened", "strategy.created", "strategy.starting", "strategy.started"]

    mark = stage.desk.ledger.head()[0]
    stage.cycle(Interval.MIN5)
    assert story(stage, mark) == [
        "account.funded", "session.opened", "indicators.computed", "chart.rendered", "llm.requested", "llm.responded",
        "llm.action_generated", "limits.set", "risk.evaluated", "approval.requested", "portfolio.snapshotted",
    ]
    [proposal] = queries.pending(stage.desk)
    assert (proposal["symbol"], proposal["shown"]["side"], proposal["shown"]["quantity"]) == ("AAPL", "buy", 50)
    assert stage.desk.objects.get(proposal["shown"]["chart"]).startswith(b"\x89PNG")

    mark = stage.desk.ledger.head()[0]
    stage.go(at(9, 37))
    approvals.approve(stage.desk, proposal["action_id"], actor=PERSON, shown_hash=proposal["hash"])
    stage.go(at(9, 37, 5)).release()
    assert story(stage, mark) == [
        "approval.approved", "order.intent", "order.intent", "order.intent", "risk.evaluated", "order.submitted", "order.submitted",
        "order.submitted", "order.accepted", "order.accepted", "order.accepted", "order.filled", "portfolio.snapshotted",
    ]
    assert [order.ticket.order_type.value for order in stage.broker.orders()] == ["stop", "limit"], "it is protected from now on"

    stage.go(at(10, 10))
    mark = stage.desk.ledger.head()[0]
    stage.cycle(Interval.MIN5)
    [exit_] = queries.pending(stage.desk)
    assert exit_["shown"]["side"] == "sell"
    assert "held for" in exit_["shown"]["rationale"]
    approvals.reject(stage.desk, exit_["action_id"], actor=PERSON, reason="I keep it")
    assert story(stage, mark)[-2:] == ["portfolio.snapshotted", "approval.rejected"]

    stage.go(CLOSE)
    mark = stage.desk.ledger.head()[0]
    [session] = sessions_to_close(stage.desk)
    report = close_session(stage.desk, session)
    assert story(stage, mark) == ["strategy.finished", "strategy.reported", "session.closed"]
    assert report["strategies"]["buyer"]["fills"] == 1
    assert stage.row("positions")["quantity"] == 50
    assert stage.verifies()


def test_a_day_in_which_the_machine_trades_alone(tmp_path):
    """Mode 2: in at once, protected, out by its own rule, never within the cooldown, and a report at the close."""
    source = market(*(bars(symbol, Interval.MIN5, date(2024, 8, 27), DAY) for symbol in ("AAPL", "IBM")))
    spec = strategy(
        symbols=("AAPL", "IBM"), interval=Interval.MIN5, lifetime=Lifetime.SESSION, agent=ExpressionAgent(ALWAYS, "", 3),
        sizing=FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05")),
    )
    stage = floor(tmp_path, source, at(9, 35, 1), spec)
    session = calendar().session(DAY)
    for slot in calendar().slots(session, Interval.MIN5)[:12]:
        stage.go(max(slot.end + timedelta(seconds=1), stage.clock.now()))
        stage.cycle(Interval.MIN5)
        while (instant := approvals.next_instant(stage.desk)) is not None and instant < slot.end + timedelta(minutes=4):
            stage.go(instant).release()
    sent = sorted(row["submitted_at"] for row in stage.rows("orders", parent=None) if row["submitted_at"])
    assert len(sent) >= 4
    assert all(later - earlier >= timedelta(seconds=30) for earlier, later in pairwise(sent))
    assert stage.events(E.APPROVAL_REQUESTED) == []
    sold = stage.rows("fills", side="sell")
    assert sold
    stage.go(CLOSE)
    report = close_session(stage.desk, session)
    assert report["fills"] == len(stage.rows("fills"))
    assert stage.row("strategies")["state"] == "finished"
    assert compare_with_broker(stage.desk) == []
    assert stage.verifies()


@pytest.mark.skipif(not MINUTE_BARS.exists(), reason="the real one-minute bars are not beside this checkout")
def test_real_minutes_of_a_morning(tmp_path):
    """Real bars, minute by minute: each is decided on once, and book, broker and chain agree afterwards."""
    source = FileMarket(MINUTE_BARS, calendar(), skip_refused=True)
    symbol = next(name for name in source.symbols if Interval.MIN1 in source.intervals(name))
    last = source.closed_bars([symbol], Interval.MIN1, None, calendar().horizon.close)[symbol]
    days, minutes = np.unique(last.session_days, return_counts=True)
    session = calendar().session(date.fromisoformat(str(days[minutes == 390][-1])))
    spec = strategy(symbols=(symbol,), interval=Interval.MIN1, agent=ExpressionAgent("rsi_14 < 50", "rsi_14 > 55", 20))
    stage = floor(tmp_path, source, session.open + timedelta(seconds=61), spec)
    slots = calendar().slots(session, Interval.MIN1)[:90]
    for slot in slots:
        stage.go(max(slot.end + timedelta(seconds=1), stage.clock.now()))
        stage.cycle(Interval.MIN1)
    assert len(stage.asked.questions) == len(slots)
    assert [question.bars.last_end for question in stage.asked.questions] == [slot.end for slot in slots]
    assert stage.rows("fills")
    assert compare_with_broker(stage.desk) == []
    assert stage.verifies()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), loss=st.sampled_from([200, 1_000]), target=st.booleans())
def test_on_any_market_cash_is_conserved_and_no_limit_is_passed(tmp_path_factory, seed, loss, target):
    """Fifteen sessions of both kinds of agent on random bars."""
    source = SyntheticMarket(seed, ("AAA", "BBB", "CCC"), Interval.DAY1, date(2023, 6, 1), date(2024, 9, 27), calendar())
    sizing = FractionSizing(fraction=Decimal("0.08"), stop=Decimal("0.02"), target=Decimal("0.03") if target else None)
    trend = strategy("trend", symbols=("AAA", "BBB", "CCC"), agent=AnalyzerAgent(), min_confidence=Decimal("0.6"))
    dip = ExpressionAgent("rsi_14 < 55", "rsi_14 > 50", 4)
    dips = strategy("dips", symbols=("AAA", "BBB"), agent=dip, sizing=sizing, mode=Mode.APPROVAL)
    limits = AccountLimits(max_day_loss=Decimal(loss))
    stage = floor(tmp_path_factory.mktemp("market"), source, OPEN, trend, dips, limits=limits)
    for session in calendar().between(DAY, date(2024, 9, 18)):
        stage.go(session.open + timedelta(seconds=5))
        stage.cycle()
        for number, row in enumerate(stage.rows("approvals", state="pending")):
            if (seed + number) % 3:
                approvals.approve(stage.desk, row["action_id"], actor=PERSON)
        while (instant := approvals.next_instant(stage.desk)) is not None and instant < session.close:
            stage.go(instant).release()
        stage.go(session.close)
        close_session(stage.desk, session)

    report = verify(stage.desk.ledger)
    assert report.ok, report.difference
    assert compare_with_broker(stage.desk) == []
    cash, stated = stage.row("cash"), stage.broker.account()
    assert cash["cash"] == stated.cash
    for snapshot in stage.rows("snapshots"):
        assert abs(snapshot["equity"] - (cash["deposited"] + snapshot["realised"] + snapshot["unrealised"])) <= Decimal("0.02")
    orders = stage.rows("orders")
    entries = [row for row in orders if row["part"] == "entry" and row["state"] != "denied"]
    assert all(row["quantity"] * max(row["reference"], row["limit_price"] or 0) <= min(MAX_ORDER_VALUE, 10_000) for row in entries)
    assert all(row["filled_quantity"] <= row["quantity"] for row in orders)
    assert all(row["quantity"] >= 0 for row in stage.rows("positions"))
    submitted = [event.payload["client_id"] for event in stage.events(E.ORDER_SUBMITTED)]
    assert len(submitted) == len(set(submitted)) == len(stage.broker.orders(submitted)), "one broker order for each intent sent"
    approved = {event.payload["action_id"] for event in stage.events(E.APPROVAL_APPROVED)}
    asked = {row["action_id"] for row in orders if row["strategy"] == "dips"}
    assert asked <= approved, "44: no order of Mode 1 without an approval"
