"""What a register tells when it is read is what the scribe writes, text for text; and what does not agree is found before it is sealed."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import partial

import numpy as np
import pytest

from tests.oracle.forging import record
from tests.service.backtests.benches import FREE, bench_of, texts, texts_of_the_scribe
from tests.service.backtests.lone_plans import AGENTS, PLENTY, lone, simulated
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import BarTable
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.indicators import indicator
from trading_pipeline.domain.rules import size
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing
from trading_pipeline.errors import LedgerCorrupt, ServiceError
from trading_pipeline.oracle import check
from trading_pipeline.service.backtests import columnar
from trading_pipeline.service.backtests.bench import Bench
from trading_pipeline.service.backtests.columnar.alone import played_alone
from trading_pipeline.service.backtests.columnar.writing import reckoning
from trading_pipeline.service.backtests.columnar.writing.letters import Letters
from trading_pipeline.service.backtests.columnar.writing.reckoning import Reckoning
from trading_pipeline.service.backtests.columnar.writing.register import Register
from trading_pipeline.service.backtests.columnar.writing.registrar import Registrar
from trading_pipeline.service.backtests.engines import Engine, run
from trading_pipeline.service.backtests.results import marks_of, result_of
from trading_pipeline.service.record.verification import verify

D = Decimal
SEEDS = range(int(os.environ["BACKTEST_SEEDS"])) if "BACKTEST_SEEDS" in os.environ else (0, 1, 3, 13, 14, 15, 29, 34)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[MemoryLedger]]:
    """Ledgers that keep something."""
    found: list[MemoryLedger] = []
    keep = MemoryLedger.keep

    def noted(self: MemoryLedger, *record: object) -> None:
        found.append(self)
        keep(self, *record)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryLedger, "keep", noted)
    yield found


def written(bench: Bench, plan: BacktestPlan) -> MemoryLedger:
    ledger = run(bench, plan, engine=Engine.COLUMNAR).ledger
    assert isinstance(ledger, MemoryLedger)
    return ledger


@pytest.mark.parametrize("seed", SEEDS)
def test_a_register_tells_the_ledger_that_the_scribe_writes(tmp_path, monkeypatch, seed, kept):
    plan, tables = lone(seed)
    with bench_of(tmp_path, plan, *tables.values()) as bench:
        if columnar.why_not(bench, plan):
            pytest.skip("the stepped engine plays it")
        told = texts(bench, plan)
        assert kept or "BACKTEST_SEEDS" in os.environ
        assert told == texts_of_the_scribe(bench, plan, monkeypatch)


def in_tenths(table: BarTable) -> BarTable:
    """Bars on cents and, in the end, on tenths of a dollar, each with the same range: so is the average of the ranges."""
    moves = np.random.default_rng(3).integers(-20, 21, len(table))
    later = np.arange(len(table)) > 0.6 * len(table)
    path = 10_000 + np.cumsum(np.where(later, moves // 10 * 10, moves))
    cents = np.where(later, path // 10 * 10, path)
    opens = np.append(cents[0], cents[:-1])
    low = np.minimum(opens, cents) - 10
    return replace(table, open=opens / 100, close=cents / 100, low=low / 100, high=(low + 60) / 100)


@pytest.mark.parametrize(
    ("agent", "limits", "bars"),
    [
        (AGENTS[0], {"price_collar": D("0.0001")}, lambda table: table),
        (ExpressionAgent("close crossed_below sma_20", "close > sma_20", 9), {}, in_tenths),
    ],
)
def test_prices_that_are_written_with_fewer_digits_than_a_cent_are_the_scribes(tmp_path, monkeypatch, agent, limits, bars, kept):
    plan, tables = lone(PLENTY)
    spec = replace(plan.strategies[0], agent=agent, sizing=FractionSizing(D("0.05"), atr_stop=D(2)))
    plan = replace(plan, strategies=(spec,), cash=D(100_000), limits=replace(plan.limits, **limits), costs=FREE)
    with bench_of(tmp_path, plan, *map(bars, tables.values())) as bench:
        told = texts(bench, plan)
        assert told == texts_of_the_scribe(bench, plan, monkeypatch)
    short = re.compile(r'"(limit_price|stop_price)":"\d+(\.\d)?"')
    assert any(map(short.search, told))
    assert not kept


def test_a_ledger_that_was_kept_verifies_and_breaks_no_invariant(tmp_path, kept):
    plan, tables = lone(PLENTY)
    with bench_of(tmp_path, plan, *tables.values()) as bench:
        done = run(bench, plan, engine=Engine.COLUMNAR)
        assert kept == [done.ledger] and done.counted is not None
        counted = done.ledger.count()
        assert counted == done.ledger.head()[0] == done.ledger.count()
        assert verify(done.ledger).ok
        assert check(record(done.ledger)) == []
        assert done.counted().trades == result_of(done.ledger, marks=marks_of(bench)).trades


def test_sessions_are_told_of_one_by_one(tmp_path, kept):
    plan, tables = lone(PLENTY)
    told: list[tuple[int, int, date]] = []
    with bench_of(tmp_path, plan, *tables.values()) as bench:
        ledger = run(bench, plan, engine=Engine.COLUMNAR, progress=lambda *of: told.append(of)).ledger
        closed = [event.payload["session"] for event in ledger.events(types=(EventType.SESSION_CLOSED,))]
    assert kept and [day.isoformat() for _, _, day in told] == closed
    assert [(number, of) for number, of, _ in told] == [(number, len(closed)) for number in range(1, len(closed) + 1)]


def test_figures_that_are_changed_before_they_are_read_are_found(tmp_path, monkeypatch, kept):
    registers: list[Register] = []
    keep = Registrar._keep

    def noted(self: Registrar, register: Register, many: int) -> None:
        registers.append(register)
        keep(self, register, many)

    monkeypatch.setattr(Registrar, "_keep", noted)
    plan, tables = lone(PLENTY)
    with bench_of(tmp_path, plan, *tables.values()) as bench:
        ledger = written(bench, plan)
        registers[0].executions.price[3] += 1
        for _ in range(2):
            with pytest.raises(LedgerCorrupt, match="changed before anybody read them"):
                ledger.head()


def test_a_ledger_whose_reading_was_interrupted_says_so_and_tells_no_part_of_itself(tmp_path, monkeypatch, kept):
    write, (plan, tables) = Letters.write, lone(PLENTY)
    with bench_of(tmp_path, plan, *tables.values()) as bench:
        ledger = written(bench, plan)
        counted, told = ledger.count(), iter(range(5))

        def interrupted(self: Letters, *of: object) -> dict[str, int]:
            if next(told, None) is None:
                raise KeyboardInterrupt
            return write(self, *of)  # type: ignore[arg-type]

        monkeypatch.setattr(Letters, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger.head()
        monkeypatch.setattr(Letters, "write", write)
        for read in (ledger.head, ledger.events, partial(ledger.event, 1)):
            with pytest.raises(LedgerCorrupt, match="not told to their end"):
                read()
        assert ledger.count() == counted


@pytest.mark.parametrize(
    ("column", "table"), [("cash", "orders"), ("notional", "orders"), ("orders", "orders"), ("atr", "orders"), ("price", "executions")]
)
def test_a_reckoning_that_is_wrong_is_found_before_it_is_sealed(tmp_path, monkeypatch, kept, column, table):
    register = Reckoning.register

    def wrong(self: Reckoning, first: int) -> Register | None:
        found = register(self, first)
        assert found is not None
        columns = getattr(found, table)
        changed = columns._replace(**{column: getattr(columns, column) + 100})
        return found._replace(**{table: changed})

    monkeypatch.setattr(Reckoning, "register", wrong)
    plan, tables = lone(PLENTY)
    with bench_of(tmp_path, plan, *tables.values()) as bench, pytest.raises(ServiceError, match="was entered as"):
        run(bench, plan, engine=Engine.COLUMNAR)
    assert not kept


def test_another_word_of_a_rule_is_found_before_it_is_sealed(tmp_path, monkeypatch, kept):
    dollars, prove = size.dollars, Registrar._prove

    def later(self: Registrar, *of: object) -> None:
        monkeypatch.setattr(size, "dollars", lambda value: f"{dollars(value)} or so")
        prove(self, *of)  # type: ignore[arg-type]

    monkeypatch.setattr(Registrar, "_prove", later)
    plan, tables = lone(PLENTY)
    with bench_of(tmp_path, plan, *tables.values()) as bench, pytest.raises(ServiceError, match="or so"):
        run(bench, plan, engine=Engine.COLUMNAR)
    assert not kept


def test_a_simulation_goes_on_from_where_it_was_left(tmp_path):
    plan, tables = lone(PLENTY)
    with bench_of(tmp_path, plan, *tables.values()) as bench:
        whole, halves = simulated(bench, plan), simulated(bench, plan)
        halves.run(len(halves.grid) // 2)
        assert 0 < len(halves.account.fills) < len(whole.run().fills)
        assert halves.run() == whole.account


def test_what_might_be_rounded_otherwise_is_computed_as_live_computes_it():
    values = np.array([834.4185, 834.4186, 0.5, 49.99995, 0.0, np.nan, 1e-9 + 5e-15])
    assert reckoning._near_an_edge(values, 6, values[:1]).tolist() == [True, False, True, True, True, True, True]
    assert not reckoning._near_an_edge(np.array([0.5]), 6, np.array([np.nan, 20.0]))[0]


@pytest.mark.parametrize(
    ("name", "forgets"), [("rsi_14", True), ("rsi_25", False), ("atr_14", True), ("ema_20", True), ("ema_50", False), ("sma_200", True),
                          ("stoch", False), ("vwap", False)],
)
def test_only_what_forgets_to_the_last_digit_is_read_from_a_column_over_all_bars(name, forgets):
    assert reckoning._settled(indicator(name), 600) is forgets


def test_a_strategy_without_trades_keeps_nothing(tmp_path, kept):
    plan, tables = lone(PLENTY)
    never = replace(plan.strategies[0], agent=ExpressionAgent("close crossed_above 1000000", "close < 0"))
    with bench_of(tmp_path, replace(plan, strategies=(never,)), *tables.values()) as bench:
        assert played_alone(simulated(bench, replace(plan, strategies=(never,)))) is not None
        assert verify(written(bench, replace(plan, strategies=(never,)))).ok
    assert not kept
