"""A floor's session derived again, and its ledger as somebody would write it who can seal what they have changed."""

import copy
from collections.abc import Callable
from typing import Any

from tests.desks import DAY, Floor
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.adapters.ledger.past import PastLedger
from trading_pipeline.adapters.llm.rules import RulesAgent
from trading_pipeline.domain.events import Event, NewEvent
from trading_pipeline.ports import Ledger
from trading_pipeline.service.record.past_desk import Record
from trading_pipeline.service.record.rederivation import Rederivation, rederive

Payload = dict[str, Any]


def record(stage: Floor, ledger: Ledger | None = None) -> Record:
    """What a replay of the floor reads; with the ledger given in place of its own."""
    desk = stage.desk
    kept = ledger or desk.ledger
    return Record(kept, PastLedger(kept), desk.calendar, desk.archive, desk.splits, {"rules": RulesAgent()})


def replayed(stage: Floor, ledger: Ledger | None = None, strategy: str | None = None) -> Rederivation:
    """The day, derived again."""
    return rederive(record(stage, ledger), DAY, strategy)


def forged(stage: Floor, change: Callable[[Event, Payload], Payload | None]) -> MemoryLedger:
    """The ledger written again by somebody who can seal it.

    Args:
        change: An event's payload, or another one, or None to leave the event out.
    """
    first, *events = stage.desk.ledger.events()
    ledger = MemoryLedger(stage.desk.environment, opened_at=first.at)
    for event in events:
        payload = change(event, copy.deepcopy(dict(event.payload)))
        if payload is not None:
            cause = event.cause if event.cause is None or event.cause <= ledger.head()[0] else ledger.head()[0]
            with ledger.transaction() as tx:
                tx.append(NewEvent(event.type, event.stream, event.key, payload, event.at, event.actor, cause, event.schema))
    return ledger
