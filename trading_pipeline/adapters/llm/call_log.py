"""The log of calls to models (D6): one JSON line a call in `logs/llm/YYYYMMDD.jsonl`, by the UTC day of its end, secrets removed.

For people and their tools: nothing of the product reads it, and the ledger does not depend on it. So a disk that is full or a folder that
cannot be written costs lines, never a call. Each line is appended by one write, so that threads and processes never mix theirs.
Pictures are named by digest and live in the object store. Wrapped by the cassette: what is replayed was no call.
"""

import fcntl
import json
import logging
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from trading_pipeline.domain.models import Abilities, ModelFailure, ModelReply, ModelRequest, Provider
from trading_pipeline.domain.scrubbing import Scrubber
from trading_pipeline.ports import LLM

MAX_TEXT: Final = 100_000
"""Characters that are kept of each text; its size is kept as it was."""

_warn = logging.getLogger(__name__).warning


def _wall() -> datetime:
    return datetime.now(UTC)


class CallLog:
    """An `LLM` that keeps a line of every call to another one."""

    def __init__(
        self, inner: LLM, folder: Path, scrub: Scrubber | None = None, *, say: Callable[[str], object] = _warn,
        now: Callable[[], datetime] = _wall,
    ) -> None:
        """Log the calls of `inner`.

        Args:
            inner: Who is asked; closed with this.
            folder: Made when the first line is written, for its owner alone.
            scrub: Told the keys in use; None: by their form only.
            say: Told once when lines begin to be lost, and again after it had worked meanwhile.
            now: The wall clock; a replayed market's time would file real calls under days long gone.
        """
        self._inner = inner
        self._folder = folder
        self._scrub = scrub or Scrubber()
        self._say = say
        self._now = now
        self._lock = threading.Lock()
        self._losing = False

    @property
    def provider(self) -> Provider:
        """Whose models they are."""
        return self._inner.provider

    def abilities(self, model: str) -> Abilities:
        """What the model can do."""
        return self._inner.abilities(model)

    def recorded(self, request: ModelRequest) -> bool:
        """Whether the reply is at hand."""
        return self._inner.recorded(request)

    def ask(self, request: ModelRequest, timeout: float) -> ModelReply | ModelFailure:
        """One call, logged however it ends."""
        outcome: ModelReply | ModelFailure | None = None
        try:
            outcome = self._inner.ask(request, timeout)
            return outcome
        finally:
            self._keep(request, outcome)

    def close(self) -> None:
        """Close who is asked."""
        self._inner.close()

    def _keep(self, request: ModelRequest, outcome: ModelReply | ModelFailure | None) -> None:
        at = self._now()
        line = json.dumps({"at": at.isoformat(timespec="milliseconds"), **self._asked(request), **self._came(outcome)})
        path = self._folder / f"{at:%Y%m%d}.jsonl"
        with self._lock:
            try:
                self._append(path, f"{line}\n".encode())
            except OSError as error:
                if not self._losing:
                    self._say(f"Calls to models are not logged in {path}: {error.strerror or error}. They go on without.")
                self._losing = True
            else:
                self._losing = False

    def _append(self, path: Path, line: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # Another process may be in the middle of its line: that is none which was cut.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                # A line that a full disk has cut keeps its own.
                line = b"\n" + line
            written = os.write(descriptor, line)
        finally:
            os.close(descriptor)
        if written < len(line):
            raise OSError(f"{written:,} of {len(line):,} bytes were written")

    def _asked(self, request: ModelRequest) -> dict[str, Any]:
        temperature = request.sampling.temperature
        return {
            "provider": request.provider.value, "model": request.model, "request": request.digest,
            "system": self._kept(request.system), "text": self._kept(request.text), "schema": self._kept(request.schema),
            "characters": {"system": len(request.system), "text": len(request.text), "schema": len(request.schema)},
            "pictures": [{"sha256": each.sha256, "bytes": len(each.content)} for each in request.pictures],
            "max_tokens": request.sampling.max_tokens, "temperature": None if temperature is None else str(temperature),
        }

    def _came(self, outcome: ModelReply | ModelFailure | None) -> dict[str, Any]:
        match outcome:
            case ModelReply():
                usage = outcome.usage
                return {
                    "ending": outcome.ending.value, "reply": self._kept(outcome.text), "answered": self._kept(outcome.model),
                    "usage": {
                        "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, "cached_tokens": usage.cached_tokens,
                        "cache_write_tokens": usage.cache_write_tokens,
                    },
                    "cost": None if outcome.cost is None else str(outcome.cost), "request_id": self._kept(outcome.request_id),
                    "fingerprint": self._kept(outcome.fingerprint), "seconds": round(outcome.seconds, 3),
                }
            case ModelFailure():
                return {
                    "trouble": outcome.trouble.value, "detail": self._kept(outcome.detail), "free": outcome.free,
                    "retry_after": outcome.retry_after, "seconds": round(outcome.seconds, 3),
                }
            case None:
                return {"trouble": "raised", "detail": "an exception, which went on to whoever had asked"}

    def _kept(self, text: str) -> str:
        return self._scrub(text)[:MAX_TEXT]
