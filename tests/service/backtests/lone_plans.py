"""Plans of one strategy in one symbol whose limits cannot bind, by seed: what is walked as columns, and kept in a register."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from random import Random

from tests.service.backtests.random_plans import SYMBOLS, random_bars, scenario
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.shadow import FillCosts
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Lifetime, Mode, StrategySpec
from trading_pipeline.service.backtests.bench import Bench
from trading_pipeline.service.backtests.columnar.ground import ground_of
from trading_pipeline.service.backtests.columnar.lanes import lanes_of
from trading_pipeline.service.backtests.columnar.simulation import Simulation

D = Decimal
PLENTY = 13
"""A plan with 80 trades in 16 sessions, stops and sales among them."""
MUCH = D(10) ** 9
OWN = StrategyLimits(
    max_order_value=D(100_000), max_position_value=MUCH, max_day_loss=MUCH, max_orders_per_hour=1_000, cool_off=None, recovery_size=None,
    revenge_wait=None,
)
ACCOUNT = AccountLimits(
    max_position_value=MUCH, max_concentration=D(1), max_day_loss=MUCH, max_day_notional=D(10) ** 12, max_volume_share=D(1),
    volatility_trip=D(100_000),
)
AGENTS = (
    ExpressionAgent("rsi_14 crossed_below 45", "close > sma_20", 15), ExpressionAgent("rsi_14 crossed_below 40", "rsi_14 > 55"),
    ExpressionAgent("close crossed_above sma_20", "", 3), ExpressionAgent("close crossed_above sma_20", "close < open", 1),
)
SIZINGS = (FractionSizing(D("0.5"), atr_stop=D(1)), FractionSizing(D("0.09"), atr_stop=D("0.3")), FractionSizing(D("0.4")))
COSTS = (
    FillCosts(), FillCosts(D(0), D(0), D(0), D(0), D("0.0005"), D(1)), FillCosts(D("0.001"), D("0.0005"), D("0.01"), D(2), D("0.0001")),
)
_SPANS = (
    (date(2024, 2, 1), date(2024, 3, 1), date(2024, 3, 22)), (date(2024, 1, 4), date(2024, 1, 5), date(2024, 2, 2)),
    (date(2024, 6, 3), date(2024, 6, 20), date(2024, 7, 12)), (date(2023, 11, 1), date(2023, 11, 13), date(2023, 12, 5)),
)
"""History from, first session, last: over the change to summer time, without history, over half days in summer and in winter."""
_MORE_AGENTS = (
    ExpressionAgent("rsi_14 crossed_below 45 and volume_sma_20 > 0", "macd < 0 or cci_20 > 100", 12),
    ExpressionAgent("close crossed_above ema_50", "atr_14 > 0.5", 30),
)


def alone(seed: int) -> tuple[BacktestPlan, Mapping[str, BarTable]]:
    """A plan of one strategy and symbol whose limits cannot bind, on a random market."""
    dice, (wanted, tables) = Random(seed), scenario(seed)
    symbol = next((each for each in wanted.symbols if each != "TQQQ"), "AAPL")
    table = replace(tables.get(symbol) or next(iter(tables.values())), symbol=symbol)
    spec = replace(
        wanted.strategies[0], symbols=(symbol,), agent=dice.choice(AGENTS), sizing=dice.choice(SIZINGS), limits=OWN,
        min_confidence=D("0.8"),
    )
    return replace(wanted, strategies=(spec,), limits=ACCOUNT, costs=dice.choice(COSTS)), {symbol: table}


def lone(seed: int) -> tuple[BacktestPlan, Mapping[str, BarTable]]:
    """A plan of one strategy and symbol whose limits cannot bind, over weeks of a random market."""
    dice = Random(f"lone {seed}")
    interval, symbol = dice.choice((Interval.MIN5, Interval.MIN15, Interval.HOUR1)), dice.choice(SYMBOLS[:3])
    began, first, last = dice.choice(_SPANS)
    sizings = (
        FractionSizing(D("0.5"), atr_stop=D(1)), FractionSizing(D("0.09"), atr_stop=D("0.3")), FractionSizing(D("0.3"), atr_stop=D(2)),
        FractionSizing(D("0.4")),
    )
    spec = StrategySpec(
        name="lone", symbols=(symbol,), mode=Mode.AUTONOMOUS, interval=interval, agent=dice.choice(AGENTS + _MORE_AGENTS),
        lifetime=Lifetime.OPEN, sizing=dice.choice(sizings), limits=replace(OWN, max_orders_per_hour=dice.choice((1_000, 100))),
        min_confidence=D(0),
    )
    cash = dice.choice((D(100_000), D("10000.37")))
    tables = {symbol: random_bars(symbol, 7_000 + seed, interval, began, last)}
    return BacktestPlan((spec,), first, last, cash, ACCOUNT, dice.choice(COSTS)), tables


def simulated(bench: Bench, plan: BacktestPlan) -> Simulation:
    """One that was not run yet."""
    tables = {symbol: bench.tables[symbol, plan.interval] for symbol in plan.symbols}
    ground = ground_of(tables, bench.splits, bench.calendar, plan.first, plan.last)
    return Simulation(plan, lanes_of(plan, ground), ground.grid)
