"""The plots of the model report: the right size, the same bytes each time, and marks where the figures are."""

import io
import random
from datetime import date, timedelta

import numpy as np
import pytest
from PIL import Image, ImageColor

from trading_pipeline.adapters.chart_png import LINES
from trading_pipeline.adapters.evidence_png import horizons_png, reliability_png, timeline_png
from trading_pipeline.domain.judgement import calibration, reliability_curve, wilson

BLUE = ImageColor.getrgb(LINES[0])


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def marked(png, color=BLUE):
    """(row, column) of every pixel in exactly that colour."""
    return np.argwhere((pixels(png) == color).all(axis=2))


def forecasts(n=400):
    source = random.Random(3)
    said = [min(1.0, max(0.0, source.gauss(0.72, 0.12))) for _ in range(n)]
    return said, [source.random() < 0.3 + 0.35 * each for each in said]


def lines():
    return {name: [(date(2025, 3, 3) + timedelta(days=n), sign * n / 100) for n in range(40)] for name, sign in (("up", 1), ("down", -1))}


def all_plots():
    said, hits = forecasts()
    rates = {"1_bar": wilson(210, 400), "5_bars": None}
    return [
        reliability_png("claude-x", reliability_curve(said, hits), calibration(said, hits)), horizons_png({"a": rates, "b": rates}),
        timeline_png(lines()),
    ]


def test_equal_input_gives_equal_bytes():
    assert all_plots() == all_plots()


def test_a_dot_stands_where_its_share_is():
    """Fifty forecasts of 0.75 of which forty were right: the dot's middle is at 75 % and 80 % of the pane."""
    png = reliability_png("x", reliability_curve([0.75] * 50, [True] * 40 + [False] * 10), ())
    image = pixels(png)
    height, width = image.shape[:2]
    dots = [(row, column) for row, column in marked(png) if row < height * 0.7]
    row, column = np.mean(dots, axis=0)
    left, right = 0.1 * width, 0.965 * width
    assert (column - left) / (right - left) == pytest.approx(0.75, abs=0.01)
    top = round(0.98 * 100)
    lines_ = [row_ for row_, value in enumerate(image[:, int(left) + 2]) if (value < 150).all() and row_ > top]
    bottom = lines_[0]
    middle = np.median([row_ for row_, _ in dots])
    assert (bottom - middle) / (bottom - top) == pytest.approx(0.80, abs=0.06)
    assert row > 0


def test_without_cases_the_plots_say_so_and_draw_no_dot():
    few = reliability_png("x", reliability_curve([0.5] * 4, [True] * 4), ())
    assert not [row for row, _ in marked(few) if row < 450]
    assert pixels(timeline_png({"x": []})).shape[1] == 800
    assert pixels(timeline_png({})).shape[1] == 800
    assert pixels(horizons_png({"x": {"1_bar": None}})).shape[1] == 800


@pytest.mark.parametrize("name", ["$\\frac{", "数学" * 40, "a\nb\x00c", "_hidden", ""])
def test_any_name_can_be_drawn(name):
    """Warnings are errors here: a letter that the font lacks would be one."""
    assert timeline_png({name: [(date(2025, 3, 3), 0.1)]}).startswith(b"\x89PNG")
    assert reliability_png(name, (), ()).startswith(b"\x89PNG")


def test_a_long_name_is_told_to_its_end():
    """What sets two versions apart stands last: what they saw, what was hidden, before or after the cutoff."""
    name = "claude-sonnet-5-5-20260514 · mean-reversion-analyst/v12 · both, without symbol, dates, prices"
    told = [timeline_png({f"{name} ({period} the cutoff)": [(date(2025, 3, 3), 0.1)]}) for period in ("before", "after")]
    assert told[0] != told[1]
    assert pixels(told[0]).shape[1] == 800
    assert len({reliability_png(f"{name} ({period} the cutoff)", (), ()) for period in ("before", "after")}) == 2


def test_a_single_session_shows_each_total_for_itself():
    """A line through one point would be a wall at the edge of the pane, one above the other."""
    png = timeline_png({"up": [(date(2025, 3, 3), 0.03)], "down": [(date(2025, 3, 3), -0.01)]})
    blue, orange = (marked(png, ImageColor.getrgb(color)) for color in LINES[:2])
    pane = [np.array([place for place in marks if place[0] < 400]) for marks in (blue, orange)]
    assert pane[0][:, 1].max() < pane[1][:, 1].min(), "side by side"
    tall, short = (np.ptp(marks[:, 0]) for marks in pane)
    assert tall > 2 * short, "three times the total"


def test_sessions_that_are_few_stand_below_the_axis_by_their_dates():
    """Not by hours, as between two days alone."""
    days = (date(2025, 3, 3), date(2025, 3, 4))
    one, other = (timeline_png({"x": [(day, 0.01), (day + timedelta(days=1), 0.02)]}) for day in days)
    assert one != other


def test_names_without_a_colour_are_counted():
    rates = {"1_bar": wilson(210, 400)}
    few, many, more = (horizons_png({f"model {n}": rates for n in range(count)}) for count in (8, 9, 10))
    assert pixels(many).shape[0] - pixels(few).shape[0] == 22, "a line more"
    assert many != more
