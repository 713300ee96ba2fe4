"""What launcher and parent say to each other: one question and one answer a connection, each a line of JSON.

The difference that matters is between a question that was never sent and one whose answer never came: after the second a run
may have begun, and nobody may begin it again.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_BYTES = 65_536
ANSWER_SECONDS = 15.0
"""A parent that forks for the first time, or is starved of CPU, answers within this."""

Message = dict[str, Any]


class NotAsked(Exception):
    """The parent has not seen the question: nobody listens, or another user does."""


class NoAnswer(Exception):
    """The question was sent and the answer did not come: what was asked for may have happened."""


def ask(path: Path, question: Mapping[str, Any], seconds: float = ANSWER_SECONDS) -> Message:
    """Ask the parent at a socket.

    Args:
        seconds: How long sending and each part of the answer may take.

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
        lines = Lines()
        try:
            connection.sendall(packed(question))
            while part := connection.recv(MOST_BYTES):
                for answer in lines.feed(part):
                    return answer
        except (OSError, ValueError) as error:
            raise NoAnswer(f"no answer from {path}: {error}") from error
    raise NoAnswer(f"no answer from {path}: the connection ended")


def packed(message: Mapping[str, Any]) -> bytes:
    """A message as sent."""
    return json.dumps(message).encode() + b"\n"


@dataclass(slots=True)
class Lines:
    """Puts together what arrives in parts, and takes apart what arrives together."""

    _rest: bytes = b""

    def feed(self, part: bytes) -> list[Message]:
        """The messages that are complete with this part.

        Raises:
            ValueError: One is no JSON object, or too long.
        """
        *whole, self._rest = (self._rest + part).split(b"\n")
        if len(self._rest) > MOST_BYTES:
            raise ValueError("the message is too long")
        messages = [json.loads(line) for line in whole]
        if not all(isinstance(message, dict) for message in messages):
            raise ValueError("a message is an object")
        return messages
