"""The desk that a process of Dagster holds: one for many looks, and never one of yesterday's home."""

from pathlib import Path

import pytest

from resources import desk as resource
from tests.conftest import stop_at_once
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres

TOML = """environment = "paper"
[market]
source = "synthetic"
clock = "live"
symbols = ["AAA"]
first = 2024-08-01
last = 2024-08-30
[limits]
max_order_value = "{}"
"""


def test_a_process_opens_its_desk_anew_when_the_home_has_changed(short_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person changes counts at the next look; the server that both desks use runs on."""
    monkeypatch.setenv("TRADING_HOME", str(short_home))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    (short_home / "trading.toml").write_text(TOML.format(50_000))
    try:
        first = resource.process_desk()
        assert resource.process_desk() is first
        (short_home / "trading.toml").write_text(TOML.format(1_000))
        second = resource.process_desk()
        assert second is not first
        assert second.limits.max_order_value == 1_000
        (short_home / "splits.csv").write_text("symbol,session,ratio\nAAA,2024-08-28,4\n")
        third = resource.process_desk()
        assert third is not second
        assert third.ledger.head() == second.ledger.head() == first.ledger.head(), "who is still at work on an old one can end it"
        assert third.broker.positions() == {}
    finally:
        resource._open.pop(str(short_home.resolve())).stack.close()
        stop_at_once(EmbeddedPostgres.start(short_home / "postgres"))
