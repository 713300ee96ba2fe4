"""A position under protection, for the emergency stop to fall on."""

from dataclasses import replace

import pytest

from tests.desks import OPEN, Floor, bars, floor, market, strategy
from tests.service.stopping.stopping import PROTECTED
from trading_pipeline.adapters.journal_file import JournalFile


@pytest.fixture
def stage(tmp_path) -> Floor:
    """Fifty shares of AAPL held under a stop and a target."""
    made = floor(tmp_path, market(bars()), OPEN, strategy(sizing=PROTECTED))
    made = replace(made, desk=replace(made.desk, journal=JournalFile(tmp_path / "journal.jsonl")))
    made.cycle()
    return made
