"""A bad print in the newest bar: dropped or not believed, said in words, never traded."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from tests.desks import CLOSE, DAY, NEVER, OPEN, PERSON, bars, calendar, floor, market, strategy
from trading_pipeline.adapters.market_data.files import ImportOptions, import_file
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing
from trading_pipeline.service import controls
from trading_pipeline.service.accounting import portfolio_of

E = EventType
YESTERDAY = OPEN - timedelta(days=1)
AT_OPEN = OPEN + timedelta(seconds=5)
CORPUS = Path(__file__).parents[3].parent / "shared" / "data"
real = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real bars is not beside this checkout")


def closing(close, **options):
    """A calm market at 100, but for the close of yesterday's bar."""
    return market(bars(at={YESTERDAY: (100.0, max(close, 100.0), min(close, 100.0), close)}), **options)


def abstained(stage):
    return [(event.payload["symbol"], event.payload["reason"]) for event in stage.events(E.LLM_ABSTAINED)]


@pytest.mark.parametrize("close", [1000.0, 10.0, 0.01])
def test_a_newest_close_ten_times_off_is_dropped_and_nothing_is_decided(tmp_path, close):
    """fault 50: drop, event, HOLD."""
    stage = floor(tmp_path, closing(close), AT_OPEN - timedelta(days=1), strategy(agent=ExpressionAgent(NEVER, NEVER)))
    stage.cycle()
    stage.go(AT_OPEN)
    stage.cycle()
    [dropped] = stage.events(E.BAR_DROPPED)
    assert "10 times away from both neighbours" in dropped.payload["reason"]
    assert abstained(stage) == [("AAPL", "no_bar")]
    assert stage.rows("actions") == []
    assert stage.desk.archive.read("AAPL", Interval.DAY1, until=OPEN).close.max() == 100.0, "no indicator ever sees it"


@pytest.mark.parametrize("close", [160.0, 40.0, 0.5])
def test_a_newest_close_far_from_the_quote_is_not_believed(tmp_path, close):
    """fault 50."""
    stage = floor(tmp_path, closing(close), AT_OPEN, strategy(agent=ExpressionAgent("close > 0")))
    stage.desk.archive.append(closing(close).closed_bars(["AAPL"], Interval.DAY1, None, OPEN)["AAPL"])
    stage.cycle()
    assert abstained(stage) == [("AAPL", "bad_print")]
    [event] = stage.events(E.LLM_ABSTAINED)
    assert f"closed at {Decimal(str(close)):f}".rstrip("0").rstrip(".") in event.payload["detail"]
    assert "its price is now 100" in event.payload["detail"]
    assert "at most 50% is believed" in event.payload["detail"]
    assert stage.rows("actions") == []
    assert stage.asked.questions == []


def test_what_is_held_is_not_sold_on_a_bad_print(tmp_path):
    """The protective stop is at the broker and works on prices, not on the bar."""
    stage = floor(tmp_path, closing(45.0), AT_OPEN - timedelta(days=1), strategy())
    stage.cycle()
    controls.revise(stage.desk, strategy(agent=ExpressionAgent(NEVER, "close < 90")), actor=PERSON)
    stage.go(AT_OPEN).cycle()
    assert abstained(stage) == [("AAPL", "bad_print")]
    assert [row["side"] for row in stage.rows("fills")] == ["buy"]


def test_one_symbols_bad_print_is_no_other_symbols_affair(tmp_path):
    source = market(bars(at={YESTERDAY: (100.0, 300.0, 100.0, 300.0)}), bars("IBM"))
    stage = floor(tmp_path, source, AT_OPEN, strategy(symbols=("AAPL", "IBM")))
    stage.cycle()
    assert abstained(stage) == [("AAPL", "bad_print")]
    assert [row["symbol"] for row in stage.rows("actions")] == ["IBM"]


def test_a_large_real_gap_is_decided_on(tmp_path):
    """44 % overnight has happened to a large company."""
    stage = floor(tmp_path, closing(144.0), AT_OPEN, strategy())
    stage.cycle()
    assert abstained(stage) == []


def test_how_far_is_believed_is_a_setting(tmp_path):
    stage = floor(tmp_path, closing(111.0), AT_OPEN, strategy(), limits=AccountLimits(max_bar_gap=Decimal("0.1")))
    stage.cycle()
    assert abstained(stage) == [("AAPL", "bad_print")]


def test_minutes_are_measured_by_the_open_that_follows(tmp_path):
    start = OPEN + timedelta(minutes=5)
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=DAY, at={start: (100.0, 1200.0, 100.0, 1200.0)}))
    stage = floor(tmp_path, source, OPEN + timedelta(minutes=5, seconds=1), strategy(interval=Interval.MIN5, agent=ExpressionAgent(NEVER)))
    stage.cycle(Interval.MIN5)
    stage.go(OPEN + timedelta(minutes=10, seconds=1)).cycle(Interval.MIN5)
    assert len(stage.events(E.BAR_DROPPED)) == 1
    assert abstained(stage) == [("AAPL", "no_bar")]


@pytest.mark.parametrize("print_", [900.0, 300.0, 20.0])
def test_a_print_that_is_not_believed_is_neither_filled_nor_valued(tmp_path, print_):
    """The open of the running bar: the stop at 95 and the target at 110 stay, IBM is sized by what the account is worth."""
    source = market(bars(at={OPEN: (print_, max(print_, 100.0), min(print_, 100.0), 100.0)}), bars("IBM"))
    protected = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"), target=Decimal("0.10"))
    stage = floor(tmp_path, source, AT_OPEN - timedelta(days=1), strategy(sizing=protected))
    stage.cycle()
    equity = portfolio_of(stage.desk, stage.desk.ledger).equity
    stage.run(strategy("other", symbols=("IBM",)))
    result = stage.go(AT_OPEN).cycle()["portfolio_snapshots"]
    assert abstained(stage) == [("AAPL", "bad_print")]
    assert [(row["symbol"], row["side"], row["quantity"]) for row in stage.rows("fills", order_by="seq")] == [
        ("AAPL", "buy", 50), ("IBM", "buy", 49)
    ]
    [said] = [note for note in result.notes if "not believed" in note]
    assert said == f"AAPL: its price {print_:.0f} is not believed yet, it is valued at 100"
    costs = stage.rows("fills", symbol="IBM")[0]
    lost = costs["quantity"] * (costs["price"] - 100) + costs["commission"]
    assert stage.rows("snapshots", session=DAY.isoformat())[-1]["equity"] == equity - lost
    stage.go(AT_OPEN + timedelta(days=1)).cycle()
    assert len(stage.rows("fills")) == 2, "nor by the range of that bar, once it has closed"


def test_a_close_that_nothing_has_confirmed_is_no_days_profit(tmp_path):
    """After the session a quote is that very close; the open that follows tells, here that the move has stayed."""
    new = {session.open: (300.0,) * 4 for session in calendar().between(date(2024, 8, 29), date(2024, 9, 6))}
    source = market(bars(at={OPEN: (100.0, 300.0, 100.0, 300.0), **new}))
    stage = floor(tmp_path, source, AT_OPEN - timedelta(days=1), strategy())
    stage.cycle()
    stage.go(AT_OPEN).cycle()
    equity = portfolio_of(stage.desk, stage.desk.ledger).equity
    stage.desk.archive.append(source.closed_bars(["AAPL"], Interval.DAY1, OPEN, CLOSE)["AAPL"])
    stage.go(CLOSE)
    assert portfolio_of(stage.desk, stage.desk.ledger).equity == equity
    stage.go(AT_OPEN + timedelta(days=1)).cycle()
    assert portfolio_of(stage.desk, stage.desk.ledger).equity == equity + 200 * stage.row("positions")["quantity"]


class Mute:
    """A source whose quotes come late: so many looks go unanswered."""

    def __init__(self, source, looks=0):
        self.source, self.looks = source, looks

    def __getattr__(self, name):
        return getattr(self.source, name)

    def quotes(self, symbols, at):
        if self.looks and symbols:
            self.looks -= 1
            return {}
        return self.source.quotes(symbols, at)


def test_without_a_quote_nothing_is_decided(tmp_path):
    """33: what nobody confirms is not believed, though the price comes back in time for an order."""
    source = Mute(closing(300.0))
    stage = floor(tmp_path, source, AT_OPEN - timedelta(days=1), strategy(agent=ExpressionAgent("close > 150", NEVER)))
    stage.cycle()
    source.looks = 2
    stage.go(AT_OPEN).cycle()
    assert source.looks == 0
    assert abstained(stage) == [("AAPL", "no_quote")]
    assert "nothing confirms the close" in stage.events(E.LLM_ABSTAINED)[0].payload["detail"]
    assert stage.rows("actions") == []


@pytest.mark.parametrize(("close", "stays"), [(1200.0, False), (8.0, False), (1200.0, True)])
def test_a_spike_that_no_quote_confirms_waits_outside_the_archive_until_the_next_price(tmp_path, close, stays):
    new = {session.open: (close,) * 4 for session in calendar().between(DAY, date(2024, 9, 6))} if stays else {}
    source = Mute(market(bars(at={YESTERDAY: (100.0, max(close, 100.0), min(close, 100.0), close), **new})))
    stage = floor(tmp_path, source, AT_OPEN - timedelta(days=1), strategy(agent=ExpressionAgent(NEVER, NEVER)))
    stage.cycle()
    source.looks = 1
    result = stage.go(AT_OPEN).cycle()["bars"]
    assert result.counts["doubtful"] == 1
    assert "no quote confirms it" in result.notes[0]
    assert abstained(stage) == [("AAPL", "no_bar")]
    assert set(stage.desk.archive.read("AAPL", Interval.DAY1, until=OPEN).close) == {100.0}
    stage.go(AT_OPEN + timedelta(days=1)).cycle()
    archived = stage.desk.archive.read("AAPL", Interval.DAY1, until=OPEN + timedelta(days=1), count=3).close.tolist()
    assert archived == ([100.0, close, close] if stays else [100.0, 100.0, 100.0])
    assert len(stage.events(E.BAR_DROPPED)) == (0 if stays else 1)


@pytest.mark.parametrize(("close", "entry", "exit_"), [(900.0, NEVER, "close < sma_5"), (20.0, "close > sma_5", NEVER)])
def test_a_print_that_was_refused_is_not_traded_one_bar_later(tmp_path, close, entry, exit_):
    """Both neighbours at 100: what was not believed as the newest bar is in no average of the next one."""
    stage = floor(tmp_path, closing(close), AT_OPEN - timedelta(days=1), strategy(agent=ExpressionAgent(NEVER, NEVER)))
    if entry == NEVER:
        controls.revise(stage.desk, strategy(), actor=PERSON)
    stage.cycle()
    controls.revise(stage.desk, strategy(agent=ExpressionAgent(entry, exit_)), actor=PERSON)
    stage.go(AT_OPEN).cycle()
    assert abstained(stage) == [("AAPL", "bad_print")]
    before = len(stage.rows("actions"))
    stage.go(AT_OPEN + timedelta(days=1)).cycle()
    assert abstained(stage) == [("AAPL", "bad_print")], "the day after is decided on"
    assert len(stage.rows("actions")) == before
    [dropped] = stage.events(E.BAR_DROPPED)
    assert (dropped.payload["start"], dropped.payload["reason"]) == (
        f"{YESTERDAY:%Y-%m-%dT%H:%M:%S.%f}Z", "a single close far from both neighbours, which agree with each other"
    )
    stage.go(AT_OPEN + timedelta(days=2)).cycle()
    assert len(stage.events(E.BAR_DROPPED)) == 1, "said once"


def test_a_move_that_stays_is_no_bad_print(tmp_path):
    new = {session.open: (40.0,) * 4 for session in calendar().between(date(2024, 8, 27), date(2024, 9, 6))}
    stage = floor(tmp_path, market(bars(at=new)), AT_OPEN, strategy(agent=ExpressionAgent(NEVER, NEVER)))
    for day in range(3):
        stage.go(AT_OPEN + timedelta(days=day)).cycle()
    assert stage.events(E.BAR_DROPPED) == []
    assert stage.asked.questions[-1].bars.close[-4:].tolist() == [100.0, 40.0, 40.0, 40.0]


@real
def test_a_split_that_no_table_has_is_not_traded_in_a_real_file(tmp_path):
    """GE on 2000-05-08, three for one, in a file of raw prices that says nothing of it: 158 became 52.125."""
    table, _ = import_file(CORPUS / "bars/1d_long/GE_1962-2015_raw.csv.gz", calendar(), ImportOptions())
    day = calendar().session(date(2000, 5, 8))
    stage = floor(tmp_path, market(table), day.open + timedelta(seconds=5), strategy(symbols=("GE",)))
    stage.cycle()
    assert abstained(stage) == [("GE", "bad_print")]
    assert "a split is missing from the split table" in stage.events(E.LLM_ABSTAINED)[0].payload["detail"]
    stage.go(calendar().next(day.day).open + timedelta(seconds=5)).cycle()
    assert len(abstained(stage)) == 1, "the next close is on the new scale"


@real
def test_a_tenfold_print_in_a_real_dirty_file_is_dropped_as_it_arrives(tmp_path):
    """The file with two date formats, one close of it printed ten times too high, as vendors have done."""
    table, _ = import_file(CORPUS / "dirty/AAPL_5min_two_date_formats_raw.csv.gz", calendar(), ImportOptions())
    session = calendar().session(table.session_days[-1].astype(object))
    slot = calendar().slots(session, Interval.MIN5)[2]
    index = int(np.flatnonzero(table.end == np.int64(slot.end.timestamp()) * 1_000_000_000)[0])
    high, close = table.high.copy(), table.close.copy()
    high[index] = close[index] = 10 * close[index]
    spoilt = replace(table, high=high, close=close)
    stage = floor(tmp_path, market(spoilt), slot.start + timedelta(seconds=1), strategy(interval=Interval.MIN5))
    stage.cycle(Interval.MIN5)
    before = len(stage.rows("actions"))
    stage.go(slot.end + timedelta(seconds=1)).cycle(Interval.MIN5)
    assert [event.payload["start"] for event in stage.events(E.BAR_DROPPED)] == [f"{slot.start:%Y-%m-%dT%H:%M:%S.%f}Z"]
    assert abstained(stage)[-1] == ("AAPL", "no_bar")
    assert len(stage.rows("actions")) == before
