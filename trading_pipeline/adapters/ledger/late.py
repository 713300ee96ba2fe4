"""A ledger that is opened when it is first asked for: an emergency does not wait for it, and finds it when it comes back.

Each call tries again until one has opened it; what keeps it from opening is that call's error.
"""

import threading
from collections.abc import Callable
from typing import Any

from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.errors import LedgerUnavailable


class LateLedger:
    """Everything that a `PostgresLedger` is, later."""

    def __init__(self, opening: Callable[[], PostgresLedger]) -> None:
        self._opening = opening
        self._lock = threading.Lock()
        self._ledger: PostgresLedger | None = None
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened(), name)

    def close(self) -> None:
        """Let go of connections, of those that are being made too; waits for nobody."""
        self._closed = True
        ledger = self._ledger
        if ledger is not None:
            ledger.close()

    def _opened(self) -> PostgresLedger:
        with self._lock:
            if self._ledger is None:
                ledger = self._opening()
                if self._closed:
                    ledger.close()
                    raise LedgerUnavailable("The ledger was closed.", rule="a desk is used while it is open", remedy="open another")
                self._ledger = ledger
            return self._ledger
