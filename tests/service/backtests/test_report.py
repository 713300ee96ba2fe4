"""A report as data and as Markdown: what it says first, what it is held against, and that it hides nothing."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import numpy as np
import pytest

from tests.desks import bars as market_bars
from tests.desks import strategy
from tests.service.backtests.reports import DAYS, RESULT, TRADES, Passed, report
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.performance.report import sessions
from trading_pipeline.domain.strategies import AnalyzerAgent
from trading_pipeline.service.backtests.report import MOST_TRADES, by_session, rules_plan
from trading_pipeline.service.backtests.report_markdown import markdown_of, plain

D = Decimal


def cells(table, name):
    """The words of a row."""
    [row] = [row for row in table.rows if row[0].text == name]
    return [cell.text for cell in row[1:]]


def figure(found, name):
    """A row of the figures, whatever its subject."""
    return next(cells(table, name) for table in found.figures if name in [row[0].text for row in table.rows])


def test_without_a_validation_it_is_not_validated_and_says_so_first():
    found = report()
    assert found.headline.startswith("NOT VALIDATED: no validation was run") and not found.passed
    assert markdown_of(found).startswith("**NOT VALIDATED")


def test_a_validation_that_passed_is_the_headline_and_its_sections_are_told():
    found = report(validation=Passed())
    assert (found.headline, found.passed) == ("Validated: by hand.", True)
    assert "## Checks\n\n| CHECK | FOUND |" in markdown_of(found)


def test_the_seeds_targets_stand_beside_what_was_reached():
    """One of three closed trades won; 98 over 64; 1,098 fell to 1,034."""
    told = {each.title: (each.aim, each.reached.text, each.met) for each in report().targets}
    assert told["Win rate"] == ("> 50 %", "33.33 %", False)
    assert told["Profit factor"] == ("> 1.5", "1.53", True)
    assert told["Maximum drawdown"] == ("< 10 %", "5.83 %", True)
    assert told["Sharpe ratio"][0] == "> 1.0"


def test_a_target_exactly_reached_is_missed():
    """More than half: one of two is not."""
    even = replace(RESULT, trades=TRADES[:2])
    assert [each.met for each in report(even).targets if each.title == "Win rate"] == [False]


def test_what_does_not_exist_is_a_dash_with_its_reason_and_no_target_is_met_by_it():
    found = report(replace(RESULT, trades=(), decisions={}, denials={}))
    [win_rate] = [each for each in found.targets if each.title == "Win rate"]
    assert (win_rate.reached.text, win_rate.reached.note, win_rate.met) == ("–", "no trade has closed", None)
    assert "– (no trade has closed)" in markdown_of(found)
    assert "inf" not in markdown_of(found) and "nan" not in markdown_of(found)
    assert [table.name for table in found.record] == ["costs"] and found.groups == ()


def test_every_figure_stands_beside_buy_and_hold_and_the_rules_agent():
    """$500 buys 4 at 100.03 and 9 at 50.015, two for one on the fifth day: 4 x 106 + 18 x 25 and the rest."""
    found = report(rules=RESULT)
    assert [table.columns for table in found.figures] == [("FIGURE", "THIS STRATEGY", "BUY AND HOLD", "RULES AGENT")] * 3
    rest = 1000 - 4 * 100.03 - 1 - 9 * 50.015 - 1
    assert figure(found, "Return") == ["+5.30 %", f"{(rest + 424 + 450) / 10 - 100:+.2f} %", "+5.30 %"]
    assert figure(found, "Win rate") == ["33.33 %", "–", "33.33 %"]
    assert [line.name for line in found.lines] == ["this strategy", "buy and hold", "rules agent"]
    assert found.lines[1].equity[-1] == pytest.approx(rest + 424 + 450)


def test_months_are_of_the_calendar_and_compound_to_the_year():
    [year] = report().months
    assert (year.year, year.total) == (2024, pytest.approx(0.053))
    assert {month: value for month, value in enumerate(year.months, 1) if value is not None} == {
        7: pytest.approx(0.06), 8: pytest.approx(1053 / 1060 - 1),
    }


def test_trades_by_symbol_and_by_what_sold_them():
    symbols, reasons, months = report().groups
    assert cells(symbols, "AAPL") == ["2", "50.00 %", "3.06", "+$33.00", "+$66.00", "+$19.00", "$6.00"]
    assert [row[0].text for row in reasons.rows] == ["signal", "stop", "target"]
    assert [row[0].text for row in months.rows] == ["2024-07", "2024-08"]


def test_a_chart_is_on_one_share_scale_with_its_trades():
    """What was sold at 47 before a split of two for one lies at 23.50."""
    chart = report().charts[1]
    assert chart.bars.close.tolist() == [25, 24.5, 23.5, 24, 24, 25]
    assert [(trade.entry_price, trade.exit_price) for trade in chart.trades] == [(D(25), D("23.5"))]


def test_bars_of_minutes_are_drawn_by_session_where_there_are_too_many():
    minutes = market_bars(interval=Interval.HOUR1, first=date(2024, 8, 1), last=date(2024, 8, 30))
    days = by_session(minutes)
    assert len(days) == 22 and days.start[0] == minutes.start[0] and days.end[-1] == minutes.end[-1]
    assert days.volume.sum() == minutes.volume.sum() and np.all(np.diff(days.start) > 0)


def test_a_long_list_of_trades_is_cut_in_the_middle_and_says_how_many_there_are():
    many = report(replace(RESULT, trades=TRADES[:3] * 100))
    assert len(many.trades.rows) == MOST_TRADES and "of 300" in many.trades.note
    assert cells(many.groups[0], "AAPL")[0] == "200", "figures are of all"


def test_prices_and_times_are_told_as_they_were():
    rows = [[cell.text for cell in row] for row in report().trades.rows]
    assert rows[0] == ["AAPL", "10", "2024-07-29 11:00", "100.00", "2024-07-30 11:00", "110.00", "target", "2", "+$98.00", "+9.80 %"]


def test_it_says_what_it_rests_on_and_how_to_have_it_again():
    told = markdown_of(report())
    assert "Bars were written by hand." in told and "Buy and hold: an equal part" in told
    assert "```\ntrading backtest <up> --from 2024-07-29\n```" in told
    assert "commit abc1234" in told and "backtest bt-0123456789" in told


def test_no_name_is_read_as_markdown():
    told = markdown_of(report())
    assert r"HI\<b\>" in told and "HI<b>" not in told
    assert plain("a|b *c*\n`d`") == r"a\|b \*c\* \`d\`"


def test_the_rules_agent_takes_the_place_of_every_agent_and_of_none_where_it_is_there_already():
    plan = BacktestPlan((strategy(), strategy("two")), DAYS[0], DAYS[-1])
    other = rules_plan(plan)
    assert other is not None and [spec.agent for spec in other.strategies] == [AnalyzerAgent()] * 2
    assert [spec.sizing for spec in other.strategies] == [spec.sizing for spec in plan.strategies]
    assert rules_plan(other) is None


def test_no_folder_ends_the_block_that_the_command_stands_in():
    command = "trading backtest up --data '````\n# not a heading'"
    text = markdown_of(replace(report(), command=command))
    assert f"`````\n{command}\n`````" in text


def test_one_session_is_no_plural():
    assert [sessions(value) for value in (0, 1, 1.0, 2, 1234, 8.31)] == [
        "0 sessions", "1 session", "1 session", "2 sessions", "1,234 sessions", "8.3 sessions",
    ]
