"""What is written by form is what the scribe writes, hash for hash; and a form that says something else is found out."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.histories import AT
from tests.service.backtests.benches import bench_of, texts, texts_of_the_scribe
from tests.service.backtests.random_plans import busy
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.events import Event, EventType, NewEvent, text_of
from trading_pipeline.domain.rules import size
from trading_pipeline.errors import ServiceError
from trading_pipeline.service.backtests import columnar
from trading_pipeline.service.backtests.columnar.writing.forms import Blanks, Form, Misfit
from trading_pipeline.service.backtests.columnar.writing.letters import Letters, Use
from trading_pipeline.service.backtests.engines import Engine, run
from trading_pipeline.service.record.verification import verify

SEEDS = range(int(os.environ["BACKTEST_SEEDS"])) if "BACKTEST_SEEDS" in os.environ else (2, 7, 12, 15, 25, 29)
MUCH = 25
"""A scenario with many orders by form."""


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The shapes of what was written by form."""
    found: list[str] = []
    write = Letters.write

    def noted(self: Letters, shape: tuple[object, ...], *rest: object) -> dict[str, int]:
        found.append(str(shape[0]))
        return write(self, shape, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Letters, "write", noted)
    yield found


@pytest.mark.parametrize("seed", SEEDS)
def test_forms_write_the_ledger_that_the_scribe_writes(tmp_path, monkeypatch, seed, used):
    plan, tables = busy(seed)
    with bench_of(tmp_path, plan, *tables.values()) as bench:
        if columnar.why_not(bench, plan):
            pytest.skip("the stepped engine plays it")
        formed = texts(bench, plan)
        assert used
        assert formed == texts_of_the_scribe(bench, plan, monkeypatch)


def test_a_ledger_written_by_form_verifies(tmp_path, used):
    plan, tables = busy(MUCH)
    with bench_of(tmp_path, plan, *tables.values()) as bench:
        assert verify(run(bench, plan, engine=Engine.COLUMNAR).ledger).ok
    assert {"order", "opened", "closed"} <= set(used)


def test_another_word_of_a_rule_is_found_out_by_an_audit(tmp_path, monkeypatch, used):
    plan, tables = busy(MUCH)
    dollars = size.dollars

    def wordier(value: Decimal) -> str:
        return f"{dollars(value)} or so" if "order" in used else dollars(value)

    monkeypatch.setattr(size, "dollars", wordier)
    with bench_of(tmp_path, plan, *tables.values()) as bench, pytest.raises(ServiceError, match="or so"):
        run(bench, plan, engine=Engine.COLUMNAR)


# Forms


def fact(number: int, *, note: str = "", cause: int | None = None) -> NewEvent:
    payload = {"cycle": f"AAAAAAAAAAA{number + 1}", "step": "bars", "completed": [], "note": note, "share": "7%", "seq": number}
    return NewEvent(EventType.STEP_COMPLETED, "system", f"step:{number}", payload, AT + timedelta(minutes=number), "cycle", cause)


def written(*events: NewEvent) -> Sequence[Event]:
    ledger = MemoryLedger("backtest", opened_at=AT)
    with ledger.transaction() as transaction:
        transaction.append(*events)
    return ledger.events(after=1)


BLANKS = Blanks("step:<<number>>", {("cycle",): "<<name>>", ("seq",): "<<#number>>"})


def values(number: int) -> dict[str, str]:
    at = AT + timedelta(minutes=number)
    return {"number": str(number), "name": f"AAAAAAAAAAA{number + 1}", "instant": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"}


def test_a_form_learnt_of_one_fact_gives_the_next():
    [first, second] = written(fact(2), fact(3))
    form = Form([first], [BLANKS], values(2))
    assert form.fill(values(3), second.seq, [second.stream_seq]) == [text_of(second)]


def test_causes_within_a_form_move_with_it():
    four = written(fact(2), fact(3, cause=2), fact(4), fact(5, cause=4))
    other = Blanks("step:<<other>>", {("cycle",): "<<other_name>>", ("seq",): "<<#other>>"})

    def of(number: int) -> dict[str, str]:
        return values(number) | {"other": str(number + 1), "other_name": f"AAAAAAAAAAA{number + 2}"}

    pair = [replace(event, at=AT + timedelta(minutes=2 if event.seq < 4 else 4)) for event in four]
    form = Form(pair[:2], [BLANKS, other], of(2))
    assert form.fill(of(4), 4, [4, 5]) == [text_of(event) for event in pair[2:]]


@pytest.mark.parametrize(
    ("blanks", "known", "why"),
    [
        (Blanks("step:<<number>>", {("seq",): "<<#number>>"}), {}, "name is not left blank everywhere"),
        (BLANKS, {"number": "7"}, "by form"),
        (Blanks("step:<<number>>", {("cycle",): "<<nobody>>"}), {}, "nothing is known of 'nobody'"),
    ],
)
def test_what_a_form_would_not_give_is_not_learnt(blanks, known, why):
    [first] = written(fact(2))
    with pytest.raises(Misfit, match=why):
        Form([first], [blanks], values(2) | known)


def test_a_shape_that_cannot_be_learnt_stays_with_the_scribe():
    ledger = MemoryLedger("backtest", opened_at=AT)
    kept = Letters(ledger)
    assert kept.use(("step",)) is Use.HAND
    with ledger.transaction() as transaction:
        transaction.append(fact(2))
    kept.learn(("step",), values(2) | {"number": "7"}, 1, {}, lambda _facts: [BLANKS])
    assert kept.use(("step",)) is Use.HAND


def test_a_form_is_compared_at_first_often_and_then_seldom():
    ledger = MemoryLedger("backtest", opened_at=AT)
    kept = Letters(ledger)
    with ledger.transaction() as transaction:
        transaction.append(fact(2))
    kept.learn(("step",), values(2), 1, {}, lambda _facts: [BLANKS])
    audited = [number for number in range(2, 300) if kept.use(("step",)) is Use.AUDIT]
    assert audited == [2, 4, 16, 64, 256]


def test_facts_of_others_in_between_do_not_disturb_a_form():
    ledger = MemoryLedger("backtest", opened_at=AT)
    kept = Letters(ledger)
    for number in (2, 4):
        with ledger.transaction() as transaction:
            transaction.append(fact(number))
        if number == 2:
            kept.learn(("step",), values(2), 1, {}, lambda _facts: [BLANKS])
        kept.write(("step",), values(number + 1))
    assert [event.key for event in ledger.events(after=1)] == ["step:2", "step:3", "step:4", "step:5"]
    assert verify(ledger).ok
