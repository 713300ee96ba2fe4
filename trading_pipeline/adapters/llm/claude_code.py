"""Claude Code without a terminal (`claude -p`) behind the port `LLM`: one question, one turn, no tools, and what it says it cost.

Off are tools, MCP servers, the user's settings and hooks, CLAUDE.md, skills, and what `@path` in a prompt does: it puts that file into the
prompt, whichever tools are allowed, and outside text must not read files. Two mechanisms stand before that, each enough alone: attachments
off, reading denied. Texts and pictures go by files and standard input, since everybody can see a command line. The reply's schema goes with
the system prompt: `--json-schema` would throw a paid reply away that is not given by its tool. What stays as it is, `docs/models.md` tells.
"""

import base64
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from trading_pipeline.adapters.llm.bounded_process import Ran, run_bounded
from trading_pipeline.adapters.llm.claude_code_answer import is_whole, outcome_of
from trading_pipeline.adapters.llm.failures import checked_key
from trading_pipeline.domain.models import Abilities, ModelFailure, ModelReply, ModelRequest, Provider, Trouble
from trading_pipeline.domain.scrubbing import Scrubber

LEAST_VERSION: Final = (2, 1, 329)
"""The one all this was tried with."""
MAX_OUTPUT: Final = 4_000_000
"""Bytes; a reply is bounded by its tokens long before."""
_VERSION_SECONDS: Final = 15.0
_STARTING_SECONDS: Final = 2.0
"""What a program may need to start at all, however short the time for a question."""

_PASSED: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "CLAUDE_CONFIG_DIR",
)
_TOKEN: Final = "CLAUDE_CODE_OAUTH_TOKEN"
_CREDENTIALS: Final = (_TOKEN, "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL")
"""The first alone, or the others: a key would come before the login that a token stands for, and be billed.

Source: code.claude.com/docs/en/authentication, precedence.
"""
_SET: Final = {
    # Source: code.claude.com/docs/en/env-vars; the refusal's retry: as 2.1.329 reads it.
    "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1", "CLAUDE_CODE_DISABLE_CLAUDE_MDS": "1", "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_MAX_RETRIES": "0", "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1", "CLAUDE_CODE_DISABLE_REFUSAL_FALLBACK": "1",
    "CLAUDE_CODE_DISABLE_REFUSAL_RETRY": "1", "MAX_THINKING_TOKENS": "0",
}
_SETTINGS: Final = json.dumps({"permissions": {"deny": ["Read"]}, "disableAllHooks": True})
_FORM: Final = "\n\nThe whole reply is one JSON object, bare: no words and no code fence around it. It has this JSON schema:\n"
_NO_COMMAND: Final = "The question:\n\n"
"""Goes before a text that begins with `/`, which would be taken for a command."""


class ClaudeCodeLLM:
    """Asks by starting `claude` once a call; used by several threads at once."""

    provider: Final = Provider.CLAUDE_CODE

    def __init__(
        self, command: Sequence[str] = ("claude",), max_cost: Decimal = Decimal("0.25"), environ: Mapping[str, str] | None = None,
        token: SecretStr | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            command: The program and arguments before ours.
            max_cost: USD after which a call stops; it stops after the request that passes them, not before.
            environ: Where the program's few variables are taken from; None: this process's.
            token: Of a login, before whatever that environment has; None: what it has.

        Raises:
            SettingsError: A token that cannot be one.
        """
        given = dict(os.environ if environ is None else environ)
        login_token = checked_key(token, _TOKEN)
        if login_token is not None:
            given[_TOKEN] = login_token.get_secret_value()
        credentials = _CREDENTIALS[:1] if given.get(_TOKEN) else _CREDENTIALS[1:]
        self._command = tuple(command)
        self._max_cost = max_cost
        self._environment = {name: given[name] for name in (*_PASSED, *credentials) if given.get(name)} | _SET
        self._scrub = Scrubber(given[name] for name in _CREDENTIALS[:3] if given.get(name))
        self._closing = threading.Event()
        self._version_lock = threading.Lock()
        self._known_version = ""
        self._version_failure: ModelFailure | None = None
        self._failed_until = 0.0

    def abilities(self, model: str) -> Abilities:  # noqa: ARG002 -- the same for every model of theirs
        """What Claude Code can do as it is started here."""
        return Abilities(schema=False, images=True, sampling=False, reports_cost=True, tools=False)

    def recorded(self, request: ModelRequest) -> bool:  # noqa: ARG002 -- the port's signature
        """Never."""
        return False

    def ask(self, request: ModelRequest, timeout: float) -> ModelReply | ModelFailure:
        """One call within `timeout` seconds. A whole reply is taken even where the program did not end in time or well."""
        started = time.monotonic()
        if self._closing.is_set():
            return ModelFailure(Trouble.CONNECTION, "closed: nobody is asked any more", free=True)
        if request.sampling.temperature is not None:
            return ModelFailure(Trouble.BAD_REQUEST, "Claude Code takes no temperature", free=True)
        version = self._version(timeout)
        if isinstance(version, ModelFailure):
            return version
        left = timeout - (time.monotonic() - started)
        if left <= 0:
            return ModelFailure(Trouble.TIMEOUT, "no time was left to ask", free=True, seconds=time.monotonic() - started)
        ran = self._run(request, left)
        seconds = time.monotonic() - started
        if isinstance(ran, ModelFailure):
            return ran
        return outcome_of(ran, request, f"claude-code {version}", seconds, self._scrub)

    def close(self) -> None:
        """End what still runs; whoever waits for it gets a failure."""
        self._closing.set()

    def _run(self, request: ModelRequest, seconds: float) -> Ran | ModelFailure:
        try:
            with tempfile.TemporaryDirectory(prefix="trading-claude-", ignore_cleanup_errors=True) as name:
                root = Path(name)
                folder, system, stdin = root / "work", root / "system", root / "input"
                folder.mkdir()
                system.write_bytes(_system(request))
                stdin.write_bytes(_input(request))
                environment = self._environment | {
                    "TMPDIR": name, "API_TIMEOUT_MS": str(int(seconds * 1_000)),
                    "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(request.sampling.max_tokens),
                }
                return run_bounded(
                    self._arguments(request, system), stdin=stdin, folder=folder, environment=environment, seconds=seconds,
                    most=MAX_OUTPUT, complete=is_whole, closing=self._closing,
                )
        except OSError as error:
            return ModelFailure(Trouble.CONNECTION, f"{self._command[0]} cannot be started: {error.strerror or error}", free=True)

    def _arguments(self, request: ModelRequest, system: Path) -> list[str]:
        return [
            *self._command, "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose",
            "--model", request.model, "--max-turns", "1", "--max-budget-usd", format(self._max_cost, "f"),
            "--tools", "", "--permission-mode", "dontAsk", "--strict-mcp-config", "--mcp-config", '{"mcpServers":{}}',
            "--setting-sources", "", "--settings", _SETTINGS, "--disable-slash-commands", "--no-session-persistence", "--no-chrome",
            "--system-prompt-file", str(system),
        ]

    def _version(self, seconds: float) -> str | ModelFailure:
        """Asked once. A failure is for those who waited meanwhile, and one by hanging for as long again; so installing it is enough."""
        began = time.monotonic()
        with self._version_lock:
            if self._known_version:
                return self._known_version
            if self._version_failure is not None and began <= self._failed_until:
                return self._version_failure
            tried, most = time.monotonic(), min(_VERSION_SECONDS, max(seconds, _STARTING_SECONDS))
            found = self._found_version(most)
            if isinstance(found, ModelFailure):
                took = time.monotonic() - tried
                self._version_failure = found
                self._failed_until = time.monotonic() + (took if took >= most / 2 else 0.0)
            else:
                self._known_version = found
            return found

    def _found_version(self, seconds: float) -> str | ModelFailure:
        program = self._command[0]
        if shutil.which(program, path=self._environment.get("PATH")) is None:
            return ModelFailure(Trouble.BAD_REQUEST, f"{program} is not installed, or not on the PATH", free=True)
        try:
            ran = run_bounded(
                [*self._command, "--version"], stdin=Path(os.devnull), folder=Path(tempfile.gettempdir()), environment=self._environment,
                seconds=seconds, most=10_000, complete=lambda _: False, closing=self._closing,
            )
        except OSError as error:
            return ModelFailure(Trouble.BAD_REQUEST, f"{program} cannot be started: {error.strerror or error}", free=True)
        said = re.match(rb"(\d{1,6})\.(\d{1,6})\.(\d{1,6})\b", ran.stdout)
        if ran.code != 0 or said is None:
            return ModelFailure(Trouble.BAD_REQUEST, f"{program} --version does not tell the version of a Claude Code", free=True)
        if tuple(map(int, said.groups())) < LEAST_VERSION:
            least = ".".join(map(str, LEAST_VERSION))
            return ModelFailure(
                Trouble.BAD_REQUEST, f"Claude Code {said[0].decode()} is older than {least}: run `claude update`", free=True,
            )
        return said[0].decode()


def _system(request: ModelRequest) -> bytes:
    return (request.system + (_FORM + request.schema if request.schema else "")).encode(errors="replace")


def _input(request: ModelRequest) -> bytes:
    content: list[dict[str, Any]] = [
        {"type": "image", "source": {"type": "base64", "media_type": each.media_type, "data": base64.b64encode(each.content).decode()}}
        for each in request.pictures
    ]
    text = _NO_COMMAND + request.text if request.text.lstrip().startswith("/") else request.text
    content.append({"type": "text", "text": text})
    return json.dumps({"type": "user", "message": {"role": "user", "content": content}}).encode() + b"\n"
