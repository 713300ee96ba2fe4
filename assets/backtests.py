"""Backtests as backfills: choose a strategy and a range of sessions, and the whole range is one ordered run of the engine.

One op for the chain, because decisions carry from session to session and the engine is one computation: what the assets hold is told apart
afterwards, session by session. A strategy is a dimension of the partitions, so that the UI offers those there are and keeps their
histories apart. No asset of the live chain is upstream: a backfill must never want to make one.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from assets.backtest_report import figures_of, shown_report
from assets.backtest_sessions import sessions_shown
from assets.by_session import ONE_RUN
from assets.partitions import SESSIONS
from resources.backtests import Backtests, Ran
from resources.run_process import mark
from trading_pipeline.bootstrap_backtests import prices_of
from trading_pipeline.errors import TradingError
from trading_pipeline.service.backtests.bench import sessions_of
from trading_pipeline.service.backtests.report import command_of
from trading_pipeline.service.backtests.results import result_of_backtest
from trading_pipeline.service.backtests.validating import judged_report


class SessionsOfStrategies(dg.MultiPartitionsDefinition):
    """Remembers the range asked for last: Dagster asks for it with every session's metadata, which makes a year quadratic."""

    _range: dg.PartitionKeyRange | None = None
    _keys: Sequence[str] = ()

    def get_partition_keys_in_range(  # type: ignore[override]
        self, partition_key_range: dg.PartitionKeyRange, dynamic_partitions_store: Any = None,
    ) -> Sequence[str]:
        """As Dagster's; a range within one strategy never changes, whatever strategies are added."""
        if partition_key_range != self._range:
            found = super().get_partition_keys_in_range(partition_key_range, dynamic_partitions_store)
            ends = {key.split("|")[1] for key in (partition_key_range.start, partition_key_range.end)}
            if len(ends) > 1:
                return found
            self._range, self._keys = partition_key_range, found
        return self._keys


STRATEGIES = dg.DynamicPartitionsDefinition(name="backtest_strategies")
PARTITIONS = SessionsOfStrategies({"session": SESSIONS, "strategy": STRATEGIES})
POOL = "backtests"
"""One run at a time takes it; those that wait for it stay in the queue, and no run that trades does."""
MAX_HOURS = 6
TOLD_EVERY_SECONDS = 10.0

_WORDS = {
    "bars": ("The bars of a session, a row a symbol.", {"parquet"}),
    "signals": ("What was decided. Of a bar at which nothing happened the columnar engine writes no hold.", {"llm"}),
    "verdicts": ("What the rulebook said to every proposal.", {"rulebook"}),
    "orders": ("What was sent to the paper broker in the backtest's memory.", {"broker"}),
    "fills": ("What was filled, at what price, and what it cost.", {"broker"}),
    "portfolio_snapshots": ("Equity and what was held at the session's close.", {"postgres"}),
    "report": ("Whether it is any good, on the last session of the range: verdict, figures, plots, assumptions.", {"statistics"}),
}
_NAMES = [f"backtest_{step}" for step in _WORDS]


def _specs() -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            f"backtest_{step}", deps=_NAMES[number - 1 : number], group_name="backtests", kinds=kinds, owners=["team:desk"],
            description=f"{words} Made by a backfill over sessions and a strategy.", partitions_def=PARTITIONS,
        )
        for number, (step, (words, kinds)) in enumerate(_WORDS.items())
    ]


class BacktestConfig(dg.Config):
    """Everything may be left out: then it is what `trading backtest STRATEGY --from DATE --to DATE` runs."""

    cash: float | None = Field(None, gt=0, description="USD that the account begins with; else as the home's paper account.")
    provider: Literal["cassette", "rules"] = Field(
        "cassette", description="cassette: models answer from recordings alone. rules: the rules agent decides in a model's place.",
    )
    engine: Literal["auto", "stepped", "columnar"] = Field("auto", description="auto: columnar where it can, which is fast.")
    data: list[str] = Field([], description="Folders of bars files instead of the home's market; the first that has a symbol counts.")
    again: bool = Field(False, description="Compute it also where it is stored, of the same bars and code.")


@dg.multi_asset(name="backtest", specs=_specs(), backfill_policy=ONE_RUN, pool=POOL)
def backtest(
    context: dg.AssetExecutionContext, config: BacktestConfig, backtests: dg.ResourceParam[Backtests],
) -> Iterator[dg.MaterializeResult[Any]]:
    """Run each chosen strategy over the chosen sessions, in an account of its own."""
    mark(context)
    context.instance.add_run_tags(context.run.run_id, {"dagster/max_runtime": str(MAX_HOURS * 3600)})
    try:
        reports = [_run(context, config, backtests, strategy, days) for strategy, days in chosen(context.partition_keys).items()]
    except TradingError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    for name in _NAMES:
        yield dg.MaterializeResult(asset_key=name)
    for report in reports:
        # Dagster tells the partitions of a range in no order, and the asset's page opens with what was told last.
        context.log_event(report)


def chosen(partition_keys: Sequence[str]) -> dict[str, list[date]]:
    """The sessions of each strategy, in order."""
    found: dict[str, list[date]] = {}
    for key in partition_keys:
        dimensions = PARTITIONS.get_partition_key_from_str(key).keys_by_dimension
        found.setdefault(dimensions["strategy"], []).append(date.fromisoformat(dimensions["session"]))
    return {strategy: sorted(days) for strategy, days in found.items()}


def _run(
    context: dg.AssetExecutionContext, config: BacktestConfig, backtests: Backtests, strategy: str, days: Sequence[date],
) -> dg.AssetMaterialization:
    """Run one strategy and show its sessions; returns the report on it."""
    told = time.monotonic()

    def progress(done: int, of: int, session: date) -> None:
        nonlocal told
        if time.monotonic() - told >= TOLD_EVERY_SECONDS:
            context.log.info(f"{strategy}: {done:,} of {of:,} sessions, up to {session}")
            told = time.monotonic()

    cash = None if config.cash is None else Decimal(str(config.cash))
    plan = backtests.plan(strategy, days[0], days[-1], cash=cash, by_rules=config.provider == "rules")
    folders = [Path(each).expanduser() for each in config.data]
    with backtests.run(plan, engine=config.engine, data=folders, again=config.again, progress=progress) as ran:
        context.log.info(f"{strategy}: {plan.name} by the {ran.backtest.engine} engine ({ran.backtest.why}); it {ran.note}")
        command = command_of(
            [strategy], days[0], days[-1], provider=config.provider, cash=None if config.cash is None else Decimal(str(config.cash)),
            folders=config.data, engine=config.engine,
        )
        return _show(context, backtests, strategy, ran, command)


def _show(context: dg.AssetExecutionContext, backtests: Backtests, strategy: str, ran: Ran, command: str) -> dg.AssetMaterialization:
    """Metadata of every session and asset, and the report on the last session."""
    bench, plan, ledger = ran.bench, ran.backtest.plan, ran.backtest.ledger
    result = result_of_backtest(bench, ran.backtest)
    opens = [session.open for session in sessions_of(bench.calendar, plan)]
    common = {
        "backtest": dg.MetadataValue.text(plan.name), "market": dg.MetadataValue.text("BACKTEST"),
        "engine": dg.MetadataValue.text(ran.backtest.engine.value),
    }
    of_report = figures_of(result)
    desk = bench.desk(plan, ledger)

    def partition(day: date) -> dg.MultiPartitionKey:
        return dg.MultiPartitionKey({"session": day.isoformat(), "strategy": strategy})

    for shown in sessions_shown(desk, ledger, result, opens, list(bench.tables.values())):
        for step, metadata in (*shown.steps.items(), ("report", of_report[shown.day])):
            context.add_asset_metadata(common | dict(metadata), asset_key=f"backtest_{step}", partition_key=partition(shown.day))
    prices, last = prices_of(backtests.settings, plan), result.sessions[-1]
    report = judged_report(bench, plan, result, command=command, made_at=datetime.now(UTC), prices=prices)
    return dg.AssetMaterialization(
        _NAMES[-1], partition=partition(last), metadata=shown_report(desk, report, ran) | common | dict(of_report[last]),
    )
