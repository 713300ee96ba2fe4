"""A provider that keeps its own books: Anthropic's Messages API as far as the real SDK needs it, in a process of its own.

What it bills is its own count, by its own prices, kept while whoever asked is killed: `GET /RUN/bill`. It bills as much as it may: now and
then every byte a token, all of them written to a cache, and a reply as long as was allowed. It fails as providers do: overloaded (not
billed), broken after the work (billed), the connection cut after the work (billed), a reply that is none (billed).
"""

import json
import os
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

MILLION = Decimal(1_000_000)
FRESH, WRITTEN, CACHED, OUT = Decimal(1), Decimal("1.25"), Decimal("0.10"), Decimal(5)
"""USD for a million tokens of claude-haiku-4-5. Source: https://platform.claude.com/docs/en/about-claude/pricing, 2026-11-21."""
FRAME = 1_500
"""Tokens it bills beyond the words, at most."""
LONGEST_SECONDS = 0.03


class Books:
    """Every run's bill, by the first word of what was asked (the strategy), and the models that were asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usd: dict[str, Counter[str]] = defaultdict(Counter)
        self._calls: Counter[str] = Counter()
        self._models: dict[str, set[str]] = defaultdict(set)

    def enter(self, run: str, who: str, model: str, amount: Decimal) -> None:
        """One call."""
        with self._lock:
            self._calls[run] += 1
            self._models[run].add(model)
            self._usd[run][who] += amount  # type: ignore[assignment]  # a Counter adds up anything

    def bill(self, run: str) -> dict[str, Any]:
        """As JSON values."""
        with self._lock:
            usd = {who: format(amount, "f") for who, amount in self._usd[run].items()}
            return {"usd": usd, "calls": self._calls[run], "models": sorted(self._models[run])}


class _Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    books = Books()
    dice = Random(7)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        run, dice = self.path.split("/")[1], Random(f"{self.dice.random()}")
        time.sleep(dice.uniform(0, LONGEST_SECONDS))
        fate = dice.random()
        words = "".join(part["text"] for part in (*body.get("system", ()), *body["messages"][0]["content"]))
        who = body["messages"][0]["content"][0]["text"].split()[0]
        if fate < 0.08:
            self.books.enter(run, who, body["model"], Decimal(0))
            self._send(529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, {"retry-after": "0"})
            return
        usage = self._usage(len(words.encode()), body["max_tokens"], dice)
        fresh, cached, written, out = usage.values()
        self.books.enter(run, who, body["model"], (fresh * FRESH + cached * CACHED + written * WRITTEN + out * OUT) / MILLION)
        if fate < 0.12:
            self._send(500, {"type": "error", "error": {"type": "api_error", "message": "Internal"}}, {"retry-after": "0"})
        elif fate < 0.16:
            self.close_connection = True
            self.connection.close()
        else:
            symbol = body["output_config"]["format"]["schema"]["properties"]["symbol"]["enum"][0]
            reply = {
                "action": "HOLD", "symbol": symbol, "confidence": 0.5, "rationale": "nothing to do", "figures": [], "limit": None,
                "stop": None, "targets": [],
            }
            text = "I would rather not say" if fate < 0.3 else json.dumps(reply)
            self._send(200, {
                "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5-20251001", "stop_reason": "end_turn",
                "stop_sequence": None, "content": [{"type": "text", "text": text}], "usage": usage,
            })

    def _usage(self, size: int, most: int, dice: Random) -> dict[str, int]:
        if dice.random() < 0.3:
            return {"input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": size + FRAME, "output_tokens": most}
        total = dice.randint(size // 4, size + FRAME)
        cached = dice.randint(0, total)
        written = dice.randint(0, total - cached)
        return {
            "input_tokens": total - cached - written, "cache_read_input_tokens": cached, "cache_creation_input_tokens": written,
            "output_tokens": dice.randint(1, most),
        }

    def do_GET(self) -> None:
        self._send(200, self.books.bill(self.path.split("/")[1]))

    def _send(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def handle(self) -> None:
        """Who asked may be killed at any moment."""
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError, ValueError):
            self.close_connection = True

    def finish(self) -> None:
        """As `handle`."""
        try:
            super().finish()
        except (BrokenPipeError, ConnectionResetError, ValueError):
            return

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def provider() -> Iterator[int]:
    """The provider in a process of its own, forked; its port."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        ThreadingHTTPServer.request_queue_size = 128
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
        server.daemon_threads = True
        os.write(writing, str(server.server_port).encode())
        os.close(writing)
        server.serve_forever()
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            yield int(pipe.read())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def bill_of(port: int, run: str) -> dict[str, Any]:
    """What the provider will ask for."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", f"/{run}/bill")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found
    finally:
        connection.close()
