"""Lanes: one strategy in one symbol, with the bars at which its rules say something.

The rules are evaluated over whole columns by the code that evaluates them live, bar by bar.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import assert_never

from trading_pipeline.domain import analyzer, indicators
from trading_pipeline.domain.agents import required_indicators
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.strategies import AnalyzerAgent, Entry, ExpressionAgent, Mode, ModelAgent, StrategySpec
from trading_pipeline.service.backtests.columnar.asking import Agency, Asked
from trading_pipeline.service.backtests.columnar.ground import Ground, Prices, Unfit, next_true
from trading_pipeline.service.backtests.columnar.units import Numbers, peek
from trading_pipeline.service.market import HISTORY

SIZED_BY = tuple(indicators.indicator(name) for name in ("atr_14", "sma_20"))


@dataclass(slots=True)
class Lane:
    """One strategy in one symbol."""

    spec: StrategySpec
    prices: Prices
    columns: Mapping[str, Floats]
    """What sizing reads, on the grid."""
    enter: Sequence[int]
    """For each bar the next one, itself included, at which a flat lane wants to buy; NOWHERE where there is none."""
    leave: Sequence[int]
    """The same of one that is held, apart from its `max_bars`."""
    decides: Sequence[int]
    confidence: Callable[[int, bool], Decimal]
    """(bar, held) to how sure the rules are."""
    max_bars: int = 0
    asked: Callable[[], Asked] | None = None
    """Begins to ask a function anew; then `enter` and `leave` tell nothing."""
    symbol: str = field(init=False)

    def __post_init__(self) -> None:
        self.symbol = self.prices.symbol


def lanes_of(plan: BacktestPlan, ground: Ground, agents: Mapping[str, Agency] = MappingProxyType({})) -> list[Lane]:
    """Every lane of a plan, in the order in which a cycle asks: by the strategy's name, then its symbols.

    Args:
        agents: By strategy, who makes the function that decides on a symbol, in the place of its own agent.

    Raises:
        Unfit: Columns do not tell what the plan does.
    """
    if len(plan.symbols) < sum(len(spec.symbols) for spec in plan.strategies):
        raise Unfit("two strategies trade the same symbol")
    if plan.limits.max_day_risk is not None:
        raise Unfit("the account has a limit on the day's risk")
    needed = {spec for each in plan.strategies for spec in (*required_indicators(each.agent), *each.indicators, *SIZED_BY)}
    seen = max(HISTORY, indicators.history(needed))
    for symbol in plan.symbols:
        if ground.prices[symbol].widest_step(seen) >= float(plan.limits.max_bar_gap) * (1 - 1e-9):
            raise Unfit(f"a price of {symbol} lies far from the one before it")
    for spec in plan.strategies:
        for each in required_indicators(spec.agent) if spec.name not in agents else ():
            if any(ground.prices[symbol].begun_by(each, seen) for symbol in spec.symbols):
                raise Unfit(f"{spec.name} reads {each}, whose values depend on where the reading of bars begins")
    strategies = sorted(plan.strategies, key=lambda spec: spec.name)
    return [_lane(spec, ground.prices[symbol], ground, agents.get(spec.name)) for spec in strategies for symbol in spec.symbols]


def _lane(spec: StrategySpec, prices: Prices, ground: Ground, agency: Agency | None) -> Lane:
    reason = _why_not(spec, asked=agency is not None)
    if reason:
        raise Unfit(f"{spec.name}: {reason}")
    agent, max_bars = spec.agent, 0
    columns = prices.columns(tuple(dict.fromkeys((*required_indicators(agent), *spec.indicators, *SIZED_BY))))
    sized_by = {name: columns[name][prices.first :] for name in ("atr_14", "sma_20")}
    if agency is not None:
        told, decides = {**prices.priced, **columns}, ground.grid.decides.tolist()
        begin = partial(Asked, agency, prices.symbol, told, prices.first, decides)
        return Lane(spec, prices, sized_by, (), (), (), _certain, asked=begin)
    confidence: Callable[[int, bool], Decimal] = _certain
    match agent:
        case ExpressionAgent():
            enter, leave = prices.holds(agent.enter_when, columns), prices.holds(agent.exit_when, columns)
            max_bars = agent.max_bars
        case AnalyzerAgent():
            scores = analyzer.score_columns({**columns, **prices.priced})[prices.first :]
            enter = next_true((scores >= analyzer.BUY_FROM) & ground.grid.decides)
            leave = next_true((scores >= 0) & (scores < analyzer.EXIT_BELOW) & ground.grid.decides)
            confidence = _scored(scores)
        case ModelAgent():
            raise Unfit("a model decides")
        case _:
            assert_never(agent)
    return Lane(spec, prices, sized_by, peek(enter), peek(leave), peek(ground.decides), confidence, max_bars)


def _why_not(spec: StrategySpec, *, asked: bool) -> str:
    if isinstance(spec.agent, ModelAgent) and not asked:
        return "a model decides"
    if spec.mode is not Mode.AUTONOMOUS:
        return "a person approves its orders"
    if spec.sizing.entry is not Entry.NOW:
        return "its entries rest at a limit"
    if spec.limits.max_day_risk is not None:
        return "it has a limit on the day's risk"
    return ""


def _certain(_at: int, _held: bool) -> Decimal:
    return _ONE


_ONE = Decimal(1)


def _scored(scores: Numbers) -> Callable[[int, bool], Decimal]:
    def confidence(at: int, held: bool) -> Decimal:
        score = Decimal(int(scores[at])) / 100
        return 1 - score if held else score

    return confidence
