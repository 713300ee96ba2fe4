"""Asking what may never answer: in threads that nobody waits for longer than they said, not even the end of the process.

A call that is given up goes on by itself and may yet do what it was asked for; whoever asks this way can bear both. The library's own pools
are joined when the interpreter ends, however long what was given up hangs.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from functools import partial
from queue import Empty, SimpleQueue
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


def begun(works: Sequence[Callable[[], T]], threads: int) -> list[Future[T]]:
    """All of it begun, in order and so much at a time; what is canceled before its turn is not done."""
    futures: list[Future[T]] = [Future() for _ in works]
    waiting: SimpleQueue[tuple[Callable[[], T], Future[T]]] = SimpleQueue()
    for each in zip(works, futures, strict=True):
        waiting.put(each)

    def serve() -> None:
        while True:
            try:
                work, future = waiting.get_nowait()
            except Empty:
                return
            if future.set_running_or_notify_cancel():
                _settle(future, work)

    for _ in range(min(threads, len(works))):
        threading.Thread(target=serve, daemon=True).start()
    return futures


def together(
    work: Callable[[str], object], names: Sequence[str], *, threads: int, seconds: float, otherwise: Callable[[], TradingError],
) -> Mapping[str, TradingError]:
    """Do the work for every name, so many at a time; the errors by name, `otherwise` for those that have not ended in time.

    What is no error of ours ends the whole of it.
    """
    futures = dict(zip(names, begun([partial(work, name) for name in names], threads), strict=True))
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
