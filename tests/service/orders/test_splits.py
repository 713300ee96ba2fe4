"""Splits of what is held: equity to the cent, protection on the new scale, one fact, book and broker together, whoever is first."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import DAY, NEVER, OPEN, PERSON, Killed, at, bars, calendar, crashing, floor, market, samples, strategy
from trading_pipeline.adapters.brokers.paper import PaperBroker
from trading_pipeline.adapters.brokers.paper_faults import Call, Empty, NotReady
from trading_pipeline.adapters.market_data.splits import SplitsBySymbol
from trading_pipeline.adapters.market_data.table_market import TableMarket
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bars import Interval, instant_ns
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode
from trading_pipeline.errors import BrokerNotReady, StrategyError
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.accounting import compare_with_broker, portfolio_of
from trading_pipeline.service.orders import settlement
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.submitter.closing import close_session

E = EventType
BEFORE = DAY - timedelta(days=1)
AT_OPEN = OPEN + timedelta(seconds=5)
PROTECTED = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"), target=Decimal("0.10"))


def stepping(ratio, price=100.0, day=DAY, **options):
    """A market whose price is divided by the ratio on the day of the split, and a split table that says so."""
    new = {session.open: (price / ratio,) * 4 for session in calendar().between(day, date(2024, 9, 6))}
    return market(bars(at=new, price=price, **options), splits=[Split("AAPL", day, Decimal(str(ratio)))])


def holding(tmp_path, ratio, *specs, price=100.0, **options):
    """Entered on the session before the split, at its first cycle; that session has closed."""
    specs = specs or (strategy(sizing=PROTECTED),)
    stage = floor(tmp_path, stepping(ratio, price), AT_OPEN - timedelta(days=1), *specs, **options)
    stage.cycle()
    while (instant := approvals.next_instant(stage.desk)) is not None and instant < at(16, day=BEFORE):
        stage.go(instant).release()
    stage.go(at(16, day=BEFORE))
    close_session(stage.desk, calendar().session(BEFORE))
    return stage


def agrees(stage):
    """Book, broker, chain and a rebuild say the same."""
    assert compare_with_broker(stage.desk) == []
    assert stage.row("cash")["cash"] == stage.broker.account().cash
    assert stage.verifies()
    before = {table: list(stage.desk.ledger.dump(table)) for table in ("positions", "orders", "cash")}
    stage.desk.ledger.rebuild()
    assert {table: list(stage.desk.ledger.dump(table)) for table in before} == before
    return True


def resting(stage):
    """(type, shares, price) of what rests at the broker."""
    return [(t.order_type.value, t.quantity, t.limit_price or t.stop_price) for t in (order.ticket for order in stage.broker.orders())]


def test_a_held_long_goes_through_four_for_one_with_its_equity_and_its_protection(tmp_path):
    """50 shares at 100 with a stop at 95.01 and a target at 110.03 become 200 at 25 with 23.75 and 27.51: nothing fires."""
    stage = holding(tmp_path, 4)
    before = portfolio_of(stage.desk, stage.desk.ledger)
    [(_, held, stop), (_, _, target)] = resting(stage)
    stage.go(AT_OPEN).cycle()

    [fact] = stage.events(E.CORPORATE_ACTION_SPLIT)
    assert (fact.payload["symbol"], fact.payload["ratio"], fact.payload["in_lieu"]) == ("AAPL", "4", "0.00")
    assert stage.types().index("corporate_action.split") < stage.types().index("llm.requested", stage.types().index("session.closed"))
    position = stage.row("positions")
    assert (position["quantity"], position["cost"]) == (4 * held, before.positions[0].cost)
    assert portfolio_of(stage.desk, stage.desk.ledger).equity == before.equity
    rested = [("stop", 4 * held, (stop / 4).quantize(Decimal("0.01"), "ROUND_FLOOR")),
              ("limit", 4 * held, (target / 4).quantize(Decimal("0.01"), "ROUND_CEILING"))]
    assert resting(stage) == rested
    rows = stage.rows("orders", state="accepted")
    assert sorted((row["order_type"], row["quantity"], row["limit_price"] or row["stop_price"]) for row in rows) == sorted(rested)
    assert len(stage.rows("fills")) == 1, "the stop at the old price did not fire, and nothing was bought"
    assert stage.row("snapshots", session=DAY.isoformat())["day_pnl"] == 0
    assert agrees(stage)


def test_a_reverse_split_pays_the_fraction_in_cash(tmp_path):
    """166 shares at 30 become 16 at 300, and six old shares are paid at 30."""
    stage = holding(tmp_path, 0.1, price=30.0)
    [held] = [position.quantity for position in portfolio_of(stage.desk, stage.desk.ledger).positions]
    assert held % 10, "the example needs a fraction"
    equity, cash = portfolio_of(stage.desk, stage.desk.ledger).equity, stage.row("cash")["cash"]
    stage.go(AT_OPEN).cycle()
    assert stage.row("positions")["quantity"] == held // 10
    assert stage.row("cash")["cash"] == cash + (held % 10) * 30
    assert portfolio_of(stage.desk, stage.desk.ledger).equity == equity
    assert [shares for _, shares, _ in resting(stage)] == [held // 10] * 2
    assert len(stage.rows("fills")) == 1
    assert agrees(stage)


def test_profit_over_the_whole_trade_is_what_cash_says(tmp_path):
    """Bought at 100, split four for one, sold at 25: what is lost is spread, slippage and commission."""
    stage = holding(tmp_path, 4)
    stage.go(AT_OPEN).cycle()
    spec = strategy(agent=ExpressionAgent(NEVER, "close > 0"), sizing=PROTECTED)
    controls.revise(stage.desk, spec, actor=PERSON)
    stage.go(AT_OPEN + timedelta(days=1)).cycle()
    position, cash = stage.row("positions"), stage.row("cash")
    assert position["quantity"] == 0
    assert position["realised"] == cash["cash"] - cash["deposited"]
    assert -20 < position["realised"] < 0
    assert agrees(stage)


def test_two_strategies_share_the_accounts_whole_shares(tmp_path):
    """The broker rounds the account once; the strategies' shares and cash add up to it."""
    sizes = [FractionSizing(fraction=Decimal(text), stop=Decimal("0.05")) for text in ("0.0459", "0.0379")]
    pair = [strategy(name, sizing=size) for name, size in zip(("one", "two"), sizes, strict=True)]
    stage = holding(tmp_path, 0.1, *pair)
    held = {row["strategy"]: row["quantity"] for row in stage.rows("positions")}
    equity = portfolio_of(stage.desk, stage.desk.ledger).equity
    assert all(quantity % 10 > 4 for quantity in held.values()), held
    stage.go(AT_OPEN).cycle()
    after = {row["strategy"]: row["quantity"] for row in stage.rows("positions")}
    assert sum(after.values()) == sum(held.values()) // 10 == stage.broker.positions()["AAPL"]
    assert all(abs(after[name] - held[name] / 10) < 1 for name in held)
    assert portfolio_of(stage.desk, stage.desk.ledger).equity == equity
    fact = stage.events(E.CORPORATE_ACTION_SPLIT)[0].payload
    assert sum(Decimal(part["in_lieu"]) for part in fact["positions"]) == Decimal(fact["in_lieu"])
    assert agrees(stage)


def test_a_crash_before_the_fact_is_written_is_healed_by_the_next_cycle(tmp_path):
    """The broker has split, the ledger has not: the same cycle, begun again, writes it, once."""
    stage = holding(tmp_path, 4)
    equity = portfolio_of(stage.desk, stage.desk.ledger).equity
    stage.go(AT_OPEN)
    with crashing(stage.desk.ledger, "transaction"), pytest.raises(Killed):
        stage.cycle()
    assert stage.broker.positions() == {"AAPL": 4 * stage.row("positions")["quantity"]}
    assert portfolio_of(stage.desk, stage.desk.ledger).equity == equity, "a split that is no fact yet is no loss"
    again = stage.restarted()
    again.cycle()
    assert len(again.events(E.CORPORATE_ACTION_SPLIT)) == 1
    assert agrees(again)


def test_a_broker_that_applies_it_after_the_fact_is_blocked_until_then(tmp_path):
    """The fact first, the broker's shares later: a mismatch in between, no order, and nothing to repair afterwards."""
    stage = holding(tmp_path, 4, strategy())
    held = stage.row("positions")["quantity"]
    controls.revise(stage.desk, strategy(agent=ExpressionAgent(NEVER, "close > 0")), actor=PERSON)
    late = PaperBroker(stage.book, stage.desk.market, stage.clock, calendar(), stage.settings)
    with stage.book.change() as book:
        book.splits.clear()  # a venue that never heard of it
    slow = stage.restarted(broker=late)
    slow.go(AT_OPEN).cycle()
    assert len(slow.events(E.CORPORATE_ACTION_SPLIT)) == 1
    assert compare_with_broker(slow.desk) == [f"AAPL: booked {4 * held} shares, the broker states {held}"]
    assert "unknown_order" in slow.denials()
    prompt = stage.restarted()
    settlement.settle(prompt.desk, Tally("test", prompt.due()))
    assert len(prompt.events(E.CORPORATE_ACTION_SPLIT)) == 1
    assert agrees(prompt)


def test_while_the_broker_is_not_ready_the_split_waits_and_is_no_loss(tmp_path):
    stage = holding(tmp_path, 4)
    equity = portfolio_of(stage.desk, stage.desk.ledger).equity
    stage.faults.on_call(Call.EXECUTIONS, *[NotReady()] * 20).on_call(Call.POSITIONS, *[NotReady()] * 20)
    stage.go(AT_OPEN).cycle()
    assert stage.events(E.CORPORATE_ACTION_SPLIT) == []
    assert stage.row("snapshots", session=DAY.isoformat())["equity"] == equity
    ready = stage.restarted(broker=stage.broker)
    assert "corporate_action.split:AAPL:2024-08-28" in settlement.news(ready.desk)
    ready.go(AT_OPEN + timedelta(minutes=1)).release()
    assert len(ready.events(E.CORPORATE_ACTION_SPLIT)) == 1
    assert agrees(ready)


def test_a_desk_that_was_down_books_the_stop_and_the_split_in_their_order(tmp_path):
    """Closed over the split: the stop on the new scale was reached afterwards; split first, then the fill of new shares."""
    day = DAY + timedelta(days=1)
    prices = {session.open: (25.0,) * 4 for session in calendar().between(DAY, date(2024, 9, 6))}
    prices[calendar().session(day).open] = (25.0, 25.0, 20.0, 20.0)
    source = market(bars(at=prices), splits=[Split("AAPL", DAY, Decimal(4))])
    stage = floor(tmp_path, source, AT_OPEN - timedelta(days=1), strategy(sizing=PROTECTED))
    stage.cycle()
    held = stage.row("positions")["quantity"]
    stage.go(AT_OPEN + timedelta(days=2))
    settlement.settle(stage.desk, Tally("test", stage.due()))
    story = [name for name in stage.types() if name in ("corporate_action.split", "order.filled")]
    assert story == ["order.filled", "corporate_action.split", "order.filled"]
    assert [(row["quantity"], row["side"]) for row in stage.rows("fills", order_by="seq")] == [(held, "buy"), (4 * held, "sell")]
    assert stage.row("positions")["quantity"] == 0
    assert agrees(stage)


def test_a_position_opened_on_the_day_of_the_split_is_left_alone(tmp_path):
    stage = floor(tmp_path, stepping(4), AT_OPEN, strategy(sizing=PROTECTED))
    stage.cycle()
    stage.go(AT_OPEN + timedelta(days=1)).cycle()
    assert stage.events(E.CORPORATE_ACTION_SPLIT) == []
    assert agrees(stage)


def test_row_23_a_change_of_shares_that_no_table_explains_blocks_the_symbol(tmp_path):
    """27, 31, fault 23: the venue splits, our table does not know: never traded to repair."""
    stage = holding(tmp_path, 4)
    blind = stage.restarted(splits={}, broker=stage.broker)
    controls.revise(blind.desk, strategy(agent=ExpressionAgent(NEVER, "close > 0"), sizing=PROTECTED), actor=PERSON)
    blind.go(AT_OPEN).cycle()
    assert [event.payload["reason"] for event in blind.events(E.LLM_ABSTAINED)] == ["bad_print"], "the old close is not believed"
    close_session(blind.go(at(16, 5)).desk, calendar().session(DAY))
    blind.go(AT_OPEN + timedelta(days=1)).cycle()
    assert blind.events(E.CORPORATE_ACTION_SPLIT) == []
    assert len(blind.rows("fills")) == 1
    # To the book it looks like a loss: the strategy waits for a person, and does not go on while the account disagrees.
    assert blind.row("strategies")["reason"].startswith("loss: ")
    with pytest.raises(StrategyError, match="AAPL: booked 50 shares, the broker states 200"):
        controls.resume(blind.desk, "buyer", actor=PERSON)


def test_an_open_proposal_is_void_after_a_split(tmp_path):
    """3.1: what a person was shown is on the old scale."""
    asks = strategy("asks", mode=Mode.APPROVAL, sizing=PROTECTED)
    stage = floor(tmp_path, stepping(4), AT_OPEN - timedelta(days=1), strategy(), asks)
    stage.cycle()
    assert stage.row("approvals")["state"] == "pending"
    stage.go(AT_OPEN)
    settlement.settle(stage.desk, Tally("test", stage.due()))
    assert stage.row("approvals")["state"] == "voided"
    assert stage.row("approvals")["reason"] == "AAPL was split 4 for 1"


def test_average_volume_counts_new_shares_across_a_split(tmp_path):
    """38: a million old shares a session are four million new ones."""
    source = stepping(4, volume=1_000_000)
    stage = floor(tmp_path, source, AT_OPEN, strategy())
    stage.cycle()
    [event] = [event for event in stage.events(E.RISK_EVALUATED) if event.payload["stage"] == "proposal"]
    share = next(verdict for verdict in event.payload["verdicts"] if verdict["rule"] == "volume_share")
    assert "40,000" in share["limit"]


def test_minutes_go_through_a_split_as_days_do(tmp_path):
    """An intraday strategy that holds overnight."""
    new = {slot.start: (25.0,) * 4 for slot in calendar().slots(calendar().session(DAY), Interval.MIN5)}
    table = bars(interval=Interval.MIN5, first=date(2024, 8, 26), last=DAY, at=new)
    source = market(table, splits=[Split("AAPL", DAY, Decimal(4))])
    stage = floor(tmp_path, source, at(9, 35, 5, day=BEFORE), strategy(interval=Interval.MIN5, sizing=PROTECTED))
    stage.cycle(Interval.MIN5)
    equity = portfolio_of(stage.desk, stage.desk.ledger).equity
    stage.go(at(9, 35, 5)).cycle(Interval.MIN5)
    assert portfolio_of(stage.desk, stage.desk.ledger).equity == equity
    assert len(stage.events(E.CORPORATE_ACTION_SPLIT)) == 1
    assert agrees(stage)


def test_apple_was_held_across_its_split_of_2005(tmp_path):
    """Real bars: 88.99 on Friday, 44.86 on Monday, two for one; what the day made is the price's move, not the split's."""
    friday, monday = (calendar().session(date(2005, 2, day)) for day in (25, 28))
    stage = floor(tmp_path, samples(), friday.open + timedelta(seconds=5), strategy(sizing=PROTECTED))
    stage.cycle()
    held = stage.row("positions")["quantity"]
    stage.go(friday.close)
    close_session(stage.desk, friday)
    stage.go(monday.open + timedelta(seconds=5)).cycle()
    assert stage.row("positions")["quantity"] == 2 * held
    stage.go(monday.close)
    report = close_session(stage.desk, monday)
    assert float(report["day_pnl"]) == pytest.approx(held * (2 * 44.86 - 88.99), abs=0.02)
    assert len(stage.rows("fills")) == 1
    assert agrees(stage)


def test_a_process_with_an_older_split_table_cannot_move_the_account(tmp_path):
    """It would sell at the split price: its broker is not ready, and whoever knows the split goes on unharmed."""
    stage = holding(tmp_path, 4)
    equity = portfolio_of(stage.desk, stage.desk.ledger).equity
    stale = stage.restarted(splits={})
    stage.go(AT_OPEN)
    with pytest.raises(BrokerNotReady, match="AAPL split 4 for 1 at 2024-08-28 13:30 UTC, which this process does not know"):
        settlement.news(stale.desk)
    stage.cycle()
    assert [row["side"] for row in stage.rows("fills")] == ["buy"]
    assert portfolio_of(stage.desk, stage.desk.ledger).equity == equity
    assert agrees(stage)


def test_a_split_that_is_learned_with_the_first_price_after_it_comes_before_the_stop(tmp_path):
    """A source such as Yahoo names a split on its day, with the first bar on the new scale."""
    known = stepping(4).splits

    class Learning(TableMarket):
        heard: tuple[Split, ...] = ()

        @property
        def splits(self):
            return self.heard

        def _look(self, instant):
            if instant >= OPEN:
                self.heard = known

        def closed_bars(self, symbols, interval, after, until):
            self._look(until)
            return super().closed_bars(symbols, interval, after, until)

        def opening_bar(self, symbol, interval, at):
            self._look(at)
            return super().opening_bar(symbol, interval, at)

        def quotes(self, symbols, at):
            if symbols:
                self._look(at)
            return super().quotes(symbols, at)

    new = {session.open: (25.0,) * 4 for session in calendar().between(DAY, date(2024, 9, 6))}
    for protected in (True, False):
        source = Learning("learning", [bars(at=new)], calendar())
        splits = SplitsBySymbol(lambda source=source: source.splits)
        spec = strategy(sizing=PROTECTED) if protected else strategy()
        stage = floor(tmp_path / str(protected), source, AT_OPEN - timedelta(days=1), spec, splits=splits)
        stage.cycle()
        equity = portfolio_of(stage.desk, stage.desk.ledger).equity
        stage.go(AT_OPEN)
        source.heard = ()
        assert portfolio_of(stage.desk, stage.desk.ledger).equity == equity
        source.heard = ()
        assert stage.broker.account().equity == equity
        source.heard = ()
        stage.cycle()
        assert [row["side"] for row in stage.rows("fills")] == ["buy"]
        assert len(stage.events(E.CORPORATE_ACTION_SPLIT)) == 1
        assert portfolio_of(stage.desk, stage.desk.ledger).equity == equity
        assert agrees(stage)


def test_one_wrongly_empty_answer_at_a_split_leaves_no_order_on_the_old_scale(tmp_path):
    stage = holding(tmp_path, 4)
    stage.faults.on_call(Call.ORDERS, Empty())
    stage.go(AT_OPEN)
    tally = Tally("test", stage.due())
    settlement.settle(stage.desk, tally)
    assert stage.events(E.CORPORATE_ACTION_SPLIT) == []
    assert "which it has accepted" in tally.notes[0]
    settlement.settle(stage.desk, Tally("test", stage.due()))
    [fact] = stage.events(E.CORPORATE_ACTION_SPLIT)
    assert len(fact.payload["orders"]) == 2
    assert {row["quantity"] for row in stage.rows("orders", state="accepted")} == {200}
    assert agrees(stage)


def test_fractions_are_booked_at_the_price_that_the_broker_paid(tmp_path):
    """The day's last bar, at 36, comes after the broker has paid six of 166 shares at 30; the ledger books those 180 dollars."""
    slots = calendar().slots(calendar().session(BEFORE), Interval.MIN5)
    new = {slot.start: (300.0,) * 4 for slot in calendar().slots(calendar().session(DAY), Interval.MIN5)}
    new[slots[-1].start] = (30.0, 36.0, 30.0, 36.0)
    whole = bars(interval=Interval.MIN5, first=date(2024, 8, 26), last=DAY, at=new, price=30.0)
    splits = [Split("AAPL", DAY, Decimal("0.1"))]
    early = market(whole.where(whole.start != instant_ns(slots[-1].start)), splits=splits)
    stage = floor(tmp_path, early, at(9, 35, 5, day=BEFORE), strategy(interval=Interval.MIN5))
    stage.cycle(Interval.MIN5)
    assert stage.row("positions")["quantity"] == 166
    stage.go(OPEN + timedelta(seconds=1)).broker.positions()
    later = stage.restarted(market=market(whole, splits=splits))
    later.go(at(9, 35, 5)).cycle(Interval.MIN5)
    [fact] = later.events(E.CORPORATE_ACTION_SPLIT)
    assert (fact.payload["in_lieu"], Decimal(fact.payload["close"])) == ("180.00", 30)
    assert agrees(later)


@pytest.mark.parametrize(("ratio", "sold"), [(2, 18), (2, 50), (1.25, 15), (0.1, 7)])
def test_what_somebody_else_has_sold_of_a_holding_is_split_with_it(tmp_path, ratio, sold):
    """28, 31: the strategy's book says 50, the account has fewer; afterwards both are on the new scale, and agree."""
    stage = floor(tmp_path, stepping(ratio), AT_OPEN - timedelta(days=1), strategy())
    stage.cycle()
    stage.go(at(10, day=BEFORE)).broker.trade_by_hand("AAPL", Side.SELL, sold, Decimal(100))
    settlement.settle(stage.desk, Tally("test", stage.due()))
    stage.go(at(16, day=BEFORE))
    close_session(stage.desk, calendar().session(BEFORE))
    equity = portfolio_of(stage.desk, stage.desk.ledger).equity
    stage.go(AT_OPEN).cycle()
    [fact] = stage.events(E.CORPORATE_ACTION_SPLIT)
    assert {part["strategy"]: part["before"] for part in fact.payload["positions"]} == {"EXTERNAL": -sold, "buyer": 50}
    assert sum(part["quantity"] for part in fact.payload["positions"]) == stage.broker.positions().get("AAPL", 0)
    assert portfolio_of(stage.desk, stage.desk.ledger).equity == equity
    assert agrees(stage)
