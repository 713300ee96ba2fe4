"""The parent's children: spares that wait and processes that carry a run; forked, given their order, heard, reaped."""

import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from resources.launcher.protocol import MOST_BYTES, Lines, Message, packed

SPARES = 2
SPARE_SECONDS = 3600.0
"""A spare that has waited so long makes room for a fresh one: nothing between it and a distant database has been heard of since."""
KILL_SECONDS = 15.0
"""From the interrupt of a run to its kill -9; below run_monitoring's cancel_timeout_seconds, so that a run called cancelled is gone."""
FORK_PAUSE_SECONDS = 2.0
"""After a child that could not connect: the database may be starting again."""
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True, eq=False)
class Child:
    """One child, seen from the parent."""

    pid: int
    channel: socket.socket
    lines: Lines = field(default_factory=Lines)
    ready: bool = False
    run_id: str = ""
    answer: Callable[[Message], None] | None = None
    """Who waits to hear whether it takes its run."""
    interrupted: float | None = None
    born: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Children:
    """All children that have not been reaped.

    Args:
        selector: Tells when a child says something; its entries' data are called.
        forget: Called in a child, closes what is the parent's besides the channels.
    """

    selector: selectors.BaseSelector
    forget: Callable[[], None]
    _all: dict[int, Child] = field(default_factory=dict)
    _fork_at: float = 0.0

    def runs(self) -> dict[str, int]:
        """The process of each run in flight."""
        return {child.run_id: child.pid for child in self._all.values() if child.run_id}

    def spares(self) -> list[Child]:
        """Who may be given a run, those first that are connected."""
        spares = (child for child in self._all.values() if not child.run_id and child.channel.fileno() >= 0)
        return sorted(spares, key=lambda child: not child.ready)

    def keep_spares(self) -> None:
        """Fork what is missing: while a run works one spare is enough, its connecting would only take the run's CPU."""
        for _ in range(len(self.spares()), 1 if self.runs() else SPARES):
            self._fork()

    def hand_over(self, run_id: str, answer: Callable[[Message], None]) -> bool:
        """Give a run to a spare, which answers whether it takes it; False when there is nobody."""
        if not self.spares():
            self._fork()
        for child in self.spares():
            with suppress(OSError):  # it has just died; it is reaped in a moment
                child.channel.sendall(packed({"run_id": run_id}))
                child.run_id, child.answer = run_id, answer
                return True
        return False

    def interrupt(self, run_id: str) -> bool:
        """Interrupt a run; it is killed when that does not end it. False when nobody here carries it."""
        for child in self._all.values():
            if child.run_id == run_id:
                os.kill(child.pid, signal.SIGINT)
                child.interrupted = child.interrupted or time.monotonic()
                return True
        return False

    def reap(self) -> None:
        """Hear the last words of those that have ended."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                child = self._all.pop(ended[0], None)
                if child is None:
                    continue  # of this process before it started itself anew
                while child.channel.fileno() >= 0 and self._hear(child):
                    pass
                self._part(child)
                if not child.ready:
                    self._fork_at = time.monotonic() + FORK_PAUSE_SECONDS

    def lose_patience(self) -> None:
        """Kill what an interrupt has not ended, let go of old spares."""
        now = time.monotonic()
        for child in self._all.values():
            if child.interrupted is not None and now - child.interrupted > KILL_SECONDS:
                os.kill(child.pid, signal.SIGKILL)
        for spare in self.spares():
            if now - spare.born > SPARE_SECONDS:
                self._part(spare)

    def let_go(self) -> None:
        """A spare that hears nothing more ends by itself."""
        for child in self._all.values():
            self._part(child)

    def _fork(self) -> None:
        if time.monotonic() < self._fork_at:
            return
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        # A stop that reaches the child before it can tell its own would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        try:
            pid = os.fork()
            if pid == 0:
                self._be_a_child(theirs, ours)
        except OSError as error:
            sys.stderr.write(f"No process can be started: {error.strerror}.\n")
            self._fork_at = time.monotonic() + FORK_PAUSE_SECONDS
            ours.close()
            return
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
            theirs.close()
        ours.setblocking(False)
        child = self._all[pid] = Child(pid, ours)
        self.selector.register(ours, selectors.EVENT_READ, lambda: self._hear(child))

    def _be_a_child(self, channel: socket.socket, parents_end: socket.socket) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            for child in self._all.values():
                child.channel.close()
            parents_end.close()
            self.forget()
            from resources.launcher.worker import work

            work(channel)
            code = 0
        except BaseException:  # noqa: BLE001 -- a fork never returns into the parent's code
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _hear(self, child: Child) -> bool:
        """A child says that it is ready, or whether it takes its run; False when it says nothing more."""
        try:
            part = child.channel.recv(MOST_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            part = b""
        for said in child.lines.feed(part):
            if "ready" in said:
                child.ready = True
            else:
                self._settle(child, said)
        if not part:
            self._part(child)
        return bool(part)

    def _part(self, child: Child) -> None:
        """Close a child's channel: one that has not accepted by then has not touched its run."""
        self._settle(child, {"refused": "the process that should carry it ended"})
        with suppress(KeyError, ValueError):
            self.selector.unregister(child.channel)
        child.channel.close()

    @staticmethod
    def _settle(child: Child, message: Message) -> None:
        if child.answer is not None:
            child.answer(message)
            child.answer = None
