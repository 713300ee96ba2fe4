"""What can be made to go wrong at the paper broker, as data: for tests, fault sweeps and rehearsals.

A plan is handed to the broker and says, by client id or by call, what happens once: it is the scripted broker of the fault
table (INVARIANTS section 4). Faults of the market's side are kept with the order, so that they outlive a process; faults of
the line (lost, slow, repeated) live in the plan. Chance has no place here: what happens is what was written.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

from trading_pipeline.adapters.brokers.paper_book import Execution


class Call(StrEnum):
    """The calls of the Broker port that may fail as a whole."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    ORDERS = "orders"
    EXECUTIONS = "executions"
    POSITIONS = "positions"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class LoseRequest:
    """The request never arrives: OutcomeUnknown, nothing placed (also what a 5xx before the venue looks like)."""


@dataclass(frozen=True, slots=True)
class DropReply:
    """Placed, and the reply is lost: OutcomeUnknown."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """A structured refusal."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotReady:
    """No session: nothing is sent, nothing is known."""


@dataclass(frozen=True, slots=True)
class Slow:
    """The call takes this long, in real time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Empty:
    """A query answers with nothing where there is something."""


@dataclass(frozen=True, slots=True)
class ShowLate:
    """Placed; the order, its fills and its shares stay invisible this long."""

    after: timedelta


@dataclass(frozen=True, slots=True)
class RejectLater:
    """Accepted, never filled, rejected this long afterwards."""

    after: timedelta
    reason: str = "rejected by the venue"


@dataclass(frozen=True, slots=True)
class CancelAfter:
    """The broker cancels the rest once this many shares have filled."""

    quantity: int


@dataclass(frozen=True, slots=True)
class Overfill:
    """The last execution has this many shares too many."""

    quantity: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """Every execution is delivered twice."""


@dataclass(frozen=True, slots=True)
class Reverse:
    """Executions are delivered newest first."""


@dataclass(frozen=True, slots=True)
class Withhold:
    """The executions of one order are not delivered."""

    client_id: str


@dataclass(frozen=True, slots=True)
class Correct:
    """An execution is delivered a second time, same id, other price."""

    execution_id: str
    price: Decimal


SubmitFault = LoseRequest | DropReply | Refuse | NotReady | Slow | ShowLate | RejectLater | CancelAfter | Overfill
CallFault = NotReady | Slow | Empty
DeliveryFault = Repeat | Reverse | Withhold | Correct


class FaultPlan:
    """The script. Faults of an order happen at its submit; faults of a call happen to the next calls, one each, in order."""

    def __init__(self) -> None:
        self._submits: dict[str, tuple[SubmitFault, ...]] = {}
        self._every_submit: tuple[SubmitFault, ...] = ()
        self._calls: dict[Call, list[CallFault | None]] = defaultdict(list)
        self._deliveries: tuple[DeliveryFault, ...] = ()

    def on_submit(self, client_id: str, *faults: SubmitFault) -> "FaultPlan":
        """What happens to the order with this client id."""
        self._submits[client_id] = faults
        return self

    def on_every_submit(self, *faults: SubmitFault) -> "FaultPlan":
        """What happens to every order that has no faults of its own: a broker's way of working."""
        self._every_submit = faults
        return self

    def on_call(self, call: Call, *faults: CallFault | None) -> "FaultPlan":
        """What happens to the next calls of this name; None lets one through."""
        self._calls[call].extend(faults)
        return self

    def on_executions(self, *faults: DeliveryFault) -> "FaultPlan":
        """How executions are delivered from now on; none sets it right again."""
        self._deliveries = faults
        return self

    def of_submit(self, client_id: str) -> tuple[SubmitFault, ...]:
        """The faults of an order."""
        return self._submits.get(client_id, self._every_submit)

    def next_of(self, call: Call) -> CallFault | None:
        """The fault of this call, which is thereby spent."""
        waiting = self._calls[call]
        return waiting.pop(0) if waiting else None

    def delivered(self, executions: Sequence[Execution]) -> list[Execution]:
        """Executions as they come over the line."""
        result = list(executions)
        for fault in self._deliveries:
            match fault:
                case Repeat():
                    result = [each for each in result for _ in range(2)]
                case Reverse():
                    result.reverse()
                case Withhold(client_id):
                    result = [each for each in result if each.fill.client_id != client_id]
                case Correct(execution_id, price):
                    found = [each for each in result if each.fill.execution_id == execution_id]
                    result += [replace(each, fill=replace(each.fill, price=price)) for each in found]
        return result
