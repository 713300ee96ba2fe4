"""Words that changed under a running strategy (invariant 64): a version of a prompt is published, and every signal is traced to its words.

Whoever was asked with other words than now is not asked; the strategy waits for a person, as it does for another model. The pause names the
digest that was found. What lets it go on: `service.model_changes`.
"""

from trading_pipeline.domain.strategies import PauseReason
from trading_pipeline.service import controls
from trading_pipeline.service.desk import Desk


def wait_for_a_person(desk: Desk, strategy: str, prompt: str, digest: str, before: str) -> str:
    """Pause a strategy whose prompt's words are others than before; what to say of it, empty where it does not run."""
    words = f"the words of {prompt} are not those it was asked with last: check them, or write a new version"
    paused = controls.pause_by_itself(desk, strategy, PauseReason.MODEL, words, measured=digest, limit=before)
    return f"{strategy} paused: {words}" if paused else ""
