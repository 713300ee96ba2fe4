#!/usr/bin/env python3
"""A program that behaves like `claude -p` 2.1.329, for the adapter and for whole journeys; standard library alone, it is run by path.

    python claude_code.py FOLDER [the arguments of claude]

FOLDER has `behaviour.json` (see `Behaviour`; absent: answers well) and gets one file a call under `calls/`: arguments, environment, input,
system prompt, and which files the prompt had it read. Options, the envelope's fields, exit codes, `@path`, slash commands and what budget
and turns do were written down from the real program, which talked to a server on loopback. `StandIn` is the handle for tests.
"""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

VERSION = "2.1.329"
FLAGS = {
    "-p": 0, "--print": 0, "--verbose": 0, "--strict-mcp-config": 0, "--no-session-persistence": 0, "--disable-slash-commands": 0,
    "--no-chrome": 0, "--safe-mode": 0, "--output-format": 1, "--input-format": 1, "--model": 1, "--max-turns": 1, "--max-budget-usd": 1,
    "--tools": 1, "--permission-mode": 1, "--mcp-config": 1, "--setting-sources": 1, "--settings": 1, "--system-prompt-file": 1,
    "--system-prompt": 1, "--append-system-prompt": 1, "--version": 0,
}
MENTION = re.compile(r'(?:^|\s)@(?:"([^"]+)"|(\S+))')


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What every call does until another one is set."""

    kind: str = "answer"
    """answer, echo, refusal, cut (by the output tokens), error (the API's), or silent (exit 0, nothing printed), garbage, flood, fail
    (nothing printed), never, stubborn (never, whatever SIGTERM says)."""
    reply: str | None = None
    """What the model says, or the API's error does; None: a HOLD about the symbol asked."""
    seconds: float = 0.0
    """Before anything else."""
    cost: str = "0.0042"
    """USD, as it is printed."""
    tokens: tuple[int, int, int, int] = (1200, 90, 0, 0)
    """In, out, read from the cache, written to it."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of the envelope, in place of those that would stand there."""
    code: int | None = None
    stderr: str = ""
    version: str = VERSION
    child: str = ""
    """`group`: leaves a child behind that holds the output open; `session`: one with a session of its own; pid in FOLDER/child."""
    hang_after: bool = False
    """Does not end once it has answered."""


class StandIn:
    """The folder of one stand-in."""

    def __init__(self, folder: Path, behaviour: Behaviour | None = None) -> None:
        self.folder = folder
        (folder / "calls").mkdir(parents=True, exist_ok=True)
        self.behave(behaviour or Behaviour())

    @property
    def command(self) -> tuple[str, ...]:
        """What to give as the command of Claude Code."""
        return (sys.executable, "-S", __file__, str(self.folder))

    def behave(self, behaviour: Behaviour) -> None:
        """From the next call on."""
        new = self.folder / "behaviour.new"
        new.write_text(json.dumps(asdict(behaviour)))
        new.replace(self.folder / "behaviour.json")

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Every call so far, in order of their starts."""
        files = sorted((self.folder / "calls").glob("*.json"))
        return [json.loads(file.read_text()) for file in files]

    @property
    def child(self) -> int:
        """The process that was left behind."""
        return int((self.folder / "child").read_text())


def main(folder: Path, arguments: list[str]) -> int:
    """One call; returns the exit code."""
    file = folder / "behaviour.json"
    behaviour = Behaviour(**json.loads(file.read_text())) if file.exists() else Behaviour()
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        name = rest.pop(0)
        if name.startswith("-") and name not in FLAGS:
            sys.stderr.write(f"error: unknown option '{name}'\n")
            return 1
        if name.startswith("-"):
            options[name] = rest.pop(0) if FLAGS[name] else ""
        else:
            options["prompt"] = name
    if "--version" in options:
        say(f"{behaviour.version} (Claude Code)")
        return 0
    return answer(folder, behaviour, arguments, options)


def answer(folder: Path, behaviour: Behaviour, arguments: list[str], options: dict[str, str]) -> int:
    """A call in print mode."""
    streaming = options.get("--output-format") == "stream-json"
    if options.get("--input-format") == "stream-json" and not streaming:
        sys.stderr.write("Error: --input-format=stream-json requires output-format=stream-json.\n")
        return 1
    if streaming and "--verbose" not in options:
        sys.stderr.write("Error: When using --print, --output-format=stream-json requires --verbose\n")
        return 1
    prompt, pictures = read_input(options)
    reading = "CLAUDE_CODE_DISABLE_ATTACHMENTS" not in os.environ and "Read" not in (
        json.loads(options.get("--settings", "{}")).get("permissions", {}).get("deny", [])
    )
    mentioned = [Path(quoted or plain) for quoted, plain in MENTION.findall(prompt)]
    record = {
        "arguments": arguments, "environment": dict(os.environ), "folder": [path.name for path in Path().iterdir()],
        "cwd": str(Path.cwd()), "prompt": prompt, "pictures": pictures, "system": Path(options["--system-prompt-file"]).read_text(),
        "read": [str(path) for path in mentioned if reading and path.is_file()], "pid": os.getpid(),
    }
    new = folder / "calls" / f"{time.time_ns()}-{os.getpid()}.new"
    new.write_text(json.dumps(record))
    new.rename(new.with_suffix(".json"))
    if behaviour.kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour.child:
        leave_child(folder, alone=behaviour.child == "session")
    time.sleep(behaviour.seconds)
    sys.stderr.write(behaviour.stderr)
    sys.stderr.flush()
    if behaviour.kind in ("never", "stubborn"):
        time.sleep(3_600)
    if behaviour.kind in ("silent", "fail"):
        return behaviour.code if behaviour.code is not None else int(behaviour.kind == "fail")
    if behaviour.kind == "garbage":
        say(behaviour.reply or "Segmentation fault")
        return behaviour.code or 0
    while behaviour.kind == "flood":
        sys.stdout.write("x" * 100_000)
    if prompt.startswith("/"):
        refused = f"{prompt.split()[0]} isn't available in this environment."
        envelope = {"is_error": False, "num_turns": 0, "stop_reason": None, "result": refused}
        return finish(behaviour, options, envelope, refused, "0", (0, 0, 0, 0))
    reply = behaviour.reply if behaviour.reply is not None else json.dumps(fitting(record["system"]))
    if behaviour.kind == "echo":
        reply = json.dumps({"asked": prompt})
    return finish(behaviour, options, turn(behaviour, options, reply), reply, behaviour.cost, behaviour.tokens)


def turn(behaviour: Behaviour, options: dict[str, str], reply: str) -> dict[str, Any]:
    """The fields that depend on what the model did."""
    if behaviour.kind == "error":
        return {"is_error": True, "stop_reason": "stop_sequence", "result": reply, "terminal_reason": "api_error"}
    if behaviour.kind == "refusal":
        return {"is_error": True, "stop_reason": "refusal", "result": f"API Error: {options['--model']} can't help with this."}
    if behaviour.kind == "cut":
        said = "API Error: Claude's response exceeded the output token maximum."
        return {"is_error": True, "stop_reason": "stop_sequence", "api_error": "max_output_tokens", "result": said}
    if float(behaviour.cost) > float(options.get("--max-budget-usd", "inf")):
        why = f"Reached maximum budget (${options['--max-budget-usd']})"
        return {"is_error": True, "subtype": "error_max_budget_usd", "stop_reason": "end_turn", "errors": [why]}
    return {"is_error": False, "stop_reason": "end_turn", "result": reply}


def finish(
    behaviour: Behaviour, options: dict[str, str], envelope: dict[str, Any], reply: str, cost: str, tokens: Sequence[int],
) -> int:
    """Print the envelope; the exit code."""
    model = options.get("--model", "claude-sonnet-4-5")
    usage = dict(zip(("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"), tokens, strict=True))
    used = {model: {"inputTokens": tokens[0], "outputTokens": tokens[1], "costUSD": 0, "contextWindow": 200_000}}
    whole = {
        "type": "result", "subtype": "success", "duration_ms": 67, "num_turns": 1, "session_id": str(uuid.uuid4()),
        "total_cost_usd": "COST", "usage": usage | {"service_tier": "standard", "server_tool_use": {"web_search_requests": 0}},
        "modelUsage": used if any(tokens) else {}, "permission_denials": [], "api_error_status": None, **envelope, **behaviour.fields,
    }
    # The cost as its text: what a float would make of it is not for a stand-in to decide.
    line = json.dumps(whole).replace('"COST"', cost)
    if options.get("--output-format") == "stream-json":
        for each in messages(behaviour, model, reply, str(whole.get("result", ""))):
            say(json.dumps(each))
    say(line)
    if behaviour.hang_after:
        time.sleep(3_600)
    return behaviour.code if behaviour.code is not None else int(bool(whole["is_error"]))


def messages(behaviour: Behaviour, model: str, reply: str, result: str) -> Iterator[dict[str, Any]]:
    """The lines before the result."""
    yield {"type": "system", "subtype": "init", "tools": [], "mcp_servers": [], "model": model, "claude_code_version": VERSION}
    if behaviour.kind != "error":
        said = {"id": "msg_1", "role": "assistant", "model": model, "content": [{"type": "text", "text": reply}], "stop_reason": None}
        yield {"type": "assistant", "message": said, "request_id": "req_1"}
        if behaviour.kind == "cut" or not reply.strip():
            go_on = {"role": "user", "content": [{"type": "text", "text": "Resume directly"}]}
            yield {"type": "user", "message": go_on, "isSynthetic": True}
            yield {"type": "assistant", "message": said | {"id": "msg_2"}, "request_id": "req_2"}
    if behaviour.kind in ("error", "cut", "refusal"):
        yield {"type": "assistant", "message": {"model": "<synthetic>", "content": [{"type": "text", "text": result}]}}


def read_input(options: dict[str, str]) -> tuple[str, int]:
    """The prompt and how many PNG pictures came with it."""
    given = sys.stdin.buffer.read()
    if options.get("--input-format") != "stream-json":
        return given.decode(), 0
    message = json.loads(given)["message"]
    pictures = [block["source"] for block in message["content"] if block["type"] == "image"]
    assert all(base64.b64decode(each["data"]).startswith(b"\x89PNG") for each in pictures)
    return "\n".join(block["text"] for block in message["content"] if block["type"] == "text"), len(pictures)


def fitting(system: str) -> dict[str, Any]:
    """A HOLD about the symbol that the schema in the system prompt names."""
    named = re.search(r'"symbol":\s*{[^}]*"enum":\s*\["([^"]+)"\]', system)
    return {
        "action": "HOLD", "symbol": named[1] if named else "AAPL", "confidence": 0.5, "rationale": "Nothing speaks for a trade.",
        "figures": [], "limit": None, "stop": None, "targets": [],
    }


def say(line: str) -> None:
    """To standard output, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def leave_child(folder: Path, *, alone: bool) -> None:
    """A process that outlives us and holds our output open; it takes no notice of SIGTERM."""
    sleeper = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(3600)"
    # Its first word says that it is deaf; our output it inherits as standard error.
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", sleeper], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sys.stdout, start_new_session=alone,
    )
    assert child.stdout is not None
    child.stdout.readline()
    (folder / "child").write_text(str(child.pid))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
