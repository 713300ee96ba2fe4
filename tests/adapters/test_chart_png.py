"""Charts: the right pixels in the right places, the same bytes for the same input, and words when there is nothing to draw."""

import hashlib
import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image, ImageColor

from tests.domain.market_tables import minutes, table, wandering
from trading_pipeline.adapters.chart_layout import count_ticks, date_ticks, price_text, round_ticks, short_text
from trading_pipeline.adapters.chart_png import DOWN, LINES, UP, PngCharts, thumbnail
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.indicators import compute, indicator, names, on_price_axis
from trading_pipeline.errors import InputError, UnknownName
from trading_pipeline.ports import ChartRenderer

CHARTS: ChartRenderer = PngCharts()
BARE = ChartSpec(overlays=(), panels=())


def render(spec, bars):
    return CHARTS.render(spec, bars, compute((*spec.overlay_indicators, *spec.panel_indicators), bars))


def pixels(png):
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"), np.int64)


def of_color(image, color, tolerance=40):
    """Where the image is nearly that colour; rows from the top."""
    return np.abs(image - np.array(ImageColor.getrgb(color))).sum(axis=2) < tolerance


def test_a_chart_is_a_png_of_the_size_asked_for_and_nothing_else():
    png = render(ChartSpec(), wandering(300))
    with Image.open(io.BytesIO(png)) as picture:
        assert (picture.format, picture.size, picture.info) == ("PNG", (1000, 700), {})
    assert pixels(render(ChartSpec(width=640, height=480), wandering(300))).shape == (480, 640, 3)


def test_equal_input_gives_equal_bytes_in_any_thread_and_process():
    spec, bars = ChartSpec(overlays=("sma_20", "bbands_20", "volume_sma_20")), wandering(200)
    first = render(spec, bars)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: render(spec, bars), range(4))) == {first}
    code = (
        "import hashlib; from tests.adapters.test_chart_png import *; "
        "print(hashlib.sha256(render(ChartSpec(overlays=('sma_20', 'bbands_20', 'volume_sma_20')), wandering(200))).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == hashlib.sha256(first).hexdigest()


def test_another_price_gives_another_picture():
    bars = wandering(60)
    changed = replace(bars, close=np.append(bars.close[:-1], bars.low[-1]))
    assert render(BARE, bars) != render(BARE, changed)


def candle_columns(image, color):
    """(left, right, top, bottom) of each run of columns in the price pane that has the colour."""
    pane = of_color(image, color)[47:520, :912]
    columns = np.flatnonzero(pane.any(axis=0))
    runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    boxes = []
    for run in runs:
        rows = np.flatnonzero(pane[:, run].any(axis=1))
        boxes.append((int(run[0]), int(run[-1]), int(rows[0]), int(rows[-1])))
    return boxes


def test_candles_stand_where_their_prices_are():
    """Thirty bars: odd ones fall from 20 to 10, even ones rise from 10 to 20; one wick reaches 30, one 0.01."""
    even = np.arange(30) % 2 == 0
    open_, close = np.where(even, 10.0, 20.0), np.where(even, 20.0, 10.0)
    high, low = np.full(30, 20.0), np.full(30, 10.0)
    high[4], low[9] = 30.0, 0.01
    image = pixels(render(BARE, table(close, high, low, open_)))
    up, down = candle_columns(image, UP), candle_columns(image, DOWN)
    assert (len(up), len(down)) == (15, 15)
    lefts = sorted(box[0] for box in up + down)
    assert lefts == [box[0] for pair in zip(up, down, strict=True) for box in pair], "risen and fallen bars alternate"
    steps = np.diff(lefts)
    assert steps.max() - steps.min() <= 1, "bars are evenly spaced"
    assert {right - left + 1 for left, right, _, _ in up + down} == {up[0][1] - up[0][0] + 1}
    body = up[0][3] - up[0][2]
    assert {(top, bottom) for index, (_, _, top, bottom) in enumerate(up) if index != 2} == {up[0][2:]}
    assert up[2][2] == pytest.approx(up[0][2] - body, abs=2), "a wick of ten dollars is as long as a body of ten"
    assert down[4][3] == pytest.approx(down[0][3] + body, abs=2)


def test_volume_bars_are_as_high_as_their_volume():
    volume = np.where(np.arange(30) == 12, 2000.0, 1000.0)
    bars = table(np.arange(30) + 10.0, volume=volume)
    image = pixels(render(BARE, bars))
    pane = of_color(image, "#73c3af", 60)[530:666, :900]
    heights = np.array([np.ptp(np.flatnonzero(column)) + 1 for column in pane.T if column.sum() > 10])
    assert heights.max() == pytest.approx(2 * np.median(heights), abs=2)


def test_an_overlay_has_a_gap_in_its_warm_up_and_then_follows_its_values():
    bars = table(np.full(60, 50.0), np.full(60, 51.0), np.full(60, 49.0))
    image = pixels(render(ChartSpec(overlays=("sma_30",), panels=()), bars))
    line = of_color(image, LINES[0])[100:500]
    x = np.flatnonzero(line.any(axis=0))
    assert x.min() > 420, "29 of 60 bars are warm-up"
    assert x.max() > 880
    rows = np.flatnonzero(line.any(axis=1))
    assert rows.max() - rows.min() < 8, "a constant average is a level line"


def test_a_panel_shows_its_newest_values_and_watched_levels():
    falling, rising = table(200.0 - np.arange(80)), table(100.0 + np.arange(80))
    spec = ChartSpec(overlays=(), panels=("rsi_14",))
    lines = [np.flatnonzero(of_color(pixels(render(spec, bars)), LINES[0])[480:, 300:880].any(axis=1)) for bars in (falling, rising)]
    assert lines[0].min() > lines[1].max() + 50, "RSI 0 lies below RSI 100"


@pytest.mark.parametrize("spec", [
    ChartSpec(),
    ChartSpec(overlays=("sma_20", "sma_200", "bbands_20", "volume_sma_20"), panels=("stoch", "adx", "obv", "macd")),
    ChartSpec(bars=2, overlays=("vwap", "sar", "supertrend", "ichimoku"), panels=()),
    ChartSpec(bars=1000, width=320, height=240),
])
@pytest.mark.parametrize("length", [2, 3, 25, 400])
def test_every_length_of_history_has_a_chart(spec, length):
    image = pixels(render(spec, wandering(length)))
    assert (of_color(image, UP) | of_color(image, DOWN)).sum() > 20


@pytest.mark.parametrize("bars", [
    table([50.0] * 30), table([50.0] * 30, volume=[0.0] * 30), table(np.geomspace(0.0001, 0.0009, 30)), table(np.geomspace(1, 250_000, 30)),
], ids=["never moves", "no volume", "far below a dollar", "a quarter million"])
def test_unusual_markets_have_a_chart(bars):
    assert len(pixels(render(ChartSpec(panels=("rsi_14", "macd", "natr_14")), bars))) == 700


def test_every_indicator_of_the_library_can_be_drawn():
    bars = wandering(120)
    for name in names():
        text = next(text for text in (name, f"{name}_20") if _is_indicator(text))
        spec = indicator(text)
        over = on_price_axis(spec) or name.startswith("volume_")
        overlays, panels = ((text,), ()) if over else ((), (text,))
        assert render(ChartSpec(40, overlays, panels, 320, 240), bars)


def _is_indicator(text):
    try:
        indicator(text)
    except InputError:
        return False
    return True


@pytest.mark.parametrize("length", [0, 1])
def test_fewer_than_two_bars_are_an_error_that_says_so(length):
    with pytest.raises(InputError, match=rf"TEST has {length} bar.*at least 2 bars"):
        render(BARE, wandering(length))


def test_a_column_that_is_absent_or_not_aligned_is_an_error():
    bars = wandering(60)
    columns = compute([indicator("sma_20")], bars)
    with pytest.raises(InputError, match="needs the column sma_50"):
        CHARTS.render(ChartSpec(panels=()), bars, columns)
    with pytest.raises(InputError, match="sma_20, one value a bar"):
        CHARTS.render(ChartSpec(overlays=("sma_20",), panels=()), bars, {"sma_20": columns["sma_20"][1:]})


@pytest.mark.parametrize(("settings", "says"), [
    ({"overlays": ("rsi_14",)}, "rsi_14 is no price.*under panels"),
    ({"panels": ("sma_20",)}, "sma_20 .* needs no panel.*under overlays"),
    ({"bars": 1}, "bars cannot be 1.*from 2 to 1000"),
    ({"width": 100_000}, "width cannot be 100000"),
    ({"panels": ("rsi_14",) * 5}, "number of panels cannot be 5"),
])
def test_a_chart_that_cannot_be_is_refused_when_it_is_set(settings, says):
    with pytest.raises(InputError, match=says):
        ChartSpec(**settings)


def test_an_unknown_overlay_is_named():
    with pytest.raises(UnknownName, match="did you mean 'sma'"):
        ChartSpec(overlays=("smaa_20",))


def test_a_thumbnail_is_small_in_bytes_and_pixels():
    spec = ChartSpec(bars=750, overlays=("sma_20", "sma_50", "bbands_20", "volume_sma_20"))
    small = thumbnail(render(spec, wandering(900)))
    assert len(small) <= 40_000
    with Image.open(io.BytesIO(small)) as picture:
        assert (picture.format, picture.size) == ("PNG", (500, 350))
    assert (pixels(small) < 200).any()


def test_heavy_libraries_wait_for_the_first_chart():
    code = "import sys, trading_pipeline.adapters.chart_png; print({'matplotlib', 'PIL', 'pandas', 'talib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


# Layout


def days(*written):
    at = np.array([instant_ns(datetime.fromisoformat(day).replace(hour=14, minute=30, tzinfo=UTC)) for day in written])
    flat = np.ones(len(at))
    return BarTable("TEST", Interval.DAY1, at, at + 1, flat, flat, flat, flat, flat)


def test_date_ticks_take_the_finest_period_that_fits():
    bars = days("2012-11-29", "2012-11-30", "2012-12-03", "2012-12-31", "2013-01-02", "2013-02-01")
    assert date_ticks(bars, 5) == [(1, "Nov 30"), (2, "Dec 3"), (3, "Dec 31"), (4, "Jan 2"), (5, "Feb 1")]
    assert date_ticks(bars, 3) == [(2, "Dec 3"), (3, "Dec 31"), (5, "Feb 1")], "weeks; 2013-01-02 is in the week of 12-31"
    bars = days("2012-11-05", "2012-11-12", "2012-11-26", "2012-12-03", "2012-12-10", "2013-01-07", "2013-02-04", "2014-02-04")
    assert date_ticks(bars, 4) == [(3, "Dec"), (5, "Jan 2013"), (6, "Feb"), (7, "Feb 2014")]
    assert date_ticks(bars, 2) == [(5, "Jan 2013"), (7, "Feb 2014")], "quarters"
    assert date_ticks(bars.rows(0, 7), 1) == [(5, "Jan 2013")]
    assert date_ticks(days("2012-11-29"), 5) == [(0, "Nov 29")]


def test_intraday_ticks_are_new_york_hours_and_say_when_a_day_begins():
    evening = minutes(datetime(2024, 8, 27, 19, 30, tzinfo=UTC), np.ones(30), np.ones(30))
    morning = minutes(datetime(2024, 8, 28, 13, 30, tzinfo=UTC), np.ones(60), np.ones(60))
    assert date_ticks(evening.joined(morning), 4) == [(30, "Aug 28"), (60, "10:00")]
    assert date_ticks(evening.joined(morning), 6) == [(15, "15:45"), (30, "Aug 28"), (45, "09:45"), (60, "10:00"), (75, "10:15")]


@pytest.mark.parametrize(("low", "high", "most", "ticks", "decimals"), [
    (0, 100, 5, [0, 20, 40, 60, 80, 100], 0),
    (497, 718, 6, [500, 550, 600, 650, 700], 0),
    (126.43, 127.4, 4, [126.5, 126.75, 127.0, 127.25], 2),
    (-0.6, 0.31, 3, [-0.5, 0.0], 1),
])
def test_ticks_are_round_and_written_with_the_decimals_they_need(low, high, most, ticks, decimals):
    found, written = round_ticks(low, high, most)
    assert found == pytest.approx(ticks)
    assert written == decimals


def test_numbers_are_short_and_prices_exact():
    assert [short_text(value) for value in (0, 950, 15_437_500, 820_000, 2.5e9, -1_200)] == ["0", "950", "15.4M", "820k", "2.5B", "-1.2k"]
    assert [price_text(value) for value in (634.76, 1_234.5, 0.0567)] == ["634.76", "1,234.50", "0.0567"]


def test_a_chart_without_dates_counts_its_bars_back_in_round_numbers():
    assert count_ticks(120, 8) == [(19, "-100"), (39, "-80"), (59, "-60"), (79, "-40"), (99, "-20"), (119, "0")]
    assert count_ticks(2, 2) == [(0, "-1"), (1, "0")]
    for count in range(2, 1001):
        ticks = count_ticks(count, 5)
        assert 1 < len(ticks) <= 5
        assert all(index == count - 1 + int(label) for index, label in ticks)


def test_a_chart_without_dates_is_the_same_whenever_its_bars_were():
    bars = wandering(90)
    later = replace(bars, start=bars.start + 400 * 86_400_000_000_000, end=bars.end + 400 * 86_400_000_000_000)
    assert CHARTS.render(BARE, bars, {}, dated=False) == CHARTS.render(BARE, later, {}, dated=False)
    assert CHARTS.render(BARE, bars, {}) != CHARTS.render(BARE, later, {})
