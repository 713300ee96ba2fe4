"""Requests and replies to record, and somebody who is asked and remembers it."""

import threading
from datetime import UTC, datetime
from decimal import Decimal

from trading_pipeline.domain.models import (
    Abilities,
    Ending,
    ModelFailure,
    ModelReply,
    ModelRequest,
    Picture,
    Provider,
    Sampling,
    Usage,
)

NOON = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
JSON = '{"action":"HOLD","symbol":"AAPL","confidence":0.5,"rationale":"Nothing to do.","figures":[]}'
PICTURE = Picture("ab" * 32, b"\x89PNG", 1_200, 800)


def request(number: int = 0, **changes: object) -> ModelRequest:
    """One of many that differ in their text."""
    given = {
        "provider": Provider.ANTHROPIC, "model": "claude-sonnet-5-5", "system": "You judge.", "text": f"Question {number}", "schema": "{}",
        "pictures": (PICTURE,), "sampling": Sampling(512, Decimal("0.20")),
    }
    return ModelRequest(**(given | changes))  # type: ignore[arg-type]


def reply(text: str = JSON, **changes: object) -> ModelReply:
    """With every field set."""
    given = {
        "text": text, "ending": Ending.COMPLETE, "model": "claude-sonnet-5-5-20260901", "usage": Usage(100, 20, 3, 4),
        "request_id": "req_1", "fingerprint": "fp_1", "seconds": 1.25, "cost": Decimal("0.0123"),
    }
    return ModelReply(**(given | changes))  # type: ignore[arg-type]


class Model:
    """An LLM that answers what it is told to, and counts."""

    provider = Provider.ANTHROPIC

    def __init__(self, *answers: ModelReply | ModelFailure) -> None:
        """Answer so in turn, and with the last one from then on."""
        self.answers = list(answers) or [reply()]
        self.asked: list[ModelRequest] = []
        self.closed = False
        self._lock = threading.Lock()

    def abilities(self, model: str) -> Abilities:
        return Abilities(schema=True, images=False, sampling=False)

    def recorded(self, request: ModelRequest) -> bool:
        return False

    def ask(self, request: ModelRequest, timeout: float) -> ModelReply | ModelFailure:
        with self._lock:
            self.asked.append(request)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def close(self) -> None:
        self.closed = True
