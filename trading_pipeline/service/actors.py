"""Who does something, as the record names them. Imports nothing: an emergency stop names its person before anything is loaded."""

import os
import pwd

RECOVERY = "recovery"
"""What is found after a crash or a restore. A latch by it stops no strategy and cancels nothing."""


def is_person(actor: str) -> bool:
    """Whether an actor of the record names a person."""
    return actor.startswith("user:") and bool(actor.removeprefix("user:").strip())


def user_actor() -> str:
    """The person at this terminal, as events name them: whoever the operating system says runs this, not what LOGNAME claims."""
    try:
        return f"user:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"user:{os.getuid()}"
