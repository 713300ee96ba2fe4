"""A desk where a proposal was made, approved by a person and filled."""

from datetime import timedelta

import pytest

from tests.desks import OPEN, PERSON, bars, floor, market, strategy
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.service import approvals


@pytest.fixture
def stage(tmp_path):
    seen = ChartSpec(bars=60, overlays=("sma_20",), panels=("rsi_14",))
    stage = floor(tmp_path, market(bars()), OPEN, strategy(mode=Mode.APPROVAL, chart=seen))
    stage.cycle()
    approvals.approve(stage.desk, stage.row("approvals")["action_id"], actor=PERSON)
    stage.go(OPEN + timedelta(seconds=2)).release()
    return stage
