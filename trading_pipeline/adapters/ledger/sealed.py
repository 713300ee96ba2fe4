"""A ledger that is only read: a backtest that is stored, looked at by the commands that read a live one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.adapters.ledger.transaction import PostgresTransaction
from trading_pipeline.domain.events import NewEvent
from trading_pipeline.errors import PermissionRequired
from trading_pipeline.ports import Fence


class SealedLedger:
    """Everything that a `PostgresLedger` tells, and nothing that it takes."""

    def __init__(self, ledger: PostgresLedger, name: str) -> None:
        """Seal a ledger; `name` is the backtest's."""
        self._ledger = ledger
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    @contextmanager
    def transaction(self) -> Iterator["SealedTransaction"]:
        """One in which nobody else writes, to read the whole at one instant: what verifies asks for it."""
        with self._ledger.transaction() as transaction:
            yield SealedTransaction(transaction, self.refused)

    def lease(self, name: str, wait_seconds: float = 0, life_seconds: float = 0) -> NoReturn:  # noqa: ARG002 -- the port's names
        """Refused, as is everything below: PermissionRequired."""
        raise self.refused()

    def renew(self, fence: Fence) -> NoReturn:  # noqa: ARG002
        """Refused."""
        raise self.refused()

    def revoke(self, name: str) -> NoReturn:  # noqa: ARG002
        """Refused."""
        raise self.refused()

    def beat(self, name: str, content: Mapping[str, Any]) -> NoReturn:  # noqa: ARG002
        """Refused."""
        raise self.refused()

    def rebuild(self) -> NoReturn:
        """Refused."""
        raise self.refused()

    def refused(self) -> PermissionRequired:
        """What whoever would write is told."""
        return PermissionRequired(
            f"The backtest {self._name} is history.", value=self._name, rule="a backtest's ledger is written by the backtest alone",
            remedy="leave --backtest out to work on the home's own ledger, or run the backtest again",
        )


class SealedTransaction:
    """A transaction that reads."""

    def __init__(self, transaction: PostgresTransaction, refused: Callable[[], PermissionRequired]) -> None:
        self._transaction = transaction
        self._refused = refused

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)

    def append(self, *events: NewEvent) -> NoReturn:  # noqa: ARG002 -- the port's name
        """Refused: PermissionRequired."""
        raise self._refused()
