"""A desk that holds what a model may be told about."""

from datetime import timedelta

import pytest

from tests.service.models.briefing.briefings import BEGAN, stage_of


@pytest.fixture
def stage(tmp_path):
    """AAPL on its real daily bars of 2012, bought for a twentieth of the equity."""
    stage = stage_of(tmp_path, description="Buys strength.")
    stage.go(BEGAN + timedelta(seconds=2)).release()
    return stage
