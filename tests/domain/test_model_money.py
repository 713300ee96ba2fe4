"""The tables of what models cost, kept from the facts of asking: reserved, settled, lost, skipped (D4, invariant 63)."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal as D

import pytest

from tests.histories import AT
from tests.model_facts import answered, asked, lost, of_model, skipped
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.errors import IllegalTransition, InputError

WALL = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
KEY = ("2026-11-20", "trend", "anthropic")


@pytest.fixture
def ledger() -> MemoryLedger:
    ticks = iter(range(1_000))
    return MemoryLedger("demo", lambda: WALL + timedelta(seconds=next(ticks)), opened_at=AT)


def write(ledger: MemoryLedger, *events: NewEvent) -> None:
    with ledger.transaction() as transaction:
        transaction.append(*events)


def spend(ledger: MemoryLedger, *names: str) -> tuple[object, ...]:
    row = ledger.get("model_spend", *KEY)
    assert row is not None
    return tuple(row[name] for name in names)


def state(ledger: MemoryLedger, cycle: str = "c1") -> tuple[str, D, D | None]:
    row = ledger.get("model_calls", cycle, "trend", "AAPL")
    assert row is not None
    return row["state"], row["reserved"], row["cost"]


def test_a_request_reserves_and_its_reply_settles(ledger):
    """63: $0.10 and $0.20 are reserved; the first costs $0.004, so that $0.20 stay reserved."""
    write(ledger, asked("c1"), asked("c2", reserved="0.20"))
    assert spend(ledger, "asked", "reserved", "spent") == (2, D("0.30"), D(0))
    assert state(ledger) == ("asked", D("0.10"), None)
    write(ledger, answered("c1", calls=2))
    assert spend(ledger, "answered", "reserved", "spent", "calls") == (1, D("0.20"), D("0.004"), 2)
    assert state(ledger) == ("answered", D("0.10"), D("0.004"))


def test_the_hour_of_a_call_is_the_wall_clocks(ledger):
    write(ledger, asked("c1"))
    write(ledger, answered("c1"))
    row = ledger.get("model_calls", "c1", "trend", "AAPL")
    assert (row["asked_at"].date(), row["answered_at"].date()) == (WALL.date(), WALL.date())
    assert row["answered_at"] > row["asked_at"]


def test_tokens_in_are_all_that_went_in(ledger):
    """900 fresh, 60 from the cache and 40 written to it."""
    write(ledger, asked("c1"), answered("c1"))
    assert spend(ledger, "tokens_in", "tokens_out") == (1_000, 120)


def test_a_lost_question_keeps_its_reservation_as_spent(ledger):
    """3.1: reserve kept as spent."""
    write(ledger, asked("c1"), lost("c1"))
    assert spend(ledger, "lost", "reserved", "spent") == (1, D("0.00"), D("0.10"))
    assert state(ledger) == ("lost", D("0.10"), D("0.10"))


def test_a_reply_that_comes_after_it_was_given_up_says_what_it_cost(ledger):
    write(ledger, asked("c1"), lost("c1"), answered("c1", type_=EventType.LLM_DISCARDED, cost="0.07"))
    assert spend(ledger, "lost", "discarded", "reserved", "spent") == (0, 1, D("0.00"), D("0.07"))


def test_a_reply_counts_for_the_day_of_its_request(ledger):
    """Asked before midnight, answered after it."""
    write(ledger, asked("c1", day="2026-11-20"), answered("c1", day="2026-11-21"))
    assert spend(ledger, "answered", "reserved", "spent") == (1, D("0.00"), D("0.004"))
    assert ledger.get("model_spend", "2026-11-21", "trend", "anthropic") is None


def test_a_recorded_reply_is_counted_as_such_and_costs_nothing(ledger):
    write(ledger, asked("c1", reserved="0"), answered("c1", cost="0", replayed=True))
    assert spend(ledger, "answered", "replayed", "calls", "spent") == (1, 1, 0, D(0))


def test_a_call_that_failed_is_settled_as_well(ledger):
    write(ledger, asked("c1"), answered("c1", cost="0.05", trouble="timeout"))
    assert spend(ledger, "answered", "failed", "spent") == (1, 1, D("0.05"))
    assert ledger.get("model_calls", "c1", "trend", "AAPL")["outcome"] == "timeout"


def test_what_was_skipped_is_counted_by_reason(ledger):
    """Saved by the trigger: $0.02 and $0.03. The cheapest question there was no money for: $0.04."""
    write(
        ledger, skipped("c1", "trigger", "0.02"), skipped("c2", "trigger", "0.03"), skipped("c3", "trigger"),
        skipped("c4", "budget", "0.05"), skipped("c5", "strategy_budget", "0.04"), skipped("c6", "rate", "0.01"),
    )
    assert spend(ledger, "skipped", "saved", "wanted") == ('{"budget":1,"rate":1,"strategy_budget":1,"trigger":3}', D("0.05"), D("0.04"))


def test_the_rules_agent_keeps_no_row(ledger):
    rules = {"provider": "rules", "agent": {"type": "AnalyzerAgent"}}
    write(
        ledger, of_model(EventType.LLM_REQUESTED, "c1", "AAPL", "trend", rules),
        of_model(EventType.LLM_RESPONDED, "c1", "AAPL", "trend", rules | {"cost": "0", "model": "rules", "raw": "{}"}),
    )
    assert (ledger.find("model_calls"), ledger.find("model_spend")) == ([], [])


@pytest.mark.parametrize(
    "events",
    [
        (answered("c1"),), (lost("c1"),), (asked("c1"), answered("c1"), lost("c1")), (asked("c1"), lost("c1"), answered("c1")),
        (asked("c1"), answered("c1"), answered("c1", type_=EventType.LLM_DISCARDED)),
    ],
    ids=["reply without request", "loss without request", "lost once answered", "answered once lost", "discarded once answered"],
)
def test_what_does_not_follow_is_refused(ledger, events):
    with pytest.raises(IllegalTransition):
        write(ledger, *events)
    assert ledger.find("model_calls") == []


@pytest.mark.parametrize("amount", ["-0.01", "NaN", "Infinity"])
def test_no_other_amount_is_money(ledger, amount):
    with pytest.raises(InputError):
        write(ledger, asked("c1", reserved=amount))
    with pytest.raises(InputError):
        write(ledger, asked("c1"), answered("c1", cost=amount))
