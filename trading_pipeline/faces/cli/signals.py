"""How somebody asks a command to end: Ctrl-C, `kill`, a terminal that closes."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def on_ending(asked: Callable[[], object]) -> Iterator[None]:
    """Call this at each of them, in the place of ending; what they did before is put back."""
    before = {number: signal.signal(number, lambda *_: asked()) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
