"""`make days` in small: a hundred days, the same again for the same seed, and a day on which something is really wrong."""

import tempfile
from pathlib import Path

import pytest

from tests.evidence.days import fingerprint, played, run
from tests.evidence.daysim.day import Day
from tests.evidence.daysim.plan import planned
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.risk import Judgement
from trading_pipeline.service.orders import gate, settlement


@pytest.mark.timeout(600)
def test_a_hundred_days_keep_every_invariant():
    """11-19, 26-28, 30, 44, 47, 51-54, 58, 65-69, faults 4-7, fault 17, faults 19-22, fault 24, fault 50: at random, after every event."""
    tally = run(range(1, 101))
    assert tally.violations == []
    assert tally.days == 100
    assert tally.orders > 500
    assert 0 < tally.calm < 50
    kinds = {kind.partition(":")[0].partition(" ")[0] for kind in tally.struck}
    assert kinds >= {"clock", "killed", "submit", "executions", "positions", "orders", "by", "model", "restart", "stop", "restated"}


@pytest.mark.parametrize("seed", [5, 24])
def test_a_seed_is_one_day(seed):
    one, two = played(planned(seed)), played(planned(seed))
    assert [event.type for event in one.ledger.events()] == [event.type for event in two.ledger.events()]
    assert fingerprint(one.ledger.events()) == fingerprint(two.ledger.events())
    assert one.struck == two.struck


# Negative controls


def test_a_missing_rule_is_seen(monkeypatch):
    original = gate.judge

    def lenient(intent, context):
        return Judgement(tuple(verdict for verdict in original(intent, context).verdicts if verdict.rule != "penny_stock"))

    monkeypatch.setattr(gate, "judge", lenient)
    monkeypatch.setattr("trading_pipeline.service.trading.judge", lenient)
    seeds = [seed for seed in range(1, 200) if "PNNY" in planned(seed).symbols and planned(seed).persona == "hostile"][:8]
    assert any("invariant 66" in each for seed in seeds for each in run([seed]).violations)


def test_a_lost_execution_is_seen(monkeypatch):
    booked = settlement._book

    def forgetful(desk, tx, name, fill, working, tally):
        if fill.side is Side.BUY:
            booked(desk, tx, name, fill, working, tally)

    monkeypatch.setattr(settlement, "_book", forgetful)
    assert any("lost: the execution" in each for seed in range(1, 8) for each in run([seed]).violations)


def test_an_order_behind_the_ledgers_back_is_seen():
    with tempfile.TemporaryDirectory() as folder:
        day = Day(planned(12), Path(folder))
        day.play()
        with day.floor.book.change() as book:
            name, orders = next((name, orders) for name, orders in book.named.items() if day.ledger.get("orders", name))
            book.named[name] = [*orders, orders[0]]
            book.named["PHANTOMPHANTOMPHANTO"] = orders
        day.watch.step("a control")
    assert {each.partition(":")[0] for each in day.watch.violations} == {"doubled", "phantom"}
