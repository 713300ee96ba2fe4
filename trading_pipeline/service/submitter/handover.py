"""Between a run that has orders to place and the desk's process that may place them: a request in the ledger, and its answer.

The request is a fact, the answer is the step's own completion: a desk that dies in between is asked by nobody twice, and whoever
takes its lease finds the request. A desk counts as there while its health row is young; its death is known by the row's age.
"""

import time
from dataclasses import dataclass
from itertools import count
from typing import Any

from trading_pipeline import __version__
from trading_pipeline.domain.codec import decode, encode
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.errors import LedgerCorrupt, ServiceError, TradingError
from trading_pipeline.ports import Ledger
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.steps import StepResult, completed

READY, READ_ONLY, STOPPED = "ready", "read_only", "stopped"
SILENT_SECONDS = 10.0
"""A desk that has said nothing for so long is gone, or stopped."""
_LOOK_SECONDS = 0.02
_LOOK_BACK = 2_000
"""Facts before the head among which a new desk looks for requests that nobody has answered."""


def lease_name(desk: Desk) -> str:
    """The submitter's lease: one an account (invariant 22)."""
    return f"submitter:{desk.broker.account_id}"


def health_name(desk: Desk) -> str:
    """The health row of the account's desk."""
    return f"desk:{desk.broker.account_id}"


def attended(desk: Desk) -> bool:
    """Whether a desk's process is there and takes requests.

    Raises:
        LedgerCorrupt: It is there and does not trust the record: nothing is sent by anybody.
        ServiceError: It is of another version than this process.
    """
    health = desk.ledger.health(health_name(desk))
    if health is None or health.age >= SILENT_SECONDS:
        return False
    told = health.content
    if told["state"] == READ_ONLY:
        raise LedgerCorrupt(
            f"Nothing is sent: {'; '.join(told['trouble'])}", value=READ_ONLY,
            rule="nothing is sent on a record that cannot be trusted (INVARIANTS 3.4)", remedy="run `trading verify`, and restore a backup",
        )
    if told["state"] == READY and told["version"] != __version__:
        raise ServiceError(
            f"The desk is of version {told['version']}, this is {__version__}.", value=told["version"],
            rule="who asks and who sends run the same code", remedy="start `trading up` again",
        )
    return bool(told["state"] == READY)


def present(desk: Desk) -> dict[str, Any]:
    """What the desk's process last said of itself, and whether that is recent; JSON values."""
    health = desk.ledger.health(health_name(desk))
    if health is None or health.age >= SILENT_SECONDS or health.content.get("state") == STOPPED:
        return {"state": "absent", "trouble": []}
    return {"state": health.content["state"], "pid": health.content["pid"], "trouble": health.content["trouble"]}


@dataclass(frozen=True, slots=True)
class Request:
    """A cycle whose orders are to be placed; an attempt that was refused may be followed by another."""

    cycle: Cycle
    attempt: int

    @property
    def key(self) -> str:
        """Of the fact that asks."""
        return f"orders.requested:{self.cycle.cycle_id}:{self.attempt}"

    @property
    def refusal(self) -> str:
        """Of the fact that refuses."""
        return f"orders.refused:{self.cycle.cycle_id}:{self.attempt}"


def answer(desk: Desk, cycle: Cycle) -> StepResult | None:
    """Ask the desk's process to place a cycle's orders and wait for it; None when none is there, or it has gone meanwhile.

    Raises:
        ServiceError: It could not; asked again, it tries again.
    """
    if not attended(desk):
        return None
    request = next(each for number in count(1) if desk.ledger.event_by_key((each := Request(cycle, number)).refusal) is None)
    payload = {"cycle": cycle.cycle_id, "attempt": request.attempt, "request": encode(cycle)}
    with desk.ledger.transaction() as tx:
        tx.append(NewEvent(EventType.ORDERS_REQUESTED, "system", request.key, payload, desk.now(), "cycle"))
    while attended(desk):
        looked_until = time.monotonic() + 1
        while time.monotonic() < looked_until:
            done = completed(desk.ledger, cycle, "orders")
            if done is not None:
                return done
            _raise_refusal(desk, request)
            time.sleep(_LOOK_SECONDS)
    return completed(desk.ledger, cycle, "orders")


def refuse(desk: Desk, request: Request, error: TradingError) -> None:
    """Answer that a request could not be served; the run that asked fails with it, and may ask again."""
    payload = {"cycle": request.cycle.cycle_id, "attempt": request.attempt, "error": error.as_json()}
    with desk.ledger.transaction() as tx:
        tx.append(NewEvent(EventType.ORDERS_REFUSED, "system", request.refusal, payload, desk.now(), "desk"))


def _raise_refusal(desk: Desk, request: Request) -> None:
    event = desk.ledger.event_by_key(request.refusal)
    if event is not None:
        told = event.payload["error"]
        raise ServiceError(
            f"The desk could not place the orders of {request.cycle.cycle_id}: {told['message']}", value=told["value"], rule=told["rule"],
            remedy=told["remedy"],
        )


def requests(ledger: Ledger, after: int | None) -> list[Request]:
    """Requests without an answer, in order.

    Args:
        after: seq of the last fact looked at; None looks back as far as a request can matter still.
    """
    first = max(0, ledger.head()[0] - _LOOK_BACK) if after is None else after
    facts = (event.payload for event in ledger.events(after=first, types=(EventType.ORDERS_REQUESTED,)))
    asked = [Request(decode(Cycle, data["request"]), data["attempt"]) for data in facts]
    return [each for each in asked if completed(ledger, each.cycle, "orders") is None and ledger.event_by_key(each.refusal) is None]
