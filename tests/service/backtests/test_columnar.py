"""The columnar engine against the stepped one, on random markets and strategies: the same facts, trades, equity and denials.

`BACKTEST_SEEDS=200` plays so many scenarios instead of the few.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.desks import DAY, at, bars, calendar, strategy
from tests.service.backtests.benches import LAST, bench_of, plan
from tests.service.backtests.lone_plans import ACCOUNT, OWN, lone
from tests.service.backtests.random_plans import busy, random_bars, scenario, with_holes
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.indicators import indicator
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode
from trading_pipeline.ports import Ledger
from trading_pipeline.service.backtests import columnar
from trading_pipeline.service.backtests.columnar.asking import NOWHERE
from trading_pipeline.service.backtests.columnar.ground import ground_of, next_true
from trading_pipeline.service.backtests.engines import Engine, choose, run
from trading_pipeline.service.backtests.results import marks_of, result_of, result_of_backtest

E = EventType
SEEDS = range(int(os.environ.get("BACKTEST_SEEDS", "8")))
IDLE = frozenset(
    {E.BAR_RECEIVED, E.INDICATORS_COMPUTED, E.STEP_COMPLETED, E.LLM_REQUESTED, E.LLM_RESPONDED, E.LLM_ABSTAINED, E.RECONCILED,
     E.PORTFOLIO_SNAPSHOTTED, E.SIGNAL_MISSED}
)
"""What only tells that a close was looked at."""
NUMBERED = frozenset({"lease", "verdict_seq"})
"""What counts facts or looks: fewer closes are looked at."""
COUNTED = frozenset({E.ORDER_CANCEL_REQUESTED, E.STRATEGY_PAUSED, E.STRATEGY_RESUMED})
"""What is named by the number of a fact before it."""


def facts(ledger: Ledger) -> list[tuple[Any, ...]]:
    """Everything that was decided, judged, sent, filled, opened and closed, with its whole payload, in order."""
    told = []
    for event in ledger.events():
        data = event.payload
        held = event.type is E.LLM_ACTION_GENERATED and data["action"] == "hold"
        paced = event.type in (E.STRATEGY_PAUSED, E.STRATEGY_RESUMED) and str(data.get("reason", data.get("cleared"))).startswith("rate")
        if event.type in IDLE or held or paced:
            continue
        key = event.key.rsplit(":", 1)[0] if event.type in COUNTED else event.key
        kept = {name: value for name, value in data.items() if name not in NUMBERED}
        told.append((event.type, event.stream, key, event.at, event.actor, kept))
    return told


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_columns_make_the_facts_the_trades_and_the_equity_that_the_steps_make(tmp_path, seed):
    agree(tmp_path, *scenario(seed))


GAPS = ((lone, 24), (scenario, 66), (busy, 3))
"""One symbol and several; stops, targets and sales; orders by the hour."""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), GAPS if "BACKTEST_SEEDS" not in os.environ else product((lone, scenario, busy), SEEDS))
def test_columns_leave_out_what_no_symbol_has_a_bar_of(tmp_path, kind, seed):
    """Nobody is asked without a bar, or without the price that follows one."""
    wanted, tables = kind(seed)
    holed = with_holes(tables, seed)
    if wanted.interval.daily:
        pytest.skip("days have no minutes")
    with bench_of(tmp_path / "looked", wanted, *holed.values()) as bench:
        assert "BACKTEST_SEEDS" in os.environ or not columnar.why_not(bench, wanted)
    agree(tmp_path, wanted, holed)


def agree(tmp_path: Path, wanted: BacktestPlan, tables: Mapping[str, BarTable]) -> None:
    """Both engines on the same bars: the same facts, trades and equity; or the steps alone, and why."""
    with bench_of(tmp_path, wanted, *tables.values()) as bench:
        if why := columnar.why_not(bench, wanted):
            assert choose(bench, wanted) == (Engine.STEPPED, why)
            return
        stepped, quick = run(bench, wanted, engine=Engine.STEPPED), run(bench, wanted, engine=Engine.COLUMNAR)
        expected, found = result_of_backtest(bench, stepped), columnar.results(bench, wanted)
        counted, read = result_of_backtest(bench, quick), result_of(quick.ledger, marks=marks_of(bench))
    assert facts(quick.ledger) == facts(stepped.ledger)
    assert found.trades == expected.trades
    assert (found.sessions, found.denials, found.cash) == (expected.sessions, expected.denials, expected.cash)
    assert found.decisions == {name: many for name, many in expected.decisions.items() if name in ("buy", "sell")}
    for column in ("equity", "invested", "traded", "commissions"):
        np.testing.assert_allclose(getattr(found, column), getattr(expected, column), atol=1e-6, err_msg=column)
        np.testing.assert_allclose(getattr(counted, column), getattr(read, column), atol=1e-6, err_msg=column)
    assert (counted.trades, counted.decisions, counted.denials) == (read.trades, read.decisions, read.denials)
    assert (counted.sessions, counted.cash, counted.assumptions) == (read.sessions, read.cash, quick.assumptions)


def test_the_scenarios_trade_are_stopped_reach_targets_and_are_denied(tmp_path):
    """Otherwise the comparison above would compare nothing."""
    reasons, rules, unfit = set(), set(), 0
    for seed in SEEDS:
        wanted, tables = scenario(seed)
        with bench_of(tmp_path / str(seed), wanted, *tables.values()) as bench:
            if columnar.why_not(bench, wanted):
                unfit += 1
                continue
            result = columnar.results(bench, wanted)
        reasons |= {trade.exit_reason.value for trade in result.trades}
        rules |= set(result.denials)
    assert reasons >= {"signal", "stop", "target"}
    assert len(rules) >= 3
    assert unfit < len(SEEDS) / 4


@pytest.mark.parametrize(("fraction", "quick", "orders"), [("0.94", True, 1), ("0.97", False, 2)])
def test_an_exit_that_leaves_the_steps_no_room_below_the_hard_limit_is_left_to_them(tmp_path, fraction, quick, orders):
    """65, D1: at $100 an exit is cut from $95,238 on."""
    agent, sizing = ExpressionAgent("close < 100.5", "close > 100.5"), FractionSizing(fraction=Decimal(fraction))
    spec = strategy(interval=Interval.MIN5, agent=agent, limits=OWN, sizing=sizing, min_confidence=Decimal("0.8"))
    table = bars(interval=Interval.MIN5, first=date(2024, 8, 1), last=LAST, at={at(10, 0): (100.0, 101.0, 100.0, 101.0)}, volume=1e8)
    with bench_of(tmp_path, wanted := plan(spec, first=DAY, last=DAY, limits=ACCOUNT), table) as bench:
        assert (not columnar.why_not(bench, wanted)) is quick
        stepped = run(bench, wanted, engine=Engine.STEPPED)
        assert len(stepped.ledger.find("orders", side="sell")) == orders
        if quick:
            assert facts(run(bench, wanted, engine=Engine.COLUMNAR).ledger) == facts(stepped.ledger)


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        (slice(-40, -37), "more than 2 bars in a row"), (slice(-78, -77), "the first or the last bar of a session"),
        (slice(-1, None), "the first or the last bar of a session"),
    ],
)
def test_gaps_that_live_waits_for_and_those_at_a_sessions_edges_are_left_to_the_steps(tmp_path, missing, why):
    wanted = plan(strategy(interval=Interval.MIN5, agent=ExpressionAgent("close > 0", "close < 0")), first=LAST)
    table = bars(interval=Interval.MIN5, first=date(2024, 8, 1), last=LAST)
    kept = np.ones(len(table), np.bool_)
    kept[missing] = False
    with bench_of(tmp_path / "whole", wanted, table) as bench:
        assert not columnar.why_not(bench, wanted)
    with bench_of(tmp_path, wanted, table.where(kept)) as bench:
        assert why in columnar.why_not(bench, wanted)


@pytest.mark.parametrize(
    ("seed", "why"), [(80, "by the first price after a minute without a bar"), (69, "waits because of a loss or of its orders")],
)
def test_what_happens_in_a_gap_is_left_to_the_steps(tmp_path, seed, why):
    wanted, tables = scenario(seed)
    with bench_of(tmp_path, wanted, *with_holes(tables, seed).values()) as bench:
        assert why in columnar.why_not(bench, wanted)


def with_hole(table: BarTable) -> BarTable:
    kept = np.ones(len(table), np.bool_)
    kept[-3] = False
    return table.where(kept)


def without_volume(table: BarTable) -> BarTable:
    table.volume[-3] = 0
    return table


def with_leap(table: BarTable) -> BarTable:
    for column in (table.open, table.high, table.low, table.close):
        column[-3:] *= 2
    return table


@pytest.mark.parametrize(
    ("spoil", "why"),
    [(with_hole, "whole sessions are missing"), (without_volume, "nothing of AAPL was traded"), (with_leap, "lies far from")],
)
def test_bars_that_columns_do_not_tell_about_are_left_to_the_steps(tmp_path, spoil, why):
    wanted = plan(strategy(agent=ExpressionAgent("close > 0", "close < 0")))
    with bench_of(tmp_path, wanted, spoil(bars(last=LAST))) as bench:
        assert why in columnar.why_not(bench, wanted)
        backtest = run(bench, wanted)
    assert backtest.engine is Engine.STEPPED
    assert why in backtest.why


def test_what_a_person_approves_is_left_to_the_steps(tmp_path):
    asked = plan(strategy(mode=Mode.APPROVAL, agent=ExpressionAgent("close > 0", "close < 0")))
    with bench_of(tmp_path, asked) as bench:
        assert "a person approves" in columnar.why_not(bench, asked)


def test_what_counts_from_the_first_bar_is_left_to_the_steps(tmp_path):
    asked = plan(strategy(agent=ExpressionAgent("obv > 0", "close < 0")))
    with bench_of(tmp_path, asked) as bench:
        assert "reads obv, whose values depend on where" in columnar.why_not(bench, asked)


@pytest.mark.parametrize(("name", "counts"), [("pvt", True), ("ad", True), ("hma_20", False), ("rsi_14", False), ("ema_20", False)])
def test_totals_are_told_from_what_forgets_where_it_began(name, counts):
    table = random_bars("AAPL", 7, Interval.MIN5, date(2024, 2, 1), date(2024, 3, 1))
    prices = ground_of({"AAPL": table}, {}, calendar(), date(2024, 2, 26), date(2024, 3, 1)).prices["AAPL"]
    assert prices.begun_by(indicator(name), 600) is counts


def test_what_says_nothing_of_few_bars_is_told_from_what_says_something_from_its_first_bar_on():
    table = random_bars("AAPL", 7, Interval.MIN5, date(2024, 2, 1), date(2024, 2, 2))

    def begun(name: str, first: date) -> bool:
        return ground_of({"AAPL": table}, {}, calendar(), first, date(2024, 2, 2)).prices["AAPL"].begun_by(indicator(name), 600)

    # Of 19 bars this decay is nothing; of 20 and more it begins at the first.
    assert begun("decay_20", date(2024, 2, 1))
    assert not begun("decay_20", date(2024, 2, 2))
    assert not begun("hma_20", date(2024, 2, 1))


def test_an_average_of_moves_over_a_standstill_is_left_to_the_steps():
    moving = random_bars("AAPL", 7, Interval.MIN5, date(2024, 2, 1), date(2024, 3, 1))
    close = moving.close.copy()
    close[500:802] = close[500]
    still = replace(moving, open=close, high=close, low=close, close=close)
    for table, expected in ((moving, False), (still, True)):
        prices = ground_of({"AAPL": table}, {}, calendar(), date(2024, 2, 26), date(2024, 3, 1)).prices["AAPL"]
        assert prices.begun_by(indicator("rsi_14"), 600) is expected
        assert not prices.begun_by(indicator("sma_20"), 600)


def test_the_next_true_place_is_found_from_every_place():
    flags = np.array([False, True, False, False, True, False])
    assert next_true(flags).tolist() == [1, 1, 4, 4, 4, NOWHERE, NOWHERE]
    assert next_true(np.zeros(2, np.bool_)).tolist() == [NOWHERE] * 3


def test_a_stop_within_a_session_is_in_its_closing_figure_though_another_symbol_is_stopped_at_the_next_open(tmp_path):
    sizing = FractionSizing(Decimal("0.05"), stop=Decimal("0.05"))
    spec = strategy(symbols=("AAPL", "IBM"), agent=ExpressionAgent("close > 99", "close < 0"), sizing=sizing)
    tuesday, wednesday = at(9, 30, day=date(2024, 8, 27)), at(9, 30, day=date(2024, 8, 28))
    fallen = bars("IBM", last=LAST, at={tuesday: (100.0, 100.0, 90.0, 98.0)})
    gapped = bars("AAPL", last=LAST, at={wednesday: (80.0, 81.0, 79.0, 80.0)})
    with bench_of(tmp_path, wanted := plan(spec, first=date(2024, 8, 26)), gapped, fallen) as bench:
        stepped, quick = run(bench, wanted, engine=Engine.STEPPED), run(bench, wanted, engine=Engine.COLUMNAR)
    assert [row["price"] for row in quick.ledger.find("fills", side="sell", order_by="seq")] == [Decimal(95), Decimal(80)]
    assert facts(quick.ledger) == facts(stepped.ledger)


def test_a_loss_at_a_sessions_open_counts_there_though_another_symbol_was_stopped_in_the_bar_before(tmp_path):
    """IBM is stopped on Tuesday and would be bought again on Wednesday, where AAPL's open is below its stop: one loss, and it waits."""
    sizing = FractionSizing(Decimal("0.05"), stop=Decimal("0.05"))
    spec = strategy(
        symbols=("AAPL", "IBM"), agent=ExpressionAgent("close > 99", "close < 0"), sizing=sizing, limits=StrategyLimits(losing_streak=1),
    )
    tuesday, wednesday = at(9, 30, day=date(2024, 8, 27)), at(9, 30, day=date(2024, 8, 28))
    fallen = bars("IBM", last=LAST, at={tuesday: (100.0, 100.0, 90.0, 100.0)})
    gapped = bars("AAPL", last=LAST, at={wednesday: (94.0, 95.0, 93.0, 94.0)})
    with bench_of(tmp_path, wanted := plan(spec, first=date(2024, 8, 26)), gapped, fallen) as bench:
        stepped, quick = run(bench, wanted, engine=Engine.STEPPED), run(bench, wanted, engine=Engine.COLUMNAR)
        assert columnar.results(bench, wanted).denials == {"cool_off": 1}
    assert facts(quick.ledger) == facts(stepped.ledger)


@pytest.mark.parametrize(
    "later", [(100.0, 100.0, 90.0, 100.0), (80.0, 81.0, 79.0, 80.0)], ids=["within a bar", "at an open"],
)
def test_what_a_stopped_strategy_still_holds_is_sold_by_its_stop_in_a_session_that_nobody_looks_at(tmp_path, later):
    """An open below its entry is more than it may lose a day: it decides nothing more, and its stop stands."""
    spec = strategy(
        agent=ExpressionAgent("close > 99", "close < 0"), sizing=FractionSizing(Decimal("0.05"), stop=Decimal("0.05")),
        limits=StrategyLimits(max_day_loss=Decimal(100)),
    )
    low_open = (96.0, 100.0, 96.0, 100.0)
    table = bars(last=LAST, at={at(9, 30, day=date(2024, 8, 28)): low_open, at(9, 30, day=date(2024, 8, 29)): later})
    with bench_of(tmp_path, wanted := plan(spec, first=date(2024, 8, 26)), table) as bench:
        stepped, quick = run(bench, wanted, engine=Engine.STEPPED), run(bench, wanted, engine=Engine.COLUMNAR)
    assert [row["state"] for row in quick.ledger.find("strategies")] == ["paused_risk"]
    assert [row["price"] for row in quick.ledger.find("fills", side="sell")] == [min(Decimal(95), Decimal(later[0]))]
    assert facts(quick.ledger) == facts(stepped.ledger)


def test_signals_come_in_the_order_of_the_strategies_names_whatever_the_plans_order(tmp_path):
    later, sooner = strategy("zero", symbols=("AAPL",)), strategy("alpha", symbols=("IBM",))
    with bench_of(tmp_path, wanted := plan(later, sooner), bars(last=LAST), bars("IBM", last=LAST)) as bench:
        stepped, quick = run(bench, wanted, engine=Engine.STEPPED), run(bench, wanted, engine=Engine.COLUMNAR)
    assert [event.payload["strategy"] for event in quick.ledger.events(types=(E.LLM_ACTION_GENERATED,))][:2] == ["alpha", "zero"]
    assert facts(quick.ledger) == facts(stepped.ledger)


def test_a_loss_after_a_night_is_looked_at_before_the_stop_that_the_open_reached_is_booked(tmp_path):
    """Sold at the open it lost $300; as long as that is not known it has lost $500 at the next bar's open, and may lose $400."""
    spec = strategy(
        agent=ExpressionAgent("close > 99", "close < 0"), sizing=FractionSizing(Decimal("0.05"), stop=Decimal("0.05")),
        interval=Interval.MIN5, limits=StrategyLimits(max_day_loss=Decimal(400)),
    )
    night = date(2024, 8, 29)
    fallen = {at(9, 30, day=night): (94.0, 94.0, 90.0, 90.0), at(9, 35, day=night): (90.0, 100.0, 90.0, 100.0)}
    table = bars(interval=Interval.MIN5, first=date(2024, 8, 19), last=night, at=fallen)
    with bench_of(tmp_path, wanted := plan(spec, first=date(2024, 8, 28), last=night), table) as bench:
        stepped, quick = run(bench, wanted, engine=Engine.STEPPED), run(bench, wanted, engine=Engine.COLUMNAR)
    assert [row["state"] for row in quick.ledger.find("strategies")] == ["paused_risk"]
    assert facts(quick.ledger) == facts(stepped.ledger)


def test_a_loss_while_a_strategy_waits_because_of_its_orders_is_left_to_the_steps(tmp_path):
    """Whether it is seen before the price comes back: then it waits for a person, whatever it waited for before."""
    spec = strategy(
        agent=ExpressionAgent("close > 99", "close < 0"), interval=Interval.MIN5,
        limits=StrategyLimits(max_orders_per_hour=1, max_day_loss=Decimal(200)),
    )
    table = bars(interval=Interval.MIN5, first=date(2024, 8, 19), last=DAY, at={at(9, 50): (90.0, 100.0, 90.0, 100.0)})
    with bench_of(tmp_path, wanted := plan(spec, first=DAY, last=DAY), table) as bench:
        assert "a loss is reached while buyer waits" in columnar.why_not(bench, wanted)
        [row] = run(bench, wanted).ledger.find("strategies")
        assert (row["state"], row["reason"].partition(":")[0]) == ("paused_risk", "loss")


def test_a_price_far_from_the_last_one_that_a_stopped_strategy_received_is_left_to_the_steps(tmp_path):
    """Nobody receives its bars any more: step by step the price falls to less than half, and then is no longer believed."""
    prices = {at(9, 30, day=date(2024, 8, 26 + day)): (price,) * 4 for day, price in enumerate((80.0, 70.0, 60.0, 55.0, 50.0))}
    wanted = plan(strategy(limits=StrategyLimits(max_day_loss=Decimal(300))))
    with bench_of(tmp_path, wanted, bars(last=LAST, at=prices)) as bench:
        assert "lies far from the last one before a loss stopped buyer" in columnar.why_not(bench, wanted)


def test_stops_of_several_sessions_that_nobody_looks_at_are_each_learnt_of_when_theirs_is_opened_and_closed(tmp_path):
    spec = strategy(
        symbols=("AAPL", "IBM"), agent=ExpressionAgent("close > 99", "close < 0"), limits=StrategyLimits(max_day_loss=Decimal(100)),
        sizing=FractionSizing(Decimal("0.05"), stop=Decimal("0.05")),
    )
    days = [at(9, 30, day=date(2024, 8, day)) for day in (27, 28, 29)]
    low_open, stopped = (96.0, 100.0, 96.0, 100.0), (100.0, 100.0, 90.0, 100.0)
    tables = bars(last=LAST, at={days[0]: low_open, days[1]: stopped}), bars("IBM", last=LAST, at={days[0]: low_open, days[2]: stopped})
    with bench_of(tmp_path, wanted := plan(spec), *tables) as bench:
        stepped, quick = run(bench, wanted, engine=Engine.STEPPED), run(bench, wanted, engine=Engine.COLUMNAR)
    assert [row["session"] for row in quick.ledger.find("fills", side="sell", order_by="seq")] == ["2024-08-28", "2024-08-29"]
    assert facts(quick.ledger) == facts(stepped.ledger)


def test_a_loss_stops_a_strategy_that_waited_for_its_next_orders_when_another_one_was_stopped(tmp_path):
    agent = ExpressionAgent("close > 99", "close < 0")
    one = strategy("one", agent=agent, interval=Interval.MIN5, limits=StrategyLimits(max_day_loss=Decimal(60)))
    two = strategy(
        "two", symbols=("IBM",), agent=agent, interval=Interval.MIN5,
        limits=StrategyLimits(max_orders_per_hour=1, max_day_loss=Decimal(100)),
    )
    falls = {"AAPL": at(9, 40), "IBM": at(11, 30)}
    tables = [
        bars(symbol, Interval.MIN5, date(2024, 8, 19), DAY, at={when: (95.0, 100.0, 95.0, 100.0)}) for symbol, when in falls.items()
    ]
    with bench_of(tmp_path, wanted := plan(one, two, first=DAY, last=DAY), *tables) as bench:
        stepped, quick = run(bench, wanted, engine=Engine.STEPPED), run(bench, wanted, engine=Engine.COLUMNAR)
    assert [row["state"] for row in quick.ledger.find("strategies")] == ["paused_risk", "paused_risk"]
    assert facts(quick.ledger) == facts(stepped.ledger)
