"""What a model is told and shown behind a mask: nothing of symbol, dates or prices that it covers, and no less of all else."""

import re
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from tests.desks import OPEN, at, bars, calendar, market, samples
from tests.service.models.briefing.briefings import ALL, BEGAN, CHART, asked, briefed, stage_of, told, write
from trading_pipeline.adapters.chart_sheet import Sheet
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.models import Mask, Sight
from trading_pipeline.domain.replies import parse_reply
from trading_pipeline.domain.strategies import ExpressionAgent
from trading_pipeline.service.models.briefing import BARS, brief, disguise


def test_nothing_of_symbol_dates_or_prices_is_told_behind_all_masks(stage, tmp_path):
    write(stage, tmp_path, "2012-10-01-Apple.txt", "Apple rises")
    values = told(stage, masks=ALL, sight=Sight.BOTH)
    words = stage.desk.models.prompts.render("analyst/v1", values).text
    assert values["symbol"] == "ASSET"
    assert (values["outside"], values["strategy"]) == ("", "")
    assert re.findall(r"AAPL|Apple|Buys strength|20[01]\d|\d\d:\d\d|day,? \d|Mon|Fri|\$", words) == []
    # AAPL stood between 500 and 710 USD for months.
    assert [number for number in re.findall(r"\d+\.\d+", words) if 500 < float(number) < 710] == []
    assert values["bars"].splitlines()[-1].split()[0] == "0"
    assert values["bars"].splitlines()[2].split()[0] == str(1 - BARS)
    assert float(values["bars"].splitlines()[-1].split()[4]) == 100


def test_a_mask_of_dates_alone_leaves_prices_and_symbol(stage):
    values = told(stage, masks=frozenset({Mask.DATES}))
    assert values["symbol"] == "AAPL"
    assert "USD" in values["bars"]
    assert "2012" not in "".join(values.values())


def test_a_short_session_is_not_told_behind_a_mask_of_dates(tmp_path):
    day = date(2024, 7, 3)
    table = bars(interval=Interval.MIN15, first=date(2024, 7, 1), last=day)
    values = told(stage_of(tmp_path, market(table), at(12, 45, day=day), interval=Interval.MIN15), masks=frozenset({Mask.DATES}))
    assert values["session"] == "93% of it is gone"
    assert "2024" not in "".join(values.values())
    assert ":" not in values["bars"].partition("\n")[2]


def twins(tmp_path):
    """Two desks whose stocks differ in name, dates, price level and volume alone."""
    walk = np.random.default_rng(5).normal(0, 0.01, 400)
    one = bars("AAPL", first=date(2023, 3, 1))
    other = bars("IBM", first=date(2021, 3, 1), last=date(2022, 9, 6))
    desks = []
    for name, table, level, volume in (("a", one, 64.0, 1_048_576.0), ("b", other, 512.0, 262_144.0)):
        table = table.tail(len(table)).rows(0, 370)
        close = np.round(level / 64 * np.round(64 * np.exp(np.cumsum(walk[: len(table)])), 6), 9)
        spread = {"open": close, "high": close * 1.0078125, "low": close * 0.9921875, "close": close}
        table = BarTable(table.symbol, table.interval, table.start, table.end, *spread.values(), np.full(len(table), volume))
        now = calendar().next(table.bar(len(table) - 1).start.date()).open
        folder = tmp_path / name
        folder.mkdir()
        desks.append((table.symbol, stage_of(folder, market(table), now, symbols=(table.symbol,), agent=ExpressionAgent("close < 0", ""))))
    return desks


def test_two_stocks_that_differ_in_name_dates_and_level_alone_are_told_and_drawn_alike(tmp_path):
    one, other = (briefed(stage, symbol=symbol, masks=ALL, sight=Sight.BOTH) for symbol, stage in twins(tmp_path))
    assert one.values == other.values
    assert one.chart == other.chart


def test_a_masked_chart_is_drawn_without_symbol_date_or_price(stage, monkeypatch):
    drawn = []
    write_text = Sheet.text

    def recording(self, x, y, words, *args, **kwargs):
        drawn.append(words)
        write_text(self, x, y, words, *args, **kwargs)

    monkeypatch.setattr(Sheet, "text", recording)
    briefing = briefed(stage, masks=ALL, sight=Sight.BOTH)
    masked = list(drawn)
    assert briefing.chart is not None
    assert stage.desk.objects.get(briefing.chart)[:4] == b"\x89PNG"
    assert "ASSET" in masked
    assert {"0", "-10", "-50"} <= set(masked)
    assert [words for words in masked if re.search(r"AAPL|New York|20\d\d|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|:", words)] == []
    assert "$100.00" in masked
    # The plain one says both, so that the search above would find them.
    drawn.clear()
    stage.desk.charts.render(CHART, asked(stage)[1].bars, asked(stage)[1].columns)
    assert "AAPL" in drawn
    assert any("New York" in words for words in drawn)


def test_a_picture_that_nobody_masked_is_never_shown_behind_a_mask(tmp_path):
    stage = stage_of(tmp_path, market(bars(first=date(2024, 8, 27))), OPEN, agent=ExpressionAgent("close < 0", ""))
    cycle, question = asked(stage, sight=Sight.BOTH, masks=ALL)
    assert len(question.bars) == 1
    briefing = brief(stage.desk, stage.desk.ledger, cycle, replace(question, chart="0" * 64))
    assert (briefing.chart, briefing.values["picture"]) == (None, "")


def test_a_reply_to_a_masked_question_is_about_our_symbol(stage):
    briefing = briefed(stage, masks=ALL)
    assert briefing.symbol == "ASSET"
    said = '{"action": "SELL", "symbol": "ASSET", "confidence": 0.7, "rationale": "x", "figures": [{"name": "close", "value": 100.00}]}'
    signal = briefing.unmasked(parse_reply(said, briefing.symbol, (briefing.symbol,)))
    assert signal.symbol == "AAPL"
    close = samples().closed_bars(("AAPL",), Interval.DAY1, None, BEGAN)["AAPL"].close[-1]
    assert float(signal.figures[0].value) == pytest.approx(float(close), rel=1e-5)


def test_the_disguise_is_the_same_whenever_it_is_asked_for(stage):
    _, question = asked(stage, masks=ALL)
    assert disguise(question) == disguise(question) == briefed(stage, masks=ALL).disguise
