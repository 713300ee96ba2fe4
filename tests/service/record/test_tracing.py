"""Tracing: why a trade was made, from the bar to the portfolio, and what became of a proposal."""

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import ALWAYS, CLOSE, OPEN, PERSON, at, bars, floor, market, strategy
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.lineage import happened_at, sentence
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode
from trading_pipeline.errors import UnknownName
from trading_pipeline.service.record import tracing

CHAIN = [
    "bar.received", "indicators.computed", "chart.rendered", "llm.requested", "llm.responded", "llm.action_generated", "risk.evaluated",
    "approval.requested", "approval.approved", "order.intent", "risk.evaluated", "order.submitted", "order.accepted", "order.filled",
    "portfolio.snapshotted",
]


def stopped_out(tmp_path):
    """A day on which an entry's stop was hit."""
    falls = {at(9, 30): (100.0, 100.0, 90.0, 91.0)}
    guarded = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.03"), target=Decimal("0.06"))
    stage = floor(tmp_path, market(bars(at=falls)), OPEN, strategy(sizing=guarded))
    stage.cycle()
    stage.go(CLOSE + timedelta(seconds=5)).release()
    return stage


def test_why_a_fill_is_the_whole_chain_in_order(stage):
    causes = tracing.why(stage.desk, stage.row("fills")["execution_id"])
    assert [cause.type for cause in causes] == CHAIN
    assert [cause.seq for cause in causes] == sorted(cause.seq for cause in causes)
    assert all(cause.says for cause in causes)
    assert [cause.actor for cause in causes if cause.type == "approval.approved"] == [PERSON]


@pytest.mark.parametrize("ident", ["order", "order's beginning", "action", "seq"])
def test_why_takes_an_order_an_action_or_an_event(stage, ident):
    fill, order = stage.row("fills"), stage.row("orders")
    name = order["client_id"]
    named = {"order": name, "order's beginning": name[:6].lower(), "action": order["action_id"], "seq": str(fill["seq"])}
    causes = tracing.why(stage.desk, named[ident])
    assert causes[0].type == "bar.received"


def test_why_of_something_that_does_not_exist_says_so(stage):
    with pytest.raises(UnknownName, match="Nothing is named"):
        tracing.why(stage.desk, "NOPE")


def test_why_a_stop_filled_tells_the_stop_the_entry_and_by_how_much_it_was_missed(tmp_path):
    stage = stopped_out(tmp_path)
    [entry, stop] = stage.desk.ledger.find("fills", order_by="seq")
    [order] = stage.desk.ledger.find("orders", client_id=stop["client_id"])
    assert (order["part"], order["stop_price"]) == ("stop-1", Decimal("97.00"))
    causes = tracing.why(stage.desk, stop["execution_id"])
    told = {cause.seq: cause.says for cause in causes}
    assert f": the stop at $97.00 was hit at ${stop['price']:.2f}, $" in told[stop["seq"]]
    assert "a share below" in told[stop["seq"]]
    assert told[order["intent_seq"]].startswith("stop-1: SELL")
    assert entry["execution_id"] in told[entry["seq"]]
    assert list(told) == sorted(told)


def test_why_of_an_action_goes_on_to_its_orders_their_fills_and_what_they_made(tmp_path):
    falls = {at(9, 30): (100.0, 100.0, 90.0, 91.0)}
    guarded = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.03"), target=Decimal("0.06"))
    stage = floor(tmp_path, market(bars(at=falls)), OPEN, strategy(sizing=guarded))
    stage.cycle()
    action = stage.row("actions")["action_id"]
    held = tracing.why(stage.desk, action)
    assert "shares are held" in next(cause.says for cause in held if cause.type == "order.filled")
    stage.go(CLOSE + timedelta(seconds=5)).release()
    causes = tracing.why(stage.desk, action)
    told = [cause.type for cause in causes]
    assert told[0] == "bar.received"
    assert [told.count(each) for each in ("order.intent", "order.submitted", "order.accepted", "order.filled")] == [3, 3, 3, 2]
    assert (told.count("order.canceled"), told[-1]) == (1, "portfolio.snapshotted"), "the target went when the stop was hit"
    buy, sell = stage.desk.ledger.find("fills", order_by="seq")
    made = sum((row["price"] * row["quantity"] * (1 if row is sell else -1) - row["commission"] for row in (buy, sell)), Decimal(0))
    assert f"; the trade made -${-made:,.2f} after commissions" in next(cause.says for cause in causes if cause.seq == sell["seq"])


def test_why_of_an_order_is_about_it_and_what_it_belongs_to(tmp_path):
    stage = stopped_out(tmp_path)
    parts = {row["part"]: row for row in stage.rows("orders")}
    target = tracing.why(stage.desk, parts["target-1"]["client_id"])
    assert [cause.type for cause in target][-1] == "order.canceled"
    assert [cause.says for cause in target if cause.type == "order.intent"][1].startswith("target-1: SELL")
    assert len([cause for cause in target if cause.type == "order.canceled"]) == 1
    entry = tracing.why(stage.desk, parts["entry"]["client_id"])
    assert [cause.says.split()[0] for cause in entry if cause.type == "order.filled"] == ["BUY", "SELL"], "the stop sold what it bought"
    assert entry == tracing.why(stage.desk, parts["entry"]["broker_order_id"]), "the broker's id is the order's as well"


def test_why_of_a_purchase_names_the_signal_that_sold_it(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(agent=ExpressionAgent(ALWAYS, ALWAYS)))
    stage.cycle()
    bought = stage.row("actions")["action_id"]
    stage.go(at(9, 30, day=date(2024, 8, 29))).cycle()
    causes = tracing.why(stage.desk, bought)
    signals = [cause.says.split()[0] for cause in causes if cause.type == "llm.action_generated"]
    fills = [cause.says for cause in causes if cause.type == "order.filled"]
    assert signals == ["BUY", "SELL"]
    assert [says.split()[0] for says in fills] == ["BUY", "SELL"]
    assert "the trade made -$" in fills[1], "at one price only the costs are left"


def test_why_of_an_action_without_orders_ends_with_what_stopped_it(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(mode=Mode.APPROVAL))
    stage.cycle()
    stage.go(OPEN + timedelta(seconds=301)).release()
    assert [cause.type for cause in tracing.why(stage.desk, stage.row("actions")["action_id"])][-1] == "approval.expired"


def test_a_fill_is_told_at_its_own_time_beside_the_time_it_was_booked(stage):
    fill = stage.row("fills")
    event = stage.desk.ledger.event(fill["seq"])
    late = replace(event, at=event.at + timedelta(hours=6))
    assert happened_at(late) == fill["at"]
    told = next(cause for cause in tracing.why(stage.desk, fill["execution_id"]) if cause.type == "order.filled")
    assert told.at == fill["at"].isoformat(timespec="seconds")


def test_a_stop_hit_during_the_day_is_told_at_the_close_and_as_booked_later(tmp_path):
    falls = {at(9, 30): (100.0, 100.0, 90.0, 91.0)}
    stage = floor(tmp_path, market(bars(at=falls)), OPEN, strategy(sizing=FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.03"))))
    stage.cycle()
    stage.go(CLOSE + timedelta(seconds=5)).release()
    sold = stage.row("fills", side="sell")
    told = next(cause for cause in tracing.why(stage.desk, sold["execution_id"]) if cause.seq == sold["seq"])
    assert (told.at, told.booked_at) == ("2024-08-28T20:00:00+00:00", "2024-08-28T20:00:05+00:00")


def test_a_beginning_that_several_ids_share_is_refused_with_those_ids(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, *(strategy(f"buyer-{number}") for number in range(20)))
    stage.cycle()
    firsts = Counter(row["action_id"][0] for row in stage.desk.ledger.find("actions"))
    letter = next(each for each, count in firsts.items() if count > 1 and not each.isdigit())
    with pytest.raises(UnknownName, match=f"ids begin with '{letter}'") as refused:
        tracing.why(stage.desk, letter)
    assert letter in refused.value.remedy


def test_a_split_says_what_became_of_shares_and_orders():
    payload = {
        "symbol": "GE", "ratio": "2", "positions": [{"strategy": "trend", "before": 44, "quantity": 88, "in_lieu": "0.00"}],
        "orders": [{"client_id": "A"}, {"client_id": "B"}],
    }
    kind = EventType.CORPORATE_ACTION_SPLIT
    event = Event(1, "account", 1, "split", kind, 1, None, "calendar", OPEN, OPEN, payload, "", b"", b"")
    assert sentence(event) == "GE splits, 2 for 1: 44 of trend are 88, 2 orders restated"
