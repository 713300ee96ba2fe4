"""`make tamper` in small: every kind of mutation, some of them in the database."""

import random

import pytest

from tests.conftest import execute
from tests.desks import at, floor
from tests.evidence.mutations import MUTATIONS, Rows, edit, truncate
from tests.evidence.tamper import FIRST, Tally, anchored, run, trade
from tests.service.minutes import bracketed, minute_bars
from trading_pipeline.adapters.clocks import SteppedClock
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.bootstrap import open_desk
from trading_pipeline.domain.bars import Interval
from trading_pipeline.settings import Settings


@pytest.fixture
def traded(postgres: EmbeddedPostgres, ledger_database: str, tmp_path):
    """A ledger of three real sessions."""
    url, owner = postgres.app_url(ledger_database), postgres.owner_url(ledger_database)
    settings = Settings(
        home=tmp_path / "home", environment="demo", database_url=url.render_as_string(hide_password=False),
        owner_database_url=owner.render_as_string(hide_password=False), market={"clock": "replay", "source": "samples"},
    )
    clock = SteppedClock(FIRST)
    with open_desk(settings, clock) as desk:
        trade(desk, clock, 3)
    ledger = PostgresLedger.open(url, "demo")
    yield ledger
    ledger.close()
    execute(postgres.superuser_url(ledger_database), "DROP SCHEMA IF EXISTS paper CASCADE")


@pytest.mark.slow
def test_every_single_mutation_is_found_where_it_is(traded: PostgresLedger, postgres: EmbeddedPostgres, ledger_database: str) -> None:
    """3-5, fault 33, fault 34, T17."""
    tally = run(traded, postgres.superuser_url(ledger_database), 300, 24, seed=2)
    assert (tally.missed, tally.misplaced) == ([], [])
    assert sum(tally.tried.values()) == 300 and tally.in_database == 24
    assert tally.tried.keys() == {mutation.__name__ for mutation in MUTATIONS}


def test_the_harness_sees_what_is_missed_and_what_is_misplaced(tmp_path) -> None:
    """Its own control: without anchors a cut tail is missed, and so is a record that nobody touched."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    rows, tally, chance = Rows.of(stage.desk.ledger), Tally(), random.Random(1)
    anchors = anchored(rows)
    cut = truncate(chance, rows, [seq for seq, _ in anchors])
    tally.judge("1", cut, cut.rows, [])
    tally.judge("2", cut, rows, anchors)
    assert len(tally.missed) == 2
    tally.judge("3", edit(chance, rows, []), cut.rows, anchors)
    assert len(tally.misplaced) == 1
