"""The servers as the contract of the LLM port wants a provider to behave."""

import json
from collections.abc import Callable

from tests.model_servers.plumbing import Asked, Behaviour, Cut, End, ModelServer, rate_limited
from trading_pipeline.domain.models import Trouble

MUCH_LONGER = 30.0
FAILURES = {
    Trouble.RATE_LIMITED: rate_limited(), Trouble.SERVER_ERROR: Behaviour(status=500),
    Trouble.CONNECTION: Behaviour(cut=Cut.BEFORE_HEADERS),
}


class ServedWorld:
    """A provider that is one of the servers; what it is told holds until it is told something else."""

    def __init__(self, server: ModelServer, overloaded: int, echo: str) -> None:
        """`overloaded`: the status by which this API says so. `echo`: what leaks of a key into the message when it is refused."""
        self._server, self._overloaded, self._echo = server, overloaded, echo

    def replies(self, text: str) -> None:
        self._always(Behaviour(reply=text))

    def echoes(self) -> None:
        self._from_now_on(lambda asked: Behaviour(reply=json.dumps({"asked": asked.texts}), delay=0.05))

    def refuses(self) -> None:
        self._always(Behaviour(end=End.REFUSAL))

    def runs_out_of_tokens(self, text: str) -> None:
        self._always(Behaviour(reply=text, end=End.MAX_TOKENS))

    def says_nothing(self) -> None:
        self._always(Behaviour(reply="", end=End.EMPTY))

    def hangs(self) -> None:
        self._always(Behaviour(delay=MUCH_LONGER))

    def fails(self, trouble: Trouble) -> None:
        if trouble is Trouble.UNAUTHORIZED:
            self._always(Behaviour(status=401, message=f"wrong key: {self._echo}"))
        else:
            self._always(FAILURES.get(trouble, Behaviour(status=self._overloaded)))

    def talks_garbage(self) -> None:
        self._always(Behaviour(body=b"<html>It works!</html>", headers={"content-type": "text/html"}))

    def asked(self) -> int:
        return len(self._server.asked)

    def _always(self, behaviour: Behaviour) -> None:
        self._from_now_on(lambda _: behaviour)

    def _from_now_on(self, respond: Callable[[Asked], Behaviour]) -> None:
        self._server.respond = respond
