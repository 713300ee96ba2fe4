"""Words that changed under a running strategy (invariant 64): a version of a prompt is published, and every signal is traced to its words.

Whoever was asked with other words than now is not asked; the strategy waits for a person, as it does for another model. The pause names the
digest that was found, so that letting it go on is a fact about exactly these words. Another version of a prompt is no change: a person
chooses it, with `trading strategy revise`.
"""

from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.projections.models import CALLS
from trading_pipeline.domain.strategies import PauseReason
from trading_pipeline.ports import Reader
from trading_pipeline.service import controls
from trading_pipeline.service.desk import Desk


def asked_before(reader: Reader, strategy: str, prompt: str, digest: str) -> str | None:
    """The digest that a strategy's prompt had when it asked last; None where it is the same, or a person let these very words go on."""
    rows = reader.find(CALLS, strategy=strategy, prompt=prompt, order_by="requested_seq", descending=True, limit=1)
    request = reader.event(rows[0]["requested_seq"]) if rows else None
    if request is None or request.payload["prompt_digest"] == digest:
        return None
    paused = reader.events(after=request.seq, types=(EventType.STRATEGY_PAUSED,), stream=request.stream)
    return None if any(event.payload.get("measured") == digest for event in paused) else str(request.payload["prompt_digest"])


def wait_for_a_person(desk: Desk, strategy: str, prompt: str, digest: str, before: str) -> str:
    """Pause a strategy whose prompt's words are others than before; what to say of it, empty where it does not run."""
    words = f"the words of {prompt} are not those it was asked with last: read them, write a new version instead, or resume"
    paused = controls.pause_by_itself(desk, strategy, PauseReason.MODEL, words, measured=digest, limit=before)
    return f"{strategy} paused: {words}" if paused else ""
