"""Nothing may depend on bars that have not closed: the check passes what is shipped and catches who peeks."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import count

import numpy as np
import pytest

from tests.desks import calendar
from tests.service.backtests.benches import bench_of
from tests.service.backtests.rough_market import rough_minutes
from trading_pipeline.adapters.llm.rules import RulesAgent
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bar_quality import faults, grid
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns
from trading_pipeline.domain.indicators import DEFINITIONS, PRICE_COLUMNS, compute, indicator, names
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.signals import Action, Signal
from trading_pipeline.domain.strategies import AnalyzerAgent, ExpressionAgent, FractionSizing, Lifetime, Mode, RiskSizing, StrategySpec
from trading_pipeline.ports import Answer
from trading_pipeline.service.backtests import validating
from trading_pipeline.service.backtests.engines import Engine, choose, run
from trading_pipeline.service.backtests.lookahead import FUTURES, LookAheadCheck, changed, look_ahead
from trading_pipeline.service.backtests.results import result_of_backtest

FIRST, LAST = date(2024, 5, 28), date(2024, 6, 28)


def daily(symbol: str, seed: int = 1, first: date = date(2023, 3, 1), last: date = LAST) -> BarTable:
    """A random walk on the real calendar, prices in cents."""
    start, end = grid(calendar(), Interval.DAY1, first, last)
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0.0003, 0.015, len(start))))
    opened = close * np.exp(draw.normal(0, 0.006, len(start)))
    high, low = np.maximum(opened, close) * 1.006, np.minimum(opened, close) * 0.994
    columns = [np.round(each, 2) for each in (opened, high, low, close)]
    return BarTable(symbol, Interval.DAY1, start, end, *columns, np.floor(draw.uniform(2e6, 5e6, len(start))))


def spec(agent=None, interval=Interval.DAY1, **changes) -> StrategySpec:
    made = StrategySpec(
        "looker", ("AAPL",), Mode.AUTONOMOUS, interval, agent or ExpressionAgent("rsi_14 < 45", "rsi_14 > 55", 10), Lifetime.OPEN,
        sizing=FractionSizing(Decimal("0.05")), min_confidence=Decimal(0),
    )
    return replace(made, **changes)


def plan(*specs: StrategySpec, first: date = FIRST, last: date = LAST) -> BacktestPlan:
    return BacktestPlan(specs or (spec(),), first, last)


class Peeking:
    """Buys when the bar after the newest one closes higher, sells when it does not: it reads the table that the market is made of."""

    provider = "rules"

    def __init__(self, tables):
        self._tables = {symbol: table for (symbol, _), table in tables.items()}
        self.needs = RulesAgent().needs

    def decide(self, questions):
        return [Answer(self._decided(each), "rules", "peeking", "") for each in questions]

    def _decided(self, question):
        table = self._tables[question.symbol]
        place = int(np.searchsorted(table.end, question.bars.end[-1]))
        rises = place + 1 < len(table) and table.close[place + 1] > table.close[place]
        held = question.bars_held is not None
        action = Action.BUY if rises and not held else Action.SELL if held and not rises else Action.HOLD
        return Signal(question.symbol, action, Decimal(1), "saw it")


def checked(tables, wanted, tmp_path, decider=None, **options):
    """The check over these tables; `decider` makes a decision maker that sees the tables it runs on."""
    folders = count()

    def opened(of):
        # Without a model there is nothing that leaving the bench would let go of.
        with bench_of(tmp_path / str(next(folders)), wanted, *of.values()) as bench:
            if decider is None:
                return bench
            deciders = {"rules": decider(of)}
            return replace(bench, open_desk=lambda plan, ledger: replace(bench.open_desk(plan, ledger), deciders=deciders))

    return look_ahead(opened, {(each.symbol, each.interval): each for each in tables}, wanted, **options)


def test_who_peeks_one_bar_ahead_is_caught(tmp_path):
    found = checked([daily("AAPL")], plan(), tmp_path, Peeking, engine=Engine.STEPPED, instants=2)
    assert not found.passed
    first = min(found.leaks, key=lambda leak: leak.at)
    assert first.at == first.known_until
    assert first.about.split()[1] == "AAPL"
    assert found.headline.startswith("LOOKS AHEAD: ")


@pytest.mark.slow
def test_who_peeks_within_the_session_is_caught(tmp_path):
    minutes = rough_minutes("AAPL", 3, date(2024, 7, 2), date(2024, 7, 3), calendar())
    minutes = minutes.rows(0, len(minutes) - 150)
    wanted = plan(spec(interval=Interval.MIN1), first=date(2024, 7, 3), last=date(2024, 7, 3))
    found = checked([minutes], wanted, tmp_path, Peeking, engine=Engine.STEPPED, instants=1)
    assert not found.passed
    assert found.leaks[0].at == found.leaks[0].known_until


AGENTS = {
    "the analyzer": AnalyzerAgent(),
    "an expression": ExpressionAgent("rsi_14 < 45", "rsi_14 > 55", 10),
    "a crossing": ExpressionAgent("close crossed_above sma_20", "close crossed_below ema_20"),
    "bands and volume": ExpressionAgent("close < bbands_20_middle and volume > 0.8 * volume_sma_20", "close > bbands_20_upper", 5),
}


@pytest.mark.parametrize("name", AGENTS)
def test_what_is_shipped_does_not_look_ahead(tmp_path, name):
    wanted = plan(spec(AGENTS[name], sizing=RiskSizing()))
    found = checked([daily("AAPL")], wanted, tmp_path, engine=Engine.STEPPED, instants=1)
    assert found.passed, found.headline
    assert found.headline.startswith("No look-ahead: ")


def test_the_fast_engine_does_not_look_ahead(tmp_path):
    found = checked([daily("AAPL")], plan(), tmp_path, engine=Engine.COLUMNAR, instants=2)
    assert found.passed, found.headline


def test_a_future_that_is_for_another_engine_is_no_leak(tmp_path):
    """Where prices rise instead, an exit is larger than an order may be, and the stepped engine cuts it."""
    wide = {"max_order_value": Decimal(100_000), "max_position_value": Decimal(200_000)}
    trader = spec(ExpressionAgent("rsi_14 < 50", "rsi_14 > 55"), sizing=FractionSizing(Decimal("0.18")), limits=StrategyLimits(**wide))
    wanted = plan(trader, first=date(2024, 3, 1))
    wanted = replace(wanted, cash=Decimal(500_000), limits=replace(wanted.limits, **wide))
    table, runs = daily("AAPL"), []
    with bench_of(tmp_path / "chosen", wanted, table) as bench:
        assert choose(bench, wanted)[0] is Engine.COLUMNAR
    found = checked([table], wanted, tmp_path, instants=1, progress=lambda: runs.append(1))
    assert found.passed, found.headline
    assert found.compared > 20
    assert len(runs) > 3, "run again, all by the stepped one"


@pytest.mark.parametrize("decider", [Peeking, None])
def test_a_validation_says_first_that_it_looks_ahead(tmp_path, monkeypatch, decider):
    """By the bench's own way to other bars; one that peeks is asked by the stepped engine alone."""
    monkeypatch.setattr(validating, "look_ahead", partial(look_ahead, engine=Engine.STEPPED, instants=1))
    wanted = plan(first=date(2024, 6, 10), last=date(2024, 6, 21))

    def peeking(bench):
        deciders = {} if decider is None else {"deciders": {"rules": decider(bench.tables)}}
        return replace(
            bench, open_desk=lambda plan, ledger: replace(bench.open_desk(plan, ledger), **deciders),
            over=lambda tables: peeking(bench.over(tables)),
        )

    with bench_of(tmp_path, wanted, daily("AAPL")) as opened:
        bench = peeking(opened)
        result = result_of_backtest(bench, run(bench, wanted, engine=Engine.STEPPED))
        found = validating.validate_backtest(bench, wanted, result, check_look_ahead=True)
    name, _, _, holds = (cell.text for cell in found.tables[0].rows[0])
    assert (name, holds) == ("no look-ahead", "holds" if decider is None else "does not hold")
    assert found.headline.startswith("NOT VALIDATED: LOOKS AHEAD: ") is (decider is not None)


def test_a_backtest_that_decided_nothing_has_not_been_checked():
    found = LookAheadCheck((), 0, 0, ())
    assert not found.passed
    assert found.headline.startswith("LOOK-AHEAD NOT CHECKED")


# The other future


def test_another_future_leaves_what_is_known_and_the_open_that_was_published():
    table = daily("AAPL")
    session = calendar().between(date(2024, 5, 1), date(2024, 5, 1))[0]
    cut = int(np.searchsorted(table.start, instant_ns(session.open)))
    for future in FUTURES:
        other = changed({("AAPL", Interval.DAY1): table}, session.open, future)["AAPL", Interval.DAY1]
        assert other.rows(0, cut) == table.rows(0, cut)
        assert other.open[cut] == table.open[cut]
        assert (other.close[cut:] != table.close[cut:]).all()
        assert (other.open[cut + 1 :] != table.open[cut + 1 :]).all()
        assert not any(mask.any() for mask in faults(other).values())


def test_before_a_bar_has_begun_its_open_is_not_known():
    table = daily("AAPL")
    night = datetime(2024, 5, 1, 2, 0, tzinfo=UTC)
    cut = int(np.searchsorted(table.start, instant_ns(night)))
    other = changed({("AAPL", Interval.DAY1): table}, night, 1.07)["AAPL", Interval.DAY1]
    assert other.open[cut] != table.open[cut]


def test_one_of_the_futures_turns_every_move_round():
    table = daily("AAPL")
    for cut in range(50, 90):
        at = datetime.fromtimestamp(table.end[cut] / 1e9, UTC) + timedelta(seconds=1)
        rises = [
            changed({("AAPL", Interval.DAY1): table}, at, future)["AAPL", Interval.DAY1].close[cut + 1] > table.close[cut]
            for future in FUTURES
        ]
        assert set(rises) == {True, False}


# Every indicator


@pytest.mark.parametrize("name", names())
def test_no_column_of_any_indicator_depends_on_later_bars(name):
    """73. All that is in the library, at their defaults or over 20 bars."""
    spec, table = indicator(f"{name}_20" if _needs_length(name) else name), _walk(len(name))
    seen = compute([spec], table)
    for cut, future in ((150, 1.07), (311, 0.93)):
        at = datetime.fromtimestamp(table.end[cut - 1] / 1e9, UTC)
        other = changed({("TEST", Interval.HOUR1): table}, at, future)["TEST", Interval.HOUR1]
        later = compute([spec], other)
        for column, values in seen.items():
            np.testing.assert_allclose(later[column][:cut], values[:cut], rtol=1e-9, atol=1e-9, err_msg=column)


def _needs_length(name: str) -> bool:
    definition = DEFINITIONS[name]
    return not definition.optional and any(each.default is None for each in definition.parameters)


def _walk(seed: int, length: int = 400) -> BarTable:
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.01, length)))
    opened = close * np.exp(draw.normal(0, 0.004, length))
    columns = [np.round(each, 2) for each in (opened, np.maximum(opened, close) * 1.004, np.minimum(opened, close) * 0.996, close)]
    start = (1_704_119_400 + 3_600 * np.arange(length, dtype=np.int64)) * 1_000_000_000
    return BarTable("TEST", Interval.HOUR1, start, start + 3_600_000_000_000, *columns, np.floor(draw.uniform(1e5, 5e5, length)))


def test_every_price_is_among_what_was_changed():
    table = _walk(1)
    other = changed({("TEST", Interval.HOUR1): table}, datetime.fromtimestamp(table.end[199] / 1e9, UTC), 1.07)["TEST", Interval.HOUR1]
    assert all((getattr(other, name)[201:] != getattr(table, name)[201:]).all() for name in PRICE_COLUMNS)
