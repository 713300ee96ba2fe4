"""What tests of conversations with models share: a reply as a model gives it, and a cycle that the oracle finds nothing wrong with."""

import json

from tests.oracle.forging import record
from trading_pipeline.oracle import check


def reply(action="BUY", symbol="AAPL", confidence=0.9, figures=(), **more):
    """A valid one, but for what is said otherwise."""
    return json.dumps({
        "action": action, "symbol": symbol, "confidence": confidence, "rationale": "Because it rises.",
        "figures": [{"name": name, "value": value} for name, value in figures], "limit": None, "stop": None, "targets": [], **more,
    })


def ran(floor_):
    """After its newest cycle."""
    floor_.cycle()
    assert check(record(floor_.desk.ledger)) == []
    return floor_
