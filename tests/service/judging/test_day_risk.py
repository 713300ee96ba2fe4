"""`max_day_risk`: entries are sized and judged so that, were everything sold at its stop, the day would lose no more than the limit."""

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.desks import ALWAYS, NEVER, PERSON, Floor, at, floor
from tests.service.minutes import bracketed, minute_bars
from tests.service.replaying import replayed
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.strategies import Entry, ExpressionAgent, FractionSizing, RiskSizing
from trading_pipeline.errors import PermissionRequired
from trading_pipeline.service import controls
from trading_pipeline.service.account_limits import standing
from trading_pipeline.service.grants import grant_loss
from trading_pipeline.service.judging.book import Book
from trading_pipeline.service.judging.outside import look
from trading_pipeline.service.orders.settlement import settle
from trading_pipeline.service.steps import Tally

E = EventType
D = Decimal
FREE = PaperSettings(spread=D(0), slippage=D(0), commission_per_share=D(0), commission_minimum=D(0))
"""A fill is at the price, and a trade costs nothing."""


def risking(amount: str) -> AccountLimits:
    return AccountLimits(max_day_risk=D(amount))


def staged(tmp_path, *specs, risk="300", symbols=("AAPL", "IBM"), **options) -> Floor:
    """Minutes at $100, so much at risk a day, one cycle done. Stops are at $95, and $101.97 is the worst price: $6.97 a share."""
    stage = floor(tmp_path, minute_bars(*symbols, **options), at(10, 0, 1), *specs, limits=risking(risk), settings=FREE)
    stage.cycle(Interval.MIN1)
    return stage


def said(stage, rule="account_day_risk", outcome=None, stage_of="proposal"):
    """The newest words of a rule."""
    told = [
        verdict for event in stage.events(E.RISK_EVALUATED) if event.payload["stage"] == stage_of
        for verdict in event.payload["verdicts"] if verdict["rule"] == rule and outcome in (None, verdict["outcome"])
    ]
    return told[-1]


def test_it_is_off_unless_it_is_set(tmp_path):
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    assert stage.row("positions")["quantity"] == 50
    for rule in ("account_day_risk", "strategy_day_risk"):
        assert said(stage, rule) | {"detail": ""} == {
            "rule": rule, "outcome": "not_applicable", "measured": "off", "limit": "off", "detail": "",
        }


def test_an_entry_is_made_as_small_as_the_days_risk_allows(tmp_path):
    """36: $300.00 at $6.97 a share are 43 shares, $299.71."""
    stage = staged(tmp_path, bracketed())
    assert stage.row("positions")["quantity"] == 43
    assert said(stage) == {
        "rule": "account_day_risk", "outcome": "allow", "measured": "$299.71", "limit": "$300.00",
        "detail": "$0.00 lost, $0.00 to the stops of what is held and under way, $299.71 to those of this order",
    }
    assert stage.denials() == []


def test_what_is_held_counts_from_its_mark_to_its_stop(tmp_path):
    """36: 43 shares at $100 are $215.00 from their stop; the $85.00 left are 12 shares for the other strategy."""
    other = bracketed(name="other", symbols=("IBM",), agent=ExpressionAgent(NEVER, NEVER))
    stage = staged(tmp_path, bracketed(), other)
    controls.revise(stage.desk, replace(other, agent=ExpressionAgent(ALWAYS, NEVER)), actor=PERSON)
    stage.go(at(10, 2, 1)).cycle(Interval.MIN1)
    assert {row["symbol"]: row["quantity"] for row in stage.rows("positions")} == {"AAPL": 43, "IBM": 12}
    assert said(stage)["detail"] == "$0.00 lost, $215.00 to the stops of what is held and under way, $83.64 to those of this order"
    assert replayed(stage).ok


def test_two_entries_of_one_cycle_share_what_is_left(tmp_path):
    """36, 42: the second is sized beside the first, which is ready and not sent: 43 shares leave $0.29."""
    both = bracketed(symbols=("AAPL", "IBM"))
    stage = staged(tmp_path, both)
    assert [row["state"] for row in stage.rows("actions", order_by="symbol")] == ["consumed", "denied"]
    assert said(stage, "sizing")["detail"].startswith("below_one_share: day_risk allows 0 shares: $0.29 left")


def test_shares_without_a_stop_count_whole(tmp_path):
    """36: of $1,000 at $101.97 a share, 9."""
    bare = bracketed(sizing=FractionSizing(fraction=D("0.05")))
    stage = staged(tmp_path, bare, risk="1000")
    assert stage.row("positions")["quantity"] == 9
    assert stage.desk.ledger.find("orders", order_type="stop") == []


# What is left, read from the book: $1,000 less what is at stake


def heard(stage) -> Floor:
    """What the broker has to tell is booked."""
    settle(stage.desk, Tally("fills", stage.due(Interval.MIN1)))
    return stage


def left(stage, spec=None):
    return Book.read(stage.desk, stage.desk.ledger, look(stage.desk, stage.desk.ledger, ())).day_risk_left(spec or bracketed(), "")


def test_a_stop_that_the_broker_has_dropped_protects_nothing(tmp_path):
    """36: 50 shares are $250.00 from their stop, and $5,000.00 from nothing."""
    stage = staged(tmp_path, bracketed(), risk="1000")
    assert left(stage) == 750
    stage.broker.cancel(stage.row("orders", part="stop-1")["client_id"])
    stage = heard(stage)
    assert stage.row("orders", part="stop-1")["state"] == "canceled"
    assert left(stage) == -4_000


def test_a_stop_that_the_price_has_passed_protects_nothing(tmp_path):
    """36: the stop at $95 is reached and not filled, the quote is $94; 50 shares have lost $300 and may lose $4,700."""
    stage = staged(tmp_path, bracketed(), risk="1000")
    stage = stage.restarted(market=minute_bars("AAPL", "IBM", at={at(10, 0): (94.0, 94.0, 94.0, 94.0)}))
    assert left(stage) == 1_000 - 300 - 4_700


def test_of_a_target_filled_in_part_only_the_rest_is_at_stake(tmp_path):
    """36: of two brackets the first one's target has sold its shares: the other's 25 are $250.00 from their stop, the price $105."""
    spec = bracketed(sizing=RiskSizing(targets=(D(1), D(5)), max_stop=D("0.05")))
    stage = staged(tmp_path, spec, risk="1000", at={at(10, 5): (100.0, 105.0, 100.0, 105.0), at(10, 6): (105.0,) * 4})
    [stop] = {row["stop_price"] for row in stage.rows("orders", order_type="stop")}
    before = stage.row("positions")["quantity"]
    stage.go(at(10, 6, 1)).release()
    after = stage.row("positions")["quantity"]
    assert 0 < after < before
    assert left(stage, spec) == 1_000 - after * (105 - stop)


def test_an_entry_that_waits_is_at_stake_from_its_limit_to_its_stop(tmp_path):
    """36: a pullback to $98 waits, $100 being the price and the worst one; its stop follows from its ATR."""
    spec = bracketed(sizing=RiskSizing(entry=Entry.PULLBACK))
    stage = staged(tmp_path, spec, risk="200", at={at(9, 45): (100.0, 100.0, 98.0, 100.0)})
    waiting, [stop] = stage.row("orders", part="entry"), {row["stop_price"] for row in stage.rows("orders", order_type="stop")}
    assert (waiting["state"], waiting["limit_price"], waiting["reference"]) == ("accepted", 98, 100)
    assert waiting["quantity"] == int(200 / (100 - stop))
    assert left(stage, spec) == 200 - waiting["quantity"] * (100 - stop)


def test_what_others_hold_in_the_account_counts_whole_for_the_account_alone(tmp_path):
    """28, 36: nobody knows where a stranger would sell 3 shares at $100."""
    mine = StrategyLimits(max_day_risk=D(1_000))
    stage = staged(tmp_path, bracketed(limits=mine), risk="1000")
    assert left(stage, bracketed(limits=mine)) == 750
    stage.go(at(10, 0, 10)).broker.trade_by_hand("IBM", Side.BUY, 3, D(100))
    heard(stage)
    assert stage.row("positions", strategy="EXTERNAL")["quantity"] == 3
    assert left(stage) == 450
    alone = floor(tmp_path / "alone", minute_bars("AAPL", "IBM"), at(10, 0, 1), bracketed(limits=mine), settings=FREE)
    alone.cycle(Interval.MIN1)
    alone.go(at(10, 0, 10)).broker.trade_by_hand("IBM", Side.BUY, 3, D(100))
    assert left(heard(alone), bracketed(limits=mine)) == 750


def test_a_grant_allows_as_much_more(tmp_path):
    """D12."""
    stage = staged(tmp_path, bracketed(), risk="1000")
    grant_loss(stage.desk, D(100), actor=PERSON, confirmed=D(100))
    assert left(stage) == 850


def test_it_is_tightened_at_once_and_loosened_by_a_person_who_confirms_it(tmp_path):
    """D17: None allows most."""
    stage = staged(tmp_path, bracketed(), risk="1000")
    tight = bracketed(limits=StrategyLimits(max_day_risk=D(500)))
    controls.revise(stage.desk, tight, actor=PERSON)
    for looser, told in ((D(501), "from 500 to 501"), (None, "from 500 to off")):
        with pytest.raises(PermissionRequired, match=f"max_day_risk {told}"):
            controls.revise(stage.desk, bracketed(limits=StrategyLimits(max_day_risk=looser)), actor=PERSON)
    off = stage.restarted(limits=AccountLimits()).desk
    assert standing(off, off.ledger).effective == risking("1000")
    assert standing(off, off.ledger).unconfirmed == ["max_day_risk from 1000 to off"]


def test_the_gate_counts_again(tmp_path):
    """32, 36: between the proposal and its release somebody buys in the account."""
    late = bracketed(symbols=("AAPL", "IBM"), sizing=FractionSizing(fraction=D("0.01"), stop=D("0.05")))
    stage = staged(tmp_path, late, risk="300")
    assert sorted(row["state"] for row in stage.rows("actions")) == ["consumed", "ready"]
    held = stage.row("positions")["symbol"]
    stage.go(at(10, 0, 10)).broker.trade_by_hand(held, Side.BUY, 3, D(100))
    stage.go(at(10, 0, 40)).release()
    assert said(stage, stage_of="gate") | {"detail": ""} == {
        "rule": "account_day_risk", "outcome": "deny", "measured": "$419.70", "limit": "$300.00", "detail": "",
    }
    assert {row["symbol"] for row in stage.rows("positions")} == {held}
    assert replayed(stage).ok
