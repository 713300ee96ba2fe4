"""Cancels that are asked for side by side are made by one change of the account: an emergency asks for very many at once.

Whoever gets the account's turn takes along everybody who waits for it. Each still has its own answer, after the change is kept.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from trading_pipeline.errors import TradingError


@dataclass(slots=True, eq=False)
class _Request:
    client_id: str
    done: bool = False
    error: TradingError | None = None


class GatheredCancels:
    """Calls `change` with the client ids of everybody who waits, in one thread at a time."""

    def __init__(self, change: Callable[[Sequence[str]], None]) -> None:
        self._change = change
        self._turn = threading.Lock()
        self._list = threading.Lock()
        self._waiting: list[_Request] = []

    def ask(self, client_id: str) -> None:
        """Return when it is done, by this thread or by another; raises what the change raised."""
        request = _Request(client_id)
        with self._list:
            self._waiting.append(request)
        with self._turn:
            if not request.done:
                self._serve()
        if request.error is not None:
            raise request.error

    def _serve(self) -> None:
        with self._list:
            taken, self._waiting = self._waiting, []
        with ExitStack() as unless_answered:
            # Whatever else ends this thread, the others ask for themselves.
            unless_answered.callback(self._put_back, taken)
            try:
                self._change([each.client_id for each in taken])
            except TradingError as error:
                for each in taken:
                    each.error = error
            unless_answered.pop_all()
        for each in taken:
            each.done = True

    def _put_back(self, taken: Sequence[_Request]) -> None:
        with self._list:
            self._waiting += taken
