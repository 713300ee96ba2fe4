"""The process that warm runs are forked from: everything imported, nothing connected, one thread.

    python -m resources.launcher.parent SOCKET MODULE [VARIABLE...]

It never runs a step itself and opens neither database nor channel, so a fork inherits nothing that two processes must not
share. Two spare children wait, connected. When a file of the code or of the home's settings changes it refuses, lets its runs end
and starts itself anew: Dagster's "reload" button does not reach it. Code that cannot be loaded is refused in the same way, and tried
again, rather than ending the process: the default launcher tells its user what is wrong.
"""

import fcntl
import gc
import os
import selectors
import signal
import socket
import stat
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from resources.launcher.children import STOPS, Children
from resources.launcher.environment import scrub
from resources.launcher.protocol import MOST_BYTES, Lines, Message, packed

QUESTION_SECONDS = 2.0
"""Who connects asks within this, or is hung up on."""
REMEMBERED = 500
"""Runs that are known to have been taken; an older one has a status that tells."""
_TICK_SECONDS = 1.0
_EVER = float("inf")


@dataclass(slots=True, eq=False)
class _Asker:
    """Somebody connected, who asks by `deadline` and then waits for the answer."""

    connection: socket.socket
    deadline: float
    lines: Lines = field(default_factory=Lines)


@dataclass(slots=True)
class Parent:
    """Answers questions; see `serve`.

    Args:
        path: Where `listener` listens.
        lock: A descriptor that children let go of.
        state: Of the code and the settings; a difference means that what is imported is old.
        cannot: Why no run can be carried, empty if one can.
    """

    path: Path
    listener: socket.socket
    lock: int
    state: Callable[[], object]
    cannot: str = ""
    _seen: object = None
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _wake: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)
    _children: Children = field(init=False)
    _askers: set[_Asker] = field(default_factory=set)
    _taken: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _stopping: bool = False
    _stale: bool = False

    def serve(self) -> bool:
        """Work until told to stop, or until the code has changed and the last run has ended: then True."""
        self._seen = self.state()
        self._children = Children(self._selector, self._forget)
        waker, woken = self._wake
        for end in (waker, woken, self.listener):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in STOPS:
            signal.signal(number, self._stop)
        self._selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(MOST_BYTES))
        self._selector.register(self.listener, selectors.EVENT_READ, self._accept)
        while self._children.runs() or not (self._stopping or self._stale):
            if not (self.cannot or self._stopping or self._stale):
                self._children.keep_spares()
            for key, _ in self._selector.select(_TICK_SECONDS):
                key.data()
            self._children.reap()
            self._children.lose_patience()
            for asker in [asker for asker in self._askers if time.monotonic() > asker.deadline]:
                self._hang_up(asker)
        self._close()
        return self._stale and not self._stopping

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _close(self) -> None:
        """Answer whoever has come, so that nobody takes our end for a run that may have begun; let the spares go."""
        self.path.unlink(missing_ok=True)
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        while self._accept():
            pass
        for asker in list(self._askers):
            self._answer(asker, {"refused": "the launcher ends"})
        self._children.let_go()
        signal.set_wakeup_fd(-1)
        for end in self._wake:
            end.close()

    def _forget(self) -> None:
        """In a child: let go of what is the parent's."""
        for asker in self._askers:
            asker.connection.close()
        for end in (*self._wake, self.listener):
            end.close()
        self._selector.close()
        os.close(self.lock)

    def _accept(self) -> bool:
        try:
            connection, _ = self.listener.accept()
        except OSError:  # nobody, or somebody who has gone again
            return False
        connection.setblocking(False)
        asker = _Asker(connection, time.monotonic() + QUESTION_SECONDS)
        self._askers.add(asker)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(asker))
        return True

    def _read(self, asker: _Asker) -> None:
        try:
            part = asker.connection.recv(MOST_BYTES)
            questions = asker.lines.feed(part)
        except (OSError, ValueError):
            part, questions = b"", []
        if questions:
            # It has asked: nothing more is read from it.
            self._selector.unregister(asker.connection)
            asker.deadline = _EVER
            self._consider(questions[0], asker)
        elif not part:
            self._hang_up(asker)

    def _hang_up(self, asker: _Asker) -> None:
        self._askers.discard(asker)
        with suppress(KeyError, ValueError):
            self._selector.unregister(asker.connection)
        asker.connection.close()

    def _answer(self, asker: _Asker, answer: Mapping[str, Any]) -> None:
        with suppress(OSError):
            asker.connection.sendall(packed(answer))
        self._hang_up(asker)

    def _consider(self, question: Message, asker: _Asker) -> None:
        match question:
            case {"do": "launch", "run_id": str(run_id)}:
                self._launch(run_id, asker)
            case {"do": "terminate", "run_id": str(run_id)}:
                self._answer(asker, {"terminated": self._children.interrupt(run_id)})
            case {"do": "tell"}:
                spares = [child.pid for child in self._children.spares() if child.ready]
                self._answer(asker, {"pid": os.getpid(), "runs": self._children.runs(), "spares": spares})
            case _:
                self._answer(asker, {"refused": "that is no question"})

    def _launch(self, run_id: str, asker: _Asker) -> None:
        def answer(message: Message) -> None:
            if "accepted" in message:
                self._taken.append(run_id)
            self._answer(asker, message)

        if run_id in self._taken or run_id in self._children.runs():
            self._answer(asker, {"taken": run_id})
        elif refusal := self._refusal():
            self._answer(asker, {"refused": refusal})
        elif not self._children.hand_over(run_id, answer):
            self._answer(asker, {"refused": "no process can be started for it"})

    def _refusal(self) -> str:
        if self._stopping:
            return "the launcher is stopping"
        if self.cannot:
            self._stale = True
            return self.cannot
        self._stale = self._stale or self.state() != self._seen
        return "the code or the settings have changed, and the launcher starts anew" if self._stale else ""


def main(path: Path, module: str, variables: Sequence[str] = ()) -> int:
    """Serve at a socket; the exit code. Starts itself anew when the code changes.

    Args:
        path: Of the socket, in a private folder.
        module: The code location.
        variables: Names of environment variables that runs need besides those of `environment`.
    """
    scrub(variables)
    folder = path.parent.stat()
    if folder.st_uid != os.getuid() or stat.S_IMODE(folder.st_mode) & 0o077:
        sys.stderr.write(f"{path.parent} is not private: the launcher's socket lies in a folder of mode 0700 of one's own.\n")
        return 2
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"Another launcher serves {path}: one a home.\n")
        return 2
    from resources.launcher.warmth import warm_up, watch

    cannot = ""
    try:
        warm_up(module)
    except Exception as error:  # noqa: BLE001 -- the code of others
        traceback.print_exc()
        cannot = f"the code cannot be loaded: {error!r}"
    if threads := psutil.Process().num_threads() - 1:
        cannot = cannot or f"the code starts {threads} threads when it is imported, and a fork would lose them"
    gc.collect()
    gc.freeze()
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        os.umask(mask)
        listener.listen(64)
        anew = Parent(path, listener, lock, watch(), cannot).serve()
    if anew:
        os.execv(sys.executable, sys.orig_argv)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
