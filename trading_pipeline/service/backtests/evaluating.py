"""What a grid runs at each of its points: results only, by the columnar engine where it can, else by the stepped one."""

from dataclasses import dataclass

from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult
from trading_pipeline.service.backtests.bench import Bench
from trading_pipeline.service.backtests.columnar import Unfit, results
from trading_pipeline.service.backtests.engines import Engine, assumptions, run
from trading_pipeline.service.backtests.results import result_of_backtest


@dataclass(frozen=True, slots=True)
class OnBench:
    """Evaluates plans whose bars are on a bench; both engines decide alike, so which one it was changes no figure."""

    bench: Bench

    def __call__(self, plan: BacktestPlan) -> BacktestResult:
        """The result of a plan; raises as `engines.run`."""
        try:
            return results(self.bench, plan, assumptions(self.bench, plan))
        except Unfit:
            return result_of_backtest(self.bench, run(self.bench, plan, engine=Engine.STEPPED))
