"""What backtests have of a home: its settings, its strategies to read, its bars, and a place for ledgers of their own.

Not a desk: nothing here knows a broker, a lease, a model that could be paid or the home's own ledger to write to, and the bench that a
run stands on has the paper broker in memory and no other. So a backfill cannot reach what is traded live, whatever its config says.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg

from trading_pipeline.bootstrap import open_backtests, open_record
from trading_pipeline.bootstrap_backtests import home_plan, open_bench
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.strategies import AnalyzerAgent, ModelAgent, StrategySpec
from trading_pipeline.errors import SettingsError, UnknownName
from trading_pipeline.homes import known_strategies
from trading_pipeline.service.backtests.bench import Bench
from trading_pipeline.service.backtests.engines import Backtest, Engine, run
from trading_pipeline.service.backtests.stepping import Progress
from trading_pipeline.settings import Settings
from trading_pipeline.stored_backtests import is_done, run_stored


@dataclass(frozen=True, slots=True)
class Ran:
    """A backtest that has run, or had run before, with its bench and its ledger open."""

    bench: Bench
    backtest: Backtest
    note: str
    """What became of it in the store, as people say it."""
    stored: bool


@dataclass(frozen=True, slots=True)
class Backtests:
    """Plans and runs backtests of a home's strategies, and stores them as `trading backtest` does: under the name of the plan."""

    settings: Settings

    def plan(self, strategy: str, first: date, last: date, *, cash: Decimal | None = None, by_rules: bool = False) -> BacktestPlan:
        """One strategy over sessions: of the home, else of the package.

        Args:
            cash: USD that the account begins with; None: as the home's paper account.
            by_rules: The rules agent decides in a model's place.

        Raises:
            UnknownName: There is none.
        """
        spec = self._strategy(strategy)
        if by_rules and isinstance(spec.agent, ModelAgent):
            spec = replace(spec, agent=AnalyzerAgent())
        return home_plan(self.settings, [spec], first, last, cash=cash)

    def _strategy(self, name: str) -> StrategySpec:
        with open_record(self.settings, leaving=False) as record:
            known = known_strategies(record.ledger)
        if name not in known:
            raise UnknownName(
                f"There is no strategy {name!r}.", value=name,
                rule=f"a backfill runs a strategy of the home or of the package: {', '.join(sorted(known))}",
                remedy="create it with `trading strategy create FILE`; it need not be started",
            )
        return known[name]

    @contextmanager
    def run(
        self, plan: BacktestPlan, *, engine: Engine | str = Engine.AUTO, data: Sequence[Path] = (), again: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Ran]:
        """Run a plan into the store, or open what is stored of the same bars and version already.

        Args:
            data: Folders of bars files instead of the home's market.
            again: Compute it also where it is stored.

        Raises:
            InputError: A bar is lacking, or the engine cannot run it.
            Conflict: Another process runs it.
        """
        with open_bench(self.settings, plan, data=data) as bench, open_backtests(self.settings, leaving=False) as databases:
            found = databases.find(plan.name)
            if found is not None and not again and is_done(found, bench, plan, engine):
                with databases.reading(found) as ledger:
                    before = Backtest(plan, ledger, Engine(found.engine), found.why, found.assumptions)
                    yield Ran(bench, before, "was stored already, of the same bars and version", stored=True)
                return
            try:
                with databases.writing(plan.name) as writer:
                    done = run_stored(bench, plan, writer, engine=engine, progress=progress, data=data)
            except SettingsError as error:
                # On a server of one's own the runs of Dagster do not have the role that makes databases.
                yield Ran(bench, run(bench, plan, engine=engine, progress=progress), f"is not stored: {error.message}", stored=False)
                return
            note = "is stored"
            if writer.replaced:
                note = "is stored, in the place of one of other bars, recordings or another version"
            elif found is not None and not found.complete:
                note = f"is stored: it went on after {found.sessions} sessions"
            yield Ran(bench, done, note, stored=True)


@dg.resource(description="Settings, strategies and bars of the home, and a store for ledgers of backtests. No desk, no broker.")
def backtests_resource(_context: dg.InitResourceContext) -> Backtests:
    """By the home's settings as they are now."""
    return Backtests(Settings.load())
