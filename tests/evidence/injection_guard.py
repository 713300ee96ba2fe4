"""What a process does to the world while it is watched, as the interpreter itself reports it (PEP 578).

An audit hook sees every file that is opened, every connection, every program started and every source compiled, whichever library does
it and in whichever thread. What native code does past the interpreter it does not see.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.evidence.report import ROOT
from tests.network_guard import is_loopback

_PROGRAMS = frozenset({
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile", "webbrowser.open",
})
_CHANGES = {
    "os.remove": 1, "os.rename": 2, "os.rmdir": 1, "os.mkdir": 1, "os.chmod": 1, "os.chown": 1, "os.link": 2, "os.symlink": 2,
    "os.truncate": 1, "os.utime": 1, "shutil.rmtree": 1, "shutil.move": 2, "shutil.copyfile": 2,
}
"""How many of the arguments are paths."""
_OURS = tuple(f"{Path(each).resolve()}{os.sep}" for each in (sys.prefix, sys.base_prefix, ROOT))
"""Where programs may read: code, and the data that comes with it."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Guard:
    """One a process: a hook cannot be taken away again, only be idle."""

    def __init__(self) -> None:
        self._home, self._token, self._ports = "", "", frozenset[int]()
        self._writable: tuple[str, ...] = ()
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    @contextmanager
    def watching(self, home: Path, writable: Sequence[str], ports: Sequence[int], token: str) -> Iterator[list[str]]:
        """What is done that may not be done.

        Args:
            home: The only folder, besides the program's own, where anything may be read.
            writable: The names in it under which anything may be written.
            ports: Of the servers on loopback that may be spoken to.
            token: What no compiled source may hold; empty: nothing.
        """
        self.seen, self._token, self._ports = [], token, frozenset(ports)
        self._writable = tuple(str(home.resolve() / name) for name in writable)
        self._home = f"{home.resolve()}{os.sep}"
        try:
            yield self.seen
        finally:
            self._home = ""

    def _hook(self, event: str, given: tuple[Any, ...]) -> None:
        if not self._home:
            return
        if event == "open":
            self._opened(*given)
        elif event in _CHANGES:
            for path in given[: _CHANGES[event]]:
                self._written(event, path)
        elif event in _PROGRAMS:
            self.seen.append(f"{event} {given!r:.200}")
        elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            address = given[1]
            if address is not None and not (isinstance(address, tuple) and is_loopback(address[0]) and address[1] in self._ports):
                self.seen.append(f"{event} {address!r}")
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            if not is_loopback(given[0]):
                self.seen.append(f"{event} {given[0]!r}")
        elif event == "compile" and self._token and given[0] is not None:
            source = given[0].decode("utf-8", "replace") if isinstance(given[0], bytes) else str(given[0])
            if self._token in source:
                self.seen.append(f"foreign words are compiled as {given[1]!r}")

    @staticmethod
    def _name(path: Any) -> str:
        # Links stay as they are: what is opened through one is told by its own name.
        return os.path.abspath(os.fsdecode(path))  # noqa: PTH100

    def _opened(self, path: Any, mode: str | None, flags: int) -> None:
        if isinstance(path, int):
            return
        if (mode is not None and set(mode) & set("wax+")) or flags & _WRITES:
            self._written("open", path)
            return
        name = self._name(path)
        if not f"{name}{os.sep}".startswith((self._home, *_OURS)):
            self.seen.append(f"{name} is read")

    def _written(self, event: str, path: Any) -> None:
        if path is None or isinstance(path, int):
            return
        name = self._name(path)
        if not name.startswith(self._writable) and not (event == "os.mkdir" and f"{name}{os.sep}" == self._home):
            self.seen.append(f"{event} {name}")
