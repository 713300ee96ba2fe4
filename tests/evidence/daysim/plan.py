"""What a seed decides before its day begins: which sessions, whose prices, which strategies, how reliable the world is.

Prices wander, gap between bars and over nights, are missing while a symbol is halted, are printed badly now and then, and step at splits.
Daily bars are made of the intraday ones where there are any. Nothing here is drawn again once the day runs: that is `day`.
"""

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from itertools import pairwise
from random import Random

import numpy as np

from tests.desks import calendar
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bar_quality import grid
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Lifetime, Mode, RiskSizing, StrategySpec

D = Decimal
DAYS = (date(2024, 8, 28), date(2024, 8, 28), date(2024, 11, 4), date(2024, 3, 11), date(2024, 12, 26))
"""Ordinary Wednesdays, the Mondays after New York's clocks changed, the day after Christmas."""
EARLY = (date(2024, 7, 3), date(2024, 11, 29), date(2024, 12, 24))
"""Sessions that end at 13:00."""
SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE", "PNNY")
PERSONAS = ("rules", "hostile", "hostile", "hostile", "mixed", "mixed", "garbled")
AGENTS = (("close > 0", "close < 0"), ("close > sma_5", "close < sma_5"), ("rsi_14 < 55", "rsi_14 > 60"))
WARM_UP = 8
"""Sessions of intraday bars before the day."""
HISTORY = 40
"""Sessions of daily bars."""


@dataclass(frozen=True)
class Plan:
    """A day before it happens."""

    seed: int
    sessions: tuple[Session, ...]
    """One, or the one before it too, for what is held over a night."""
    interval: Interval
    """Of the market's finest bars."""
    symbols: tuple[str, ...]
    specs: tuple[StrategySpec, ...]
    persona: str
    limits: AccountLimits
    settings: PaperSettings
    splits: tuple[Split, ...]
    attended: bool
    """Whether a desk's process holds the lease."""
    trouble: float
    """How likely each turn is to have something wrong with it."""
    ends_stops: bool
    """Whether the broker takes every protective order and ends it at once, all day."""


def planned(seed: int) -> Plan:
    """The day of a seed."""
    dice = Random(seed)
    day = dice.choice(EARLY) if dice.random() < 0.25 else dice.choice(DAYS)
    before = calendar().previous(day)
    sessions = (before, calendar().session(day)) if dice.random() < 0.35 else (calendar().session(day),)
    interval = dice.choices((Interval.HOUR1, Interval.MIN15), (4, 1))[0]
    symbols = (*dice.sample(SYMBOLS, dice.choice((1, 2, 3))), *(("TQQQ",) if dice.random() < 0.1 else ()))
    specs = tuple(_strategy(name, symbols, interval, dice) for name in ("one", "two", "three")[: dice.choice((1, 2, 2, 3))])
    splits: tuple[Split, ...] = ()
    if len(sessions) == 2 and dice.random() < 0.4:
        splits = (Split(dice.choice(symbols), day, D(dice.choice(("2", "4", "1.5", "0.5", "0.1")))),)
    return Plan(
        seed, sessions, interval, symbols, specs, dice.choice(PERSONAS),
        AccountLimits(max_day_loss=D(dice.choice((300, 1_000))), max_open_orders=dice.choice((4, 10))),
        PaperSettings(
            spread=D("0.0005"), slippage=D("0.0005"), volume_share=D(dice.choice(("0.0002", "0.002", "0.1"))),
            deduplicates=dice.random() < 0.7,
        ),
        splits, dice.random() < 0.5, dice.choice((0.0, 0.2, 0.4, 0.7)), dice.random() < 0.08,
    )


def _strategy(name: str, symbols: tuple[str, ...], interval: Interval, dice: Random) -> StrategySpec:
    sizing = dice.choice(
        (
            RiskSizing(), RiskSizing(max_stop=D("0.01"), targets=(D("0.5"),)), FractionSizing(fraction=D("0.05")),
            FractionSizing(fraction=D("0.08"), stop=D("0.004"), target=D("0.004")), FractionSizing(fraction=D("0.09"), stop=D("0.02")),
        )
    )
    calm = StrategyLimits(max_day_loss=D(dice.choice((200, 1_000))))
    eager = replace(calm, cool_off=None, recovery_size=None, revenge_wait=None)
    return StrategySpec(
        name=name, symbols=tuple(dice.sample(symbols, dice.randint(1, len(symbols)))), mode=dice.choice((Mode.APPROVAL, Mode.AUTONOMOUS)),
        interval=Interval.DAY1 if dice.random() < 0.2 else interval,
        agent=ExpressionAgent(*dice.choice(AGENTS)),
        lifetime=dice.choice((Lifetime.OPEN, Lifetime.SESSION)), sizing=sizing, limits=dice.choice((calm, eager)),
        price_band=D(dice.choice(("0.01", "0.05"))),
    )


def bars_of(plan: Plan) -> list[BarTable]:
    """Every symbol's intraday and daily bars, to the end of the next session."""
    draw = np.random.default_rng(plan.seed)
    return [table for symbol in plan.symbols for table in _wandering(plan, symbol, draw)]


def _wandering(plan: Plan, symbol: str, draw: np.random.Generator) -> tuple[BarTable, BarTable]:
    last = calendar().next(plan.sessions[-1].day).day
    first = plan.sessions[0].day
    for _ in range(WARM_UP):
        first = calendar().previous(first).day
    start, end = grid(calendar(), plan.interval, first, last)
    many = len(start)
    live = start >= instant_ns(plan.sessions[0].open)
    wild = draw.choice((0.002, 0.006, 0.02))
    moves = draw.normal(0, 0.002, many) + np.where(live, draw.normal(draw.choice((-0.003, 0, 0.002)), wild, many), 0)
    gaps = np.where(live & (draw.random(many) < 0.04), draw.normal(0, 0.06, many), 0)
    price = 1.05 if symbol == "PNNY" else draw.choice((12.0, 80.0, 300.0))
    open_ = price * np.exp(np.cumsum(gaps + np.concatenate(([0], moves[:-1]))))
    close = open_ * np.exp(moves)
    low = np.minimum(open_, close) * (1 - np.abs(draw.normal(0, 0.003, many)))
    high = np.maximum(open_, close) * (1 + np.abs(draw.normal(0, 0.003, many)))
    volume = np.round(draw.uniform(0.5, 1.5, many) * draw.choice((2e5, 2e6, 5e6)))
    factor = np.ones(many)
    for split in plan.splits:
        if split.symbol == symbol:
            factor[start >= instant_ns(calendar().session(split.session).open)] *= float(split.ratio)
    columns = [column / factor for column in (open_, high, low, close)]
    bad = live & (draw.random(many) < 0.004)
    for column in columns:
        column[bad] *= 8
    columns = [np.round(column, 4) for column in columns]
    fine = BarTable(symbol, plan.interval, start, end, *columns, np.round(volume * factor))
    daily = _daily(fine, first, last, float(columns[0][0]), draw)
    return fine.where(~_halted(live, draw)), daily


def _halted(live: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Bars that are missing: single ones, and now and then a run of them."""
    gone = live & (draw.random(len(live)) < 0.02)
    if draw.random() < 0.2:
        [places] = np.nonzero(live)
        at = int(draw.choice(places))
        gone[at : at + int(draw.integers(2, 6))] = True
    return gone


def _daily(fine: BarTable, first: date, last: date, price: float, draw: np.random.Generator) -> BarTable:
    """Daily bars: of the intraday ones, and wandering up to where those begin."""
    day = first
    for _ in range(HISTORY - WARM_UP):
        day = calendar().previous(day).day
    start, end = grid(calendar(), Interval.DAY1, day, last)
    many = len(start)
    old = int(np.searchsorted(start, fine.start[0]))
    back = price * np.exp(np.concatenate((np.cumsum(draw.normal(0, 0.01, old))[::-1], [0.0])))
    rows = [(a, max(a, b) * 1.002, min(a, b) * 0.998, b, 2e7) for a, b in pairwise(back)]
    for at in range(old, many):
        inside = slice(int(np.searchsorted(fine.start, start[at])), int(np.searchsorted(fine.start, end[at])))
        edges = fine.open[inside][0], fine.high[inside].max(), fine.low[inside].min(), fine.close[inside][-1]
        rows.append((*edges, fine.volume[inside].sum()))
    columns = [np.round(np.array(column), 4) for column in zip(*rows, strict=True)]
    return BarTable(fine.symbol, Interval.DAY1, start, end, *columns)
