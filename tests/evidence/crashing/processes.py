"""Forked processes with a result: work that ends by itself, by a kill from inside, or by one from here.

Forking from a parent that has imported everything and holds no connection and no thread costs milliseconds; a fresh interpreter
costs a second. A child never returns into the parent's code.
"""

import json
import os
import select
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from trading_pipeline.errors import BrokerNotReady, Fenced, LedgerUnavailable

HUNG_SECONDS = 90.0
"""A child that takes longer hangs."""
_CHILDREN: set[int] = set()
"""Those of this process that nobody has seen the end of."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: killed, or with a result, or broken, in words.

    A database that went away is a failed run and no break; nor is a submitter that found itself fenced.
    """

    killed: bool = False
    result: Any = None
    broken: str = ""
    unavailable: str = ""
    fenced: bool = False


class Child:
    """Work in a forked process."""

    def __init__(self, work: Callable[[], object]) -> None:
        reading, writing = os.pipe()
        self._reading = reading
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            _work(work, writing)
        os.close(writing)
        _CHILDREN.add(self.pid)

    def kill(self) -> None:
        """SIGKILL, unless it has ended already."""
        os.kill(self.pid, signal.SIGKILL)

    def is_gone(self) -> bool:
        """Whether it runs no more, as a sibling sees it: whoever forked it may not have waited for it yet."""
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def until_stopped(self) -> bool:
        """Wait until it has stopped itself; False when it has ended instead, which leaves nothing to wait for."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        return os.WIFSTOPPED(status)

    def go_on(self) -> None:
        """Wake it up."""
        os.kill(self.pid, signal.SIGCONT)

    def ended(self) -> Ended | None:
        """How it ended, if it has."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return self._ended(status) if pid else None

    def wait(self) -> Ended:
        """Until it has ended, or hangs."""
        # It has written what came of it and is about to end, or has ended without a word.
        if any(select.select([self._reading], [], [], HUNG_SECONDS)):
            return self._ended(os.waitpid(self.pid, 0)[1])
        self.kill()
        _, status = os.waitpid(self.pid, 0)
        self._ended(status)
        return Ended(broken=f"it hung for {HUNG_SECONDS:g} s")

    def _ended(self, status: int) -> Ended:
        _CHILDREN.discard(self.pid)
        with os.fdopen(self._reading) as pipe:
            said = pipe.read()
        if os.WIFSIGNALED(status):
            own = os.WTERMSIG(status) == signal.SIGKILL
            return Ended(killed=True) if own else Ended(broken=f"signal {os.WTERMSIG(status)}")
        return Ended(**json.loads(said))


def _work(work: Callable[[], object], writing: int) -> None:
    """The child's whole life."""
    try:
        said: dict[str, Any] = {"result": work()}
    except Fenced:
        said = {"fenced": True}
    except (LedgerUnavailable, BrokerNotReady) as error:
        said = {"unavailable": str(error)}
    except BaseException:  # noqa: BLE001 - whatever ends a child is told to the parent, which judges it
        said = {"broken": traceback.format_exc()}
    os.write(writing, json.dumps(said).encode()[:60_000])
    os._exit(0)


def run(work: Callable[[], object]) -> Ended:
    """Work in a process of its own, to its end."""
    return Child(work).wait()


def end_all() -> None:
    """Kill and await every child that is left: it would start again the server that somebody stops."""
    for pid in _CHILDREN:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    _CHILDREN.clear()
