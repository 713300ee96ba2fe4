"""The account's limits as a fact: which are in force, and what a change of them takes back (D17).

Every process brings the limits of its own settings. In force is, limit by limit, the tighter of those and of the recorded ones: a
tighter one is written down by whoever first meets it, a looser one only when a person confirms it. So no process with old or other
settings loosens anything, and several agree after each has looked once. Every open action judged under another version is void
(invariant 48).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from trading_pipeline.domain.codec import decode, encode
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.errors import Conflict, PermissionRequired
from trading_pipeline.ports import Reader, Transaction
from trading_pipeline.service.desk import Desk, is_person
from trading_pipeline.service.orders.voiding import void_open

SETTINGS = "settings"
"""Who tightens: nobody is asked."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The limits side by side; `recorded` is encoded, and both it and `version` are None before the first judgement."""

    version: int | None
    recorded: Mapping[str, Any] | None
    configured: AccountLimits
    effective: AccountLimits

    @property
    def unconfirmed(self) -> list[str]:
        """What the settings would loosen and nobody has confirmed: each limit with the value in force and the looser one."""
        looser = [each.name for each in fields(AccountLimits) if getattr(self.effective, each.name) != getattr(self.configured, each.name)]
        now, wanted = encode(self.effective), encode(self.configured)
        return changes({name: now[name] for name in looser}, {name: wanted[name] for name in looser})


def standing(desk: Desk, reader: Reader) -> Standing:
    """The recorded limits, those of this process, and what follows; nothing is written.

    Raises:
        InputError: The record has a limit that this code does not know.
    """
    row = reader.get("limits", desk.broker.account_id)
    if row is None:
        return Standing(None, None, desk.limits, desk.limits)
    return Standing(row["version"], json.loads(row["limits"]), desk.limits, _effective(row["limits"], _Same(desk.limits)))


class _Same:
    """Limits as a key, by identity: equal ones may be written in other digits."""

    def __init__(self, limits: AccountLimits) -> None:
        self.limits = limits

    def __hash__(self) -> int:
        return id(self.limits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.limits is other.limits


@lru_cache(maxsize=16)
def _effective(recorded: str, configured: _Same) -> AccountLimits:
    """Read once: every look at a price and every judgement asks for it."""
    # A limit that an older version of the code did not know begins as it is configured.
    known = decode(AccountLimits, {**encode(configured.limits), **json.loads(recorded)})
    return known.tightened_by(configured.limits)


def tighten(desk: Desk) -> None:
    """Write down what the settings of this process tighten, for those that were started with others; what nobody has recorded stays so."""
    now = standing(desk, desk.ledger)
    if now.version is not None and changes(now.recorded or {}, encode(now.effective)):
        with desk.ledger.transaction() as tx:
            in_force(desk, tx)


def in_force(desk: Desk, tx: Transaction) -> int:
    """The version of the limits in force; written down, with what it voids, when the settings tighten them or nothing is recorded."""
    now = standing(desk, tx)
    if now.version is not None and not changes(now.recorded or {}, encode(now.effective)):
        return now.version
    version: int = _set(desk, tx, now, now.effective, SETTINGS).payload["version"]
    return version


def confirm(desk: Desk, *, actor: str, confirmed: Sequence[str] = ()) -> Event:
    """Let the configured limits be in force, looser ones too.

    Args:
        desk: Of a process with those settings.
        actor: The person.
        confirmed: What they typed again at a terminal, as `Standing.unconfirmed` says it.

    Raises:
        Conflict: No looser limit is configured.
        PermissionRequired: Something else would be loosened than was confirmed, or the actor is no person.
    """
    with desk.ledger.transaction() as tx:
        in_force(desk, tx)
        now = standing(desk, tx)
        if not now.unconfirmed:
            raise Conflict(
                "The configured limits are in force already.", value=now.version, rule="only looser limits are confirmed",
                remedy="configure them first, under [limits] in trading.toml",
            )
        if set(now.unconfirmed) - set(confirmed) or not is_person(actor):
            loosened = ", ".join(now.unconfirmed)
            raise PermissionRequired(
                f"The account would loosen {loosened}.", value=loosened,
                rule="limits are tightened at once and loosened only by a person who confirms it at a terminal (D17)",
                remedy="run `trading limits confirm` at a terminal and type the new values again",
            )
        return _set(desk, tx, now, now.configured, actor)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two sets of encoded limits, with both values; a limit that only one version of the code knows is a change."""
    return [
        f"{name} from {told(before, name)} to {told(after, name)}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def told(limits: Mapping[str, Any], name: str) -> str:
    """An encoded limit for people; `none` where there is none of this name."""
    value = limits.get(name, "")
    if value is None:
        return "off"
    return (", ".join(value) if isinstance(value, list) else str(value)) or "none"


def _set(desk: Desk, tx: Transaction, before: Standing, limits: AccountLimits, actor: str) -> Event:
    account, version = desk.broker.account_id, (before.version or 0) + 1
    changed = [] if before.recorded is None else changes(before.recorded, encode(limits))
    payload = {"account": account, "version": version, "limits": encode(limits), "changed": changed}
    event = NewEvent(EventType.LIMITS_SET, "account", f"limits.set:{account}:{version}", payload, desk.now(), actor)
    [recorded] = tx.append(event)
    if before.recorded is not None:
        void_open(tx, f"the account's limits changed: {', '.join(changed)}", desk.now(), actor, cause=recorded.seq)
    return recorded
