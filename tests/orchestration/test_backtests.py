"""Backfills of backtests: one ordered run, the ledger that `trading backtest` stores, nothing computed twice, no way to what is live."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import date
from decimal import Decimal

import dagster as dg
import pytest
from dagster._core.definitions.automation_tick_evaluation_context import build_run_requests_with_backfill_policies
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.definitions.partitions.context import partition_loading_context

from resources.backtests import Backtests
from tests.conftest import connect, execute
from tests.desks import OPEN, PERSON, bars, floor, market, strategy
from tests.service.backtests.benches import home
from trading_pipeline.adapters.brokers.paper import PaperBroker
from trading_pipeline.adapters.brokers.paper_book import MemoryBook
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.bootstrap import open_backtests
from trading_pipeline.bootstrap_backtests import home_plan, open_bench
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.risk import World
from trading_pipeline.errors import UnknownName
from trading_pipeline.service import controls
from trading_pipeline.service.backtests.engines import run
from trading_pipeline.service.desk import Desk
from trading_pipeline.settings import Settings

DAYS = ("2024-08-26", "2024-08-27", "2024-08-28")
CHAIN = ("bars", "signals", "verdicts", "orders", "fills", "portfolio_snapshots", "report")
PRICES = {OPEN: (100.0, 104.0, 98.0, 102.0)}


def settings_of(folder, app, owner) -> Settings:
    made = home(folder, bars(at=PRICES), bars("IBM"))
    return Settings(home=folder, market=made.market, database_url=app, owner_database_url=owner)


@pytest.fixture
def urls(postgres, ledger_database):
    """Of the application and the owner, as on a server of one's own."""
    owner = postgres.owner_url(ledger_database)
    execute(postgres.superuser_url(), f"ALTER ROLE {owner.username} CREATEDB")
    yield [url.render_as_string(hide_password=False) for url in (postgres.app_url(ledger_database), owner)]
    with closing(connect(postgres.superuser_url())) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (f"{ledger_database}.",))
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        cursor.execute(f"ALTER ROLE {owner.username} NOCREATEDB")


@pytest.fixture
def backtests(tmp_path, urls):
    """Of a home with two strategies that were never started."""
    settings = settings_of(tmp_path / "home", *urls)
    with closing(PostgresLedger.open(urls[0], settings.environment.value)) as ledger:
        stage = floor(tmp_path / "floor", market(bars(), bars("IBM")), OPEN)
        desk = Desk(**{name: getattr(stage.desk, name) for name in Desk.__slots__} | {"ledger": ledger})
        for spec in (strategy("buyer"), strategy("other", symbols=("IBM",))):
            controls.create(desk, spec, actor=PERSON)
    return Backtests(settings)


@pytest.fixture
def offered(repository, instance, monkeypatch):
    """An instance in which both can be chosen; the report is drawn where a test looks at it."""
    monkeypatch.setattr("assets.backtests.shown_report", lambda *_: {})
    instance.add_dynamic_partitions("backtest_strategies", ["buyer", "other"])
    return instance


def backfill(instance, backtests, first=f"{DAYS[0]}|buyer", last=f"{DAYS[-1]}|buyer", **config):
    """The run that Dagster's daemon makes of a backfill with a policy of a single run."""
    from assets.backtests import backtest

    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return dg.materialize(
        [backtest], instance=instance, tags=tags, resources={"backtests": backtests}, raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, "ops": {"backtest": {"config": config}}},
    )


def shown(result):
    """Metadata by asset and partition, in the order of the events."""
    return {
        (event.asset_key.to_user_string(), str(event.materialization.partition)): event.materialization.metadata
        for event in result.get_asset_materialization_events()
    }


def stored(backtests):
    with open_backtests(backtests.settings) as databases:
        found = []
        for each in databases.all():
            with databases.reading(each) as ledger:
                found.append((each, ledger.head()))
        return found


# What is in the graph


def test_the_backtests_are_one_chain_of_one_op_in_a_group_of_their_own(repository):
    graph = repository.asset_graph
    nodes = [graph.get(dg.AssetKey(f"backtest_{step}")) for step in CHAIN]
    assert [key.to_user_string() for node in nodes[1:] for key in node.parent_keys] == [f"backtest_{step}" for step in CHAIN[:-1]]
    assert nodes[0].parent_keys == set(), "no asset of the live chain is made by a backfill of backtests"
    assert {node.group_name for node in nodes} == {"backtests"}
    assert all(node.backfill_policy == dg.BackfillPolicy.single_run() for node in nodes)
    assert len({id(node.partitions_def) for node in nodes}) == 1


@pytest.mark.parametrize("strategies", [1, 2])
def test_a_backfill_of_a_range_of_sessions_is_one_run_a_strategy(repository, offered, strategies):
    """Whatever the daemon does with a range is decided by these requests."""
    names = ["buyer", "other"][:strategies]
    wanted = [
        AssetKeyPartitionKey(dg.AssetKey(f"backtest_{step}"), f"{day}|{name}") for step in CHAIN for day in DAYS for name in names
    ]
    with partition_loading_context(dynamic_partitions_store=offered):
        requests = build_run_requests_with_backfill_policies(wanted, repository.asset_graph, offered)
    ranges = [
        (request.tags["dagster/asset_partition_range_start"], request.tags["dagster/asset_partition_range_end"]) for request in requests
    ]
    assert sorted(ranges) == [(f"{DAYS[0]}|{name}", f"{DAYS[-1]}|{name}") for name in names]
    assert all(len(request.asset_selection) == len(CHAIN) for request in requests)


def test_strategies_of_the_home_and_of_the_package_can_be_chosen_and_are_offered_once(house, tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy("one"), strategy("two"))
    sensor = house.repository.get_sensor_def("backtest_strategies")

    def offered():
        with dg.build_sensor_context(instance=house.instance, repository_def=house.repository, resources={"desk": stage.desk}) as context:
            return [key for request in sensor.evaluate_tick(context).dynamic_partitions_requests or [] for key in request.partition_keys]

    assert offered() == ["dips", "one", "trend", "two"]
    house.instance.add_dynamic_partitions("backtest_strategies", ["dips", "one", "trend", "two"])
    assert offered() == []


# What a backfill does


def test_a_backfill_stores_the_ledger_that_the_same_plan_stores_on_the_command_line(offered, backtests):
    result = backfill(offered, backtests)
    assert result.success
    [(each, head)] = stored(backtests)
    plan = home_plan(backtests.settings, [strategy("buyer")], date(2024, 8, 26), date(2024, 8, 28))
    with open_bench(backtests.settings, plan) as bench:
        assert (each.name, head) == (plan.name, run(bench, plan).ledger.head())
    assert (each.plan, each.complete, each.sessions) == (plan, True, 3)


def test_every_asset_shows_every_session_and_last_of_all_the_report(offered, backtests, monkeypatch):
    monkeypatch.undo()
    result = backfill(offered, backtests)
    found = shown(result)
    assert set(found) == {(f"backtest_{step}", f"{day}|buyer") for step in CHAIN for day in DAYS}
    newest = result.get_asset_materialization_events()[-1].materialization
    assert (newest.asset_key, newest.partition) == (dg.AssetKey("backtest_report"), f"{DAYS[-1]}|buyer"), "the page opens with it"
    assert [found["backtest_fills", f"{day}|buyer"]["executions"].value for day in DAYS] == [1, 0, 0]
    first = found["backtest_portfolio_snapshots", f"{DAYS[0]}|buyer"]
    bought = found["backtest_fills", f"{DAYS[0]}|buyer"]
    # 5 % of $100,000 at $100: bought above the open by half the spread and the slippage, a commission of a dollar at least.
    assert bought["traded_usd"].value == pytest.approx(5_000, rel=0.02)
    assert first["equity_usd"].value == pytest.approx(100_000 - 5_000 * 0.0003 - bought["commissions_usd"].value, abs=0.5)
    assert first["market"].value == "BACKTEST"
    report = found["backtest_report", f"{DAYS[-1]}|buyer"]
    assert report["headline"].value.startswith("NOT VALIDATED")
    assert report["report"].value.startswith("**NOT VALIDATED")
    assert report["plots"].value.count("data:image/png;base64,") == 3
    assert report["whole_report"].value.endswith(".html")
    assert report["validated"].value is False
    assert "headline" not in found["backtest_report", f"{DAYS[0]}|buyer"]
    assert report["equity_usd"].value == found["backtest_portfolio_snapshots", f"{DAYS[-1]}|buyer"]["equity_usd"].value


def test_a_second_backfill_computes_nothing_and_shows_the_same(offered, backtests, monkeypatch):
    first = shown(backfill(offered, backtests))
    before = stored(backtests)
    monkeypatch.setattr("resources.backtests.run_stored", None)
    second = backfill(offered, backtests)
    assert second.success
    assert stored(backtests) == before
    again = shown(second)
    different = {name for key in first for name in first[key] if first[key][name] != again[key][name]}
    assert different == set()


def test_one_session_and_several_strategies_have_an_account_each(offered, backtests):
    result = backfill(offered, backtests, f"{DAYS[0]}|buyer", f"{DAYS[0]}|other")
    found = shown(result)
    assert {partition for _, partition in found} == {f"{DAYS[0]}|buyer", f"{DAYS[0]}|other"}
    assert {each.plan.strategies[0].name for each, _ in stored(backtests)} == {"buyer", "other"}


def test_its_config_is_that_of_the_command_line(offered, backtests):
    assert backfill(offered, backtests, cash=50_000.0, engine="stepped", provider="rules").success
    [(each, _)] = stored(backtests)
    assert (each.plan.cash, each.engine) == (Decimal(50_000), "stepped")


def test_the_home_comes_before_the_package_and_a_name_of_neither_is_refused_with_those_there_are(backtests):
    day = date(2024, 8, 26)
    assert backtests.plan("buyer", day, day).strategies == (strategy("buyer"),)
    assert backtests.plan("dips", day, day).strategies[0].symbols == ("AAPL", "MSFT", "GOOG", "IBM", "FB")
    with pytest.raises(UnknownName, match="no strategy 'neither'") as caught:
        backtests.plan("neither", day, day)
    assert "buyer, dips, other, trend" in caught.value.rule


def test_what_cannot_be_run_fails_with_a_sentence_and_a_remedy(offered, backtests):
    result = backfill(offered, backtests, "2024-03-01|buyer", "2024-03-04|buyer")
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "bars of AAPL go from 2024-06-03" in failure.step_failure_data.error_display_string
    assert stored(backtests) == []


def test_without_a_role_that_makes_databases_it_runs_and_says_that_it_is_not_stored(offered, backtests):
    settings = Settings(home=backtests.settings.home, market=backtests.settings.market, database_url=backtests.settings.database_url)
    result = backfill(offered, Backtests(settings))
    assert result.success
    assert len(shown(result)) == len(CHAIN) * len(DAYS)
    assert stored(backtests) == []


KILLED = """
import sys, time
from functools import partial
from pathlib import Path
import dagster as dg
import resources.backtests as resource
from tests.orchestration.test_backtests import DAYS, backfill, settings_of
from trading_pipeline.stored_backtests import run_stored

def slow(*given, progress, **more):
    def tell(done, of, session):
        progress(done, of, session)
        print(done, flush=True)
        time.sleep(0.1)
    return run_stored(*given, progress=tell, every_seconds=0, **more)

resource.run_stored = slow
folder, app, owner = sys.argv[1:]
settings = settings_of(Path(folder), app, owner)
with dg.DagsterInstance.ephemeral() as instance:
    instance.add_dynamic_partitions("backtest_strategies", ["buyer"])
    backfill(instance, resource.Backtests(settings), "2024-08-05|buyer", engine="stepped")
"""


@pytest.mark.slow
def test_a_killed_backfill_goes_on_where_it_was_and_ends_the_same(offered, backtests, urls):
    """kill -9 of a real process in its fifth session."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TRADING_HOME": str(backtests.settings.home)}
    command = [sys.executable, "-c", KILLED, str(backtests.settings.home), *urls]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "5":
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    [(half, (seq, _))] = stored(backtests)
    assert 4 <= half.sessions < 18
    assert not half.complete
    with open_backtests(backtests.settings) as databases, databases.reading(half) as ledger:
        at = [event.recorded_at for event in ledger.scan(1, seq)]
    result = backfill(offered, backtests, "2024-08-05|buyer", engine="stepped")
    assert result.success
    [(whole, head)] = stored(backtests)
    with open_bench(backtests.settings, whole.plan) as bench:
        assert head == run(bench, whole.plan, engine="stepped").ledger.head()
    with open_backtests(backtests.settings) as databases, databases.reading(whole) as ledger:
        assert [event.recorded_at for event in ledger.scan(1, seq)] == at, "what was stored was not written again"


# What it cannot reach


def test_no_backtest_has_the_desk_or_a_broker_of_the_home(repository):
    """The one op of the chain asks for its own resource, and what that resource hands out ends at a paper broker in memory."""
    from assets.backtests import backtest

    assert backtest.required_resource_keys == {"backtests", "io_manager"}
    assert repository.get_top_level_resources().keys() >= {"backtests", "desk"}
    assert not {name for name in Backtests.__slots__ if "broker" in name or "desk" in name}


def test_the_desk_of_a_backfill_is_of_the_environment_backtest_with_a_paper_broker_in_memory(offered, backtests, monkeypatch):
    from assets import backtests as assets

    desks = []
    plain = assets.sessions_shown
    monkeypatch.setattr(assets, "sessions_shown", lambda desk, *rest: desks.append(desk) or plain(desk, *rest))
    assert backfill(offered, backtests).success
    [desk] = desks
    assert (desk.environment, desk.world) == ("backtest", World.BACKTEST)
    assert type(desk.broker) is PaperBroker
    assert type(desk.broker._book) is MemoryBook


def test_a_backfill_writes_nothing_to_the_ledger_of_the_home(offered, backtests, urls):
    with closing(PostgresLedger.open(urls[0], backtests.settings.environment.value)) as ledger:
        before = ledger.head()
        assert backfill(offered, backtests).success
        assert ledger.head() == before
        assert not ledger.events(types=(EventType.ORDER_SUBMITTED,))


def test_a_backfill_may_take_hours_and_takes_a_pool_that_no_run_that_trades_takes(repository, offered, backtests):
    result = backfill(offered, backtests)
    assert offered.get_run_by_id(result.run_id).tags["dagster/max_runtime"] == str(6 * 3600)
    pools = {key.to_user_string(): repository.asset_graph.get(key).pools for key in repository.asset_graph.materializable_asset_keys}
    assert {name for name, pool in pools.items() if pool} == {f"backtest_{step}" for step in CHAIN}
