"""The paper account in PostgreSQL: killed, contended, cut off, and still the same account."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.adapters.brokers.paper_venue import CALM, SESSIONS, Venue, at, bracketed, buy, market_of, minutes, sell
from tests.conftest import execute
from tests.contracts.test_broker import DATABASE, paper_book
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.adapters.brokers.paper_postgres import PostgresBook, prepare_paper_schema
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.embedded_passwords import APP
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.orders import Side
from trading_pipeline.errors import BrokerNotReady, BrokerRefused, OrderExists, OutcomeUnknown
from trading_pipeline.ports import BrokerStatus

MARKET = market_of(minutes(CALM, ("100.00", "103.50", "99.00", "103.00", 10_000), CALM))


@pytest.fixture
def book(postgres: EmbeddedPostgres) -> Iterator[PostgresBook]:
    book = paper_book(postgres)
    yield book
    book.close()


def on(book: PostgresBook, **options: object) -> Venue:
    return Venue(MARKET, PaperSettings(account=book.account), book=book, **options)  # type: ignore[arg-type]


def test_another_process_finds_the_account_as_it_was_left(book):
    first = on(book)
    first.submit(bracketed())
    first.submit(buy("R", 5, "90.00"))
    second = on(book, start=at(2))
    in_memory = Venue(MARKET, PaperSettings(account=book.account))
    in_memory.submit(bracketed())
    in_memory.submit(buy("R", 5, "90.00"))
    in_memory.go_to(at(2))
    names = ["E", "S", "T", "R"]
    assert second.broker.orders(names) == in_memory.broker.orders(names)
    assert second.broker.executions(SESSIONS[0].open) == in_memory.broker.executions(SESSIONS[0].open)
    assert second.broker.account() == in_memory.broker.account()
    assert second.order("T").status is BrokerStatus.FILLED
    with pytest.raises(OrderExists, match="duplicate"):
        second.submit(bracketed())


def test_another_process_values_what_no_market_has_at_its_last_hand_trade(book):
    here = on(book)
    for price in ("10", "12"):
        here.broker.trade_by_hand("ZZ Z", Side.BUY, 5, Decimal(price))
    assert on(book, start=at(2)).broker.account().equity == Decimal(100_000) + 10 - 2


def test_another_process_does_not_split_the_shares_again(book):
    split = {"AAPL": (Split("AAPL", SESSIONS[2].day, Decimal(4)),)}
    on(book, splits=split).submit(buy("A", 10, "105.00"))
    for minute in (1, 2):
        assert on(book, splits=split, start=at(minute, day=1)).broker.positions() == {"AAPL": 40}


def test_sellers_in_parallel_never_sell_more_than_is_held(book, postgres):
    on(book).submit(buy("A", 20, "105.00"))
    others = [PostgresBook.open(postgres.app_url(DATABASE), book.account, Decimal(0)) for _ in range(4)]
    refused: list[str] = []

    def work(number: int, own: PostgresBook) -> None:
        here = on(own)
        for turn in range(8):
            try:
                here.submit(sell(f"S{number}-{turn}", 1, "95.00"))
            except BrokerRefused:
                refused.append(f"S{number}-{turn}")

    threads = [threading.Thread(target=work, args=each) for each in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    here = on(book)
    assert here.broker.positions() == {}
    assert len(refused) == 32 - 20
    fills = here.broker.executions(SESSIONS[0].open)
    assert [fill.execution_id for _, fill in fills] == [f"{book.account}-{n}" for n in range(1, 22)]
    for other in others:
        other.close()


def test_the_same_order_from_two_processes_is_placed_once(book, postgres):
    others = [PostgresBook.open(postgres.app_url(DATABASE), book.account, Decimal(100_000)) for _ in range(4)]
    refused: list[OrderExists] = []

    def work(own: PostgresBook) -> None:
        try:
            on(own).submit(bracketed())
        except OrderExists as error:
            refused.append(error)

    threads = [threading.Thread(target=work, args=[each]) for each in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert on(book).broker.positions() == {"AAPL": 100}
    for other in others:
        other.close()


WRITER = """
import sys
from decimal import Decimal
from tests.adapters.brokers.paper_venue import CALM, Venue, buy, market_of, minutes
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.adapters.brokers.paper_postgres import PostgresBook
url, account = sys.argv[1:]
here = Venue(market_of(minutes(CALM)), PaperSettings(account=account), book=PostgresBook.open(url, account, Decimal(100_000_000)))
for number in range(100_000):
    here.submit(buy(f"N{number}", 1, "105.00"))
    print(number, flush=True)
"""


def test_kill_minus_9_loses_no_answered_order_and_leaves_no_half_order(book, postgres):
    url = postgres.app_url(DATABASE).render_as_string(hide_password=False)
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", WRITER, url, book.account], stdout=subprocess.PIPE, text=True, cwd=root) as writer:
        assert writer.stdout is not None
        answered = [int(writer.stdout.readline()) for _ in range(25)]
        writer.send_signal(signal.SIGKILL)
        answered += [int(line) for line in writer.stdout.read().split()]
    here = on(book)
    placed = here.broker.positions()["AAPL"]
    assert placed in (len(answered), len(answered) + 1)
    fills = here.broker.executions(SESSIONS[0].open)
    assert [name for name, _ in fills] == [f"N{number}" for number in range(placed)]
    assert here.broker.account().cash == Decimal(100_000_000) - sum(fill.quantity * fill.price + fill.commission for _, fill in fills)


def test_a_connection_cut_at_the_commit_leaves_the_outcome_unknown(book, postgres):
    """fault 28."""
    here = on(book)
    here.broker.positions()
    cut = _cut_at_commit(book, postgres)
    with pytest.raises(OutcomeUnknown):
        here.submit(buy("A", 1, "105.00"))
    sa.event.remove(book._engine, "commit", cut)
    assert here.broker.orders(["A"]) == []


def test_a_query_cut_at_the_commit_is_merely_not_ready(book, postgres):
    here = on(book)
    here.submit(bracketed())
    here.go_to(at(2))
    cut = _cut_at_commit(book, postgres)
    with pytest.raises(BrokerNotReady):
        here.broker.orders()
    sa.event.remove(book._engine, "commit", cut)
    assert here.order("T").status is BrokerStatus.FILLED


def _cut_at_commit(book, postgres):
    def cut(connection):
        [[pid]] = connection.exec_driver_sql("SELECT pg_backend_pid()")
        execute(postgres.superuser_url(DATABASE), "SELECT pg_terminate_backend(%s)", pid)

    sa.event.listen(book._engine, "commit", cut)
    return cut


def test_a_connection_cut_before_the_commit_placed_nothing(book, postgres):
    here = on(book)
    here.submit(buy("A", 1, "105.00"))
    execute(postgres.superuser_url(DATABASE), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", APP)
    with pytest.raises(BrokerNotReady):
        here.submit(buy("B", 1, "105.00"))
    assert here.broker.orders(["B"]) == []
    assert here.broker.positions() == {"AAPL": 1}


def test_what_the_database_says_is_told_without_the_statement(book, postgres):
    execute(postgres.superuser_url(DATABASE), """
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE disk_full USING MESSAGE = 'could not extend file.', HINT = 'Check free disk space.'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON paper.orders FOR EACH STATEMENT EXECUTE FUNCTION full_disk()""")
    try:
        with pytest.raises(BrokerNotReady) as full:
            on(book).submit(buy("A", 1, "105.00"))
    finally:
        execute(postgres.superuser_url(DATABASE), "DROP TRIGGER full_disk ON paper.orders; DROP FUNCTION full_disk")
    assert full.value.message == "The paper broker's database answered: could not extend file."


def test_a_database_without_the_schema_is_not_ready(postgres):
    postgres.ensure_database("empty")
    book = PostgresBook.open(postgres.app_url("empty"), "X", Decimal(1))
    with pytest.raises(BrokerNotReady, match="paper"):
        on(book).broker.orders()
    book.close()


def test_the_application_cannot_take_back_an_execution(book):
    on(book).submit(buy("A", 1, "105.00"))
    forbidden = "DELETE FROM paper.executions", "UPDATE paper.executions SET price = 1", "TRUNCATE paper.orders", "DROP TABLE paper.orders"
    for statement in forbidden:
        with pytest.raises(sa.exc.ProgrammingError), book._engine.begin() as connection:
            connection.exec_driver_sql(statement)


def test_preparing_again_changes_nothing(book, postgres):
    on(book).submit(buy("A", 1, "105.00"))
    owner = sa.create_engine(postgres.owner_url(DATABASE))
    prepare_paper_schema(owner, APP)
    owner.dispose()
    assert on(book).broker.positions() == {"AAPL": 1}


def test_the_splits_that_the_account_was_moved_with_are_kept(book):
    splits = {"AAPL": (Split("AAPL", SESSIONS[2].day, Decimal(4)),)}
    on(book, splits=splits).submit(buy("E", 100, "101.00"))
    with pytest.raises(BrokerNotReady, match="AAPL split 4 for 1"):
        on(book).broker.positions()
    assert on(book, splits=splits).broker.positions() == {"AAPL": 100}
    later = on(book, splits=splits, start=at(1, day=1))
    assert later.broker.positions() == {"AAPL": 400}
    assert later.broker.paid_in_lieu_at("AAPL", SESSIONS[2].open) == Decimal("100.00")
    assert later.broker.paid_in_lieu_at("AAPL", SESSIONS[1].open) is None


def test_an_account_of_an_older_version_gets_the_column_for_its_splits(postgres):
    book = paper_book(postgres)
    owner = sa.create_engine(postgres.owner_url(DATABASE))
    execute(postgres.superuser_url(DATABASE), "ALTER TABLE paper.accounts DROP COLUMN splits")
    prepare_paper_schema(owner, APP)
    owner.dispose()
    assert on(book).broker.positions() == {}
    book.close()
