"""Stored backtests: in bulk, whole sessions at a time, verified against what is there, deleted for good."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from tests.conftest import connect, execute
from tests.desks import bars
from tests.service.backtests.benches import bench_of, home, other_close, plan
from tests.service.backtests.lone_plans import PLENTY, lone
from trading_pipeline.adapters.ledger.backtests import BacktestDatabases
from trading_pipeline.bootstrap_backtests import open_bench
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.projections import TABLES
from trading_pipeline.errors import Conflict, InputError, PermissionRequired, SettingsError, UnknownName
from trading_pipeline.service.backtests.engines import Engine
from trading_pipeline.service.record.verification import verify
from trading_pipeline.stored_backtests import is_done, run_stored

PLAN = plan()


@pytest.fixture
def databases(postgres, ledger_database):
    """The stored backtests of a home, as the embedded server keeps them."""
    yield BacktestDatabases(postgres.app_url(ledger_database), postgres.owner_url(ledger_database), postgres.superuser_url())
    drop_all(postgres, ledger_database)


def drop_all(postgres, ledger_database):
    with closing(connect(postgres.superuser_url())) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (f"{ledger_database}.",))
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with bench_of(tmp_path_factory.mktemp("home"), PLAN, bars()) as found:
        yield found


def stored(databases, bench, wanted=PLAN, name="bt-one", **options):
    with databases.writing(name) as writer:
        backtest = run_stored(bench, wanted, writer, engine=Engine.STEPPED, **options)
    return backtest, writer


@pytest.mark.parametrize("every_seconds", [0.0, 1e9])
def test_what_is_stored_is_the_ledger_to_the_last_row_session_by_session_or_at_once(databases, bench, every_seconds):
    backtest, _ = stored(databases, bench, every_seconds=every_seconds)
    with databases.reading(databases.get("bt-one")) as ledger:
        assert ledger.head() == backtest.ledger.head()
        assert ledger.environment == "backtest"
        assert list(ledger.scan()) == list(backtest.ledger.scan())
        assert {table: list(ledger.dump(table)) for table in TABLES} == {table: list(backtest.ledger.dump(table)) for table in TABLES}
        assert verify(ledger).difference is None


def test_of_a_ledger_that_was_kept_in_columns_no_more_is_stored_than_is_said_of_it(databases, tmp_path):
    wanted, tables = lone(PLENTY)

    def stopped(done: int, of: int, day: date) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with bench_of(tmp_path, wanted, *tables.values()) as bench:
        with pytest.raises(KeyboardInterrupt), databases.writing("kept") as writer:
            run_stored(bench, wanted, writer, every_seconds=0, progress=stopped)
        prefix = databases.get("kept")
        with databases.reading(prefix) as ledger:
            assert 0 < prefix.sessions < 5
            assert len(ledger.find("sessions", state="closed")) == len(ledger.find("sessions")) == prefix.sessions
        with databases.writing("kept") as writer:
            backtest = run_stored(bench, wanted, writer)
    assert not writer.replaced
    with databases.reading(databases.get("kept")) as ledger:
        assert ledger.head() == backtest.ledger.head()
        assert verify(ledger).ok


def test_it_is_listed_with_what_made_it_and_found_by_a_beginning_of_its_name(databases, bench):
    stored(databases, bench, name="bt-one")
    stored(databases, bench, replace(PLAN, cash=Decimal(50_000)), name="other")
    assert [each.name for each in databases.all()] == ["other", "bt-one"]
    found = databases.get("bt-")
    assert (found.plan, found.engine, found.sessions, found.complete, found.digest) == (PLAN, "stepped", 5, True, bench.digest)
    assert any("survivorship" in sentence for sentence in found.assumptions)
    assert is_done(found, bench, PLAN)
    assert not is_done(found, bench, replace(PLAN, cash=Decimal(50_000)))
    assert not is_done(found, bench, PLAN, Engine.COLUMNAR)
    assert not is_done(replace(found, version="0.1.0+000000000000"), bench, PLAN), "other code may come to something else"


def test_what_is_said_of_it_is_read_back_as_it_was_written(databases, bench):
    """Signs that SQL, its drivers and JSON each have another meaning for."""
    odd = replace(PLAN, strategies=(replace(PLAN.strategies[0], description="risks 2 % a trade: '%s' \"%(said)s\" \\ :said $1 \u2028"),))
    backtest, _ = stored(databases, bench, odd)
    found = databases.get("bt-one")
    assert found.plan == odd
    assert found.assumptions == backtest.assumptions
    assert any("%" in sentence for sentence in found.assumptions)
    assert is_done(found, bench, odd)


def test_a_name_that_is_none_or_several_is_refused_with_those_there_are(databases, bench):
    with pytest.raises(UnknownName, match="no backtest 'bt-x'"):
        databases.get("bt-x")
    stored(databases, bench, name="bt-one")
    stored(databases, bench, name="bt-two")
    with pytest.raises(UnknownName, match="2 backtests") as caught:
        databases.get("bt-")
    assert "bt-one" in caught.value.remedy


@pytest.mark.parametrize("name", ["", "Upper", "a b", "-a", "a" * 32, "template-0003", 'x"; DROP DATABASE postgres; --'])
def test_a_name_that_cannot_be_one_is_refused(databases, name):
    with pytest.raises(InputError, match="cannot name"), databases.writing(name):
        pass


def test_a_name_that_the_server_would_cut_off_is_refused(postgres):
    """Two long names would be one database."""
    long = BacktestDatabases(postgres.app_url("l" * 40), postgres.owner_url("l" * 40), postgres.superuser_url())
    with pytest.raises(InputError, match="too long for a database"), long.writing("b" * 31):
        pass


def test_a_deleted_one_is_gone(databases, bench):
    stored(databases, bench)
    databases.remove("bt-one")
    assert databases.all() == []
    assert databases.find("bt-one") is None


def test_only_one_process_writes_at_a_time(databases):
    with databases.writing("bt-one"), pytest.raises(Conflict, match="Another process"), databases.writing("bt-one"):
        pass


def test_who_writes_next_need_not_wait_until_the_server_has_seen_the_last_one_leave(databases, monkeypatch):
    """A server under load notices a closed connection late: here it never does."""
    with ExitStack() as late:
        connect = BacktestDatabases._on
        monkeypatch.setattr(BacktestDatabases, "_on", lambda self, url: nullcontext(late.enter_context(connect(self, url))))
        for _ in range(2):
            with databases.writing("one-after-the-other"):
                pass


def test_a_run_again_is_held_against_what_is_stored_and_changes_nothing(databases, bench):
    first, _ = stored(databases, bench)
    at = [event.recorded_at for event in first.ledger.scan()]
    again, writer = stored(databases, bench)
    assert not writer.replaced
    with databases.reading(databases.get("bt-one")) as ledger:
        assert ledger.head() == again.ledger.head()
        assert [event.recorded_at for event in ledger.scan()] == at, "the first run's rows are still there"


def test_other_bars_replace_what_is_stored_and_the_writer_says_so(databases, bench, tmp_path):
    stored(databases, bench)
    with bench_of(tmp_path, PLAN, other_close(bars(), 58, 101.0)) as other:
        assert not is_done(databases.find("bt-one"), other, PLAN)
        backtest, writer = stored(databases, other)
    assert writer.replaced
    with databases.reading(databases.get("bt-one")) as ledger:
        assert ledger.head() == backtest.ledger.head()
        assert verify(ledger).difference is None


def test_a_shorter_run_under_the_same_name_leaves_nothing_of_a_longer_one(databases, bench):
    stored(databases, bench)
    shorter, writer = stored(databases, bench, replace(PLAN, last=PLAN.first))
    assert writer.replaced
    with databases.reading(databases.get("bt-one")) as ledger:
        assert ledger.head() == shorter.ledger.head()


def test_it_is_read_and_takes_nothing(databases, bench):
    stored(databases, bench)
    fact = NewEvent(EventType.BAR_RECEIVED, "market", "one more", {}, datetime.now(UTC), "somebody")
    with databases.reading(databases.get("bt-one")) as ledger:
        head = ledger.head()
        with pytest.raises(PermissionRequired, match="is history"), ledger.transaction() as tx:
            tx.append(fact)
        for refused in (ledger.rebuild, lambda: ledger.lease("submitter"), lambda: ledger.beat("desk", {}), lambda: ledger.revoke("x")):
            with pytest.raises(PermissionRequired, match="written by the backtest alone") as caught:
                refused()
            assert caught.value.remedy
        assert ledger.head() == head


def test_without_an_owner_they_are_read_and_not_stored(databases, bench, postgres, ledger_database):
    stored(databases, bench)
    reader = BacktestDatabases(postgres.app_url(ledger_database), None, None)
    with reader.reading(reader.get("bt-one")) as ledger:
        assert ledger.head()[0] > 100
    with pytest.raises(SettingsError, match="no role that owns the ledger"), reader.writing("bt-two"):
        pass


def test_an_owner_that_may_create_databases_is_enough_on_a_server_of_ones_own(postgres, ledger_database, bench):
    owner = postgres.owner_url(ledger_database)
    execute(postgres.superuser_url(), f"ALTER ROLE {owner.username} CREATEDB")
    try:
        databases = BacktestDatabases(postgres.app_url(ledger_database), owner, owner)
        backtest, _ = stored(databases, bench)
        with databases.reading(databases.get("bt-one")) as ledger:
            assert ledger.head() == backtest.ledger.head()
            with pytest.raises(Conflict, match="reads the backtest"):
                databases.remove("bt-one")
        databases.remove("bt-one")
    finally:
        drop_all(postgres, ledger_database)
        execute(postgres.superuser_url(), f"ALTER ROLE {owner.username} NOCREATEDB")


RUNS = """
import sys
from pathlib import Path
from datetime import date
from trading_pipeline.adapters.ledger.backtests import BacktestDatabases
from trading_pipeline.bootstrap_backtests import open_bench
from trading_pipeline.stored_backtests import run_stored
from trading_pipeline.settings import Settings
from tests.service.backtests.benches import plan

app, owner, maker, folder = sys.argv[1:]
import sqlalchemy as sa
databases = BacktestDatabases(*(sa.make_url(each) for each in (app, owner, maker)))
wanted = plan(first=date(2024, 7, 1))
with open_bench(Settings(home=Path(folder), market={"source": "files"}), wanted) as bench, databases.writing("bt-one") as writer:
    run_stored(bench, wanted, writer, engine="stepped", every_seconds=0, progress=lambda done, of, day: print(done, flush=True))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_whole_sessions_and_the_next_one_goes_on_from_them(databases, postgres, ledger_database, tmp_path):
    """kill -9 of a real process in its tenth session."""
    settings, wanted = home(tmp_path, bars()), plan(first=date(2024, 7, 1))
    urls = [postgres.app_url(ledger_database), postgres.owner_url(ledger_database), postgres.superuser_url()]
    command = [sys.executable, "-c", RUNS, *(url.render_as_string(hide_password=False) for url in urls), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 10:
                break
        os.kill(process.pid, signal.SIGKILL)
    prefix = databases.get("bt-one")
    assert not prefix.complete
    assert prefix.sessions >= 9
    with databases.reading(prefix) as ledger:
        assert verify(ledger).difference is None
        left = list(ledger.scan())
        assert len(ledger.find("sessions", state="closed")) == len(ledger.find("sessions")) == prefix.sessions
    deadline = time.monotonic() + 30
    while True:
        try:
            # The server notices the dead client in its own time.
            with open_bench(settings, wanted) as bench, databases.writing("bt-one") as writer:
                run_stored(bench, wanted, writer, engine=Engine.STEPPED)
            break
        except Conflict:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert not writer.replaced
    with databases.reading(databases.get("bt-one")) as ledger:
        assert list(ledger.scan(last=len(left))) == left, "what was stored is still what it was, recording times included"
        assert verify(ledger).difference is None
        assert len(ledger.find("sessions", state="closed")) == 44
    assert databases.get("bt-one").complete
