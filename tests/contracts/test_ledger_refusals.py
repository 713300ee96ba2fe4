"""What every ledger refuses, by name, and that nothing of it is kept: in memory and in PostgreSQL."""

from dataclasses import replace
from datetime import datetime

import pytest

from tests.contracts.ledgers import InMemory, OnPostgres, append, tables
from tests.histories import AT, E, created, fact, funded, step, trade
from trading_pipeline.domain.projections import TABLES
from trading_pipeline.errors import IllegalTransition, InputError, UnknownName
from trading_pipeline.ports import Ledger, Transaction

UNSTORABLE = {
    "a key that is too long": fact(E.STEP_COMPLETED, "k" * 201),
    "no key": fact(E.STEP_COMPLETED, ""),
    "a NUL in the key": fact(E.STEP_COMPLETED, "nul\x00"),
    "half a surrogate in the key": fact(E.STEP_COMPLETED, "surrogate\ud800"),
    "NaN": fact(E.STEP_COMPLETED, "nan", value=float("nan")),
    "an object": fact(E.STEP_COMPLETED, "object", value=object()),
    "a naive instant": fact(E.STEP_COMPLETED, "naive", at=datetime(2012, 10, 15)),  # noqa: DTZ001
    "a field that is missing": fact(E.ACCOUNT_FUNDED, "fields missing"),
    "no number": fact(E.ACCOUNT_FUNDED, "no number", account="PAPER", amount="much"),
    "a NUL in a table": fact(E.ACCOUNT_FUNDED, "nul in a table", account="PAPER\x00", amount="1"),
}


class RefusalContract:
    """Inherited by one class an adapter."""

    def test_an_illegal_transition_leaves_nothing_of_its_batch(self, ledger: Ledger) -> None:
        """17."""
        started = fact(E.STRATEGY_STARTED, "started", "strategy:trend", strategy="trend")
        with pytest.raises(IllegalTransition):
            append(ledger, funded(), created(), started)
        assert ledger.head()[0] == 1
        assert tables(ledger) == {name: [] for name in TABLES}

    def test_a_swallowed_illegal_transition_still_loses_the_transaction(self, ledger: Ledger) -> None:
        def swallow(transaction: Transaction) -> None:
            transaction.append(funded())
            with pytest.raises(IllegalTransition):
                transaction.append(*list(trade(1))[4:5])

        with pytest.raises(IllegalTransition), ledger.transaction() as transaction:
            swallow(transaction)
        assert ledger.head()[0] == 1

    def test_a_table_or_column_that_does_not_exist_is_named(self, ledger: Ledger) -> None:
        with pytest.raises(UnknownName, match="trades is no table"):
            ledger.find("trades")
        with pytest.raises(UnknownName, match="cash has no column colour"):
            ledger.find("cash", colour="red")
        with pytest.raises(UnknownName, match="trades is no table"):
            ledger.get("trades", 1)
        with pytest.raises(UnknownName, match="cash has no column colour"):
            ledger.find("cash", since=("colour", AT))
        with pytest.raises(UnknownName, match="cash has no column colour"):
            ledger.find("cash", order_by="colour")

    @pytest.mark.parametrize("cause", [7, 2, 0, -1])
    def test_a_cause_must_be_an_earlier_event(self, ledger: Ledger, cause: int) -> None:
        with pytest.raises(InputError, match=f"cites event {cause} as its cause"):
            append(ledger, fact(E.STEP_COMPLETED, "step", cause=cause))

    @pytest.mark.parametrize("name", ["stream", "key", "actor"])
    @pytest.mark.parametrize("many", [0, 201])
    def test_a_name_that_is_none_or_too_long_is_refused_by_name_and_length(self, ledger: Ledger, name: str, many: int) -> None:
        event = replace(step(1), **{name: "x" * many})  # type: ignore[arg-type]
        with pytest.raises(InputError, match=f"The {name} of step.completed has {many} characters") as refused:
            append(ledger, event)
        assert (refused.value.value, refused.value.rule) == ("x" * min(many, 200), "1 to 200 characters")

    def test_a_transaction_that_was_refused_something_takes_nothing_more(self, ledger: Ledger) -> None:
        def swallow(transaction: Transaction) -> None:
            with pytest.raises(InputError, match="cites event 7"):
                transaction.append(fact(E.STEP_COMPLETED, "step", cause=7))
            with pytest.raises(InputError, match="cites event 7"):
                transaction.append(funded())

        with pytest.raises(InputError, match="cites event 7"), ledger.transaction() as transaction:
            swallow(transaction)
        assert ledger.head()[0] == 1

    @pytest.mark.parametrize("what", UNSTORABLE)
    def test_what_cannot_be_stored_is_refused_by_name(self, ledger: Ledger, what: str) -> None:
        with pytest.raises(InputError):
            append(ledger, step(1), UNSTORABLE[what])
        assert ledger.head()[0] == 1

    def test_a_refusal_names_the_event_or_the_column_and_the_rule(self, ledger: Ledger) -> None:
        with pytest.raises(InputError, match=r"account\.funded fields missing cannot be applied: KeyError 'account'") as refused:
            append(ledger, fact(E.ACCOUNT_FUNDED, "fields missing"))
        assert refused.value.value == "fields missing"
        assert refused.value.rule == "a payload carries the fields that its event's tables are kept from"
        denied = fact(E.ORDER_DENIED, "denied", "strategy:trend", client_id="Ctrend-1", reason="nul\x00")
        with pytest.raises(InputError, match="reason"):
            append(ledger, funded(), created(), *list(trade(1))[:4], denied)
        with pytest.raises(InputError, match="cash holds a character that cannot be stored"):
            append(ledger, UNSTORABLE["a NUL in a table"])
        with pytest.raises(InputError, match="key holds a character that cannot be stored"):
            append(ledger, UNSTORABLE["a NUL in the key"])
        assert ledger.head()[0] == 1

    def test_asking_for_text_that_cannot_be_stored_is_refused(self, ledger: Ledger) -> None:
        for ask in (
            lambda: ledger.get("cash", "\x00"), lambda: ledger.find("cash", account=["\ud800"]), lambda: ledger.event_by_key("\x00"),
            lambda: ledger.events(stream="\x00"),
        ):
            with pytest.raises(InputError, match="The value asked for holds a character that cannot be stored"):
                ask()


class TestMemoryLedger(InMemory, RefusalContract):
    """In memory."""


class TestPostgresLedger(OnPostgres, RefusalContract):
    """In PostgreSQL."""
