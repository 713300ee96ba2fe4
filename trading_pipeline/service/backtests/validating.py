"""One backtest judged with everything that can be had of its bench: buying and holding, a grid, walking forward, the models' training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult
from trading_pipeline.domain.performance import returns_of
from trading_pipeline.domain.performance.report import BacktestReport
from trading_pipeline.domain.strategies import ModelAgent
from trading_pipeline.domain.validation import ValidationReport, validate
from trading_pipeline.domain.validation.checks import Check, counted
from trading_pipeline.ports import Prices
from trading_pipeline.service.backtests.bench import Bench
from trading_pipeline.service.backtests.evaluating import OnBench
from trading_pipeline.service.backtests.grids import Grid
from trading_pipeline.service.backtests.lookahead import look_ahead
from trading_pipeline.service.backtests.report import holding_of, report_of_backtest, rules_plan
from trading_pipeline.service.backtests.sensitivity import PROCESSES, Evaluate, sensitivity
from trading_pipeline.service.backtests.validation_sections import Draw, Validated, validated
from trading_pipeline.service.backtests.walk_forward import LEAST_WINDOW, walk_forward, windows_of

IN_SAMPLE, OUT_OF_SAMPLE = 126, 42
"""Sessions that settings are chosen by, and that they are then used for: half a year, two months."""


@dataclass(frozen=True, slots=True)
class Search:
    """Which settings to try beside the strategy's own, and how."""

    grid: Grid
    in_sample: int = IN_SAMPLE
    out_of_sample: int = OUT_OF_SAMPLE
    processes: int = PROCESSES

    def runs(self, sessions: int) -> int:
        """Backtests over so many sessions: one for each point of the grid, and one for each window of walking forward."""
        return len(self.grid.points) + (len(windows_of(sessions, self.in_sample, self.out_of_sample)) if self.walks(sessions) else 0)

    def walks(self, sessions: int) -> bool:
        """Whether sessions are left to walk into."""
        return sessions >= self.in_sample + LEAST_WINDOW


def validate_backtest(
    bench: Bench, plan: BacktestPlan, result: BacktestResult, *, search: Search | None = None, prices: Prices | None = None,
    check_look_ahead: bool = False, draw: Draw | None = None, evaluate: Evaluate | None = None,
    progress: Callable[[], None] | None = None,
) -> Validated:
    """Judge the result of a plan.

    Args:
        search: The grid to run; None: no settings are tried, and the verdict says so.
        prices: Knows when models' training ends; None: nobody does.
        check_look_ahead: Run it on bars with other futures as well: what was done before must be the same.
        draw: Makes the picture of the grid.
        evaluate: Runs a plan; None: on the bench.
        progress: Told after each of `Search.runs`.

    Raises:
        InputError: The grid does not fit the plan; or as running a plan raises.
    """
    holding = holding_of(bench, plan, result)
    market = returns_of(holding.equity, holding.cash)
    cutoffs = cutoffs_of(plan, prices)
    if search is None:
        return validated(_looked(validate(result, market=market, cutoffs=cutoffs), bench, plan, wanted=check_look_ahead))
    run = evaluate or OnBench(bench)
    grid = sensitivity(plan, search.grid, run, processes=search.processes, progress=progress)
    walk = None
    if search.walks(len(grid.points[0].sessions)):
        walk = walk_forward(plan, grid, run, in_sample=search.in_sample, out_of_sample=search.out_of_sample, progress=progress)
    report = validate(result, market=market, trials=grid.trials, walk=None if walk is None else walk.walk, cutoffs=cutoffs)
    return validated(_looked(report, bench, plan, wanted=check_look_ahead), grid=grid, walk=walk, draw=draw)


def judged_report(
    bench: Bench, plan: BacktestPlan, result: BacktestResult, *, command: str, made_at: datetime, prices: Prices | None = None,
    name: str | None = None,
) -> BacktestReport:
    """The report on a plan's result with its validation, beside buying and holding and the rules agent.

    Args:
        name: That it is stored under; None: the plan's, empty: it is not stored.
    """
    others = rules_plan(plan)
    rules = None if others is None else OnBench(bench)(others)
    validation = validate_backtest(bench, plan, result, prices=prices)
    return report_of_backtest(
        bench, plan, result, command=command, made_at=made_at, rules=rules, validation=validation, name=plan.name if name is None else name,
    )


def _looked(report: ValidationReport, bench: Bench, plan: BacktestPlan, *, wanted: bool) -> ValidationReport:
    """The report with the look-ahead check before the others, where it is wanted."""
    if not wanted:
        return report
    found = look_ahead(bench.over, bench.tables, plan)
    told = f"{counted(len(found.leaks), 'leak')} at {counted(len(found.instants), 'instant')}, {counted(found.compared, 'fact')} compared"
    check = Check("no look-ahead", told, "the same facts whatever comes later", found.passed, found.headline.rstrip("."))
    return replace(report, checks=(check, *report.checks))


def cutoffs_of(plan: BacktestPlan, prices: Prices | None) -> Mapping[str, date | None]:
    """By model that the plan asks, the end of its training data."""
    asked: Sequence[ModelAgent] = [spec.agent for spec in plan.strategies if isinstance(spec.agent, ModelAgent)]
    return {agent.model: None if prices is None else prices.cutoff(agent.provider, agent.model) for agent in asked}
