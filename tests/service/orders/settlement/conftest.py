"""An order that never arrived, and one that has filled in part."""

import pytest

from tests.desks import OPEN, Floor, at, bars, floor, market, strategy
from tests.service.minutes import bracketed, minute_bars
from tests.service.orders.settlement.scripted import NAME
from trading_pipeline.adapters.brokers.paper_faults import LoseRequest
from trading_pipeline.domain.bars import Interval


@pytest.fixture
def lost(tmp_path) -> Floor:
    """An order that never arrived, in doubt since the open."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.faults.on_submit(NAME, LoseRequest())
    stage.cycle()
    return stage


@pytest.fixture
def thin(tmp_path) -> Floor:
    """A bracketed entry that has bought twenty of its fifty shares at ten, and works on."""
    volumes = {at(9, 59): 200.0} | {at(10, minute): 0.0 for minute in range(20)}
    stage = floor(tmp_path, minute_bars(volumes=volumes), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    assert (stage.row("orders", part="entry")["state"], stage.row("positions")["quantity"]) == ("partial", 20)
    return stage
