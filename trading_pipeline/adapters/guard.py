"""Runs one command and takes it down, with all it started, when whoever asked for it lets go or dies.

A script, run by path with the standard library alone (10 MB, 20 ms), once per supervised process. Its standard input is a
pipe whose other end only the supervisor holds: the end of it, by closing or by kill -9, is the order to stop, so that a clean
stop and a crash go the same way.

    python -I -S guard.py GRACE_SECONDS [--orphans] COMMAND...

With `--orphans` it also kills, at the end, whoever has left the command's group; without, these may be servers that are meant to stay.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

_SUPERVISOR = 0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LAST_WORDS_SECONDS = 5.0
_PROC = sys.platform == "linux"


def main(grace: float, command: list[str], *, orphans: bool = False) -> int:
    """Run to the end of the command or of the pipe; the command's exit code, or 128 + signal."""
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    # Handlers, not SIG_IGN: ignoring is inherited through exec, and Dagster copies its SIGTERM from SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_tied())
    while child.poll() is None:
        ready, _, _ = select.select([_SUPERVISOR, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
        if _SUPERVISOR in ready:
            # The command alone first: a code server then waits for the runs it started.
            child.terminate()
            _wait(lambda: child.poll() is None, grace)
            break
    _signal(child, signal.SIGTERM)
    _wait(lambda: _populated(child), _LAST_WORDS_SECONDS)
    _signal(child, signal.SIGKILL)
    code = child.wait()
    if orphans:
        _wait(_orphaned, _LAST_WORDS_SECONDS)
    return 128 - code if code < 0 else code


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def _signal(child: "subprocess.Popen[bytes]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _populated(child: "subprocess.Popen[bytes]") -> bool:
    """Whether anybody of the command's group lives; reaps those it left to us."""
    if child.poll() is not None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-child.pid, os.WNOHANG)[0]:
                pass
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _orphaned() -> bool:
    """Kill those whom the kernel has handed to us, and say whether there were any: their own children come next."""
    everybody = os.listdir("/proc") if _PROC else []  # noqa: PTH208 - pathlib takes as long to import as all the rest
    found = [pid for pid in map(int, filter(str.isdigit, everybody)) if _parent(pid) == os.getpid()]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    return bool(found)


def _parent(pid: int) -> int:
    """A process's parent; 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - as above
            # The name, in brackets, may hold anything.
            return int(stat.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _tied() -> Callable[[], object] | None:
    """On Linux: the kernel kills the command when this guard is killed, and hands us its orphans."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    guard = os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            # Killed between the fork and the line above: the signal has been missed.
            os.kill(os.getpid(), signal.SIGKILL)

    return tie


if __name__ == "__main__":
    _orphans = sys.argv[2:3] == ["--orphans"]
    sys.exit(main(float(sys.argv[1]), sys.argv[2 + _orphans :], orphans=_orphans))
