"""The servers from a shell, for trying the product without a key: every question is answered with a file, or by the steady policy."""

import argparse
import sys
from pathlib import Path

from tests.model_servers.plumbing import ModelServer


def serve(kind: type[ModelServer]) -> None:
    """Until interrupted; the first line says which base URL to set."""
    parser = argparse.ArgumentParser(description=kind.__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--reply", type=Path, help="a file with the reply; read again for each question")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    given = parser.parse_args()
    server = kind(port=given.port, delay=given.delay)
    if given.reply is not None:
        file: Path = given.reply
        server.policy = lambda _: file.read_text()
    sys.stdout.write(f"base_url = \"{server.base_url}\"\n")
    sys.stdout.flush()
    server.serve_until_interrupted()
