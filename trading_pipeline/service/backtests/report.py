"""The report on a backtest, made of its result: beside buy and hold and the rules agent, the seeds' targets, and the validation.

Without a validation that passed, a report says NOT VALIDATED first. Nothing is hidden: a target that was missed is shown as missed, a
figure that does not exist as a dash. Drawing and writing it down is not here.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from math import prod
from pathlib import Path

import numpy as np

from trading_pipeline.domain.adjustments import Split, on_scale_of, split_adjusted
from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult, ExitReason, Trade
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.performance import (
    DEFINITIONS,
    GROUPS,
    Definition,
    Performance,
    buy_and_hold,
    monthly_returns,
    performance_of,
    trades_by,
)
from trading_pipeline.domain.performance.report import (
    DASH,
    BacktestReport,
    Cell,
    Line,
    PriceChart,
    ReportTable,
    Section,
    Target,
    Validation,
    YearOfMonths,
    dollars,
    fraction,
    sessions,
    written,
)
from trading_pipeline.domain.performance.trades import TradeFigures, month_of
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.domain.shadow import FillCosts
from trading_pipeline.domain.strategies import AnalyzerAgent, StrategySpec
from trading_pipeline.service.backtests.bench import Bench

_WORDS = {
    Interval.MIN1: "1-minute", Interval.MIN5: "5-minute", Interval.MIN15: "15-minute", Interval.HOUR1: "hourly", Interval.DAY1: "daily",
}
MOST_TRADES = 250
"""The trade list shows so many, the first and the last ones; the count and every figure are of all."""
MOST_BARS = 10_000
"""A price chart of more bars is drawn by session."""
NOT_VALIDATED = "NOT VALIDATED"
OWN, HOLDING, RULES = "this strategy", "buy and hold", "rules agent"
"""Whose figures and lines they are."""
_BY_NAME = {each.name: each for each in DEFINITIONS}


@dataclass(frozen=True, slots=True)
class About:
    """Whose result it is, and how to have it again."""

    title: str
    bars: str
    """Such as `1d bars`."""
    command: str
    made_at: datetime
    source: str
    commit: str = ""
    name: str = ""
    """Of the backtest, under which its ledger opens."""


def rules_plan(plan: BacktestPlan) -> BacktestPlan | None:
    """The same plan with the rules agent in every strategy's place; None where it decides everywhere already."""
    if all(isinstance(spec.agent, AnalyzerAgent) for spec in plan.strategies):
        return None
    return replace(plan, strategies=tuple(replace(spec, agent=AnalyzerAgent()) for spec in plan.strategies))


def report_of_backtest(
    bench: Bench, plan: BacktestPlan, result: BacktestResult, *, command: str, made_at: datetime, commit: str = "",
    rules: BacktestResult | None = None, validation: Validation | None = None, title: str = "",
    notes: Sequence[str] = (), name: str | None = None,
) -> BacktestReport:
    """The report on the result of a plan on a bench.

    Args:
        command: What makes it again.
        made_at: By the clock on the wall.
        notes: Sentences that stand before the other assumptions.
        rules: The result of `rules_plan`, where there is one.
        name: That it is stored under; None: the plan's.
    """
    intervals = sorted({spec.interval for spec in plan.strategies}, key=lambda each: each.minutes)
    about = About(
        title or f"{', '.join(spec.name for spec in plan.strategies)} on {', '.join(plan.symbols)}",
        f"{' and '.join(_WORDS[each] for each in intervals)} bars", command, made_at, bench.source, commit,
        plan.name if name is None else name,
    )
    result = replace(result, assumptions=(*notes, *result.assumptions))
    return report_of(about, result, _tables(bench, plan), bench.splits, plan.costs, rules=rules, validation=validation)


def holding_of(bench: Bench, plan: BacktestPlan, result: BacktestResult) -> BacktestResult:
    """What buying and holding the plan's symbols over the result's sessions would have made."""
    return _holding(result, _tables(bench, plan), bench.splits, plan.costs)


def _tables(bench: Bench, plan: BacktestPlan) -> dict[str, BarTable]:
    return {symbol: bench.tables[symbol, _interval_of(plan.strategies, symbol)] for symbol in plan.symbols}


def _interval_of(specs: Sequence[StrategySpec], symbol: str) -> Interval:
    return min((spec.interval for spec in specs if symbol in spec.symbols), key=lambda each: each.minutes)


def report_of(
    about: About, result: BacktestResult, tables: Mapping[str, BarTable], splits: Mapping[str, Sequence[Split]], costs: FillCosts, *,
    rules: BacktestResult | None = None, validation: Validation | None = None,
) -> BacktestReport:
    """The report on any result.

    Args:
        tables: Unadjusted bars by symbol: of every symbol that might have been bought.
        splits: Those that the prices step at.
    """
    first, last = result.sessions[0], result.sessions[-1]
    holding = _holding(result, tables, splits, costs)
    accounts = {OWN: result, HOLDING: holding, **({} if rules is None else {RULES: rules})}
    measured = {name: performance_of(each) for name, each in accounts.items()}
    own = measured[OWN]
    return BacktestReport(
        title=about.title,
        about=f"{first} to {last}, {sessions(len(result.sessions))}, {about.bars}, {dollars(result.cash)} at the start",
        headline=_headline(validation),
        passed=validation is not None and validation.passed,
        targets=_targets(own),
        figures=_figures(measured),
        tiles=_tiles(measured),
        lines=tuple(Line(name, each.sessions, each.equity, each.cash) for name, each in accounts.items()),
        months=_months(result),
        validation=tuple(Section(*each) for each in validation.sections) if validation is not None else (),
        groups=_groups(result),
        charts=tuple(_chart(symbol, tables[symbol], result, tuple(splits.get(symbol, ()))) for symbol in sorted(tables)),
        trades=_trade_list(result),
        record=_record(result, own),
        definitions=_definitions(),
        assumptions=(*result.assumptions, *holding.assumptions),
        command=about.command,
        provenance=_provenance(about),
    )


def _holding(
    result: BacktestResult, tables: Mapping[str, BarTable], splits: Mapping[str, Sequence[Split]], costs: FillCosts,
) -> BacktestResult:
    one_scale = {symbol: on_scale_of(table, splits.get(symbol, ()), result.sessions[0]) for symbol, table in tables.items()}
    return buy_and_hold(one_scale, result.sessions, Decimal(str(result.cash)), costs)


def _headline(validation: Validation | None) -> str:
    if validation is not None:
        return validation.headline
    return f"{NOT_VALIDATED}: no validation was run, so nothing here tells skill from luck."


def _targets(own: Performance) -> tuple[Target, ...]:
    """The founding documents' four: win rate > 50 %, profit factor > 1.5, Sharpe ratio > 1.0, maximum drawdown < 10 %."""
    asked = (("win_rate", "> 50 %", 0.5, True), ("profit_factor", "> 1.5", 1.5, True), ("sharpe", "> 1.0", 1.0, True),
             ("max_drawdown", "< 10 %", 0.10, False))
    found = []
    for name, aim, bound, above in asked:
        definition = _BY_NAME[name]
        value = definition.of(own)
        met = None if value is None else (value > bound if above else value < bound)
        found.append(Target(definition.title, aim, written(definition, value), met))
    return tuple(found)


_OF_SALES = frozenset({
    "closed", "win_rate", "profit_factor", "expectancy", "average_gain", "average_win", "average_loss", "payoff", "best", "worst",
    "sessions_held",
})


def _figures(measured: Mapping[str, Performance]) -> tuple[ReportTable, ...]:
    """A figure of sales is a dash where nothing can be sold."""
    note = "Over the same sessions, with the same cash and costs. Who buys and holds never sells, and has no figure of closed trades."
    return tuple(
        ReportTable(
            name, name, ("FIGURE", *(account.upper() for account in measured)),
            tuple((Cell(each.title), *(_figure(each, account, found) for account, found in measured.items())) for each in group),
            note if place == 0 else "",
        )
        for place, (name, group) in enumerate(GROUPS.items())
    )


def _figure(definition: Definition, account: str, found: Performance) -> Cell:
    return Cell(DASH) if account == HOLDING and definition.name in _OF_SALES else written(definition, definition.of(found))


_TILES = ("total_return", "max_drawdown", "sharpe", "win_rate", "profit_factor", "closed")


def _tiles(measured: Mapping[str, Performance]) -> tuple[tuple[str, Cell, str], ...]:
    found = []
    for name in _TILES:
        cells = {account: _figure(_BY_NAME[name], account, each) for account, each in measured.items()}
        others = "; ".join(f"{account} {cell.text}" for account, cell in cells.items() if account != OWN and cell.text != DASH)
        found.append((_BY_NAME[name].title, cells[OWN], others))
    return tuple(found)


def _months(result: BacktestResult) -> tuple[YearOfMonths, ...]:
    found = monthly_returns(result.sessions, result.equity, result.cash)
    years = []
    for year in sorted({year for year, _ in found}):
        months = tuple(found.get((year, month)) for month in range(1, 13))
        years.append(YearOfMonths(year, months, prod(1 + each for each in months if each is not None) - 1))
    return tuple(years)


_GROUP = ("CLOSED", "WIN RATE", "PROFIT FACTOR", "MEAN RESULT", "RESULT", "OPEN", "COMMISSIONS")
_DASHES = "A dash: none has closed, or none has lost."


def _groups(result: BacktestResult) -> tuple[ReportTable, ...]:
    closed = [trade for trade in result.trades if trade.exit_reason is not ExitReason.OPEN]
    last = "A trade is named after the order that sold its last shares: one that was stopped after a first target may have won."
    cut = [
        ("symbols", "By symbol", "SYMBOL", trades_by(result.trades, lambda trade: trade.symbol), _DASHES),
        ("reasons", "By exit", "SOLD BY", trades_by(closed, lambda trade: trade.exit_reason.value), f"{last} {_DASHES}"),
        ("strategies", "By strategy", "STRATEGY", trades_by(result.trades, lambda trade: trade.strategy), _DASHES),
        ("months", "By month of the exit", "MONTH", trades_by(closed, month_of), _DASHES),
    ]
    return tuple(
        ReportTable(name, title, (column, *_GROUP), tuple((Cell(group), *_row(figures)) for group, figures in found.items()), note)
        for name, title, column, found, note in cut if found and (name != "strategies" or len(found) > 1)
    )


def _row(figures: TradeFigures) -> tuple[Cell, ...]:
    return (
        Cell(f"{figures.closed:,}"), Cell(DASH if figures.win_rate is None else fraction(figures.win_rate)),
        Cell(DASH if figures.profit_factor is None else f"{figures.profit_factor:.2f}"), _money(figures.expectancy), _money(figures.result),
        _money(figures.unrealised) if figures.open else Cell(DASH), Cell(dollars(figures.commissions)),
    )


def _money(value: float | None) -> Cell:
    return Cell(DASH) if value is None else Cell(dollars(value, signed=True), gain=value)


def _chart(symbol: str, table: BarTable, result: BacktestResult, splits: tuple[Split, ...]) -> PriceChart:
    """On the share scale of the last session."""
    last, days = result.sessions[-1], table.session_days
    inside = table.where((days >= np.datetime64(result.sessions[0])) & (days <= np.datetime64(last)))
    scaled = split_adjusted(inside, splits, last)
    own = tuple(_rescaled(trade, splits, last) for trade in result.trades if trade.symbol == symbol)
    return PriceChart(scaled if len(scaled) <= MOST_BARS else by_session(scaled), own)


def _rescaled(trade: Trade, splits: Sequence[Split], last: date) -> Trade:
    ratio = prod((split.ratio for split in splits if trade.exit_at.date() < split.session <= last), start=Decimal(1))
    return trade if ratio == 1 else replace(trade, entry_price=trade.entry_price / ratio, exit_price=trade.exit_price / ratio)


def by_session(table: BarTable) -> BarTable:
    """One bar a session of the bars it has."""
    first = np.flatnonzero(np.diff(table.session_days.astype(np.int64), prepend=-1))
    last = np.append(first[1:], len(table)) - 1
    return BarTable(
        table.symbol, Interval.DAY1, table.start[first], table.end[last], table.open[first], np.maximum.reduceat(table.high, first),
        np.minimum.reduceat(table.low, first), table.close[last], np.add.reduceat(table.volume, first),
    )


def _trade_list(result: BacktestResult) -> ReportTable:
    trades, half = result.trades, MOST_TRADES // 2
    shown = trades if len(trades) <= MOST_TRADES else (*trades[:half], *trades[-half:])
    note = f"All {len(trades):,}, in order of entry, open ones last." if len(shown) == len(trades) else (
        f"The first {half:,} and the last {half:,} of {len(trades):,}, in order of entry, open ones last."
    )
    columns = ("SYMBOL", "SHARES", "ENTRY", "AT", "EXIT", "AT", "WHY", "SESSIONS", "RESULT", "GAIN")
    several = len({trade.strategy for trade in trades}) > 1
    rows = [
        (
            *((Cell(trade.strategy),) if several else ()), Cell(trade.symbol), Cell(f"{trade.shares:,}"), Cell(_when(trade.entry_at)),
            Cell(_price(trade.entry_price)), Cell(_when(trade.exit_at)), Cell(_price(trade.exit_price)), Cell(trade.exit_reason.value),
            Cell(f"{trade.sessions:,}"), _money(float(trade.result)), Cell(fraction(trade.gain, signed=True), gain=trade.gain),
        )
        for trade in shown
    ]
    return ReportTable("trades", "Trades", (*(("STRATEGY",) if several else ()), *columns), tuple(rows), note)


def _when(at: datetime) -> str:
    return f"{at.astimezone(NEW_YORK):%Y-%m-%d %H:%M}"


def _price(price: Decimal) -> str:
    return f"{price:,.4f}".rstrip("0").ljust(len(f"{price:,.2f}"), "0")


def _record(result: BacktestResult, own: Performance) -> tuple[ReportTable, ...]:
    gross = own.profit + own.commissions
    share = f"{own.commissions / gross:.0%} of the {dollars(gross)} made before them" if gross > 0 else "nothing was made before them"
    costs = (
        (Cell("Commissions"), Cell(dollars(own.commissions), share)), (Cell("Value traded, both sides"), Cell(dollars(own.traded))),
        (Cell("Commissions of value"), written(_BY_NAME["cost_rate"], own.cost_rate)),
    )
    made = [ReportTable("costs", "Costs", ("WHAT", "USD"), costs, "Spread and slippage are in the prices, see the assumptions.")]
    if result.decisions:
        rows = tuple((Cell(what), Cell(f"{count:,}")) for what, count in result.decisions.items())
        note = "" if "hold" in result.decisions else "Holds are not among them: where nothing happened there is no fact of one."
        made.append(ReportTable("decisions", "Decisions", ("DECIDED", "TIMES"), rows, note))
    if result.denials:
        rows = tuple((Cell(rule.replace("_", " ")), Cell(f"{count:,}")) for rule, count in result.denials.items())
        note = "One proposal can be stopped by several; what nothing stopped was sent."
        made.append(ReportTable("denials", "What stopped proposals", ("RULE", "TIMES"), rows, note))
    return tuple(made)


def _definitions() -> ReportTable:
    rows = tuple((Cell(each.title), Cell(each.formula), Cell(each.source), Cell(each.undefined)) for each in DEFINITIONS)
    return ReportTable("definitions", "Definitions", ("FIGURE", "DEFINITION", "SOURCE", "NONE WHEN"), rows)


def _provenance(about: About) -> tuple[tuple[str, str], ...]:
    told = (("bars", about.source), ("backtest", about.name), ("made", f"{about.made_at:%Y-%m-%d %H:%M} UTC"), ("commit", about.commit))
    return tuple((name, value) for name, value in told if value)


def command_of(
    strategies: Sequence[str], first: date | str, last: date | str, *, symbols: str | None = None, provider: str = "cassette",
    cash: Decimal | None = None, folders: Sequence[Path | str] = (), engine: str = "auto",
) -> str:
    """What makes the same figures again on the command line, in the order of its help."""
    words = ["trading", "backtest", *strategies, "--from", str(first), "--to", str(last)]
    words += [] if symbols is None else ["--symbols", symbols]
    words += [] if provider == "cassette" else ["--provider", provider]
    words += [] if cash is None else ["--cash", f"{cash:f}"]
    for folder in folders:
        words += ["--data", str(folder)]
    return shlex.join(words + ([] if engine == "auto" else ["--engine", engine]))
