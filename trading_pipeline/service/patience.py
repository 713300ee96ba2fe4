"""Asking what may never answer: in threads that nobody waits for longer than they said.

A call that is given up goes on by itself and may yet do what it was asked for, so only what may be done twice is asked this way.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from typing import TypeVar

from trading_pipeline.errors import TradingError

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T], otherwise: Callable[[], TradingError]) -> T:
    """What the work returns or raises, or the error `otherwise` when that takes longer."""
    future: Future[T] = Future()
    threading.Thread(target=_settle, args=(future, work), daemon=True).start()
    try:
        return future.result(seconds)
    except NoAnswer:
        if future.done():
            raise
        raise otherwise() from None


def together(
    work: Callable[[str], object], names: Sequence[str], *, threads: int, seconds: float, otherwise: Callable[[], TradingError],
) -> Mapping[str, TradingError]:
    """Do the work for every name, so many at a time; the errors by name, `otherwise` for those that have not ended in time.

    What is no error of ours ends the whole of it.
    """
    futures: dict[str, Future[object]] = {name: Future() for name in names}
    waiting = iter(list(futures.items()))
    turn = threading.Lock()

    def serve() -> None:
        while True:
            with turn:
                name, future = next(waiting, ("", None))
            if future is None:
                return
            _settle(future, lambda name=name: work(name))  # type: ignore[misc]

    for _ in range(min(threads, len(futures))):
        threading.Thread(target=serve, daemon=True).start()
    deadline, failed = time.monotonic() + seconds, {}
    for name, future in futures.items():
        try:
            future.result(max(0.0, deadline - time.monotonic()))
        except NoAnswer:
            failed[name] = otherwise()
        except TradingError as error:
            failed[name] = error
    return failed


def _settle(future: "Future[T]", work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 -- raised again in the thread that waits
        future.set_exception(error)
