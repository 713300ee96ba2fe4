"""The desk's pulse: it renews the lease and the health row while the desk is at work, also while a slow broker keeps it waiting.

It beats from a thread of its own, and stops beating when the desk has not finished a turn for two minutes: then it hangs, and
whoever asks may take the lease. A process that is stopped stops its pulse with it.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trading_pipeline import __version__
from trading_pipeline.errors import TradingError
from trading_pipeline.ports import Fence, Ledger

BEAT_SECONDS = 2.0
HANGS_AFTER_SECONDS = 120.0


class Pulse:
    """Beats until `stop`; what went wrong with the lease is raised by the next `check`."""

    def __init__(self, ledger: Ledger, fence: Fence, name: str, state: str) -> None:
        self._ledger = ledger
        self._fence = fence
        self._name = name
        self._content: Mapping[str, Any] = {}
        self._state = state
        self._turned = time.monotonic()
        self._lost: TradingError | None = None
        self._stopping = threading.Event()

    def check(self) -> None:
        """Say that a turn is done; raises what the pulse met: Fenced, LedgerUnavailable."""
        self._turned = time.monotonic()
        if self._lost is not None:
            raise self._lost

    def tell(self, state: str, **content: Any) -> None:
        """Beat now, and from now on with this; JSON values."""
        self._state, self._content = state, content
        self._beat()

    def _beat(self) -> None:
        told = {"state": self._state, "pid": os.getpid(), "token": self._fence.token, "version": __version__, **self._content}
        self._ledger.beat(self._name, told)

    def _run(self) -> None:
        while not self._stopping.wait(BEAT_SECONDS):
            if time.monotonic() - self._turned > HANGS_AFTER_SECONDS:
                continue
            try:
                self._ledger.renew(self._fence)
                self._beat()
            except TradingError as lost:
                self._lost = lost
                return

    @contextmanager
    def beating(self) -> Iterator[Callable[[], None]]:
        """For as long as the block lasts; yields `check`."""
        thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        thread.start()
        try:
            yield self.check
        finally:
            self._stopping.set()
            thread.join()
