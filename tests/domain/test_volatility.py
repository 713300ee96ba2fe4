"""The volatility breaker: the measure by hand, trip and clear at their limits, the time it holds, and nothing but bars (D13)."""

import gzip
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.desks import calendar
from trading_pipeline.domain.bar_quality import grid
from trading_pipeline.domain.bars import BarTable, Interval, instant_of
from trading_pipeline.domain.volatility import BARS_NEEDED, ENOUGH, LEAST_BLOCK, breaker, calm, ratios_at

D = Decimal
TRIP, CLEAR = D(3), D(2)
FIRST, LAST = date(2024, 2, 20), date(2024, 3, 20)
"""Twenty-two sessions, the change to summer time on 10 March among them."""
NEW_YORK = ZoneInfo("America/New_York")


def _table(interval: Interval, ranges: "np.ndarray[tuple[int], np.dtype[np.float64]]", last: date = LAST, first: date = FIRST) -> BarTable:
    """Bars around $100 that open and close there and reach `ranges` USD from low to high."""
    start, end = grid(calendar(), interval, first, last)
    flat = np.full(len(start), 100.0)
    half = np.resize(ranges, len(start)) / 2
    return BarTable("IBM", interval, start, end, flat, flat + half, flat - half, flat, np.full(len(start), 1e5))


def _five(*newest: float, usual: float = 1.0) -> BarTable:
    """Five-minute bars whose usual range is 1 % of the price, but for the newest."""
    table = _table(Interval.MIN5, np.array([usual]))
    ranges = np.full(len(table), usual)
    ranges[-len(newest):] = newest
    return _table(Interval.MIN5, ranges)


def ratio(table: BarTable) -> Decimal:
    found = breaker(table, TRIP, CLEAR)
    assert found is not None
    return found.ratio


def test_the_measure_is_the_mean_of_five_ranges_over_what_is_usual() -> None:
    """(1 + 1 + 2 + 4 + 7) / 5 = 3 times the usual 1 %."""
    assert ratio(_five(1, 1, 2, 4, 7)) == D("3.00")
    assert ratio(_five(1)) == D("1.00")


def test_the_true_range_counts_the_gap_from_the_close_before() -> None:
    """Wilder: from $100 to $107, the bar itself 1 wide: $107.5 less $100 is 7.5, of a close of 107 7.009 %; (4 + 7.009) / 5."""
    table = _five(1)
    for column, value in ((table.open, 107), (table.high, 107.5), (table.low, 106.5), (table.close, 107)):
        column[-1] = value
    assert ratio(table) == D("2.20")


def test_ranges_that_are_wide_every_morning_trip_nothing() -> None:
    """Six times the usual in the first half hour of each day, as after any open."""
    start, _ = grid(calendar(), Interval.MIN5, FIRST, LAST)
    clock = [datetime.fromtimestamp(at / 1e9, NEW_YORK) for at in start]
    morning = np.array([at.hour == 9 for at in clock])
    table = _table(Interval.MIN5, np.where(morning, 6.0, 1.0))
    early = instant_of(start[-1]).replace(hour=13, minute=55)
    assert ratio(table.until(early)) == D("1.00")
    assert ratio(table) == D("1.00")


@pytest.mark.parametrize(("newest", "tripped"), [((3, 3, 3, 3, 2.96), False), ((3, 3, 3, 3, 3), True)])
def test_it_trips_at_its_limit_and_not_a_hundredth_below(newest: tuple[float, ...], tripped: bool) -> None:
    found = breaker(_five(*newest), TRIP, CLEAR)
    assert found is not None
    assert (found.tripped, found.since is not None) == (tripped, tripped)
    assert found.ratio == (D("3.00") if tripped else D("2.99"))


def test_it_holds_until_the_ratio_is_below_the_lower_limit() -> None:
    """15 wide, then 1: for five bars the mean is 3.8; then 10 for the rest, in which it stays at 2.8, is 2.0, and 1.99."""
    table = _five(15, 1, 1, 1, 1, 10, 1, 1, 1, 1, 6, 1, 1, 1, 1, 5.95)
    ends = [instant_of(end) for end in table.end[-16:]]
    states = [breaker(table.until(end), TRIP, CLEAR) for end in ends]
    assert [str(state.ratio) for state in states if state] == [*["3.80"] * 5, *["2.80"] * 5, *["2.00"] * 5, "1.99"]
    assert [state.tripped for state in states if state] == [True] * 15 + [False]
    assert {state.since for state in states[:15] if state} == {ends[0]}


def test_it_holds_for_five_minutes_of_bars_after_the_last_that_would_trip_it() -> None:
    """One wide minute leaves the mean of five after five minutes; of eleven wide, one that trips alone. Then the pause runs anew."""
    table = _table(Interval.MIN1, np.array([1.0]), date(2024, 3, 12))
    ranges = np.full(len(table), 1.0)
    ranges[-12] = 11
    table = _table(Interval.MIN1, ranges, date(2024, 3, 12))
    states = [breaker(table.until(instant_of(end)), TRIP, CLEAR) for end in table.end[-12:]]
    assert [str(state.ratio) for state in states if state] == [*["3.00"] * 5, *["1.00"] * 7]
    # Bars -12 to -8 trip it; the last of them is five minutes before bar -3.
    assert timedelta(minutes=5) == LEAST_BLOCK
    assert [state.tripped for state in states if state] == [True] * 9 + [False] * 3


def test_an_intraday_breaker_begins_clear_with_the_session() -> None:
    table = _five(*[20] * 5)
    following = grid(calendar(), Interval.MIN5, FIRST, date(2024, 3, 21))[0]
    assert breaker(table, TRIP, CLEAR).tripped  # type: ignore[union-attr]
    ranges = np.full(len(following), 1.0)
    ranges[len(table) - 5: len(table)] = 2.6
    ranges[len(table)] = 2.6
    longer = _table(Interval.MIN5, ranges, date(2024, 3, 21)).rows(0, len(table) + 1)
    found = breaker(longer, TRIP, CLEAR)
    assert found is not None
    assert (found.ratio, found.tripped) == (D("2.60"), False), "between the limits, and not tripped in this session"


def test_daily_bars_are_measured_by_the_sixty_before() -> None:
    first, last = date(2023, 9, 1), date(2024, 3, 20)
    table = _table(Interval.DAY1, np.array([1.0]), last, first)
    ranges = np.full(len(table), 1.0)
    ranges[-65:-5] = np.linspace(0.5, 1.5, 60)
    ranges[-5:] = 4
    found = breaker(_table(Interval.DAY1, ranges, last, first), TRIP, CLEAR)
    assert found is not None
    assert found.tripped
    # Of the newest bar's sixty, four are 4 and the five least have left: the median is a little above 1.
    assert D("3.75") < found.ratio < D("4.00")


def test_a_history_that_is_too_short_is_no_measure() -> None:
    daily = _table(Interval.DAY1, np.array([1.0]), date(2024, 3, 20), date(2023, 12, 15))
    assert len(daily) == 65
    assert breaker(daily, TRIP, CLEAR) is not None
    assert breaker(daily.rows(1, 65), TRIP, CLEAR) is None
    five = _five(1)
    thirteen = five.where(five.session_days >= five.session_days[-12 * 78 - 1])
    assert breaker(thirteen, TRIP, CLEAR) is not None
    assert breaker(five.where(five.session_days > five.session_days[-12 * 78 - 1]), TRIP, CLEAR) is None
    assert breaker(BarTable.empty("IBM", Interval.MIN5), TRIP, CLEAR) is None


def test_a_history_with_too_many_gaps_is_no_measure() -> None:
    five = _five(1)
    slot, days = np.arange(len(five)) % 78, np.arange(len(five)) // 78
    older = days < days[-1]
    # The newest bar is measured by the last three bars of 12 days: 36, of which 30 are enough.
    assert ENOUGH == 30
    assert breaker(five.where(~(older & (slot >= 75) & (days >= 19))), TRIP, CLEAR) is not None
    assert breaker(five.where(~(older & (slot >= 75) & (days >= 18))), TRIP, CLEAR) is None


def test_a_symbol_that_hardly_moves_is_measured_by_a_cent() -> None:
    """Always at $100.00, then five bars of three cents: three times a tick, though its usual range is nothing."""
    assert ratio(_five(0.03, 0.03, 0.03, 0.03, 0.03, usual=0.0)) == D("3.00")
    assert ratio(_five(0.0, usual=0.0)) == D("0.00")


WIDTHS = st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.5, 3.0, 5.0, 9.0, 16.0]), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(WIDTHS, st.sampled_from(["3", "2.5", "1.5"]), st.sampled_from(["2", "1.2"]), st.sampled_from([Interval.MIN1, Interval.MIN5]))
def test_a_tighter_limit_never_lets_a_symbol_go_that_a_looser_one_blocks(
    widths: list[float], trip: str, clear: str, interval: Interval
) -> None:
    """34."""
    base = _table(interval, np.array([1.0]), date(2024, 3, 12))
    ranges = np.full(len(base), 1.0)
    ranges[-len(widths):] = widths
    table = _table(interval, ranges, date(2024, 3, 12))
    for count in range(len(table) - len(widths) + 1, len(table) + 1):
        loose, tight = breaker(table.rows(0, count), TRIP, CLEAR), breaker(table.rows(0, count), D(trip), D(clear))
        assert loose is not None
        assert tight is not None
        assert tight.tripped or not loose.tripped


@settings(max_examples=40, deadline=None)
@given(WIDTHS, st.integers(0, 300), st.sampled_from([Interval.MIN5, Interval.HOUR1, Interval.DAY1]))
def test_the_state_does_not_depend_on_where_the_reading_began(widths: list[float], more: int, interval: Interval) -> None:
    """What a restart reads, and a replay."""
    first = date(2023, 9, 1)
    base = _table(interval, np.array([1.0]), LAST, first)
    ranges = 1 + 0.3 * np.sin(np.arange(len(base)))
    ranges[-len(widths):] = widths
    table = _table(interval, ranges, LAST, first)
    needed = table.tail(BARS_NEEDED[interval])
    assert breaker(needed, TRIP, CLEAR) == breaker(table.tail(BARS_NEEDED[interval] + more), TRIP, CLEAR) == breaker(table, TRIP, CLEAR)


DATA = Path(__file__).parents[2].parent / "shared" / "data" / "bars" / "1d_long" / "SPY.csv.gz"


@pytest.mark.parametrize("interval", [Interval.MIN5, Interval.MIN15, Interval.HOUR1])
@pytest.mark.parametrize("gaps", [0.0, 0.05])
def test_many_bars_measured_at_once_are_measured_as_one_by_one(interval: Interval, gaps: float) -> None:
    draw = np.random.default_rng(7)
    table = _table(interval, draw.uniform(0.2, 3, 2_000))
    table = table.where(draw.random(len(table)) >= gaps)
    rows = np.unique(draw.integers(0, len(table), 300))
    one_by_one = [breaker(table.rows(max(0, row + 1 - BARS_NEEDED[interval]), row + 1), D(1_000), D(2)) for row in rows.tolist()]
    assert list(map(calm, ratios_at(table, rows))) == one_by_one
    assert None in one_by_one
    assert len(set(one_by_one)) > 10


@pytest.mark.skipif(not DATA.exists(), reason="the shared market data are not there")
def test_on_real_days_it_trips_in_the_crashes_that_everybody_remembers() -> None:
    lines = [line.split(",") for line in gzip.decompress(DATA.read_bytes()).decode().splitlines()]
    head = {name: number for number, name in enumerate(lines[0])}
    seen: dict[str, list[str]] = {row[head["session"]]: row for row in lines[1:]}
    days = sorted(day for day in seen if "2007-06" < day < "2021")
    start, end = grid(calendar(), Interval.DAY1, date.fromisoformat(days[0]), date.fromisoformat(days[-1]))
    columns = [np.array([float(seen[day][head[name]]) for day in days]) for name in ("open", "high", "low", "close", "volume")]
    assert len(start) == len(days)
    table = BarTable("SPY", Interval.DAY1, start, end, *columns)
    blocked = {
        days[count - 1] for count in range(200, len(table) + 1)
        if (state := breaker(table.rows(count - BARS_NEEDED[Interval.DAY1], count), TRIP, CLEAR)) is not None and state.tripped
    }
    assert {day[:7] for day in blocked} >= {"2008-10", "2010-05", "2011-08", "2015-08", "2018-02", "2020-03"}
    assert not [day for day in blocked if day.startswith(("2012", "2013", "2017"))], "quiet years"
