"""Runs one program that may hang, flood, or leave children behind, and comes back in time with what it printed.

It runs under the `guard`, which ends it when our end of a pipe closes: because we let go, or were killed. Its input is a file, so that
nothing has to be fed to it while its output is read. The end is that of the program, not of its output, which a child that it leaves
behind may hold open for ever. Such children are killed: the guard does it for the program's group, this module for those that have left it.
"""

import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import psutil

from trading_pipeline.adapters import guard

LINGER_SECONDS: Final = 2.0
"""What a program is given to end once it has said everything (anthropics/claude-code#50777: alive two hours after its result)."""
MAX_STDERR: Final = 16_384
"""Bytes, the last ones."""
_TICK_SECONDS: Final = 0.05
_KILL_SECONDS: Final = 5.0


class Stop(StrEnum):
    """Why a program was ended."""

    TIMEOUT = "timeout"
    OVERFLOW = "overflow"
    CLOSED = "closed"
    DONE = "done"
    """It had said everything and did not end."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of it: `code` as the guard gives it (128 + signal), `stop` None when it ended by itself."""

    code: int
    stdout: bytes
    stderr: bytes
    stop: Stop | None


def run_bounded(
    command: Sequence[str], *, stdin: Path, folder: Path, environment: Mapping[str, str], seconds: float, most: int,
    complete: Callable[[bytes], bool], closing: threading.Event,
) -> Ran:
    """Run a program to its end, or end it.

    Args:
        command: The program and its arguments; no shell reads them.
        stdin: The file that is its standard input.
        folder: Its working folder.
        environment: Its whole environment.
        seconds: After nine tenths of these, but at most a second before the end, it is asked to end (SIGTERM); then it is killed.
        most: Bytes of standard output.
        complete: Whether an output says everything there is to say.
        closing: Set from another thread to end it at once.

    Raises:
        OSError: It cannot be started.
    """
    grace = min(1.0, seconds / 10)
    # The shell is there for the redirection alone: the guard's own standard input is its leash.
    argv = [sys.executable, "-I", "-S", guard.__file__, str(grace), "--orphans", "/bin/sh", "-c", 'exec "$@" <"$0"', str(stdin), *command]
    deadline = time.monotonic() + seconds
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=dict(environment),
        start_new_session=True,
    )
    try:
        return _watched(process, deadline, grace, most, complete, closing)
    finally:
        _kill_tree(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _watched(
    process: "subprocess.Popen[bytes]", deadline: float, grace: float, most: int, complete: Callable[[bytes], bool],
    closing: threading.Event,
) -> Ran:
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    out, err = bytearray(), bytearray()
    stop: Stop | None = None
    seen: list[psutil.Process] = []
    said_at = kill_at = float("inf")
    with selectors.DefaultSelector() as selector:
        for stream, kept in ((process.stdout, out), (process.stderr, err)):
            selector.register(stream, selectors.EVENT_READ, kept)
        while True:
            ended = process.poll() is not None
            ready = selector.select(0 if ended else _TICK_SECONDS)
            for key, _ in ready:
                chunk = os.read(key.fd, 65_536)
                key.data.extend(chunk)
                if not chunk:
                    selector.unregister(key.fileobj)
            del err[:-MAX_STDERR]
            now = time.monotonic()
            if len(out) > most or (ended and (not ready or now >= deadline)):
                break
            if any(key.data is out for key, _ in ready):
                said_at = now if complete(bytes(out)) else float("inf")
                if said_at == now:
                    # While their parent lives: later nothing tells whose they were.
                    seen += _tree(process)
            if stop is None:
                stop = _why_stop(now, deadline - grace, said_at, closing)
                if stop is not None:
                    seen += _tree(process)
                    process.stdin.close()
                    kill_at = now + grace
            if now >= kill_at:
                _kill_tree(process)
                kill_at = float("inf")
    if len(out) > most:
        stop = Stop.OVERFLOW
    _kill_tree(process)
    _kill(seen)
    return Ran(process.wait(), bytes(out[:most]), bytes(err), stop)


def _why_stop(now: float, polite_end: float, said_at: float, closing: threading.Event) -> Stop | None:
    if closing.is_set():
        return Stop.CLOSED
    if now >= said_at + LINGER_SECONDS:
        return Stop.DONE
    return Stop.TIMEOUT if now >= polite_end else None


def _kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """Kill whoever descends from the guard, to which orphans come back on Linux, then the guard; nothing when it has ended."""
    give_up = time.monotonic() + _KILL_SECONDS
    while (tree := _tree(process)) and time.monotonic() < give_up:
        _kill(tree)
        time.sleep(0.005)
    process.kill()
    process.wait()


def _tree(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The living descendants of a process; none of one that has ended."""
    living = []
    if process.poll() is None:
        with suppress(psutil.Error):
            for each in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    if each.status() != psutil.STATUS_ZOMBIE:
                        living.append(each)
    return living


def _kill(processes: Sequence[psutil.Process]) -> None:
    for each in processes:
        # psutil knows a process from another one that has got its number.
        with suppress(psutil.Error):
            each.kill()
