"""A socket before PostgreSQL that loses the connection at a COMMIT: before the server hears of it, or before its answer is heard.

It reads just enough of the protocol to know a COMMIT when one passes; everything else goes through as it is.
"""

import select
import socket
import threading
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

COMMIT = b"COMMIT\x00"


class CuttingProxy:
    """Listens on a Unix socket of its own; `cut` arms it for one COMMIT."""

    def __init__(self, folder: Path, target: sa.URL) -> None:
        name = f".s.PGSQL.{target.query['port']}"
        self._target = str(Path(str(target.query["host"])) / name)
        self.url = target.set(query={**target.query, "host": str(folder)})
        self._left = 0
        self._answered = False
        self.cuts = 0
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / name))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, commit: int, *, answered: bool) -> None:
        """Lose the connection at this COMMIT from now, the first being 1; with `answered` the server has done it and nobody is told."""
        with self._lock:
            self._left, self._answered = commit, answered

    def close(self) -> None:
        """Let nobody in any more."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self._target)
            while True:
                readable, _, _ = select.select([client, server], [], [])
                for side in readable:
                    data = side.recv(65_536)
                    if not data:
                        return
                    if side is client and COMMIT in data and self._is_the_one():
                        if self._answered:
                            server.sendall(data)
                            server.recv(65_536)
                        return
                    (server if side is client else client).sendall(data)

    def _is_the_one(self) -> bool:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self.cuts += 1
                return True
            return False
