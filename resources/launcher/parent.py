"""The process that warm runs are forked from: everything imported, nothing connected, one thread.

    python -m resources.launcher.parent SOCKET MODULE

It never runs a step itself and opens neither database nor channel, so a fork inherits nothing that two processes must not
share. Two spare children wait, connected. When a file of the code or of the home's settings changes it refuses, lets its runs end
and starts itself anew: Dagster's "reload" button does not reach it.
"""

import fcntl
import gc
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resources.launcher.protocol import MOST_BYTES, packed, unpacked
from resources.launcher.warmth import fingerprint, warm_up

SPARES = 2
FORK_PAUSE_SECONDS = 2.0
"""After a child that could not connect: the database may be starting again."""
REMEMBERED = 500
_TICK_SECONDS = 1.0


@dataclass(slots=True)
class _Child:
    pid: int
    channel: socket.socket
    ready: bool = False
    run_id: str = ""
    asker: socket.socket | None = None
    """Who waits for this child's answer."""


@dataclass(slots=True)
class Parent:
    """Forks, hands out runs, reaps; see `serve`."""

    listener: socket.socket
    lock: int
    module: str
    seen: Mapping[str, float] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _children: dict[int, _Child] = field(default_factory=dict)
    _taken: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _fork_at: float = 0.0
    _stopping: bool = False
    _stale: bool = False

    def serve(self) -> bool:
        """Work until told to stop, or until the code has changed and the last run has ended: then True."""
        waker, woken = socket.socketpair()
        for end in (waker, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        self._selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(4096))
        self._selector.register(self.listener, selectors.EVENT_READ, self._accept)
        while True:
            self._keep_spares()
            for key, _ in self._selector.select(_TICK_SECONDS):
                key.data()
            self._reap()
            if (self._stopping or self._stale) and not any(child.run_id for child in self._children.values()):
                self._let_spares_go()
                waker.close()
                return self._stale and not self._stopping

    def _stop(self, *_: object) -> None:
        self._stopping = True

    # Children

    def _keep_spares(self) -> None:
        if self._stopping or self._stale or time.monotonic() < self._fork_at:
            return
        spares = sum(not child.run_id for child in self._children.values())
        busy = any(child.run_id for child in self._children.values())
        # While a run works, its successor's connecting would only take its CPU: one spare is enough.
        for _ in range(spares, 1 if busy else SPARES):
            self._fork()

    def _fork(self) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                ours.close()
                self._forget()
                from resources.launcher.worker import work

                code = work(theirs)
            except BaseException:  # noqa: BLE001 -- a fork never returns into the parent's code
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        theirs.close()
        child = _Child(pid, ours)
        self._children[pid] = child
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._heard(child))

    def _forget(self) -> None:
        """In a child: let go of what is the parent's."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        for child in self._children.values():
            if child.asker is not None:
                child.asker.close()
        self._selector.close()
        os.close(self.lock)

    def _heard(self, child: _Child) -> None:
        """A child says that it is ready, or answers whether it takes its run; or it has gone."""
        try:
            line = child.channel.recv(MOST_BYTES)
            said = unpacked(line) if line else {}
        except (OSError, ValueError):
            said = {}
        if "ready" in said:
            child.ready = True
            return
        if child.asker is not None:
            # Silence before acceptance: the child died before it could touch the run.
            self._answer(child.asker, said or {"refused": "the process that should carry it ended"})
            child.asker = None
        if not said:
            self._drop_channel(child)

    def _drop_channel(self, child: _Child) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(child.channel)
        child.channel.close()

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                child = self._children.pop(ended[0], None)
                if child is None:
                    continue
                if child.channel.fileno() >= 0:
                    self._heard(child)
                    self._drop_channel(child)
                if not child.ready:
                    self._fork_at = time.monotonic() + FORK_PAUSE_SECONDS

    def _let_spares_go(self) -> None:
        for child in self._children.values():
            self._drop_channel(child)
        for pid in list(self._children):
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._children.clear()

    # Questions

    def _accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        connection.settimeout(1.0)
        try:
            question = unpacked(connection.recv(MOST_BYTES))
        except (OSError, ValueError):
            connection.close()
            return
        match question:
            case {"do": "launch", "run_id": str(run_id)}:
                self._launch(run_id, connection)
            case {"do": "terminate", "run_id": str(run_id)}:
                self._answer(connection, {"terminated": self._terminate(run_id)})
            case {"do": "tell"}:
                self._answer(connection, self._tell())
            case _:
                self._answer(connection, {"refused": "that is no question"})

    def _launch(self, run_id: str, asker: socket.socket) -> None:
        if refusal := self._refusal(run_id):
            self._answer(asker, {"refused": refusal})
            return
        spares = [child for child in self._children.values() if not child.run_id]
        if not spares and time.monotonic() >= self._fork_at:
            self._fork()
            spares = [child for child in self._children.values() if not child.run_id]
        spares.sort(key=lambda child: not child.ready)
        for child in spares:
            try:
                child.channel.sendall(packed({"run_id": run_id}))
            except OSError:
                continue  # it has just died; it is reaped in a moment
            child.run_id, child.asker = run_id, asker
            self._taken.append(run_id)
            return
        self._answer(asker, {"refused": "no process can be started for it"})

    def _refusal(self, run_id: str) -> str:
        if run_id in self._taken:
            return "it was taken before"
        if self._stopping:
            return "the launcher is stopping"
        self._stale = self._stale or fingerprint() != self.seen
        return "the code or the settings have changed; the launcher starts anew" if self._stale else ""

    def _terminate(self, run_id: str) -> bool:
        for child in self._children.values():
            if child.run_id == run_id:
                os.kill(child.pid, signal.SIGINT)
                return True
        return False

    def _tell(self) -> dict[str, Any]:
        children = self._children.values()
        return {
            "pid": os.getpid(), "runs": {child.run_id: child.pid for child in children if child.run_id},
            "spares": [child.pid for child in children if not child.run_id and child.ready],
        }

    def _answer(self, asker: socket.socket, answer: Mapping[str, Any]) -> None:
        with suppress(OSError):
            asker.sendall(packed(answer))
        asker.close()


def main(path: Path, module: str) -> int:
    """Serve at a socket; the exit code. Starts itself anew when the code changes."""
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"Another launcher serves {path}: one a home.\n")
        return 2
    warm_up(module)
    gc.collect()
    gc.disable()
    gc.freeze()
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        os.umask(mask)
        listener.listen(64)
        anew = Parent(listener, lock, module, fingerprint()).serve()
        path.unlink(missing_ok=True)
    if anew:
        os.execv(sys.executable, [sys.executable, "-m", "resources.launcher.parent", str(path), module])
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
