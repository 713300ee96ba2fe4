"""What people decide about proposals, and what time decides when they do not.

An approval is bound to the hash of what was shown, works once, expires strictly, and is necessary, not
sufficient: `execution` judges again before anything goes out. Only a person approves (invariant 49); the
actors `demo:person` and `backtest:person` exist in their environments alone (D17).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from trading_pipeline.domain.approvals import RELEASABLE, ActionState
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.limits import APPROVED_TTL
from trading_pipeline.domain.orders import OrderState, Side
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.domain.strategies import StrategyState
from trading_pipeline.domain.words import state_words
from trading_pipeline.errors import Conflict, PermissionRequired, UnknownName
from trading_pipeline.ports import Reader
from trading_pipeline.service.account_limits import in_force, standing
from trading_pipeline.service.desk import Desk, is_person
from trading_pipeline.service.judging.outside import look
from trading_pipeline.service.judging.pacing import Pacing
from trading_pipeline.service.stopping import emergency

DEMO_PERSON = "demo:person"
BACKTEST_PERSON = "backtest:person"
_PLAYED = {"demo": DEMO_PERSON, "backtest": BACKTEST_PERSON}
"""Who stands in for a person, by environment."""


@dataclass(frozen=True, slots=True)
class Due:
    """What the approval and order sensors act on at one instant."""

    released: tuple[str, ...]
    """Actions that may go out now."""
    overdue: tuple[str, ...]
    """Actions whose time is over."""


def approve(desk: Desk, action_id: str, *, actor: str, shown_hash: str | None = None) -> Event:
    """Approve a pending proposal.

    Args:
        action_id: Its id, or the beginning of it if that is unique.
        actor: The person: `user:NAME`; `demo:person` and `backtest:person` only where they are played.
        shown_hash: The hash of what the person saw; it must be the proposal's. With it the same person may ask again until the
            action is sent, as when the answer was lost, and gets the same event.

    Raises:
        Conflict: It is no longer pending, has expired, something else was shown, or the strategy does not run.
        PermissionRequired: The actor is no person who may decide here.
        UnknownName: There is no such proposal.
    """
    _check_person(desk, actor)
    name = find(desk.ledger, action_id)["action_id"]
    with desk.ledger.transaction() as tx:
        in_force(desk, tx)
    with desk.ledger.transaction() as tx:
        repeated = _repeated(tx, name, actor, shown_hash)
        if repeated is not None:
            return repeated
        row = _pending(tx, name)
        now = desk.now()
        if now >= row["expires_at"]:
            raise Conflict(
                f"The proposal {name} expired at {row['expires_at'].astimezone(NEW_YORK):%H:%M:%S} New York.", value=name,
                rule="a proposal is approved strictly before it expires", remedy="wait for the next one",
            )
        _check_running(desk, tx, row)
        strategy = tx.get("strategies", row["strategy"])
        if strategy is None or strategy["limits_version"] != row["limits_version"]:
            raise Conflict(
                f"The limits of {row['strategy']} have changed since {name} was proposed.", value=name,
                rule="an approval holds under the limits that were shown", remedy="wait for the next proposal",
            )
        if shown_hash is not None and shown_hash != row["hash"]:
            raise Conflict(
                f"The proposal {name} is not the one that was shown.", value=shown_hash,
                rule="an approval is bound to exactly what was shown", remedy="look at it again",
            )
        outside = look(desk, tx, ())
        release = Pacing.at_hand(desk, tx, outside.now).next_release(row["strategy"])
        payload = {
            "action_id": name, "strategy": row["strategy"], "symbol": row["symbol"], "hash": row["hash"], "nonce": row["nonce"],
            "not_before": release, "expires_at": release + APPROVED_TTL, "outside": encode(outside),
        }
        key = f"approval.approved:{name}"
        stream = f"strategy:{row['strategy']}"
        [event] = tx.append(NewEvent(EventType.APPROVAL_APPROVED, stream, key, payload, now, actor, row["requested_seq"]))
        return event


def reject(desk: Desk, action_id: str, *, actor: str, reason: str = "") -> Event:
    """Reject a pending proposal; the errors are those of `approve`."""
    _check_person(desk, actor)
    name = find(desk.ledger, action_id)["action_id"]
    with desk.ledger.transaction() as tx:
        row = _pending(tx, name)
        payload = {"action_id": name, "strategy": row["strategy"], "symbol": row["symbol"], "reason": reason}
        key = f"approval.rejected:{name}"
        stream = f"strategy:{row['strategy']}"
        [event] = tx.append(NewEvent(EventType.APPROVAL_REJECTED, stream, key, payload, desk.now(), actor, row["requested_seq"]))
        return event


_BUYS_ON = (OrderState.ACCEPTED.value, OrderState.PARTIAL.value, OrderState.UNKNOWN.value)
"""Of an entry that nobody has asked to end yet."""
WAITING = (ActionState.PENDING.value, ActionState.READY.value, ActionState.APPROVED.value)
"""States of an action that waits for a person, or for its time."""


def due(desk: Desk) -> Due:
    """Which actions may go out now, and whose time is over."""
    now = desk.now()
    rows = desk.ledger.find("actions", state=WAITING)
    overdue = [row["action_id"] for row in rows if row["expires_at"] is not None and now >= row["expires_at"]]
    admitted = [row for row in rows if row["state"] != ActionState.PENDING.value and row["action_id"] not in overdue]
    ordered = sorted((row for row in admitted if has_come(desk, row)), key=lambda row: (row["not_before"], row["generated_seq"]))
    released = [row["action_id"] for row in ordered if buys_on(desk.ledger, row) or _release_at(desk, row) <= now]
    return Due(tuple(released), tuple(overdue))


def has_come(desk: Desk, row: Row) -> bool:
    """Whether an admitted action has something to do now: to be sent, or to end what its own entry still buys."""
    return row["not_before"] is not None and (row["not_before"] <= desk.now() or buys_on(desk.ledger, row))


def buys_on(reader: Reader, row: Row) -> bool:
    """Whether an action leaves a position that its own entry still adds to: that is cancelled at once, whatever the sale waits for."""
    place = {"strategy": row["strategy"], "symbol": row["symbol"], "side": Side.BUY.value}
    return row["side"] == Side.SELL.value and bool(reader.find("orders", state=_BUYS_ON, limit=1, **place))


def _release_at(desk: Desk, row: Row) -> datetime:
    """When an admitted action may go out by the cooldowns as they stand: a fill since its pacing may have moved it."""
    paced: datetime = row["not_before"]
    now = desk.now()
    release = Pacing.at_hand(desk, desk.ledger, now).next_release(row["strategy"], queued=False)
    # The same now is the answer when nothing holds the action back: the clock has moved on since, and must not.
    return paced if release <= now else max(paced, release)


def expire(desk: Desk, action_ids: tuple[str, ...]) -> int:
    """Expire what is overdue; how many were."""
    expired = 0
    for name in action_ids:
        with desk.ledger.transaction() as tx:
            row = tx.get("actions", name)
            now = desk.now()
            if row is None or row["expires_at"] is None or now < row["expires_at"]:
                continue
            if row["state"] == ActionState.PENDING.value:
                type_, reason = EventType.APPROVAL_EXPIRED, "nobody decided in time, which counts as a rejection"
            elif row["state"] in RELEASABLE:
                type_, reason = EventType.ACTION_EXPIRED, "it was not sent in time"
            else:
                continue
            payload = {"action_id": name, "strategy": row["strategy"], "symbol": row["symbol"], "reason": reason}
            stream = f"strategy:{row['strategy']}"
            tx.append(NewEvent(type_, stream, f"{type_.value}:{name}", payload, now, "clock", row["last_seq"]))
            expired += 1
    return expired


def next_instant(desk: Desk) -> datetime | None:
    """When the next release or expiry is due: the instants a stepped clock goes through."""
    now = desk.now()
    rows = desk.ledger.find("actions", state=WAITING)
    times = [at for row in rows for at in (row["not_before"], row["expires_at"]) if at is not None and at > now]
    if due(desk).released:
        times.append(now + standing(desk, desk.ledger).effective.min_order_gap)
    admitted = [row for row in rows if row["state"] != ActionState.PENDING.value and row["not_before"] and row["not_before"] <= now]
    times += [at for row in admitted if (at := _release_at(desk, row)) > now]
    return min(times, default=None)


def find(reader: Reader, action_id: str) -> Row:
    """The approval with this id, or the only one whose id begins so; UnknownName otherwise."""
    wanted = action_id.strip().upper()
    row = reader.get("approvals", wanted)
    if row is not None:
        return row
    matches = [row for row in reader.find("approvals") if wanted and row["action_id"].startswith(wanted)]
    if len(matches) == 1:
        return matches[0]
    rule = "a proposal is named by its id or a beginning that only it has"
    if matches:
        raise UnknownName(
            f"{len(matches)} proposals begin with {action_id!r}.", value=action_id, rule=rule,
            remedy=f"give more of it: {named_some(row['action_id'] for row in matches)}",
        )
    raise UnknownName(
        f"No proposal begins with {action_id!r}.", value=action_id, rule=rule, remedy="list them with `trading approvals --all`"
    )


def named_some(ids: Iterable[str], most: int = 6) -> str:
    """Ids to choose from, in order; of very many the first."""
    names = sorted(ids)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _repeated(reader: Reader, name: str, actor: str, shown_hash: str | None) -> Event | None:
    """The approval that this very one repeats: the same person, the same hash and with it the same nonce, nothing done since."""
    row = reader.get("approvals", name)
    given = (ActionState.APPROVED.value, actor, shown_hash)
    return reader.event_by_key(f"approval.approved:{name}") if row and given == (row["state"], row["decided_by"], row["hash"]) else None


def _check_running(desk: Desk, reader: Reader, row: Row) -> None:
    """Nothing is approved for a strategy that may not trade, in the moment before what waits is voided either (invariant 54)."""
    name, strategy = row["strategy"], reader.get("strategies", row["strategy"])
    emergency.refuse_under_stop(desk, reader, name, f"Approving {row['action_id']}")
    if strategy is None or strategy["state"] != StrategyState.RUNNING.value:
        raise Conflict(
            f"{name} is {state_words(strategy['state']) if strategy else 'gone'}.", value=name,
            rule="only proposals of a running strategy are approved", remedy="look at it with `trading strategy list`",
        )


def _pending(reader: Reader, name: str) -> Row:
    row = reader.get("approvals", name)
    assert row is not None
    if row["state"] != ActionState.PENDING.value:
        who = f" by {row['decided_by']}" if row["decided_by"] else ""
        raise Conflict(
            f"The proposal {name} is {row['state']} already{who}.", value=name, rule="a proposal is decided once",
            remedy="look at it with `trading approvals --all`",
        )
    return row


def _check_person(desk: Desk, actor: str) -> None:
    if actor == _PLAYED.get(desk.environment):
        return
    if not is_person(actor):
        raise PermissionRequired(
            f"{actor!r} may not decide on proposals.", value=actor, rule="only a person approves (INVARIANT_49)",
            remedy="approve as yourself, with `trading approve` or `trading reject`",
        )
