"""The founding documents' backtest on real bars, a month of it: fills at prices that the files say, and every cent accounted for."""

import csv
import gzip
import sys
from dataclasses import replace
from datetime import date
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import pytest

from bench.backtest_2024 import FIVE, RUNS, main
from trading_pipeline.bootstrap_backtests import open_bench
from trading_pipeline.domain.backtests import ExitReason
from trading_pipeline.domain.performance import performance_of
from trading_pipeline.service.backtests.engines import run
from trading_pipeline.service.backtests.report import holding_of, report_of_backtest
from trading_pipeline.service.backtests.results import result_of_backtest
from trading_pipeline.settings import Settings

DATA = Path(__file__).parents[2].parent / "shared" / "data"
D = Decimal


def rows(symbol: str) -> dict[str, dict[str, str]]:
    folder = "1d_adjusted" if symbol in ("SPY", "QQQ") else "1d"
    with gzip.open(DATA / "bars" / folder / f"{symbol}.csv.gz", "rt") as file:
        return {row["session"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("arguments", [[], ["nowhere"]])
def test_without_data_it_says_what_is_missing_and_how_to_give_it(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["backtest_2024", *arguments])
    assert main() == 2
    told = capsys.readouterr()
    assert told.out == "" and "bars/1d" in told.err and "DATA=" in told.err


def test_it_asks_for_what_the_founding_documents_ask_for():
    assert FIVE == ("AAPL", "SPY", "QQQ", "TSLA", "NVDA")
    for plan in (RUNS[0].plan, RUNS[1].plan):
        assert (plan.first, plan.last, plan.symbols) == (date(2024, 1, 1), date(2025, 1, 1), tuple(sorted(FIVE)))
        [spec] = plan.strategies
        assert (spec.sizing.risk_per_trade, spec.sizing.max_stop, spec.sizing.targets) == (D("0.02"), D("0.03"), (D("1.5"), D("2.5")))
        assert spec.min_confidence == D("0.8")


@pytest.mark.skipif(not (DATA / "bars/1d").is_dir(), reason="needs the corpus of market data beside the checkout")
def test_a_month_of_it_fills_at_the_files_prices_and_accounts_for_every_cent(tmp_path):
    plan = replace(RUNS[0].plan, last=date(2024, 1, 31))
    with open_bench(Settings(home=tmp_path), plan, data=[DATA / each for each in RUNS[0].folders]) as bench:
        result = result_of_backtest(bench, run(bench, plan, engine="stepped"))
        holding = holding_of(bench, plan, result)
        report = report_of_backtest(bench, plan, result, command="make backtest-2024", made_at=bench.calendar.horizon.close)
    files = {symbol: rows(symbol) for symbol in FIVE}
    assert len(result.sessions) == 21 and len(result.trades) > 8
    for trade in result.trades:
        bought, left = files[trade.symbol][trade.entry_at.date().isoformat()], files[trade.symbol][trade.exit_at.date().isoformat()]
        taken = (D(bought["open"]) * D("1.0003")).quantize(D("0.0001"), ROUND_CEILING)
        assert abs(trade.entry_price - taken) <= D("0.0002"), "the file's own digits are more than four"
        if trade.exit_reason is ExitReason.STOP and trade.sessions > 1:
            assert trade.exit_price <= D(left["high"]) + D("0.0001")
        if trade.exit_reason is ExitReason.OPEN:
            assert abs(trade.exit_price - D(left["close"])) <= D("0.0001")
    own = performance_of(result)
    assert own.profit == pytest.approx(own.trades.result + own.trades.unrealised, abs=0.005 * len(result.trades) + 0.01)
    assert own.commissions == pytest.approx(own.trades.commissions, abs=0.005 * len(result.trades))
    rise = sum(float(files[s]["2024-01-31"]["close"]) / float(files[s]["2024-01-02"]["open"]) for s in FIVE) / 5 - 1
    assert performance_of(holding).total_return == pytest.approx(rise, abs=0.005), "whole shares leave some of the cash"
    assert len(report.charts) == 5 and report.months[0].months[1:] == (None,) * 11
