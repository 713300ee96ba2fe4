"""The report as one HTML file and its plots: self-contained, escaped, the same bytes for the same result."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tests.service.backtests.reports import RESULT, TRADES, Passed, report
from trading_pipeline.adapters.backtest_html import page
from trading_pipeline.adapters.backtest_png import DARK, LIGHT, drawdown_png, equity_png, trades_png
from trading_pipeline.domain.performance.report import PriceChart


class Reading(HTMLParser):
    """Tags that were opened and closed in order, addresses, and the words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "data", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in ("meta", "img", "source", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def whole() -> str:
    return page(report(rules=RESULT, validation=Passed()))


def test_it_is_one_file_that_fetches_nothing_and_runs_nothing(whole):
    read = Reading(whole)
    assert {address[:22] for address in read.addresses} == {"data:image/png;base64,"}
    assert not {"script", "link", "iframe", "object", "form", "base"} & set(read.tags)
    assert "url(" not in whole and "@import" not in whole and "http" not in whole.replace("http-equiv", "")
    assert "default-src 'none'" in whole


def test_every_word_of_others_is_escaped(whole):
    assert "HI<b>" not in whole and "HI&lt;b&gt;" in whole
    assert "up &amp; down on AAPL" in whole and "trading backtest &lt;up&gt;" in whole


def test_the_verdict_stands_before_any_figure():
    words = " ".join(Reading(page(report())).words)
    assert words.index("NOT VALIDATED") < words.index("Return") < words.index("What was aimed at")


def test_a_validations_markdown_is_read_as_table_list_and_words(whole):
    words = Reading(whole).words
    assert "a|b <i>" in words and "0.04" in words, "an escaped bar is no column"
    assert "<p>After all of it.</p><ul><li>one</li><li>two</li></ul>" in whole


def test_a_figure_that_does_not_exist_is_a_dash_with_its_reason():
    words = Reading(page(report(replace(RESULT, trades=())))).words
    at = words.index("Profit factor")
    assert words[at + 1 : at + 3] == ["–", "no trade has lost"]


def test_months_are_coloured_by_what_they_made(whole):
    shown = dict(re.findall(r"--(gain|loss)-rgb\) / 0\.\d\d\)\">([+-][\d.]+)", whole))
    assert shown == {"gain": "+6.00", "loss": "-0.66"}


def test_each_plot_is_there_in_both_inks(whole):
    """Equity, drawdown, two symbols; the validation's own picture has one."""
    read = Reading(whole)
    assert read.tags.count("source") == 4 and read.tags.count("img") == 5


@pytest.mark.parametrize("ink", [LIGHT, DARK])
@pytest.mark.parametrize("plot", ["equity", "drawdown", "trades"])
def test_a_plot_has_the_same_bytes_each_time_and_stands_on_its_ground(plot, ink):
    made = report(rules=RESULT)
    draw = {
        "equity": lambda: equity_png(made.lines, ink), "drawdown": lambda: drawdown_png(made.lines, ink),
        "trades": lambda: trades_png(made.charts[0], ink),
    }[plot]
    first = draw()
    assert first == draw() and len(first) < 80_000
    with Image.open(io.BytesIO(first)) as picture:
        ground = picture.convert("RGB").getpixel((picture.width - 3, picture.height - 3))
        assert ground == pytest.approx(tuple(int(ink.ground[place : place + 2], 16) for place in (1, 3, 5)), abs=3)


def test_what_ended_a_trade_is_seen_without_colours():
    """A stop and a target at the same place are different shapes."""
    chart = report().charts[0]
    grey = []
    for reason in {trade.exit_reason for trade in TRADES}:
        one = PriceChart(chart.bars, (replace(chart.trades[0], exit_reason=reason),))
        with Image.open(io.BytesIO(trades_png(one))) as picture:
            grey.append(np.asarray(picture.convert("L"), np.int16))
    assert all(np.abs(one - other).max() > 60 for place, one in enumerate(grey) for other in grey[:place])


def test_a_symbol_that_was_never_traded_and_one_of_very_many_trades_are_drawn_too():
    chart = report().charts[0]
    assert trades_png(PriceChart(chart.bars, ())) != trades_png(PriceChart(chart.bars, chart.trades * 200))
