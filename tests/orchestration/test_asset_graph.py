"""The asset graph: what is in it, what a run shows, what stops a run, and what a backfill leaves alone."""

import base64
import itertools
import secrets
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import dagster as dg
import numpy as np
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from tests.desks import DAY, OPEN, PERSON, bars, calendar, floor, market, strategy
from trading_pipeline.adapters.code_version import code_version
from trading_pipeline.adapters.market_data.parquet_archive import write_table
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.strategies import ExpressionAgent, Mode
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.cycle import STEPS, run_cycle, run_follow_up

E = EventType
GROUPS = {
    "bars": "market", "indicators": "analysis", "charts": "analysis", "signals": "decisions", "verdicts": "trading", "orders": "trading",
    "fills": "trading", "portfolio_snapshots": "trading",
}
EVIDENCE = {"outcomes": "evidence", "model_report": "evidence"}
"""After the session's close, in a run of their own."""
SETTINGS = {"indicators": {"indicator_settings"}, "charts": {"chart_settings"}, "signals": {"agents_and_prompts"}}
"""What people decide, as assets that nothing materialises."""
SEEN = ChartSpec(bars=60, overlays=("sma_20",), panels=("rsi_14",))


def two_strategies():
    return strategy("alone", chart=SEEN), strategy("asks", symbols=("AAPL", "IBM"), mode=Mode.APPROVAL, chart=SEEN)


def source():
    return market(bars("AAPL"), bars("IBM"))


def cycle_run(house, stage):
    [request] = house.tick("bar_close", stage)
    return house.launch(request, "cycle", stage)


# What is in it


def test_the_graph_is_one_chain_in_five_groups(repository):
    graph = repository.asset_graph
    nodes = {key.to_user_string(): graph.get(key) for key in graph.materializable_asset_keys if graph.get(key).group_name != "backtests"}
    assert {name: node.group_name for name, node in nodes.items()} == GROUPS | EVIDENCE
    chain = [*GROUPS, *EVIDENCE]
    for before, after in itertools.pairwise(chain):
        assert {key.to_user_string() for key in nodes[after].parent_keys} == {before} | SETTINGS.get(after, set())
    assert list(GROUPS) == list(STEPS), "an asset for each step, in order"


def test_every_asset_is_partitioned_by_session_and_backfilled_in_one_run(repository):
    graph = repository.asset_graph
    nodes = [node for node in map(graph.get, graph.materializable_asset_keys) if node.group_name != "backtests"]
    assert len({id(node.partitions_def) for node in nodes}) == 1
    assert all(node.backfill_policy == dg.BackfillPolicy.single_run() for node in nodes)


@pytest.mark.parametrize(("day", "open_"), [
    ("2012-10-29", False), ("2012-10-30", False), ("2012-10-31", True), ("2024-07-03", True), ("2024-07-04", False), ("2024-11-29", True),
    ("2001-09-11", False), ("2001-09-17", True), ("2024-08-31", False), ("2018-12-05", False),
])
def test_partitions_are_the_exchanges_sessions(repository, day, open_):
    """Storms, mourning, holidays and weekends have none; a half day has. Source: NYSE's list of special closings."""
    definition = repository.asset_graph.get(dg.AssetKey("bars")).partitions_def
    assert definition.has_partition_key(day) is open_


def test_nothing_retries_by_itself(defs, repository):
    """DAGSTER.md: a retry of an order step is a second order."""
    for job in repository.get_all_jobs():
        if not job.name.startswith("__"):
            assert job.tags.get("dagster/max_retries") == "0"
            assert not any(node.retry_policy for node in job.graph.nodes)
    assert defs.executor is dg.in_process_executor


def test_checks_guard_bars_charts_and_the_ledger_and_only_insane_bars_block(repository):
    graph = repository.asset_graph
    checks = {key.name: key.asset_key.to_user_string() for key in graph.asset_check_keys}
    assert checks == {
        "bars_are_sane": "bars", "bars_have_no_gaps": "bars", "bars_are_fresh": "bars", "charts_are_whole": "charts",
        "ledger_verifies": "portfolio_snapshots", "book_equals_broker": "portfolio_snapshots", "outcomes_are_there": "outcomes",
        "bars_are_on_time": "watchdog", "schedules_and_sensors_tick": "watchdog", "daemons_are_alive": "watchdog",
        "positions_are_protected": "watchdog",
    }
    blocking = [key.name for key in graph.asset_check_keys if graph.get_check_spec(key).blocking]
    assert blocking == ["bars_are_sane"]


# What a run shows


@pytest.fixture
def shown(house, tmp_path):
    stage = floor(tmp_path, source(), OPEN, *two_strategies(), strategy("poor", limits=StrategyLimits(max_position_value=Decimal(9))))
    result = cycle_run(house, stage)
    assert result.success
    return stage, {event.asset_key.to_user_string(): event.materialization for event in result.get_asset_materialization_events()}


def test_each_asset_names_its_facts_in_the_ledger(shown):
    stage, materialized = shown
    assert set(materialized) == set(GROUPS)
    for name, materialization in materialized.items():
        assert materialization.partition == "2024-08-28"
        assert materialization.metadata["cycle"].value == "1d@2024-08-27T20:00Z"
        assert materialization.metadata["market"].value == "REPLAY"
        seqs = stage.desk.ledger.event_by_key(f"step:1d@2024-08-27T20:00Z:{name}").payload["seqs"]
        first = materialization.metadata["ledger_seqs"].value.replace("-", ",").split(",")[0]
        assert int(first) == seqs[0]


def test_charts_show_the_picture_itself(shown):
    _, materialized = shown
    text = materialized["charts"].metadata["pictures"].value
    assert isinstance(materialized["charts"].metadata["pictures"], dg.MarkdownMetadataValue)
    encoded = text.split("data:image/png;base64,")[1].split(")")[0]
    assert base64.b64decode(encoded)[:8] == b"\x89PNG\r\n\x1a\n"


def test_verdicts_show_every_rule_with_value_and_limit(shown):
    _, materialized = shown
    table = materialized["verdicts"].metadata["verdicts"]
    assert isinstance(table, dg.TableMetadataValue)
    columns = {column.name for column in table.schema.columns}
    assert {"rule", "measured", "limit"} <= columns
    assert any("strategy_position" in str(record.data.values()) for record in table.records)


def test_what_waits_for_a_person_stands_first_with_the_command_that_decides(shown):
    stage, materialized = shown
    metadata = materialized["verdicts"].metadata
    asked = [row for row in stage.rows("actions") if row["state"] == "pending"]
    assert asked
    shown_with = {record.data["decide with"] for record in metadata["waiting_for_a_person"].records}
    assert shown_with == {f"trading approve {row['action_id'][:6]}" for row in asked}
    names = list(metadata)
    assert names.index("waiting_for_a_person") < names.index("judgements") < names.index("verdicts")


def test_fills_and_snapshots_show_money(shown):
    _, materialized = shown
    assert materialized["fills"].metadata["traded_usd"].value == pytest.approx(5001.50)
    assert materialized["portfolio_snapshots"].metadata["equity_usd"].value == pytest.approx(99_997.50)
    assert materialized["portfolio_snapshots"].metadata["book_equals_broker"].value is True


# The same events


def test_run_cycle_and_the_asset_graph_give_the_same_facts(house, tmp_path, monkeypatch):
    """Types, keys, payloads, causes, instants and actors; only the wall clock may differ."""
    nonces = {"plain": itertools.count(), "graph": itertools.count()}
    stages = {name: floor(tmp_path / name, source(), OPEN, *two_strategies()) for name in nonces}
    for name, stage in stages.items():
        monkeypatch.setattr(secrets, "token_hex", lambda size, numbers=nonces[name]: f"{next(numbers):0{2 * size}}")
        if name == "plain":
            run_cycle(stage.desk, stage.due())
        else:
            assert cycle_run(house, stage).success
        for row in stage.rows("approvals", order_by="requested_seq"):
            approvals.approve(stage.desk, row["action_id"], actor=PERSON)
        stage.go(OPEN + timedelta(seconds=5))
        if name == "plain":
            released = approvals.due(stage.desk).released
            run_follow_up(stage.desk, follow_up(released, DAY, stage.clock.now(), "approval"))
        else:
            assert all(result.success for result in house.tick_and_launch("approvals", "follow_up", stage))
    told = {
        name: [(e.seq, e.stream, e.key, e.type, e.cause, e.actor, e.at, e.payload_text) for e in stage.events()]
        for name, stage in stages.items()
    }
    assert told["plain"] == told["graph"]
    assert stages["plain"].desk.ledger.head() == stages["graph"].desk.ledger.head(), "the chain's hashes too"
    assert len(stages["graph"].rows("fills")) == 2


# What stops a run


class Insane:
    """An archive that gives out a bar whose high lies below its low."""

    def __init__(self, archive):
        self._archive = archive

    def __getattr__(self, name):
        return getattr(self._archive, name)

    def read_many(self, symbols, interval, *, until, count=None):
        found = self._archive.read_many(symbols, interval, until=until, count=count)
        return {symbol: _upside_down(table) for symbol, table in found.items()} if count == 500 else found


def _upside_down(table: BarTable) -> BarTable:
    high = table.high.copy()
    high[-1] = table.low[-1] - 50
    return BarTable(table.symbol, table.interval, table.start, table.end, table.open, high, table.low, table.close, table.volume)


def test_insane_bars_stop_the_run_before_anything_is_decided(house, tmp_path):
    stage = floor(tmp_path, source(), OPEN, strategy())
    stage = stage.restarted(archive=Insane(stage.desk.archive))
    result = cycle_run(house, stage)
    assert not result.success
    [check] = [evaluation for evaluation in result.get_asset_check_evaluations() if evaluation.check_name == "bars_are_sane"]
    assert not check.passed
    assert "AAPL" in str(check.metadata["faults"].value)
    ran = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    assert ran == {"bars"}
    assert stage.events(E.LLM_REQUESTED, E.ORDER_INTENT) == []


def test_a_broken_archive_file_stops_the_run_too(house, tmp_path):
    stage = floor(tmp_path, source(), OPEN, strategy())
    stage.desk.archive.append(bars().until(OPEN))
    [file, *_] = sorted((tmp_path / "archive").rglob("*.parquet"))
    write_table(file, _upside_down(bars().until(OPEN)))
    result = cycle_run(house, stage.restarted(archive=type(stage.desk.archive)(tmp_path / "archive")))
    assert not result.success
    assert stage.events(E.LLM_REQUESTED, E.ORDER_INTENT) == []


def test_a_gap_and_a_stale_symbol_are_said_and_stop_nothing(house, tmp_path):
    gap = [session.open for session in calendar().between(date(2024, 8, 20), date(2024, 8, 21))]
    stage = floor(tmp_path, market(bars("AAPL", without=gap), bars("IBM", last=date(2024, 8, 26))), OPEN, strategy(symbols=("AAPL", "IBM")))
    result = cycle_run(house, stage)
    assert result.success
    passed = {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}
    assert (passed["bars_have_no_gaps"], passed["bars_are_fresh"], passed["bars_are_sane"]) == (False, False, True)


def test_an_altered_picture_fails_its_check(house, tmp_path):
    stage = floor(tmp_path, source(), OPEN, strategy(chart=SEEN))
    due = stage.due()
    for step in ("bars", "indicators", "charts"):
        STEPS[step](stage.desk, due)
    [picture] = sorted((tmp_path / "objects").rglob("*.png"))
    picture.chmod(0o644)
    picture.write_bytes(b"not what it was")
    result = cycle_run(house, stage)
    passed = {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}
    assert passed.get("charts_are_whole") is not True
    assert not result.success or passed["charts_are_whole"] is False


def test_a_ledger_that_differs_from_the_broker_fails_its_check_and_not_the_run(house, tmp_path):
    stage = floor(tmp_path, source(), OPEN, strategy())
    stage.broker.trade_by_hand("IBM", Side.BUY, 7, Decimal(100))
    result = cycle_run(house, stage)
    passed = {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}
    assert result.success
    assert (passed["book_equals_broker"], passed["ledger_verifies"]) == (False, True)


# Backfills


def test_a_backfill_of_three_sessions_is_one_run_that_refills_and_places_nothing(house, tmp_path):
    stage = floor(tmp_path, source(), OPEN, *two_strategies())
    keys = ("2024-08-23", "2024-08-26", "2024-08-27")
    ranges = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    result = house.run("cycle", stage, ranges)
    assert result.success
    materialized: dict[str, set[str]] = {}
    for event in result.get_asset_materialization_events():
        materialized.setdefault(event.asset_key.to_user_string(), set()).add(event.materialization.partition)
    assert materialized == {name: set(keys) for name in GROUPS}
    assert stage.desk.archive.read("AAPL", Interval.DAY1, until=OPEN).last_end.date() == date(2024, 8, 26), "the bar each was decided on"
    assert {event.payload["cycle"].split("#")[0] for event in stage.events(E.CHART_RENDERED)} == {f"backfill:1d@{key}" for key in keys}
    assert len(stage.events(E.SIGNAL_MISSED)) == 6
    assert stage.events(E.LLM_REQUESTED, E.RISK_EVALUATED, E.ORDER_INTENT, E.ORDER_SUBMITTED) == []
    assert stage.broker.orders() == []
    assert np.all(np.diff(stage.desk.archive.read("AAPL", Interval.DAY1, until=OPEN).start) > 0)


def test_a_second_backfill_of_a_session_does_its_work_again(house, tmp_path):
    stage = floor(tmp_path, source(), OPEN, strategy())
    results = [house.run("cycle", stage, {}, "2024-08-27") for _ in range(2)]
    assert all(result.success for result in results)
    assert len({event.payload["cycle"] for event in stage.events(E.STEP_COMPLETED)}) == 2


def test_a_run_that_somebody_launches_by_hand_without_tags_cannot_trade(house, tmp_path):
    """T28: whoever reaches GraphQL can launch a run; no run trades without a cycle from the sensors."""
    stage = floor(tmp_path, source(), OPEN, strategy())
    assert house.run("cycle", stage, {}, "2024-08-28").success
    assert stage.events(E.LLM_REQUESTED, E.ORDER_INTENT) == []


def test_each_asset_shows_what_becomes_of_its_missed_work(repository):
    """A7."""
    nodes = [repository.asset_graph.get(dg.AssetKey(name)) for name in GROUPS | EVIDENCE]
    shown = {node.key.to_user_string(): node.tags["when_missed"] for node in nodes}
    assert shown == {
        "bars": "refilled", "indicators": "refilled", "charts": "refilled", "signals": "skipped", "verdicts": "skipped",
        "orders": "never_late", "fills": "caught_up", "portfolio_snapshots": "as_of_now",
        "outcomes": "caught_up", "model_report": "as_of_now",
    }
    assert all(node.metadata["when_missed"].startswith(node.tags["when_missed"] + ": ") for node in nodes)


# What people change


def test_a_changed_rule_marks_the_signals_stale_and_nothing_that_came_before_them(house, repository, instance, tmp_path):
    """A6."""
    stage = floor(tmp_path, source(), OPEN, strategy("alone", chart=SEEN))
    observe(house, stage)
    assert cycle_run(house, stage).success
    assert stale(repository, instance) == set()
    spec = replace(strategy("alone", chart=SEEN), agent=ExpressionAgent("close > 1", "close < 1"))
    controls.revise(stage.desk, spec, actor=PERSON)
    observe(house, stage)
    assert stale(repository, instance) == {"signals"}
    controls.revise(stage.desk, replace(spec, chart=replace(SEEN, overlays=("sma_50",))), actor=PERSON)
    observe(house, stage)
    assert stale(repository, instance) == {"indicators", "charts", "signals"}, "the chart draws another indicator"


def test_other_code_marks_everything_stale(house, repository, instance, tmp_path):
    """A6."""
    stage = floor(tmp_path, source(), OPEN, strategy("alone"))
    assert {repository.asset_graph.get(dg.AssetKey(name)).code_version for name in GROUPS | EVIDENCE} == {code_version()}
    observe(house, stage)
    assert cycle_run(house, stage).success
    assert stale(repository, instance) == set()
    known = [repository.assets_defs_by_key[dg.AssetKey(name)] for name in GROUPS]
    changed = dg.map_asset_specs(lambda spec: spec.replace_attributes(code_version="other"), known)
    assert stale(dg.Definitions(assets=changed).get_repository_def(), instance) == set(GROUPS)


def observe(house, stage):
    sensor = house.repository.get_sensor_def("versions")
    with dg.build_sensor_context(instance=house.instance, repository_def=house.repository, resources={"desk": stage.desk}) as context:
        for event in sensor.evaluate_tick(context).asset_events:
            house.instance.report_runless_asset_event(event)


def stale(repository, instance):
    resolver = CachingStaleStatusResolver(
        instance=instance, asset_graph=repository.asset_graph, loading_context=LoadingContextForTest(instance),
    )

    return {name for name in GROUPS if resolver.get_status(dg.AssetKey(name), DAY.isoformat()) is StaleStatus.STALE}
