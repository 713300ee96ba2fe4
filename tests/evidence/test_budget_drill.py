"""The budget drill, small; and a purse, a ledger or a bill that is wrong is found out."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal as D

import pytest

from tests.conftest import TEMPLATE
from tests.evidence.billing import FRAME, provider
from tests.evidence.budget_drill import NOBODY, judge, run_all
from tests.histories import AT
from tests.model_facts import answered, asked, lost
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.adapters.prices import OVERHEAD
from trading_pipeline.domain.events import Event, NewEvent
from trading_pipeline.domain.models import ModelBudget, Provider
from trading_pipeline.domain.replies import Flaw
from trading_pipeline.service.models.asking import REPAIR
from trading_pipeline.service.models.purse import Purse

WALL = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with provider() as found:
        yield found


@pytest.mark.slow
def test_a_few_runs_spend_no_more_than_there_is(postgres, port):
    """63, fault 44: threads, kills, restarts, an unknown price; by the ledger and by the provider's own count."""
    tally = run_all(postgres, TEMPLATE, port, 7, seed=1)
    assert (tally.violations, tally.overspent, tally.runs) == ([], 0, 7)
    assert tally.killed and tally.billed > 0
    assert tally.counts["refused: unknown_price"] and tally.counts["refused: budget"]
    assert not tally.counts["refused: prompt_changed"], "nobody is asked whose words are thought to have changed"


@pytest.mark.parametrize("name", ["refusal", "take"])
def test_a_purse_that_does_not_do_its_work_is_found_out(postgres, port, monkeypatch, name):
    monkeypatch.setattr(Purse, name, lambda *args, **kwargs: None)
    tally = run_all(postgres, TEMPLATE, port, 2, seed=2)
    assert tally.overspent == 2


def facts(*events: NewEvent) -> list[Event]:
    ledger = MemoryLedger("demo", lambda: WALL, opened_at=AT)
    with ledger.transaction() as tx:
        tx.append(*events)
    return list(ledger.scan())


def fault(*events: NewEvent, bill: dict[str, str] | None = None, calls: int = 0, model: str = "claude-haiku-4-5") -> str:
    """What is found, of $1.00 for the day, $0.80 for the provider and 10 calls an hour; `thrifty` has $0.05."""
    budget = ModelBudget(D("1.00"), ((Provider.ANTHROPIC, D("0.80")),), 10)
    found, _, _ = judge(facts(*events), budget, {"usd": bill or {}, "calls": calls, "models": [model] if calls else []})
    return found[0] if found else ""


def test_what_was_within_every_budget_is_no_fault():
    events = (asked("c1", reserved="0.80"), answered("c1", cost="0.40"), asked("c2", reserved="0.40"), lost("c2"))
    assert fault(*events, bill={"trend": "0.80"}, calls=10) == ""


def test_a_moment_above_the_budget_is_a_fault_though_it_is_settled_below():
    events = (asked("c1", reserved="0.50"), asked("c2", reserved="0.31"), answered("c1", cost="0.01"), answered("c2", cost="0.01"))
    assert "$0.81 of $0.80 for the provider" in fault(*events)


def test_what_is_lost_counts_on():
    assert "$0.81" in fault(asked("c1", reserved="0.80"), lost("c1"), asked("c2", reserved="0.01"))


@pytest.mark.parametrize(
    ("bill", "calls", "model", "told"),
    [
        ({"trend": "0.41"}, 1, "claude-haiku-4-5", "the ledger knows of $0.40"),
        ({"thrifty": "0.06"}, 1, "claude-haiku-4-5", "for thrifty"),
        ({}, 11, "claude-haiku-4-5", "11 calls, of 10"), ({}, 1, NOBODY, "without a price"),
    ],
)
def test_a_bill_that_the_ledger_does_not_cover_is_a_fault(bill, calls, model, told):
    assert told in fault(asked("c1", reserved="0.50"), answered("c1", cost="0.40"), bill=bill, calls=calls, model=model)


def test_the_frame_of_a_call_has_room_for_the_sentence_of_a_repair():
    """The worst case of the second call is that of the first: its sentence has to fit into what is reserved for the frame."""
    assert FRAME + max(len(REPAIR.format(flaw=flaw).encode()) for flaw in Flaw) <= OVERHEAD
