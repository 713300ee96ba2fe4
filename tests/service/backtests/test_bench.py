"""Benches: which bars a plan gets, what is said when there are none, and what no desk of a bench can reach."""

import ast
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from tests.desks import bars, calendar, strategy
from tests.model_desks import asking
from tests.service.backtests.benches import FIRST, LAST, bench_of, home, other_close, plan
from trading_pipeline import backtest_bars, bootstrap_backtests
from trading_pipeline.adapters.brokers.paper import PaperBroker
from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.adapters.llm.cassette import Cassette
from trading_pipeline.adapters.market_data.parquet_archive import ParquetArchive
from trading_pipeline.bootstrap_backtests import open_bench
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.backtests import Replies
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.models import ModelFailure, ModelRequest, Provider, Trouble
from trading_pipeline.domain.risk import World
from trading_pipeline.errors import BarsError, InputError, UnknownName
from trading_pipeline.ports import Home, Stop
from trading_pipeline.service.backtests.engines import Engine, run
from trading_pipeline.settings import Settings


def test_a_symbol_without_bars_is_named_with_what_there_is(tmp_path):
    with pytest.raises(UnknownName, match="no 1d bars of TSLA") as caught, bench_of(tmp_path, plan(strategy(symbols=("AAPL", "TSLA")))):
        pass
    assert "AAPL (1d)" in caught.value.rule
    assert "--data" in caught.value.remedy


def test_an_interval_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with pytest.raises(UnknownName, match="no 5min bars of AAPL") as caught, bench_of(tmp_path, plan(strategy(interval=Interval.MIN5))):
        pass
    assert "AAPL (1d)" in caught.value.rule


@pytest.mark.parametrize(("first", "last"), [(date(2024, 5, 30), LAST), (FIRST, date(2024, 9, 9))])
def test_sessions_outside_the_bars_are_refused_with_those_that_are_inside(tmp_path, first, last):
    """The bars go from 2024-06-03 to 2024-09-06."""
    with pytest.raises(BarsError, match="go from 2024-06-03 to 2024-09-06") as caught, bench_of(tmp_path, plan(first=first, last=last)):
        pass
    inside = max(first, date(2024, 6, 3)), min(last, date(2024, 9, 6))
    assert f"--from {inside[0]} --to {inside[1]}" in caught.value.remedy


def test_a_session_without_bars_in_the_middle_is_said_and_no_obstacle(tmp_path):
    gap = datetime(2024, 8, 28, 13, 30, tzinfo=UTC)
    with bench_of(tmp_path, plan(), bars(without=[gap])) as bench:
        backtest = run(bench, plan(), engine=Engine.STEPPED)
    assert any("none in 1 of 5 sessions (2024-08-28)" in sentence for sentence in backtest.assumptions)


@pytest.mark.parametrize(
    ("without", "said", "nearest", "remedy"),
    [
        ((26,), "on 2024-08-26,", "2024-08-23, 2024-08-27", "choose --from 2024-08-27 --to 2024-08-30, or"),
        ((29, 30), "on 2024-08-30,", "2024-08-28, 2024-09-03", "choose --from 2024-08-26 --to 2024-08-28, or"),
        ((26, 30), "on 2024-08-26 and 2024-08-30,", "2024-08-23, 2024-08-27, 2024-08-29, 2024-09-03", "choose --from 2024-08-27"),
        ((26, 27, 28, 29, 30), "in any session from 2024-08-26 to 2024-08-30", "2024-08-23, 2024-09-03", "put a file"),
        ((27, 28, 29), "in any session between 2024-08-26 and 2024-08-30", "2024-08-26, 2024-08-30", "put a file"),
    ],
)
@pytest.mark.parametrize("interval", [Interval.DAY1, Interval.HOUR1])
def test_sessions_between_the_bars_of_two_files_are_refused_with_the_nearest(tmp_path, interval, without, said, nearest, remedy):
    """Bars before and after, as of two years: a run over the hole would trade nothing, and look like a strategy that does not."""
    folder = tmp_path / "bars"
    folder.mkdir()
    lacking = {date(2024, 8, day) for day in without}
    sessions = [each for each in calendar().between(date(2024, 8, 1), date(2024, 9, 6)) if each.day not in lacking]
    hours = (0,) if interval.daily else (0, 1, 2)
    rows = [f"{(each.open + timedelta(hours=hour)).isoformat()},100,102,99,101,1000\n" for each in sessions for hour in hours]
    (folder / "AAPL.csv").write_text("timestamp,open,high,low,close,volume\n" + "".join(rows))
    with pytest.raises(BarsError, match=said) as caught, open_bench(home(tmp_path), plan(strategy(interval=interval)), data=folder):
        pass
    assert f"the nearest sessions that have some are {nearest}" in caught.value.message
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        (LAST, FIRST, "before it begins"), (date(2024, 8, 31), date(2024, 9, 2), "no session"),
        (date(1800, 1, 1), LAST, "outside the trading"),
    ],
)
def test_dates_without_a_session_are_refused(tmp_path, first, last, said):
    """A weekend with Labor Day, dates the wrong way round, and a day that the calendar does not know."""
    with pytest.raises(InputError, match=said), bench_of(tmp_path, plan(first=first, last=last)):
        pass


def test_what_came_before_the_first_session_is_there_for_warm_up_and_nothing_after_the_last(tmp_path):
    with bench_of(tmp_path, plan()) as bench:
        table = bench.tables["AAPL", Interval.DAY1]
    assert table.session_days[0].astype(object) == date(2024, 6, 3)
    assert table.session_days[-1].astype(object) == LAST


def test_bars_of_folders_come_from_the_first_that_has_them_with_its_splits(tmp_path):
    for name, close in (("one", 100), ("two", 50)):
        (tmp_path / name).mkdir()
        for symbol in ("AAPL", "MSFT") if name == "two" else ("AAPL",):
            halved = 28 if name == "one" else 31
            days = [f"2024-08-{day}" + 4 * f",{close // (1 + (day >= halved))}" + ",1000" for day in (23, 26, 27, 28, 29, 30)]
            (tmp_path / name / f"{symbol}.csv").write_text("\n".join(["date,open,high,low,close,volume", *days]))
    (tmp_path / "one" / "splits.csv").write_text("symbol,session,ratio\nAAPL,2024-08-28,2\n")
    wanted = plan(strategy(symbols=("AAPL", "MSFT")))
    settings = Settings(home=tmp_path / "home")
    with open_bench(settings, wanted, data=[tmp_path / "one", tmp_path / "two"]) as bench:
        assert (bench.tables["AAPL", Interval.DAY1].close[0], bench.tables["MSFT", Interval.DAY1].close[0]) == (100, 50)
        assert bench.splits == {"AAPL": (Split("AAPL", date(2024, 8, 28), Decimal(2)),)}
    with pytest.raises(UnknownName, match="MSFT") as caught, open_bench(settings, wanted, data=tmp_path / "one"):
        pass
    assert "files of one has AAPL" in caught.value.rule


def test_a_home_that_trades_on_yahoo_is_tested_on_its_archive_and_nobody_is_asked(tmp_path):
    """There is no network here: a question to Yahoo would be an error."""
    ParquetArchive(Home(tmp_path).archive).append(bars())
    with open_bench(Settings(home=tmp_path, market={"source": "yfinance", "clock": "live"}), plan()) as bench:
        assert bench.source == "the archive"
        assert len(run(bench, plan(), engine=Engine.STEPPED).ledger.find("fills")) == 1


def test_the_digest_follows_the_bars_that_are_seen_and_the_splits(tmp_path):
    table = bars()
    digests = []
    for number, (each, splits) in enumerate([
        (table, ()), (table, ()), (other_close(table, 10, 99.0), ()), (table, [Split("AAPL", date(2024, 8, 1), Decimal(2))]),
        (other_close(table, len(table) - 1, 99.0), ()),
    ]):
        with bench_of(tmp_path / str(number), plan(), each, splits=splits) as bench:
            digests.append(bench.digest)
    assert digests[0] == digests[1] == digests[4], "a bar after the last session is not seen"
    assert len(set(digests[:4])) == 3


# What it cannot reach


def test_a_desk_of_a_bench_trades_on_paper_in_memory_whatever_the_home_trades_with(tmp_path):
    settings = home(tmp_path, bars()).model_copy(update={"environment": "live"})
    with open_bench(settings, plan()) as bench:
        desk = bench.desk(plan())
    assert (desk.environment, desk.world, desk.ledger.environment) == ("backtest", World.BACKTEST, "backtest")
    assert isinstance(desk.broker, PaperBroker)
    assert (desk.broker.account_id, desk.broker.account().cash) == ("BACKTEST", Decimal(100_000))
    assert not (tmp_path / "postgres").exists()


def test_no_other_broker_is_known_where_benches_are_made():
    """By construction: there is nothing to import a real one by."""
    trees = [ast.parse(Path(module.__file__).read_text()) for module in (bootstrap_backtests, backtest_bars)]
    imported = {node.module for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    brokers = {name for name in imported if ".brokers" in name}
    assert brokers == {"trading_pipeline.adapters.brokers.paper", "trading_pipeline.adapters.brokers.paper_book"}


def test_an_emergency_stop_of_the_home_is_neither_heeded_nor_touched(tmp_path):
    """The stop is of the home's account; history is not traded by it."""
    latch = LatchFiles(Home(tmp_path).stops)
    latch.stop(Stop(None, "a drill", "user:anna", datetime.now(UTC)))
    before = sorted(path.name for path in tmp_path.rglob("*") if "market" not in path.parts)
    with bench_of(tmp_path, plan()) as bench:
        ledger = run(bench, plan(), engine=Engine.STEPPED).ledger
    assert len(ledger.find("fills")) == 1
    assert [stop.reason for stop in latch.stops()] == ["a drill"]
    shutil.rmtree(tmp_path / "cache")
    assert sorted(path.name for path in tmp_path.rglob("*") if "market" not in path.parts and path.name != "market") == before
    with pytest.raises(InputError, match="no emergency stop"):
        bench.desk(plan()).latch.stop(Stop(None, "no", "user:anna", datetime.now(UTC)))


def test_models_answer_from_the_cassette_alone_without_any_key(tmp_path):
    wanted = plan(asking())
    with bench_of(tmp_path, wanted) as bench:
        llms = bench.desk(wanted).models.llms
        asked = llms[Provider.ANTHROPIC].ask(ModelRequest(Provider.ANTHROPIC, "claude", "system", "text", "{}"), 1.0)
    assert all(isinstance(llm, Cassette) for llm in llms.values())
    assert isinstance(asked, ModelFailure)
    assert asked.trouble is Trouble.NOT_RECORDED


def test_a_plan_that_records_asks_with_the_homes_own_key_and_budget(tmp_path):
    settings = home(tmp_path, bars()).model_copy(update={"anthropic_api_key": None})
    wanted = plan(asking(), replies=Replies.RECORD)
    with open_bench(settings, wanted) as bench:
        models = bench.desk(wanted).models
    assert Provider.ANTHROPIC not in models.llms, "without a key nobody is there to ask"
    assert models.budget == settings.model.budget()


def test_two_runs_on_one_bench_know_nothing_of_each_other(tmp_path):
    with bench_of(tmp_path, plan(), bars(), bars("MSFT")) as bench:
        first = run(bench, plan(), engine=Engine.STEPPED)
        other = run(bench, replace(plan(), cash=Decimal(50_000)), engine=Engine.STEPPED)
        again = run(bench, plan(), engine=Engine.STEPPED)
    assert first.ledger.head() == again.ledger.head() != other.ledger.head()


def test_a_backtest_of_rules_draws_nothing_and_leaves_no_file_in_the_home(tmp_path):
    """Its strategy has a chart, which a person sees live: a picture of every bar of years is a gigabyte that nobody looks at."""
    wanted = plan(strategy(chart=ChartSpec()))
    with bench_of(tmp_path, wanted) as bench:
        before = {file for file in tmp_path.rglob("*") if file.is_file()}
        backtest = run(bench, wanted, engine=Engine.STEPPED)
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == before
    assert not [event for event in backtest.ledger.events() if event.type is EventType.CHART_RENDERED]


def test_a_step_of_prices_that_no_split_explains_is_said(tmp_path):
    """Two for one on 2024-08-28, which nobody has named; of a named one it is said that it was applied."""
    table = bars()
    halved = table.session_days >= np.datetime64("2024-08-28")
    prices = ("open", "high", "low", "close")
    stepped = replace(table, **{name: np.where(halved, getattr(table, name) / 2, getattr(table, name)) for name in prices})
    with bench_of(tmp_path / "unknown", plan(), stepped) as bench:
        assert any("2024-08-28 is 0." in sentence and "name it in splits.csv" in sentence for sentence in bench.assumptions)
    split = Split("AAPL", date(2024, 8, 28), Decimal(2))
    with bench_of(tmp_path / "named", plan(), stepped, splits=[split]) as bench:
        assert any("AAPL 2 for 1 on 2024-08-28" in sentence for sentence in bench.assumptions)
        assert not any("splits.csv" in sentence for sentence in bench.assumptions)


def test_what_was_left_out_of_files_and_which_of_two_files_was_used_is_said(tmp_path):
    folder = tmp_path / "bars"
    folder.mkdir()
    rows = [
        f"{day}T13:30:00Z,{100 + place},{102 + place},{99 + place},{101 + place},{volume}\n"
        for place, day in enumerate(each.day for each in calendar().between(date(2024, 8, 1), LAST))
        for volume in (1000, 2000)[: 1 + (place == 3)]
    ]
    head = "timestamp,open,high,low,close,volume\n"
    (folder / "AAPL.csv").write_text(head + "".join(rows))
    (folder / "AAPL_short.csv").write_text(head + "".join(rows[6:12]))
    with open_bench(home(tmp_path), plan(), data=folder) as bench:
        [said] = [sentence for sentence in bench.assumptions if sentence.startswith("On the way in: ")]
    assert "AAPL.csv: rows left out (copy of another row with less volume): 1" in said
    assert "6 sessions of AAPL_short.csv are taken from another file that has more bars" in said


def test_a_file_that_is_refused_names_the_command_that_can_say_more_of_it(tmp_path):
    """A backtest has no option that says whether stamps are ends of bars; `trading bars import` has."""
    folder = tmp_path / "bars"
    folder.mkdir()
    sessions = calendar().between(date(2024, 8, 1), LAST)
    ends = [each.open + timedelta(minutes=5 * bar) for each in sessions for bar in range(1, 79)]
    (folder / "AAPL.csv").write_text("timestamp,open,high,low,close,volume\n" + "".join(f"{at.isoformat()},9,9,9,9,5\n" for at in ends))
    wanted = plan(strategy(interval=Interval.MIN5))
    with pytest.raises(BarsError, match="may be bar ends") as caught, open_bench(home(tmp_path), wanted, data=folder):
        pass
    assert "`trading bars import --stamp end|start`" in caught.value.remedy
    assert "take the file out of the folder (what is imported into the home is used without --data)" in caught.value.remedy


@pytest.mark.parametrize(("ratio", "refused"), [("2", True), ("3/2", True), ("1/10", True), ("21/20", False)])
def test_a_split_that_the_prices_do_not_have_is_refused(tmp_path, ratio, refused):
    """Prices that are adjusted already: shares would double, and their price would stay. A stock dividend of 5 % cannot be told."""
    above, below = (Decimal(each) for each in ratio.split("/")) if "/" in ratio else (Decimal(ratio), Decimal(1))
    split = Split("AAPL", date(2024, 8, 28), above / below)
    if not refused:
        with bench_of(tmp_path, plan(), splits=[split]) as bench:
            assert bench.splits == {"AAPL": (split,)}
        return
    with pytest.raises(BarsError, match="do not step at its split") as caught, bench_of(tmp_path, plan(), splits=[split]):
        pass
    assert "splits.csv" in caught.value.remedy


def test_bars_that_nobody_traded_in_are_counted(tmp_path):
    table = bars()
    quiet = replace(table, volume=np.where(table.session_days == np.datetime64("2024-08-28"), 0, table.volume))
    with bench_of(tmp_path, plan(), quiet) as bench:
        assert any("nobody traded there: 1 of 5 of AAPL 1d." in sentence for sentence in bench.assumptions)
