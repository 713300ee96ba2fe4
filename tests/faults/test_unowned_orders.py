"""Orders under names of ours of which a restored ledger no longer knows whose they are (C14)."""

from datetime import date

from tests.desks import DAY, PERSON, at, bars, floor, market, strategy
from tests.faults.restored import before_its_orders
from tests.faults.test_restored_ledger import STOPPED
from trading_pipeline.domain.bars import Interval
from trading_pipeline.service.orders.settlement import settle
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.stopping import emergency


def test_an_order_of_a_lost_stretch_is_taken_over_whole_with_the_first_of_it_that_is_heard(tmp_path):
    """15, C14: it filled in part after the backup was made, and buys on; who settles first knows what all of it is."""
    thin = market(bars("AAPL", Interval.MIN1, date(2024, 8, 27), DAY, volume=100))
    stage = floor(tmp_path, thin, at(10, 0, 1), strategy(interval=Interval.MIN1, sizing=STOPPED))
    older = stage.restarted(ledger=before_its_orders(stage, Interval.MIN1)).go(at(10, 0, 3))
    settle(older.desk, Tally("test", older.due(Interval.MIN1)))
    [entry] = [row for row in older.rows("orders") if row["side"] == "buy"]
    [sent] = [row for row in stage.rows("orders") if row["side"] == "buy"]
    assert (entry["client_id"], entry["quantity"], entry["state"]) == (sent["client_id"], sent["quantity"], "partial")
    assert entry["filled_quantity"] == older.broker.positions()["AAPL"]


def test_a_strategys_stop_is_not_clean_while_an_order_works_of_which_nobody_knows_whose_it_is(tmp_path):
    """53, C14: the entry was taken over while it buys; everything's stop cancels it."""
    thin = market(bars("AAPL", Interval.MIN1, date(2024, 8, 27), DAY, volume=100))
    stage = floor(tmp_path, thin, at(10, 0, 1), strategy(interval=Interval.MIN1, sizing=STOPPED))
    older = stage.restarted(ledger=before_its_orders(stage, Interval.MIN1)).go(at(10, 0, 3))
    older.release()
    [entry] = [row for row in older.rows("orders") if row["side"] == "buy"]
    assert (entry["strategy"], entry["state"]) == ("EXTERNAL", "partial")
    report = emergency.stop(older.desk, strategy="buyer", reason="enough", actor=PERSON)
    assert not report.clean
    assert entry["client_id"] in {line.client_id for line in report.unknown}
    assert report.external == (), "it has a name of ours"
    everything = emergency.stop(older.desk, reason="all of it", actor=PERSON)
    assert everything.clean
    assert entry["client_id"] in {line.client_id for line in everything.ended}

