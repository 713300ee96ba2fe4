"""A process that may open no more files: what it holds goes on, what it cannot write it does not claim, and it recovers."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from trading_pipeline.adapters.latch_files import LatchFiles
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.errors import LedgerUnavailable, StorageError
from trading_pipeline.ports import Stop

AT = datetime(2024, 8, 28, 13, 30, tzinfo=UTC)


@contextmanager
def no_more_files() -> Iterator[None]:
    """As when a leak has used up every descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def fact(number: int) -> NewEvent:
    return NewEvent(EventType.WATCHDOG_ALARM, "system", f"alarm:{number}", {"what": "files", "detail": "none left"}, AT, "test")


def test_a_ledger_that_is_connected_goes_on_and_one_that_is_not_says_so(postgres, ledger_database) -> None:
    """6, 7, fault 65: what was acknowledged is there, what was refused is not."""
    url = postgres.app_url(ledger_database)
    ledger = PostgresLedger.open(url, "paper")
    with ledger.transaction() as tx:
        tx.append(fact(1))
    with no_more_files():
        with pytest.raises(LedgerUnavailable):
            PostgresLedger.open(url, "paper")
        with ledger.transaction() as tx:
            tx.append(fact(2))
    with ledger.transaction() as tx:
        tx.append(fact(3))
    assert [event.key for event in ledger.events(types=(EventType.WATCHDOG_ALARM,))] == ["alarm:1", "alarm:2", "alarm:3"]
    ledger.close()


def test_a_stop_that_cannot_be_written_is_not_confirmed_and_can_be_pressed_again(tmp_path) -> None:
    """55, fault 65."""
    latch, stop = LatchFiles(tmp_path / "stops"), Stop(None, "enough", "user:anna", AT)
    with no_more_files(), pytest.raises(StorageError):
        latch.stop(stop)
    assert latch.stop(stop).reason == "enough"
    assert latch.standing("anybody") is not None
