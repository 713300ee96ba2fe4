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
from typing import Any, NoReturn

import psutil

from resources.launcher.environment import scrub
from resources.launcher.protocol import MOST_BYTES, Lines, Message, packed

SPARES = 2
SPARE_SECONDS = 3600.0
"""A spare that has waited so long makes room for a fresh one: nothing between it and a distant database has been heard of since."""
KILL_SECONDS = 15.0
"""From the interrupt of a run to its kill -9; below run_monitoring's cancel_timeout_seconds, so that a run called cancelled is gone."""
QUESTION_SECONDS = 2.0
"""Who connects asks within this, or is hung up on."""
FORK_PAUSE_SECONDS = 2.0
"""After a child that could not connect: the database may be starting again."""
REMEMBERED = 500
"""Runs that are known to have been taken; an older one has a status that tells."""
_TICK_SECONDS = 1.0
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True, eq=False)
class _Asker:
    """Somebody connected: asking until `deadline`, then waiting for the answer."""

    connection: socket.socket
    deadline: float
    lines: Lines = field(default_factory=Lines)


@dataclass(slots=True, eq=False)
class _Child:
    pid: int
    channel: socket.socket
    lines: Lines = field(default_factory=Lines)
    ready: bool = False
    run_id: str = ""
    asker: _Asker | None = None
    """Who waits for this child's answer."""
    interrupted: float | None = None
    born: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Parent:
    """Forks, hands out runs, reaps; see `serve`.

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
    _waker: socket.socket = field(init=False)
    _askers: set[_Asker] = field(default_factory=set)
    _children: dict[int, _Child] = field(default_factory=dict)
    _taken: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _fork_at: float = 0.0
    _stopping: bool = False
    _stale: bool = False

    def serve(self) -> bool:
        """Work until told to stop, or until the code has changed and the last run has ended: then True."""
        self._seen = self.state()
        self._waker, woken = socket.socketpair()
        for end in (self._waker, woken, self.listener):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in _STOPS:
            signal.signal(number, self._stop)
        self._selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(MOST_BYTES))
        self._selector.register(self.listener, selectors.EVENT_READ, self._accept)
        while not ((self._stopping or self._stale) and not self._busy()):
            self._keep_spares()
            for key, _ in self._selector.select(_TICK_SECONDS):
                key.data()
            self._reap()
            self._lose_patience()
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
        for child in self._children.values():
            child.channel.close()
        self._waker.close()

    # Children

    def _busy(self) -> bool:
        return any(child.run_id for child in self._children.values())

    def _spares(self) -> list[_Child]:
        spares = (child for child in self._children.values() if not child.run_id and child.channel.fileno() >= 0)
        return sorted(spares, key=lambda child: not child.ready)

    def _keep_spares(self) -> None:
        if self.cannot or self._stopping or self._stale:
            return
        # While a run works, its successor's connecting would only take its CPU: one spare is enough.
        for _ in range(len(self._spares()), 1 if self._busy() else SPARES):
            self._fork()

    def _fork(self) -> None:
        if time.monotonic() < self._fork_at:
            return
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        # A stop that reaches the child before it can tell its own would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
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
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
            theirs.close()
        ours.setblocking(False)
        child = self._children[pid] = _Child(pid, ours)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(child))

    def _be_a_child(self, channel: socket.socket, parents_end: socket.socket) -> NoReturn:
        code = 1
        try:
            self._forget()
            parents_end.close()
            from resources.launcher.worker import work

            work(channel)
            code = 0
        except BaseException:  # noqa: BLE001 -- a fork never returns into the parent's code
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _forget(self) -> None:
        """In a child: let go of what is the parent's."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        waiting = [child.asker for child in self._children.values() if child.asker is not None]
        for asker in (*self._askers, *waiting):
            asker.connection.close()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        self._waker.close()
        os.close(self.lock)

    def _hear(self, child: _Child) -> bool:
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

    def _settle(self, child: _Child, answer: Message) -> None:
        if child.asker is not None:
            if "accepted" in answer:
                self._taken.append(child.run_id)
            self._answer(child.asker, answer)
            child.asker = None

    def _part(self, child: _Child) -> None:
        """A child has closed its end: without having accepted it has not touched the run."""
        self._settle(child, {"refused": "the process that should carry it ended"})
        with suppress(KeyError, ValueError):
            self._selector.unregister(child.channel)
        child.channel.close()

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                child = self._children.pop(ended[0], None)
                if child is None:
                    continue  # of this process before it started itself anew
                while child.channel.fileno() >= 0 and self._hear(child):
                    pass
                self._part(child)
                if not child.ready:
                    self._fork_at = time.monotonic() + FORK_PAUSE_SECONDS

    def _lose_patience(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.interrupted is not None and now - child.interrupted > KILL_SECONDS:
                os.kill(child.pid, signal.SIGKILL)
        for spare in self._spares():
            if now - spare.born > SPARE_SECONDS:
                self._part(spare)
        for asker in [asker for asker in self._askers if now > asker.deadline]:
            self._hang_up(asker)

    # Questions

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
            self._heed(asker)
            self._consider(questions[0], asker)
        elif not part:
            self._hang_up(asker)

    def _heed(self, asker: _Asker) -> None:
        """It has asked: nothing more is read from it."""
        if asker in self._askers:
            self._askers.remove(asker)
            self._selector.unregister(asker.connection)

    def _hang_up(self, asker: _Asker) -> None:
        self._heed(asker)
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
                self._answer(asker, {"terminated": self._terminate(run_id)})
            case {"do": "tell"}:
                self._answer(asker, self._tell())
            case _:
                self._answer(asker, {"refused": "that is no question"})

    def _launch(self, run_id: str, asker: _Asker) -> None:
        if run_id in self._taken or any(child.run_id == run_id for child in self._children.values()):
            self._answer(asker, {"taken": run_id})
            return
        if refusal := self._refusal():
            self._answer(asker, {"refused": refusal})
            return
        if not self._spares():
            self._fork()
        for child in self._spares():
            try:
                child.channel.sendall(packed({"run_id": run_id}))
            except OSError:
                continue  # it has just died; it is reaped in a moment
            child.run_id, child.asker = run_id, asker
            return
        self._answer(asker, {"refused": "no process can be started for it"})

    def _refusal(self) -> str:
        if self._stopping:
            return "the launcher is stopping"
        if self.cannot:
            self._stale = True
            return self.cannot
        self._stale = self._stale or self.state() != self._seen
        return "the code or the settings have changed, and the launcher starts anew" if self._stale else ""

    def _terminate(self, run_id: str) -> bool:
        for child in self._children.values():
            if child.run_id == run_id:
                os.kill(child.pid, signal.SIGINT)
                child.interrupted = child.interrupted or time.monotonic()
                return True
        return False

    def _tell(self) -> Message:
        children = self._children.values()
        return {
            "pid": os.getpid(), "runs": {child.run_id: child.pid for child in children if child.run_id},
            "spares": [child.pid for child in self._spares() if child.ready],
        }


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
