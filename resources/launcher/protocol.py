"""What launcher and parent say to each other: one question and one answer a connection, each a line of JSON.

The difference that matters is between a question that was never sent and one whose answer never came: after the second a run
may have begun, and nobody may begin it again.
"""

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MOST_BYTES = 65_536
ANSWER_SECONDS = 15.0
"""A parent that forks for the first time, or is starved of CPU, answers within this."""


class NotAsked(Exception):
    """The parent has not seen the question: nobody listens, or another user does."""


class NoAnswer(Exception):
    """The question was sent and the answer did not come: what was asked for may have happened."""


def ask(path: Path, question: Mapping[str, Any], seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """Ask the parent at a socket.

    Raises:
        NotAsked, NoAnswer: As each says.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(path))
            if path.stat().st_uid != os.getuid():
                raise NotAsked(f"{path} belongs to another user")
        except OSError as error:
            raise NotAsked(f"nobody listens at {path}: {error.strerror or error}") from error
        try:
            connection.sendall(packed(question))
            return unpacked(_line(connection))
        except (OSError, ValueError) as error:
            raise NoAnswer(f"no answer from {path}: {error}") from error


def packed(message: Mapping[str, Any]) -> bytes:
    """A message as sent."""
    return json.dumps(message).encode() + b"\n"


def unpacked(line: bytes) -> dict[str, Any]:
    """A message as received; ValueError when it is none."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("a message is an object")
    return message


def _line(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        part = connection.recv(MOST_BYTES)
        if not part:
            raise ValueError("the connection ended")
        received += part
        if len(received) > MOST_BYTES:
            raise ValueError("the message is too long")
    return received
