"""The stepped engine: every instant in its order, the same ledger each time, and a person who is played."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import OPEN, at, bars, calendar, strategy
from tests.service.backtests.benches import FIRST, LAST, bench_of, crossing, other_close, plan
from trading_pipeline.bootstrap_backtests import open_bench
from trading_pipeline.domain.bars import Interval, instant_ns
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.strategies import FractionSizing, Lifetime, Mode
from trading_pipeline.homes import packaged_strategies
from trading_pipeline.service.backtests.engines import Engine, run
from trading_pipeline.service.record.judgement import judge
from trading_pipeline.service.record.verification import verify
from trading_pipeline.settings import Settings

E = EventType


def stepped(folder, wanted, *tables, splits=()):
    """The ledger of a plan on these bars."""
    with bench_of(folder, wanted, *tables, splits=splits) as bench:
        return run(bench, wanted, engine=Engine.STEPPED).ledger


def of(ledger, *types):
    return ledger.events(types=types)


def test_a_daily_strategy_buys_at_the_first_open_at_the_price_of_the_open(tmp_path):
    """5 % of 100,000 USD at 100 USD, decided on the close before."""
    ledger = stepped(tmp_path, plan())
    [fill] = ledger.find("fills")
    assert (fill["quantity"], fill["price"], fill["at"]) == (50, Decimal(100), calendar().session(FIRST).open)
    assert [row["session"] for row in ledger.find("sessions", state="closed")] == [f"2024-08-{day}" for day in (26, 27, 28, 29, 30)]


def test_it_begins_a_minute_before_the_first_open_in_the_environment_backtest(tmp_path):
    ledger = stepped(tmp_path, plan())
    opened, created = ledger.event(1), of(ledger, E.STRATEGY_CREATED)[0]
    assert opened.payload["environment"] == "backtest"
    assert opened.at == created.at == calendar().session(FIRST).open - timedelta(minutes=1)
    assert created.actor == "backtest:person"


@pytest.fixture(scope="module")
def through_a_split(tmp_path_factory):
    """The packaged strategies on real daily bars, one that asks a person, over Apple's two for one of 2005-02-28."""
    settings = Settings(home=tmp_path_factory.mktemp("samples"), market={"source": "samples"})
    specs = tuple(replace(spec, symbols=("AAPL",), chart=None) for spec in packaged_strategies())
    wanted = plan(*specs, first=date(2005, 2, 22), last=date(2005, 3, 4))
    found = []
    for _ in range(2):
        with open_bench(settings, wanted) as bench:
            found.append(run(bench, wanted, engine=Engine.STEPPED))
    return found


def test_the_same_plan_on_the_same_bars_gives_the_same_ledger_hash_for_hash(through_a_split):
    first, second = (each.ledger for each in through_a_split)
    assert first.head() == second.head()
    assert [event.payload_text for event in first.events()] == [event.payload_text for event in second.events()]


def test_the_ledger_verifies_and_keeps_the_invariants(through_a_split):
    ledger = through_a_split[0].ledger
    assert verify(ledger).difference is None
    assert judge(ledger, 1, None).violations == ()


def test_a_split_inside_is_a_fact_and_doubles_what_is_held(through_a_split):
    backtest = through_a_split[0]
    [split] = of(backtest.ledger, E.CORPORATE_ACTION_SPLIT)
    assert (split.payload["symbol"], Decimal(split.payload["ratio"])) == ("AAPL", 2)
    assert any("AAPL 2 for 1 on 2005-02-28" in sentence for sentence in backtest.assumptions)


def test_every_proposal_is_approved_at_once_by_the_person_who_is_played_and_sent_with_what_was_shown(tmp_path):
    """44: a person approves, also here; the environment names the one who does."""
    wanted = plan(strategy(mode=Mode.APPROVAL))
    with bench_of(tmp_path, wanted) as bench:
        backtest = run(bench, wanted, engine=Engine.STEPPED)
    [asked], [approved] = of(backtest.ledger, E.APPROVAL_REQUESTED), of(backtest.ledger, E.APPROVAL_APPROVED)
    assert (approved.actor, approved.at) == ("backtest:person", asked.at)
    assert approved.payload["hash"] == asked.payload["hash"]
    assert len(backtest.ledger.find("fills")) == 1
    assert any("approved at once" in sentence for sentence in backtest.assumptions)


def test_signals_of_one_cycle_are_sent_thirty_seconds_apart(tmp_path):
    """68: paced, and the engine stops at each release."""
    symbols = ("AAPL", "MSFT", "IBM")
    ledger = stepped(tmp_path, plan(strategy(symbols=symbols)), *(bars(symbol) for symbol in symbols))
    sent = [event.at for event in of(ledger, E.ORDER_SUBMITTED)]
    opened = calendar().session(FIRST).open
    assert sent == [opened, opened + timedelta(seconds=30), opened + timedelta(seconds=60)]


def test_a_stop_that_a_bar_reaches_sells_at_its_price_and_the_close_of_that_session_knows(tmp_path):
    crash = {calendar().session(date(2024, 8, 27)).open: (100.0, 100.0, 90.0, 99.0)}
    spec = strategy(sizing=FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05")))
    ledger = stepped(tmp_path, plan(spec, last=date(2024, 8, 27)), bars(at=crash))
    bought, sold = ledger.find("fills", order_by="seq")
    assert (bought["price"], sold["price"], sold["quantity"]) == (Decimal(100), Decimal(95), 50)
    [closed] = [event for event in of(ledger, E.SESSION_CLOSED) if event.payload["session"] == "2024-08-27"]
    assert Decimal(closed.payload["closing_equity"]) == Decimal("99750.00")


def test_intraday_bars_decide_at_their_close_and_the_last_one_of_a_session_decides_nothing(tmp_path):
    """D27: what it would have bought is bought by the first bar of the next session."""
    table = bars(interval=Interval.HOUR1, first=date(2024, 8, 20), price=101.0)
    for start in (at(15, 30), at(9, 30, day=date(2024, 8, 29))):
        table = other_close(table, int((table.start == instant_ns(start)).argmax()), 99.0)
    ledger = stepped(tmp_path, plan(crossing(interval=Interval.HOUR1), first=date(2024, 8, 28), last=date(2024, 8, 29)), table)
    fills = ledger.find("fills", order_by="seq")
    assert fills[0]["at"] == at(10, 30, day=date(2024, 8, 29))


def test_a_strategy_for_one_session_goes_on_with_the_next(tmp_path):
    table = bars(interval=Interval.HOUR1, first=date(2024, 8, 20))
    wanted = plan(strategy(interval=Interval.HOUR1, lifetime=Lifetime.SESSION))
    with bench_of(tmp_path, wanted, table) as bench:
        backtest = run(bench, wanted, engine=Engine.STEPPED)
    assert backtest.ledger.get("strategies", "buyer")["state"] == "running"
    assert any("lives for one session" in sentence for sentence in backtest.assumptions)


def test_a_strategy_that_lost_its_days_most_stays_paused_for_a_person_who_is_not_there_and_the_result_says_so(tmp_path):
    """D12: nobody grants more."""
    fall = {calendar().session(date(2024, 8, 28)).open: (90.0, 90.0, 90.0, 90.0)}
    spec = strategy(limits=StrategyLimits(max_day_loss=Decimal(100)))
    wanted = plan(spec)
    with bench_of(tmp_path, wanted, bars(at=fall)) as bench:
        backtest = run(bench, wanted, engine=Engine.STEPPED)
    assert backtest.ledger.get("strategies", "buyer")["state"] == "paused_risk"
    [said] = [sentence for sentence in backtest.assumptions if "buyer is paused" in sentence]
    assert "2024-08-28" in said


def test_nothing_before_a_bar_changes_when_that_bar_and_all_after_it_change(tmp_path):
    """No look-ahead: the facts up to an instant follow from the bars up to it."""
    table = bars(interval=Interval.HOUR1, first=date(2024, 8, 20), price=99.0)
    changed, since = table, int((table.start == instant_ns(OPEN)).argmax())
    for index in range(since, len(table)):
        changed = other_close(changed, index, 101.0)
    wanted = plan(crossing(interval=Interval.HOUR1))
    ledgers = [stepped(tmp_path / str(number), wanted, each) for number, each in enumerate((table, changed))]
    before = [[event.payload_text for event in ledger.events() if event.at <= OPEN] for ledger in ledgers]
    assert before[0] == before[1]
    assert ledgers[0].head() != ledgers[1].head()


def test_progress_is_told_session_by_session_when_its_facts_are_there(tmp_path):
    told = []
    with bench_of(tmp_path, plan()) as bench:
        ledger = bench.ledger(plan())

        def progress(done, of, day):
            told.append((done, of, day, ledger.get("sessions", day.isoformat())["state"]))

        run(bench, plan(), engine=Engine.STEPPED, progress=progress, ledger=ledger)
    assert told == [(number, 5, FIRST + timedelta(days=number - 1), "closed") for number in range(1, 6)]
    assert told[-1][2] == LAST
