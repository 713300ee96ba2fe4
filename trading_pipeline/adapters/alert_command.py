"""The notification hook: a program of the user's, told of each alarm by JSON on its standard input.

Never through a shell, bounded in time, its output thrown away. Of this process's environment it gets what a program needs to run, to reach
the person's desktop or the network, and to know the home: an allow-list, so that it has no key of a model, no database's password, and
nothing else that a shell happens to hold. A token of its own it reads from a file of its own.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ALERT_SECONDS = 10.0
PASSED = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV",
    "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "DBUS_SESSION_BUS_ADDRESS",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "TRADING_HOME",
})
"""By name, whatever its case: proxies are written in both."""
PASSED_PREFIXES = ("LC_", "XDG_", "SSL_CERT_")


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
    environment = {name: value for name, value in os.environ.items() if name.upper() in PASSED or name.startswith(PASSED_PREFIXES)}
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
