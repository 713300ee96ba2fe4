"""The notification hook: a program of the user's, told of each alarm by JSON on its standard input.

Never through a shell, bounded in time, its output thrown away. It gets this process's environment without the addresses of
databases, which hold passwords.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ALERT_SECONDS = 10.0


def alert_all(command: Sequence[str], messages: Iterable[Mapping[str, Any]], seconds: float = ALERT_SECONDS) -> list[str]:
    """`alert` for each message in turn, all of them within the time; what went wrong, no sentence twice."""
    deadline = time.monotonic() + seconds
    troubles = [alert(command, message, max(0.0, deadline - time.monotonic())) for message in messages]
    return list(dict.fromkeys(filter(None, troubles)))


def alert(command: Sequence[str], message: Mapping[str, Any], seconds: float = ALERT_SECONDS) -> str:
    """Run the program and wait; what went wrong in one sentence, empty when it ended well or there is none.

    Args:
        command: The program and its arguments.
        message: JSON values.
        seconds: After these it is killed, with whatever it has started.
    """
    if not command:
        return ""
    environment = {name: value for name, value in os.environ.items() if not name.upper().endswith("DATABASE_URL")}
    try:
        program = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return f"The alert command {command[0]} cannot be run: {getattr(error, 'strerror', None) or error}."
    try:
        program.communicate(json.dumps(message).encode() + b"\n", timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
        return f"The alert command {command[0]} did not end within {seconds:.3g} s and was killed."
    return "" if program.returncode == 0 else f"The alert command {command[0]} ended with {program.returncode}."
