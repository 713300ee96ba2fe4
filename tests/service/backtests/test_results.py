"""What came of a ledger, to the cent by hand: fills at 100 cost 0.03 a share more or less, and every order a dollar."""

from dataclasses import fields
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pytest

from tests.desks import DAY, NEVER, OPEN, PERSON, at, bars, calendar, floor, market, strategy
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.backtests import ExitReason
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing
from trading_pipeline.errors import InputError
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.backtests.results import result_of
from trading_pipeline.service.submitter.closing import close_session

D = Decimal
NEXT = DAY + timedelta(days=1)
AT_OPEN = OPEN + timedelta(seconds=5)
SELLS = ExpressionAgent(NEVER, "close > 0")
PROTECTED = FractionSizing(fraction=D("0.05"), stop=D("0.05"), target=D("0.10"))


def bought(tmp_path, source=None, *specs, **options):
    """50 shares of AAPL at 100.03 on Wednesday, whose session has closed."""
    stage = floor(tmp_path, source or market(bars()), AT_OPEN, *(specs or (strategy(),)), **options)
    stage.cycle()
    while (paced := approvals.next_instant(stage.desk)) is not None and paced < at(16):
        stage.go(paced).release()
    return closed(stage, DAY)


def closed(stage, day):
    stage.go(at(16, day=day))
    close_session(stage.desk, calendar().session(day))
    return stage


def sold(stage, **changes):
    """On Thursday's open, by a signal."""
    controls.revise(stage.desk, strategy(agent=SELLS, **changes), actor=PERSON)
    stage.go(AT_OPEN + timedelta(days=1)).cycle()
    return closed(stage, NEXT)


def test_a_trade_from_flat_to_flat_and_the_sessions_around_it(tmp_path):
    """Bought for 5,001.50 and $1, sold for 4,998.50 less $1."""
    found = result_of(sold(bought(tmp_path)).desk.ledger)
    assert found.sessions == (DAY, NEXT)
    assert found.equity.tolist() == [99_997.5, 99_995.0] and found.cash == 100_000
    assert found.invested.tolist() == [5_000, 0]
    assert found.traded.tolist() == [5_001.5, 4_998.5] and found.commissions.tolist() == [1, 1]
    [trade] = found.trades
    assert (trade.strategy, trade.symbol, trade.shares, trade.sessions) == ("buyer", "AAPL", 50, 2)
    assert (trade.entry_price, trade.exit_price, trade.result, trade.commissions) == (D("100.03"), D("99.97"), D("-5.00"), D(2))
    assert (trade.entry_at, trade.exit_at) == (AT_OPEN, AT_OPEN + timedelta(days=1))
    assert trade.exit_reason is ExitReason.SIGNAL
    assert found.decisions == {"buy": 1, "sell": 1} and found.denials == {}


def test_what_is_still_held_is_valued_at_the_close(tmp_path):
    """50 at 100 for what cost 5,002.50."""
    found = result_of(bought(tmp_path).desk.ledger)
    [trade] = found.trades
    assert (trade.exit_reason, trade.exit_price, trade.result, trade.exit_at) == (ExitReason.OPEN, D(100), D("-2.50"), at(16))
    assert trade.sessions == 1


@pytest.mark.parametrize(("prices", "reason"), [((100, 100, 90, 92), ExitReason.STOP), ((100, 120, 99, 119), ExitReason.TARGET)])
def test_the_order_that_closed_it_says_why(tmp_path, prices, reason):
    source = market(bars(at={OPEN + timedelta(days=1): prices}))
    stage = bought(tmp_path, source, strategy(sizing=PROTECTED))
    stage.go(AT_OPEN + timedelta(days=1)).cycle()
    found = result_of(closed(stage, NEXT).desk.ledger)
    [fill] = stage.rows("fills", side="sell")
    [trade] = found.trades
    assert (trade.exit_reason, trade.exit_price) == (reason, fill["price"])
    assert (trade.result > 0) is (reason is ExitReason.TARGET)
    assert found.equity[-1] == pytest.approx(100_000 + float(trade.result))


def stepping(ratio, price=100.0):
    new = {session.open: (price / ratio,) * 4 for session in calendar().between(NEXT, date(2024, 9, 6))}
    return market(bars(at=new, price=price), splits=[Split("AAPL", NEXT, D(str(ratio)))])


def test_a_trade_through_a_split_is_told_in_shares_as_they_were_at_its_end(tmp_path):
    """50 at 100.03 are 200 at 25.0075, sold at 25 less 0.03 %."""
    found = result_of(sold(bought(tmp_path, stepping(4))).desk.ledger)
    [trade] = found.trades
    assert (trade.shares, trade.entry_price, trade.exit_price, trade.result) == (200, D("25.0075"), D("24.9925"), D("-5.00"))


def test_a_fraction_paid_in_cash_is_sold(tmp_path):
    """166 at 30.009 cost 4,981.494; six old shares are paid at 30, the 16 new ones are sold at 299.91."""
    found = result_of(sold(bought(tmp_path, stepping(0.1, 30.0))).desk.ledger)
    [trade] = found.trades
    assert (trade.shares, trade.entry_price) == (16, D("300.09"))
    assert trade.exit_price == (D("4978.56") / D("16.6")).quantize(D("0.000001"))
    assert trade.result == D("-4.93") and trade.exit_reason is ExitReason.SIGNAL
    assert found.equity[-1] == pytest.approx(100_000 + float(trade.result), abs=0.01)


def test_a_split_while_it_is_open(tmp_path):
    stage = bought(tmp_path, stepping(4))
    stage.go(AT_OPEN + timedelta(days=1)).cycle()
    [trade] = result_of(closed(stage, NEXT).desk.ledger).trades
    assert (trade.shares, trade.entry_price, trade.exit_price, trade.result) == (200, D("25.0075"), D(25), D("-2.50"))


def two_held(tmp_path):
    source = market(bars(), bars("MSFT", price=50.0))
    return bought(tmp_path, source, strategy(), strategy("other", symbols=("MSFT",)))


def test_several_symbols_are_valued_at_the_closes_that_are_given_or_at_the_newest_snapshot(tmp_path):
    ledger = two_held(tmp_path).desk.ledger
    assert {trade.symbol: trade.exit_price for trade in result_of(ledger).trades} == {"AAPL": D(100), "MSFT": D(50)}
    given = result_of(ledger, marks={"AAPL": D(101), "MSFT": D(51)})
    assert {trade.symbol: trade.result for trade in given.trades} == {"AAPL": D("47.50"), "MSFT": D("97.50")}, "50 and 100 shares"


def test_a_trade_belongs_to_the_sessions_that_it_ends_in(tmp_path):
    """Wednesday alone has it open, Thursday alone has it closed and begins with what Wednesday left."""
    ledger = sold(bought(tmp_path)).desk.ledger
    first, second = result_of(ledger, last=DAY), result_of(ledger, first=NEXT)
    assert [trade.exit_reason for trade in first.trades] == [ExitReason.OPEN] and first.trades[0].result == D("-2.50")
    assert [trade.exit_reason for trade in second.trades] == [ExitReason.SIGNAL] and second.cash == 99_997.5
    assert (first.decisions, second.decisions) == ({"buy": 1}, {"sell": 1})


def test_what_stopped_a_proposal_is_counted_by_rule(tmp_path):
    stage = bought(tmp_path, limits=AccountLimits(forbidden_symbols=frozenset({"AAPL"})))
    found = result_of(stage.desk.ledger)
    assert found.denials == dict.fromkeys(stage.denials(), 1) and found.denials
    assert (found.trades, found.equity.tolist()) == ((), [100_000.0])


def test_money_paid_in_meanwhile_is_no_gain_and_is_said(tmp_path):
    stage = bought(tmp_path)
    with stage.desk.ledger.transaction() as tx:
        payload = {"account": "PAPER-1", "amount": D(50_000), "source": "user"}
        tx.append(NewEvent(EventType.ACCOUNT_FUNDED, "account", "more", payload, stage.desk.now(), PERSON))
    found = result_of(sold(stage).desk.ledger)
    assert found.equity.tolist() == [99_997.5, 99_995.0]
    assert any("paid in" in sentence for sentence in found.assumptions)


def test_a_ledger_without_a_close_has_no_result_and_says_what_it_has(tmp_path):
    stage = floor(tmp_path, market(bars()), AT_OPEN, strategy())
    with pytest.raises(InputError, match="none at all"):
        result_of(stage.desk.ledger)
    stage.cycle()
    closed(stage, DAY)
    with pytest.raises(InputError, match="2024-08-28 to 2024-08-28"):
        result_of(stage.desk.ledger, first=NEXT)


def test_what_is_said_of_it_comes_with_it(tmp_path):
    said = ("Bars were written by hand.",)
    assert result_of(bought(tmp_path).desk.ledger, assumptions=said).assumptions == said


def test_postgresql_and_memory_give_the_same_result(tmp_path, postgres_ledger):
    """Two symbols, one of them sold, and a denial: read from either, it is the same."""
    limits = AccountLimits(forbidden_symbols=frozenset({"IBM"}))
    specs = strategy(), strategy("other", symbols=("MSFT", "IBM"))
    source = market(bars(), bars("MSFT", price=50.0), bars("IBM", price=70.0))
    stored = [
        result_of(sold(bought(tmp_path / name, source, *specs, limits=limits, **more)).desk.ledger)
        for name, more in (("memory", {}), ("postgresql", {"ledger": postgres_ledger}))
    ]
    one, other = (
        [each.tolist() if isinstance(each, np.ndarray) else each for each in (getattr(result, field.name) for field in fields(result))]
        for result in stored
    )
    assert one == other and len(stored[0].trades) == 2 and stored[0].denials
