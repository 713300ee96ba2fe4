"""The program that behaves like Claude Code, as the contract of the LLM port wants a provider to behave."""

from tests.contracts.llm import CANARY
from tests.model_servers.claude_code import Behaviour, StandIn
from trading_pipeline.domain.models import Trouble

ERRORS = {
    Trouble.RATE_LIMITED: Behaviour("error", "API Error: Request rejected (429)", fields={"api_error_status": 429}),
    Trouble.OVERLOADED: Behaviour("error", "API Error: 529 Overloaded", fields={"api_error_status": 529}),
    Trouble.SERVER_ERROR: Behaviour("error", "API Error: 500 api_error", fields={"api_error_status": 500}),
    Trouble.CONNECTION: Behaviour("error", "API Error: Connection refused (ECONNREFUSED)", fields={"api_error": "connection_failed"}),
    Trouble.UNAUTHORIZED: Behaviour("error", f"Failed to authenticate. API Error: 401 {CANARY}", fields={"api_error_status": 401}),
}
UNBILLED = {"cost": "0", "tokens": (0, 0, 0, 0)}


def unbilled(behaviour: Behaviour) -> Behaviour:
    return Behaviour(behaviour.kind, behaviour.reply, fields=behaviour.fields, **UNBILLED)


class ClaudeCodeWorld:
    """A `World` of the contract."""

    def __init__(self, stand_in: StandIn) -> None:
        self.stand_in = stand_in

    def replies(self, text: str) -> None:
        self.stand_in.behave(Behaviour(reply=text))

    def echoes(self) -> None:
        self.stand_in.behave(Behaviour("echo"))

    def refuses(self) -> None:
        self.stand_in.behave(Behaviour("refusal", ""))

    def runs_out_of_tokens(self, text: str) -> None:
        self.stand_in.behave(Behaviour("cut", text))

    def says_nothing(self) -> None:
        self.stand_in.behave(Behaviour(reply=""))

    def hangs(self) -> None:
        self.stand_in.behave(Behaviour("never"))

    def fails(self, trouble: Trouble) -> None:
        self.stand_in.behave(unbilled(ERRORS[trouble]))

    def talks_garbage(self) -> None:
        self.stand_in.behave(Behaviour("garbage", stderr=f"panic: token {CANARY} at 0x0"))

    def asked(self) -> int:
        return len(self.stand_in.calls)
