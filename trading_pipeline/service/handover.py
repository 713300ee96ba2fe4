"""Between a run that has orders to place and the desk's process that may place them: a request in the ledger, and its answer.

The request is a fact, the answer is the step's own completion: a desk that dies in between is asked by nobody twice, and whoever
takes its lease finds the request. A desk counts as there while its health row is young; its death is known by the row's age.
"""

import time
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


def answer(desk: Desk, cycle: Cycle) -> StepResult | None:
    """Ask the desk's process to place a cycle's orders and wait for it; None when none is there, or it has gone meanwhile."""
    if not attended(desk):
        return None
    payload = {"cycle": cycle.cycle_id, "request": encode(cycle)}
    with desk.ledger.transaction() as tx:
        tx.append(NewEvent(EventType.ORDERS_REQUESTED, "system", f"orders.requested:{cycle.cycle_id}", payload, desk.now(), "cycle"))
    while attended(desk):
        looked_until = time.monotonic() + 1
        while time.monotonic() < looked_until:
            done = completed(desk.ledger, cycle, "orders")
            if done is not None:
                return done
            _raise_refusal(desk, cycle)
            time.sleep(_LOOK_SECONDS)
    return completed(desk.ledger, cycle, "orders")


def refuse(desk: Desk, cycle: Cycle, error: TradingError) -> None:
    """Answer that a request could not be served; the run that asked fails with it, and may ask again."""
    payload = {"cycle": cycle.cycle_id, "error": error.as_json()}
    with desk.ledger.transaction() as tx:
        tx.append(NewEvent(EventType.ORDERS_REFUSED, "system", _refusal(cycle), payload, desk.now(), "desk"))


def _raise_refusal(desk: Desk, cycle: Cycle) -> None:
    event = desk.ledger.event_by_key(_refusal(cycle))
    if event is not None:
        told = event.payload["error"]
        raise ServiceError(
            f"The desk could not place the orders of {cycle.cycle_id}: {told['message']}", value=told["value"], rule=told["rule"],
            remedy=told["remedy"],
        )


def requests(ledger: Ledger, after: int | None) -> list[Cycle]:
    """Requests without an answer, in order.

    Args:
        after: seq of the last fact looked at; None looks back as far as a request can matter still.
    """
    first = max(0, ledger.head()[0] - _LOOK_BACK) if after is None else after
    asked = (decode(Cycle, event.payload["request"]) for event in ledger.events(after=first, types=(EventType.ORDERS_REQUESTED,)))
    return [cycle for cycle in asked if completed(ledger, cycle, "orders") is None and ledger.event_by_key(_refusal(cycle)) is None]


def _refusal(cycle: Cycle) -> str:
    return f"orders.refused:{cycle.cycle_id}"
