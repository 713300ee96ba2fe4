"""A validation in words: the tables that every report of a backtest shows, and their heat map. Figures keep their intervals."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isinf, isnan

from trading_pipeline.domain.judgement import Estimate, Period
from trading_pipeline.domain.performance.report import DASH, Cell, ReportTable, dollars, fraction
from trading_pipeline.domain.validation import Evidence, HeatMap, ValidationReport
from trading_pipeline.service.backtests.report_markdown import plain, table_of
from trading_pipeline.service.backtests.sensitivity import Sensitivity
from trading_pipeline.service.backtests.walk_forward import WalkForward

MOST_POINTS = 30
"""The table of a grid shows so many, the best; the heat map and every figure are of all."""
Draw = Callable[[HeatMap], bytes]


@dataclass(frozen=True, slots=True)
class Validated:
    """A validation as a report of a backtest takes it."""

    report: ValidationReport
    tables: tuple[ReportTable, ...]
    sections: tuple[tuple[str, str, bytes | None], ...]
    """The same tables as title, Markdown, and PNG where there is one."""

    @property
    def headline(self) -> str:
        """The verdict."""
        return self.report.headline

    @property
    def passed(self) -> bool:
        """Whether it is validated."""
        return self.report.passed


def validated(
    report: ValidationReport, *, grid: Sensitivity | None = None, walk: WalkForward | None = None, draw: Draw | None = None,
) -> Validated:
    """The sections of a validation.

    Args:
        draw: Makes the picture of a heat map; None: without.
    """
    tables = validation_tables(report, grid=grid, walk=walk)
    pictures = {} if grid is None or draw is None else {"grid": draw(grid.heat_map())}
    return Validated(report, tuple(tables), tuple(
        (table.title, "\n\n".join(filter(None, (table_of(table), plain(table.note)))), pictures.get(table.name)) for table in tables
    ))


def validation_tables(report: ValidationReport, *, grid: Sensitivity | None = None, walk: WalkForward | None = None) -> list[ReportTable]:
    """Every table of a validation, the checks first."""
    found = [_checks(report), _evidence(report), _risk(report)]
    if grid is not None:
        found.append(_grid(grid, report))
    if walk is not None:
        found.append(_walk(walk))
    return found


def _table(name: str, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> ReportTable:
    return ReportTable(name, title, tuple(columns), tuple(tuple(Cell(text) for text in row) for row in rows), note)


def _checks(report: ValidationReport) -> ReportTable:
    rows = [(each.name, each.found, each.needed, "holds" if each.passed else "does not hold") for each in report.checks]
    note = " ".join((
        "All of it has to hold. p-values are one-sided: of the mean trade by a bootstrap t-test over runs of trades, of the Sharpe ratio",
        "by the probabilistic Sharpe ratio, of what is left after the market's moves by a bootstrap t-test over runs of sessions.",
        *report.notes,
    ))
    return _table("checks", "Is it evidence?", ("WHAT", "FOUND", "NEEDED", ""), rows, note)


def _evidence(report: ValidationReport) -> ReportTable:
    periods = report.periods
    rows = [(title, *(tell(each) for each in periods.values())) for title, tell in _FIGURES]
    heads = ["ALL SESSIONS"] if list(periods) == [Period.ALL] else [period.value.upper() for period in periods]
    note = "In brackets: 95 % interval by the stationary bootstrap. The interval of the drawdown is of the same returns in other orders."
    if report.cutoff is not None:
        note += f" Only sessions after the end of the model's training ({report.cutoff}) count: it may remember the others."
    return _table("evidence", "How sure are the figures?", ("FIGURE", *heads), rows, note)


def _shown(found: Estimate | None, tell: Callable[[float], str]) -> str:
    if found is None:
        return DASH
    reach = "" if found.low is None or found.high is None else f" ({tell(found.low)} to {tell(found.high)})"
    return f"{tell(found.value)}{reach}"


def _ratio(value: float) -> str:
    return "no loss" if isinf(value) else f"{value:.2f}"


def _probability(value: float | None) -> str:
    return DASH if value is None else f"{value:.4f}"


def _signed(value: float) -> str:
    return fraction(value, signed=True)


_FIGURES: tuple[tuple[str, Callable[[Evidence], str]], ...] = (
    ("Sessions", lambda each: f"{each.sessions:,}"),
    ("Trades closed", lambda each: f"{each.closed:,}"),
    ("Return", lambda each: _signed(each.total_return)),
    ("Sharpe ratio", lambda each: _shown(each.sharpe, _ratio)),
    ("p-value of the Sharpe ratio", lambda each: _probability(each.sharpe_p)),
    ("Sessions it takes to tell it from 0", lambda each: DASH if each.record is None else f"{each.record:,.0f}"),
    ("Maximum drawdown", lambda each: _shown(each.drawdown, fraction)),
    ("Mean trade", lambda each: _shown(each.mean_trade, lambda value: dollars(value, signed=True))),
    ("p-value of the mean trade", lambda each: _probability(each.trade_p)),
    ("Win rate", lambda each: _shown(each.win_rate, fraction)),
    ("Profit factor", lambda each: _shown(each.profit_factor, _ratio)),
    ("Part in the market's moves (beta)", lambda each: DASH if each.beta is None else f"{each.beta:.2f}"),
    ("Return beyond the market's, a year", lambda each: _shown(each.beyond_market, _signed)),
    ("p-value of it", lambda each: _probability(each.beyond_market_p)),
)


def _risk(report: ValidationReport) -> ReportTable:
    rows = [
        (part.name, DASH if part.value is None else f"{part.value:.3f}", f"{part.good:g}", f"{part.bad:g}", f"{part.points} of 20")
        for part in report.risk.parts
    ]
    rows.append(("all", "", "", "", f"{report.risk.points} of 100: {report.risk.grade}"))
    note = "Higher is worse. LOW below 25, MEDIUM below 50, HIGH below 75, UNACCEPTABLE from there on. What is not known costs half."
    return _table("risk", "Risk score", ("PART", "FOUND", "0 POINTS AT", "20 POINTS AT", "POINTS"), rows, note)


def _grid(grid: Sensitivity, report: ValidationReport) -> ReportTable:
    places = sorted(range(len(grid.points)), key=lambda place: -(_number(grid.points[place].sharpe)))
    own = grid.grid.own
    shown = places[:MOST_POINTS]
    if own is not None and own not in shown:
        shown.append(own)
    rows = [_point(grid, place, place == own) for place in shown]
    told = [f"{len(grid.points)} settings."]
    if len(grid.points) > len(shown):
        told.append(f"Shown are the best {MOST_POINTS}, and the strategy's own.")
    if report.deflated_sharpe is not None:
        told.append(f"Deflated Sharpe ratio {report.deflated_sharpe:.3f}: how probably the true ratio is above what luck would show.")
    if report.overfitting is not None:
        found = report.overfitting
        told.append(
            f"Probability of overfitting {found.probability:.0%}: so often the best of one half was no better than the median on the other "
            f"({found.splits:,} ways to halve {found.blocks} blocks)."
        )
    told.append("A peak among poor neighbours is fitted: prefer the middle of a broad region.")
    columns = ("SETTINGS", "SHARPE", "NEIGHBOURS' SHARPE", "RETURN", "DRAWDOWN", "TRADES", "WIN RATE", "PROFIT FACTOR")
    return _table("grid", "How much depends on the settings?", columns, rows, " ".join(told))


def _point(grid: Sensitivity, place: int, own: bool) -> tuple[str, ...]:
    point = grid.points[place]
    near = [each.sharpe for each in grid.neighbours(place) if each.sharpe is not None]
    return (
        f"{point.label} (its own)" if own else point.label, _or_dash(point.sharpe, _ratio),
        _or_dash(sum(near) / len(near) if near else None, _ratio), _or_dash(point.total_return, _signed), fraction(point.max_drawdown),
        f"{point.trades:,}", _or_dash(point.win_rate, fraction), _or_dash(point.profit_factor, _ratio),
    )


def _number(value: float | None) -> float:
    return float("-inf") if value is None or isnan(value) else value


def _or_dash(value: float | None, tell: Callable[[float], str]) -> str:
    return DASH if value is None else tell(value)


def _walk(walk: WalkForward) -> ReportTable:
    rows = [
        (
            f"{each.chosen_from} to {each.chosen_to}", each.label, _or_dash(each.sharpe_before, _ratio),
            f"{each.used_from} to {each.used_to}", _or_dash(each.sharpe_after, _ratio),
            _signed(float((1 + each.out_of_sample).prod()) - 1), f"{each.trades:,}",
        )
        for each in walk.windows
    ]
    kept = "nothing had been made to keep" if walk.efficiency is None else f"{walk.efficiency:.2f}"
    note = (
        f"Efficiency {kept}: the mean return a session of what was chosen, after over before. All sessions after: "
        f"{_signed(float(walk.equity[-1]) / walk.cash - 1)}. Settings changed {walk.changes} times."
    )
    columns = ("CHOSEN BY", "SETTINGS", "SHARPE THERE", "USED FOR", "SHARPE THEN", "RETURN", "TRADES")
    return _table("walk_forward", "Walking forward", columns, rows, note)

