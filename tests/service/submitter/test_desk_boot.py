"""How the desk's process comes up: it looks at the record, at stops and at the account before it takes anything from anybody."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import OPEN, PERSON, Floor, bars, floor, market, strategy
from tests.service.booting import booted
from trading_pipeline.adapters.anchor_file import AnchorFile
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.errors import LedgerCorrupt, StorageError
from trading_pipeline.ports import Stop
from trading_pipeline.service.submitter.handover import answer


@pytest.fixture
def stage(tmp_path) -> Floor:
    """Holds AAPL under a stop and a target."""
    sizing = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"), target=Decimal("0.1"))
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=sizing))
    stage.cycle()
    return stage


def test_it_does_not_begin_on_a_record_that_was_altered(stage, monkeypatch):
    """82, 21: the newest facts do not follow from each other; nothing is said to the broker."""
    honest, before = stage.desk.ledger.events, len(stage.types())

    def altered(**given):
        return [replace(event, payload_text="{}") if event.type is E.ORDER_ACCEPTED else event for event in honest(**given)]

    monkeypatch.setattr(stage.desk.ledger, "events", altered)
    [said] = [line for line in booted(stage) if line.startswith("READ ONLY")]
    assert "order.accepted" in said
    with pytest.raises(LedgerCorrupt, match=r"order\.accepted"):
        answer(stage.desk, stage.due())
    monkeypatch.undo()
    assert len(stage.types()) == before


def test_it_finishes_a_stop_before_it_is_ready(stage):
    """82, 53, fault 60: only the latch was written when the one before it died."""
    stage.desk.latch.stop(Stop(None, "enough", PERSON, stage.desk.now()))
    booted(stage)
    types = stage.types()
    assert types.index("account.latched") < types.index("order.canceled") < types.index("desk.started")
    assert stage.broker.orders() == []
    assert stage.verifies()


def test_it_fetches_what_was_executed_meanwhile_before_it_is_ready(tmp_path):
    """20, 82, C7: the target was reached while nobody was there."""
    sizing = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.02"), target=Decimal("0.03"))
    stage = floor(tmp_path, market(bars(at={OPEN: (100, 104, 100, 100)})), OPEN, strategy(sizing=sizing))
    stage.cycle()
    held = stage.row("positions")["quantity"]
    stage.go(OPEN + timedelta(hours=8))
    booted(stage)
    filled, began = stage.events(E.ORDER_FILLED)[-1], stage.events(E.DESK_STARTED)[0]
    assert (held, stage.row("positions")["quantity"], stage.broker.positions()) == (50, 0, {})
    assert filled.seq < began.seq
    assert stage.verifies()


def test_it_comes_up_where_no_anchor_can_be_written_and_says_so(stage, monkeypatch):
    """4: as the gate sends there."""

    def full(self, anchor, **more):
        raise StorageError("The anchor failed: no space.", value="anchors.jsonl", rule="the disk has room", remedy="free some")

    monkeypatch.setattr(AnchorFile, "_append", full)
    said = booted(stage)
    assert any(line.startswith("Ready") for line in said)
    assert sum("no space" in line for line in said) == 2, "once while it runs, and at its end"


def test_what_a_cycle_has_filled_is_anchored_with_it_though_no_desk_runs(stage):
    """4: the fills come after the submission, which is anchored before it is sent."""
    newest = stage.desk.anchors.newest()
    assert newest.seq >= stage.events(E.ORDER_FILLED)[-1].seq
