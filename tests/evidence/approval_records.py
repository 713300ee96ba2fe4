"""What the record of a race for one proposal must look like, judged by its events, its rows and what the racers were told."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.desks import PERSON
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.strategies import StrategySpec

E = EventType
APPROVERS = ("approve", "approve_again", "approve_other")
DECISIONS = (E.APPROVAL_APPROVED, E.APPROVAL_REJECTED, E.APPROVAL_EXPIRED, E.APPROVAL_VOIDED)
WITHDRAWING = (E.STRATEGY_EMERGENCY_STOPPED, E.STRATEGY_PAUSED, E.STRATEGY_REVISED)
CHAINS = {
    ("approval.approved",), ("approval.approved", "approval.voided"), ("approval.approved", "action.expired"), ("approval.rejected",),
    ("approval.expired",), ("approval.voided",), ("approval.approved", "order.intent"),
}
FORWARD = (E.APPROVAL_APPROVED, E.ORDER_INTENT, E.ORDER_SUBMITTED)


@dataclass(frozen=True)
class Race:
    """One proposal, and who will be after it."""

    number: int
    name: str
    action_id: str
    hash: str
    expires_at: datetime
    spec: StrategySpec
    runners: tuple[str, ...]


def faults(race: Race, said: Mapping[str, Any], events: list[Event], approval: Row, action: Row, orders: list[Row]) -> Iterator[str]:
    """What of a race's record is not as it must be."""
    told = [event for event in events if event.type in (*DECISIONS, E.ACTION_EXPIRED, E.ORDER_INTENT)]
    chain = tuple(event.type.value for event in told)
    if chain not in CHAINS:
        yield f"decided as {chain}"
        return
    won = told[0]
    approved = won.type is E.APPROVAL_APPROVED
    for runner in APPROVERS:
        if isinstance(said.get(runner), int) and not (approved and said[runner] == won.seq):
            yield f"{runner} was told that it approved, {won.type.value} came first"
    people = {"user:bert" if runner == "approve_other" else PERSON for runner in APPROVERS if isinstance(said.get(runner), int)}
    if len(people) > 1 or (approved and people != {won.actor}):
        yield f"{people or 'nobody'} hold that they approved, {won.actor} did"
    if isinstance(said.get("reject"), int) != (won.type is E.APPROVAL_REJECTED):
        yield "rejected, or not, against the record"
    if said.get("expire") == 1 and chain[-1] not in ("approval.expired", "action.expired"):
        yield "expired for the clock alone"
    if approved and won.at >= race.expires_at:
        yield f"approved at {won.at}, after {race.expires_at}"
    if won.type is E.APPROVAL_EXPIRED and won.at < race.expires_at:
        yield f"expired at {won.at}, before {race.expires_at}"
    withdrawn = min((event.seq for event in events if event.type in WITHDRAWING), default=None)
    late = [event for event in events if withdrawn is not None and event.seq > withdrawn and event.type in FORWARD]
    if late:
        yield f"{late[0].type.value} after the strategy was withdrawn"
    last = told[-1]
    state = "consumed" if last.type is E.ORDER_INTENT else last.type.value.partition(".")[2]
    if (approval["state"], action["state"]) != (state, state):
        yield f"the tables say {approval['state']} and {action['state']}, the events {state}"
    decided = last if last.type in (E.APPROVAL_VOIDED, E.ACTION_EXPIRED) else won
    if (approval["decided_by"], approval["decided_at"]) != (decided.actor, decided.at):
        yield f"decided by {approval['decided_by']} at {approval['decided_at']} in the tables, by {decided.actor} at {decided.at}"
    if bool(orders) != (last.type is E.ORDER_INTENT) or len(orders) > 1:
        yield f"{len(orders)} orders after {chain}"
