"""The embedded server: found again, private, and nothing acknowledged lost when it is killed."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import psycopg2
import pytest

from tests.conftest import connect, stop_at_once
from tests.histories import funded, step
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.errors import LedgerUnavailable, StorageError, TradingError
from trading_pipeline.service.record.verification import verify


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a server of its own, for tests that end it."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="tp-"))
    EmbeddedPostgres.start(folder / "postgres")
    yield folder
    stop_at_once(EmbeddedPostgres.start(folder / "postgres"))
    shutil.rmtree(folder)


def postmaster(home: Path) -> psutil.Process:
    return psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().split()[0]))


def kill_server(home: Path) -> None:
    process = postmaster(home)
    process.kill()
    with suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)


def test_a_second_start_attaches_and_tells_so(home: Path) -> None:
    EmbeddedPostgres.start(home / "postgres")
    pid = postmaster(home).pid
    again = EmbeddedPostgres.start(home / "postgres")
    assert not again.started_here
    assert postmaster(home).pid == pid


def test_connections_of_other_processes_are_counted(home: Path) -> None:
    server = EmbeddedPostgres.start(home / "postgres")
    own = PostgresLedger.for_home(home, "demo")
    own.head()
    assert server.clients() == 0
    other = connect(server.app_url().update_query_dict({"application_name": "trading-1"}))
    assert server.clients() == 1
    other.close()
    own.close()


def test_a_password_is_asked_for_from_the_first_start(home: Path) -> None:
    server = EmbeddedPostgres.start(home / "postgres")
    for url in (server.superuser_url(), server.owner_url(), server.app_url(), server.dagster_url()):
        connect(url).close()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            connect(url.set(password="guess"))
    rules = [line for line in (home / "postgres" / "pg_hba.conf").read_text().splitlines() if line and not line.startswith("#")]
    assert {line.split()[-1] for line in rules} == {"scram-sha-256"}


def test_keys_are_derived_once_from_passwords_that_nobody_guesses(home: Path) -> None:
    server = EmbeddedPostgres.start(home / "postgres")
    assert {len(password) for password in json.loads((home / "postgres.passwords").read_text()).values()} == {43}, "256 bits in base64"
    with closing(connect(server.superuser_url())) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT split_part(rolpassword, ':', 1) FROM pg_authid WHERE rolcanlogin")
        assert cursor.fetchall() == [("SCRAM-SHA-256$1",)] * 4


def test_files_and_socket_are_private_and_no_port_is_open(home: Path) -> None:
    EmbeddedPostgres.start(home / "postgres")
    assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "postgres.passwords").stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "postgres.lock").stat().st_mode) == 0o600, "whoever can read it could hold it"
    assert (home / "postgres" / ".s.PGSQL.5432").is_socket()
    listening = [entry for entry in postmaster(home).net_connections("inet") if entry.status == psutil.CONN_LISTEN]
    assert listening == []


def test_passwords_show_neither_in_reprs_nor_in_the_servers_log(home: Path) -> None:
    """9."""
    server = EmbeddedPostgres.start(home / "postgres")
    passwords = json.loads((home / "postgres.passwords").read_text()).values()
    said = repr(server) + str(server.app_url()) + "".join(path.read_text() for path in (home / "postgres" / "log").glob("*.log"))
    assert len(set(passwords)) == 4
    assert not [password for password in passwords if password in said]


def test_dagsters_database_does_not_wait_for_the_disk_and_the_ledgers_does(home: Path) -> None:
    server = EmbeddedPostgres.start(home / "postgres")
    for url, expected in ((server.dagster_url(), "off"), (server.app_url(), "on")):
        connection = connect(url)
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            assert cursor.fetchone() == (expected,)
        connection.close()


def test_nothing_acknowledged_is_lost_when_the_server_is_killed_again_and_again(home: Path) -> None:
    """6, D25, fault 27: a writer goes on over two kills of the server; its ledger brings it back by itself."""
    ledger = PostgresLedger.for_home(home, "demo")
    acknowledged: list[str] = []
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            with suppress(LedgerUnavailable):
                with ledger.transaction() as transaction:
                    event = transaction.append(step(f"kill-{number}"))[0]
                acknowledged.append(event.key)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(2):
        enough = len(acknowledged) + 30
        while len(acknowledged) < enough:
            time.sleep(0.005)
        kill_server(home)
    enough = len(acknowledged) + 10
    while len(acknowledged) < enough:
        time.sleep(0.005)
    done.set()
    writer.join()
    found = {event.key for event in ledger.scan()}
    assert set(acknowledged) <= found
    assert verify(ledger).ok
    ledger.close()


def test_a_killed_client_leaves_server_and_ledger_to_others(home: Path) -> None:
    code = """
import sys
from pathlib import Path
from tests.histories import funded, step
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
ledger = PostgresLedger.for_home(Path(sys.argv[1]), "demo")
with ledger.transaction() as transaction:
    transaction.append(step("of the child"))
with ledger.transaction() as transaction:
    transaction.append(step("never committed"))
    transaction.find("cash")
    print("holding", flush=True)
    sys.stdin.read()
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == "holding\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    child.stdin.close()
    ledger = PostgresLedger.for_home(home, "demo")
    with ledger.transaction() as transaction:
        transaction.append(funded(key="after the child"))
    assert ledger.event_by_key("step:of the child") is not None
    assert ledger.event_by_key("step:never committed") is None
    assert verify(ledger).ok
    ledger.close()


def test_a_pid_file_whose_number_belongs_to_another_program_does_not_mislead(home: Path) -> None:
    EmbeddedPostgres.start(home / "postgres")
    kill_server(home)
    for path in (home / "postgres" / "postmaster.pid", home / "postgres" / ".s.PGSQL.5432.lock"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    server = EmbeddedPostgres.start(home / "postgres")
    assert server.started_here
    connect(server.app_url()).close()


def test_four_processes_that_start_at_once_share_one_server(home: Path) -> None:
    kill_server(home)
    code = (
        "import sys; from pathlib import Path; from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres\n"
        "server = EmbeddedPostgres.start(Path(sys.argv[1])); print(server.started_here)"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(home / "postgres")], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    said = [child.communicate()[0].strip() for child in children]
    assert sorted(said) == ["False", "False", "False", "True"]


def test_stop_ends_the_server_and_a_second_stop_does_nothing(home: Path) -> None:
    server = EmbeddedPostgres.start(home / "postgres")
    server.stop()
    assert not (home / "postgres" / "postmaster.pid").exists()
    server.stop()
    assert EmbeddedPostgres.start(home / "postgres").started_here


def test_the_last_one_to_leave_stops_the_server_whoever_started_it(home: Path) -> None:
    server = EmbeddedPostgres.start(home / "postgres")
    other = connect(server.app_url().update_query_dict({"application_name": "trading-another"}))
    with server.attended():
        assert server.leave() == 1, "its own connection counts for nobody"
    assert postmaster(home).is_running()
    other.close()
    attached = EmbeddedPostgres.start(home / "postgres")
    deadline = time.monotonic() + 10
    while attached.leave() and time.monotonic() < deadline:
        time.sleep(0.05)  # a closed connection's backend takes a moment to end
    assert not (home / "postgres" / "postmaster.pid").exists()
    assert attached.leave() == 0


def test_lost_passwords_are_named_with_their_file(home: Path) -> None:
    file = home / "postgres.passwords"
    kept = file.read_text()
    file.write_text("{}")
    try:
        with pytest.raises(StorageError, match="passwords of the embedded PostgreSQL") as caught:
            EmbeddedPostgres.start(home / "postgres")
        assert "restore that file" in caught.value.remedy
    finally:
        file.write_text(kept)


def test_a_database_that_is_gone_is_not_replaced_by_an_empty_one(home: Path) -> None:
    """61: its passwords are kept, so that it works again once it is put back."""
    EmbeddedPostgres.start(home / "postgres").stop()
    kept = (home / "postgres.passwords").read_bytes()
    (home / "postgres").rename(home / "away")
    for _ in range(2):
        with pytest.raises(StorageError, match="is gone") as refused:
            EmbeddedPostgres.start(home / "postgres")
        assert "put the folder back" in str(refused.value)
    (home / "postgres").mkdir()
    with pytest.raises(StorageError, match="is gone"):
        EmbeddedPostgres.start(home / "postgres")
    (home / "postgres").rmdir()
    assert (home / "postgres.passwords").read_bytes() == kept
    (home / "away").rename(home / "postgres")
    with closing(EmbeddedPostgres.start(home / "postgres")._connect()) as connection:
        assert not connection.closed


def test_a_first_start_that_was_killed_is_begun_again(short_home: Path) -> None:
    short_home.mkdir(parents=True, exist_ok=True)
    (short_home / "postgres.making").mkdir()
    (short_home / "postgres.making" / "PG_VERSION").write_text("half")
    (short_home / "postgres.passwords").write_text("{}")
    server = EmbeddedPostgres.start(short_home / "postgres")
    try:
        assert server.started_here
    finally:
        stop_at_once(server)


def test_a_folder_with_other_files_is_left_alone(short_home: Path) -> None:
    (short_home / "postgres").mkdir()
    (short_home / "postgres" / "letter.txt").write_text("dear all")
    with pytest.raises(StorageError, match="no PostgreSQL data folder"):
        EmbeddedPostgres.start(short_home / "postgres")
    assert (short_home / "postgres" / "letter.txt").read_text() == "dear all"


def test_a_home_that_is_a_file_is_a_clear_error(short_home: Path) -> None:
    (short_home / "file").write_text("")
    with pytest.raises(TradingError, match="cannot use"):
        EmbeddedPostgres.start(short_home / "file" / "postgres")


def test_a_long_path_gets_a_short_private_socket_folder(short_home: Path) -> None:
    folder = short_home / ("long" * 20) / ("path" * 10) / "postgres"
    server = EmbeddedPostgres.start(folder)
    try:
        assert server.socket_dir != folder
        assert len(str(server.socket_dir)) < 60
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
        connect(server.app_url()).close()
        assert EmbeddedPostgres.start(folder).socket_dir == server.socket_dir
    finally:
        stop_at_once(server)
        import shutil

        shutil.rmtree(server.socket_dir, ignore_errors=True)
