"""Waiting for what another thread or process does: as short as it takes, and never for ever."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

PATIENCE_SECONDS = 30.0


def until(happened: Callable[[], Any], what: str = "it happens", seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait for a fact; what it was."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True
