"""A function that decides, asked at every close: what it is told, when, and that it trades as a rule of the same words does."""

from datetime import date
from decimal import Decimal
from math import isnan

import pytest

from tests.desks import DAY, at, bars, strategy
from tests.service.backtests.benches import LAST, bench_of, plan
from tests.service.backtests.random_plans import scenario
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.indicators import indicator
from trading_pipeline.domain.signals import Action
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing
from trading_pipeline.domain.ties import above
from trading_pipeline.service.backtests import columnar
from trading_pipeline.service.backtests.columnar.asking import Ask, Values

BUY, SELL, HOLD = Action.BUY, Action.SELL, Action.HOLD


def dips(symbol: str) -> Ask:
    """`rsi_14 crossed_below 45`, `close > sma_20`, and 15 bars at most."""

    def decide(now: Values, before: Values, held: int | None) -> Action:
        if isnan(now["sma_20"]) or isnan(now["rsi_14"]):
            return HOLD
        if held is None:
            return BUY if before["rsi_14"] >= 45 > now["rsi_14"] else HOLD
        return SELL if above(now["close"], now["sma_20"]) or held >= 15 else HOLD

    return decide


def rising(symbol: str) -> Ask:
    """`close > open`, `close < open`."""
    return lambda now, before, held: BUY if now["close"] > now["open"] else SELL if now["close"] < now["open"] else HOLD


RULES = (
    (ExpressionAgent("rsi_14 crossed_below 45 and sma_20 > 0", "close > sma_20 and rsi_14 > 0", 15), dips),
    (ExpressionAgent("close > open", "close < open"), rising),
)


@pytest.mark.parametrize("seed", range(40, 60))
def test_a_function_trades_as_a_rule_of_the_same_words_does(tmp_path, seed):
    wanted, tables = scenario(seed)
    rule, function = RULES[seed % 2]
    specs = [
        strategy(
            spec.name, symbols=spec.symbols, interval=spec.interval, sizing=spec.sizing, limits=spec.limits, agent=rule,
            indicators=(indicator("rsi_14"), indicator("sma_20")),
        )
        for spec in wanted.strategies
    ]
    asked = plan(*specs, first=wanted.first, last=wanted.last, limits=wanted.limits, costs=wanted.costs, cash=wanted.cash)
    with bench_of(tmp_path, asked, *tables.values()) as bench:
        if columnar.why_not(bench, asked):
            return
        expected = columnar.results(bench, asked)
        found = columnar.results(bench, asked, agents={spec.name: function for spec in specs})
    assert found.trades == expected.trades
    assert (found.decisions, found.denials) == (expected.decisions, expected.denials)
    assert found.equity.tolist() == expected.equity.tolist()


def test_a_function_is_told_of_each_close_once_in_order_and_of_nothing_later(tmp_path):
    """It is stopped within the third bar: it is flat at that bar's close."""
    closes = [100.0, 101.0, 102.0, 101.5, 103.0, 102.5, 104.0]
    prices = {at(9, 30 + 5 * place): (close,) * 4 for place, close in enumerate(closes)} | {at(9, 40): (102.0, 102.0, 90.0, 102.0)}
    table = bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=DAY, at=prices)
    told: list[tuple[float, float, int | None]] = []

    def remembering(symbol: str) -> Ask:
        def decide(now: Values, before: Values, held: int | None) -> Action:
            assert set(now) == set(before) >= {"open", "high", "low", "close", "volume", "atr_14", "sma_20"}
            told.append((now["close"], before["close"], held))
            return BUY if len(told) == 1 else HOLD

        return decide

    spec = strategy(interval=Interval.MIN5, sizing=FractionSizing(Decimal("0.05"), stop=Decimal("0.05")))
    with bench_of(tmp_path, wanted := plan(spec, first=DAY, last=DAY), table) as bench:
        [trade] = columnar.results(bench, wanted, agents={"buyer": remembering}).trades
    assert trade.exit_at == at(9, 45)
    every = [*closes, *[100.0] * 70]
    assert [(now, held) for now, _, held in told[:4]] == [(100.0, None), (101.0, 1), (102.0, None), (101.5, None)]
    assert [now for now, _, _ in told] == every
    assert [before for _, before, _ in told] == [100.0, *every[:-1]]


def test_each_symbol_has_a_function_of_its_own(tmp_path):
    made: list[str] = []

    def agency(symbol: str) -> Ask:
        made.append(symbol)
        return lambda now, before, held: HOLD

    spec = strategy(symbols=("IBM", "AAPL"))
    with bench_of(tmp_path, wanted := plan(spec), bars(last=LAST), bars("IBM", last=LAST)) as bench:
        assert columnar.results(bench, wanted, agents={"buyer": agency}).trades == ()
    assert made == ["IBM", "AAPL"]
