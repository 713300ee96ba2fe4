"""The desk as it was at an earlier instant: its ledger and limits of then, local files, and nobody behind the other ports.

What judged then judges again with it. A port that is asked for anything refuses: whatever a decision takes from outside has to be
recorded with it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import Any

from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.codec import decode, encode
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.errors import InputError
from trading_pipeline.ports import BarArchive, DecisionMaker, Ledger, Past
from trading_pipeline.service.desk import Desk


@dataclass(frozen=True, slots=True)
class Record:
    """What a replay reads: the ledger, its state at a moving event, and local files. Nothing of it reaches out."""

    ledger: Ledger
    past: Past
    calendar: TradingCalendar
    archive: BarArchive
    splits: Mapping[str, tuple[Split, ...]]
    deciders: Mapping[str, DecisionMaker]
    """Those whose answer follows from the question."""


def desk_at(record: Record, at: datetime, world: World) -> Desk:
    """The desk at an instant. The limits of its settings are the recorded ones: a process with tighter ones had written them down."""
    found = record.past.find("limits", limit=1) or record.past.find("cash", limit=1)
    account = found[0]["account"] if found else ""
    given = {
        "environment": record.ledger.environment, "world": world, "limits": _limits(found[0].get("limits", "{}") if found else "{}"),
        "clock": _Then(at), "calendar": record.calendar, "ledger": record.past, "archive": record.archive, "splits": record.splits,
        "deciders": record.deciders, "broker": Nobody("broker", account_id=account),
    }
    ports: dict[str, Any] = {each.name: given.get(each.name, Nobody(each.name)) for each in fields(Desk)}
    return Desk(**ports)


@lru_cache(maxsize=16)
def _limits(recorded: str) -> AccountLimits:
    """A limit that the recording version of the code did not know is as it is by default."""
    return decode(AccountLimits, {**encode(AccountLimits()), **json.loads(recorded)})


class _Then:
    """The market clock at one instant."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        """That instant."""
        return self._at


class Nobody:
    """In the place of a port where only the record is read: it knows what it is told here, and refuses everything else."""

    def __init__(self, port: str, **known: Any) -> None:
        self.__dict__.update(known, _port=port)

    def __getattr__(self, name: str) -> Any:
        raise InputError(
            f"A replay may not ask {self._port} for {name}.", value=name, rule="a decision follows from what was recorded",
            remedy="record it with the decision",
        )
