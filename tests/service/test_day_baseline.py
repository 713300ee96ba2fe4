"""30: a day is measured from the close of the session before it, also where nobody traded in that one, or nobody closed it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from tests.desks import DAY, OPEN, PERSON, at, bars, floor, market, strategy
from tests.oracle.forging import Forgery, record
from tests.service.pauses import paused
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.sizing import FractionSizing
from trading_pipeline.errors import MarketDataError, StrategyError
from trading_pipeline.oracle import check
from trading_pipeline.service import controls
from trading_pipeline.service.day_baseline import open_session
from trading_pipeline.service.judging.causes import book_of
from trading_pipeline.service.submitter.closing import close_session, overdue_closes

D = Decimal
THURSDAY, FRIDAY = date(2024, 8, 29), date(2024, 8, 30)
LIMITS = AccountLimits(max_day_loss=D(1_000))
BOUGHT = D("-2.50")
"""What 50 shares at $100.00 cost at once."""


def prices(**days):
    """AAPL at $100, and on some days opening and closing elsewhere."""
    named = {"thursday": THURSDAY, "friday": FRIDAY}
    return bars(at={at(9, 30, day=named[day]): (first, max(first, last), min(first, last), last) for day, (first, last) in days.items()})


def holding(tmp_path, *tables, **options):
    """50 shares bought on Wednesday at the open."""
    stage = floor(tmp_path, market(*tables), OPEN, options.pop("spec", strategy()), limits=options.pop("limits", LIMITS), **options)
    stage.cycle()
    return stage


def close(stage, day=DAY):
    return close_session(stage.desk, stage.desk.calendar.session(day))


def opening(stage, day):
    """The payload of a session's opening."""
    return stage.desk.ledger.event_by_key(f"session.opened:{day}").payload


def day_pnl(stage):
    book = book_of(stage.desk, stage.desk.ledger)
    assert book.day_pnl == book.strategy_day_pnl("buyer")
    return book.day_pnl


def idle_thursday(tmp_path, **friday):
    """A strategy that was paused after Wednesday's close, over a Thursday that nobody traded in, at Friday's open."""
    stage = holding(tmp_path, prices(thursday=(100.0, 140.0), **friday))
    close(stage.go(at(16, 5)))
    controls.pause(stage.desk, "buyer", actor=PERSON)
    return stage.go(at(9, 30, 1, day=FRIDAY))


def test_after_days_on_which_nobody_traded_a_day_is_measured_from_the_last_of_them(tmp_path):
    """30, D12: Thursday took the shares to $140; that they open at $115 is a loss of Friday, not a gain since Wednesday."""
    stage = idle_thursday(tmp_path, friday=(115.0, 115.0))
    with pytest.raises(StrategyError, match=r"the account lost \$1,250\.00 today"):
        controls.resume(stage.desk, "buyer", actor=PERSON)
    assert opening(stage, FRIDAY)["baseline_equity"] == "101997.50"
    assert day_pnl(stage) == D(-1_250)


def test_what_was_made_on_days_on_which_nobody_traded_is_none_of_today(tmp_path):
    """30: Thursday's fall is over; Friday begins where it ended."""
    stage = holding(tmp_path, prices(thursday=(100.0, 75.0), friday=(75.0, 75.0)))
    close(stage.go(at(16, 5)))
    controls.pause(stage.desk, "buyer", actor=PERSON)
    controls.resume(stage.go(at(9, 30, 1, day=FRIDAY)).desk, "buyer", actor=PERSON)
    stage.cycle()
    assert (day_pnl(stage), paused(stage)[0]) == (0, "running")


@pytest.mark.parametrize("closed", ["in time", "in the morning", "never"])
def test_a_gap_counts_whenever_the_session_before_it_was_closed(tmp_path, closed):
    """30, 36, D12: 50 shares that closed at $100 open at $75."""
    stage = holding(tmp_path, prices(thursday=(75.0, 75.0)))
    if closed == "in time":
        close(stage.go(at(16, 5)))
    stage.go(at(9, 30, 1, day=THURSDAY))
    if closed == "in the morning":
        [overdue] = overdue_closes(stage.desk)
        report = close_session(stage.desk, overdue)
        assert (report["equity"], report["day_pnl"]) == ("99997.50", "-2.50"), "nothing of Thursday is in it"
        assert (report["strategies"]["buyer"]["day_pnl"], report["cash"]) == ("-2.50", "94997.50")
    stage.cycle()
    assert (day_pnl(stage), paused(stage)) == (-1_250, ("paused_risk", "loss"))
    assert check(record(stage.desk.ledger)) == []


def test_what_a_stop_sold_in_the_gap_is_a_loss_of_that_day(tmp_path):
    """30: an execution after the close is no part of what the account was worth then."""
    spec = strategy(sizing=FractionSizing(fraction=D("0.05"), stop=D("0.10")))
    stage = holding(tmp_path, prices(thursday=(75.0, 75.0)), spec=spec)
    stage.go(at(9, 30, 1, day=THURSDAY)).release()
    assert [row["quantity"] for row in stage.rows("positions")] == [0]
    close(stage)
    stage.cycle()
    assert opening(stage, THURSDAY)["baseline_equity"] == "99997.50"
    assert day_pnl(stage) < -1_250
    assert paused(stage) == ("paused_risk", "loss")


def test_shares_of_others_count_from_when_they_were_bought(tmp_path):
    """28, 30: what somebody else bought this morning was money at the close, and what they held then was theirs already."""
    stage = holding(tmp_path, prices(thursday=(110.0, 110.0)), bars("IBM"))
    stage.broker.trade_by_hand("AAPL", Side.BUY, 10, D(100))
    stage.go(at(15, 0)).release()
    stage.go(at(9, 30, 1, day=THURSDAY))
    stage.broker.trade_by_hand("IBM", Side.BUY, 10, D(100))
    stage.release()
    open_session(stage.desk, THURSDAY)
    before = opening(stage, THURSDAY)
    assert before["prices"] == {"AAPL": "100"}
    assert before["baseline_equity"] == "99996.50", "with a commission of theirs"
    assert book_of(stage.desk, stage.desk.ledger).day_pnl == 10 * 60 - 1
    assert check(record(stage.desk.ledger)) == []


def test_where_the_source_is_silent_the_newest_archived_close_is_what_the_shares_were_worth(tmp_path):
    stage = idle_thursday(tmp_path, friday=(115.0, 115.0))

    class Silent:
        def __getattr__(self, name):
            return getattr(stage.desk.market, name)

        def closed_bars(self, symbols, *_):
            raise MarketDataError("The source is down.", value=symbols, rule="", remedy="")

    silent = replace(stage.desk, market=Silent())
    open_session(silent, FRIDAY)
    assert opening(stage, FRIDAY)["prices"] == {"AAPL": "100"}


@pytest.mark.parametrize(("friday", "worth"), [(100.0, "100"), (300.0, "310")])
def test_a_bad_print_at_the_close_is_believed_if_the_price_of_now_is(tmp_path, friday, worth):
    """36: $310 after weeks at $100; the day's result is the difference of two prices that go together."""
    stage = holding(tmp_path, prices(thursday=(100.0, 310.0), friday=(friday, friday)))
    close(stage.go(at(16, 5)))
    stage.desk.archive.append(stage.desk.market.closed_bars(["AAPL"], Interval.DAY1, OPEN, at(16, 0, day=THURSDAY))["AAPL"])
    open_session(stage.go(at(9, 30, 1, day=FRIDAY)).desk, FRIDAY)
    assert opening(stage, FRIDAY)["prices"] == {"AAPL": worth}
    assert day_pnl(stage) == 50 * (D(friday) - D(worth))


def test_a_first_close_far_from_the_price_of_now_says_nothing(tmp_path):
    """36: with nothing before it, the one that is not confirmed is the older one."""
    stage = holding(tmp_path, bars())
    alone = market(bars(first=DAY, at={at(9, 30): (100.0, 300.0, 100.0, 300.0)}))
    stage = stage.restarted(market=alone, archive=ParquetArchive(tmp_path / "empty")).go(at(9, 30, 1, day=THURSDAY))
    open_session(stage.desk, THURSDAY)
    assert opening(stage, THURSDAY)["prices"] == {"AAPL": "100"}


def test_what_was_executed_on_an_idle_day_is_booked_before_the_day_is_measured(tmp_path):
    """30: Thursday opened at the stop and closed at $140; the shares were gone by then, whoever learns of it when."""
    spec = strategy(sizing=FractionSizing(fraction=D("0.05"), stop=D("0.10")))
    stage = holding(tmp_path, prices(thursday=(85.0, 140.0)), spec=spec)
    close(stage.go(at(16, 5)))
    controls.pause(stage.desk, "buyer", actor=PERSON)
    stage.go(at(9, 30, 1, day=FRIDAY))
    assert open_session(stage.desk, FRIDAY) == ""
    assert [row["quantity"] for row in stage.rows("positions")] == [0]
    assert opening(stage, FRIDAY)["prices"] == {}
    assert abs(day_pnl(stage)) < D("0.01")
    assert check(record(stage.desk.ledger)) == []


def test_no_day_is_measured_while_book_and_broker_disagree(tmp_path):
    """27, 30: it is fixed for the day; until it is, nothing is bought (36)."""
    stage = idle_thursday(tmp_path, friday=(115.0, 115.0))
    with stage.book.change() as book:
        book.cash -= D("0.01")
    assert open_session(stage.desk, FRIDAY).startswith("the day is not measured before book and broker agree: cash: booked")
    assert book_of(stage.desk, stage.desk.ledger).day_pnl is None
    with stage.book.change() as book:
        book.cash += D("0.01")
    assert open_session(stage.desk, FRIDAY) == ""
    assert day_pnl(stage) == -1_250


def test_what_others_held_then_and_no_source_of_ours_knows_keeps_no_day_from_beginning(tmp_path):
    """28, 30: it was theirs, and is sold."""
    stage = holding(tmp_path, prices())
    stage.broker.trade_by_hand("AAPL", Side.BUY, 1, D(100))
    stage.broker.trade_by_hand("ZZZ", Side.BUY, 10, D(7))
    stage.go(at(15, 0)).release()
    stage.go(at(9, 30, 1, day=THURSDAY)).broker.trade_by_hand("ZZZ", Side.SELL, 10, D(9))
    assert open_session(stage.desk, THURSDAY) == ""
    assert opening(stage, THURSDAY)["prices"] == {"AAPL": "100", "ZZZ": "9"}
    assert close(stage)["early_close"] is False


def test_a_split_after_what_is_taken_back_is_taken_back_too(tmp_path):
    """30: 50 shares were sold at the stop on Thursday, and split on Friday; Wednesday is closed then."""
    spec = strategy(sizing=FractionSizing(fraction=D("0.05"), stop=D("0.10")))
    two_for_one = Split("AAPL", FRIDAY, D(2))
    source = market(prices(thursday=(75.0, 75.0), friday=(37.5, 37.5)), splits=[two_for_one])
    stage = floor(tmp_path, source, OPEN, spec, limits=LIMITS)
    stage.cycle()
    stage.go(at(9, 30, 1, day=THURSDAY)).release()
    assert [row["quantity"] for row in stage.rows("positions")] == [0]
    report = close(stage.go(at(9, 30, 1, day=FRIDAY)))
    assert (report["equity"], report["day_pnl"]) == ("99997.50", "-2.50")


def test_no_market_and_no_broker_is_asked_while_the_ledger_waits(tmp_path):
    """42: everybody else waits for it as long."""
    stage = idle_thursday(tmp_path, friday=(115.0, 115.0))
    held = []

    class Watching:
        def __init__(self, port):
            self._port = port

        def __getattr__(self, name):
            if name in ("closed_bars", "quotes"):
                held.append(locked())
            return getattr(self._port, name)

    def locked():
        with ThreadPoolExecutor(1) as other:
            try:
                other.submit(written).result(timeout=5)
            except TimeoutError:
                return True
        return False

    def written():
        with stage.desk.ledger.transaction():
            pass

    assert open_session(replace(stage.desk, market=Watching(stage.desk.market)), FRIDAY) == ""
    assert held
    assert not any(held)


FORGERIES = {
    "of the facts": (lambda fact: fact.update(baseline_equity="101000.00"), "begins with 101000.00 USD, the facts make 101997.5"),
    "of the instant": (lambda fact: fact.update(stood_at="2024-08-28T20:00:00+00:00"), "is measured from 2024-08-28 20:00 UTC"),
    "of the prices": (lambda fact: fact.update(prices={}), "begins without a price of AAPL"),
    "of how": (lambda fact: fact.pop("stood_at"), "goes on from 2024-08-28, and not from 2024-08-29"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_the_oracle_derives_such_a_beginning_by_itself(tmp_path, forgery):
    """30: it is held against the executions, and against the day before."""
    stage = idle_thursday(tmp_path, friday=(115.0, 115.0))
    open_session(stage.desk, FRIDAY)
    forge, said = FORGERIES[forgery]
    forged = Forgery(record(stage.desk.ledger))
    assert check(forged.chained()) == []
    forge(forged.find("session.opened", session=FRIDAY.isoformat())["payload"])
    [found] = [violation for violation in check(forged.chained()) if violation.number == 30]
    assert said in found.says


def test_a_session_opens_once(tmp_path):
    """30: fixed for the day, whoever asks and whatever the prices are then."""
    stage = idle_thursday(tmp_path, friday=(115.0, 115.0))
    open_session(stage.desk, FRIDAY)
    open_session(stage.go(at(12, 0, day=FRIDAY)).desk, FRIDAY)
    assert [event.at for event in stage.events(EventType.SESSION_OPENED)] == [OPEN, at(9, 30, 1, day=FRIDAY)]
