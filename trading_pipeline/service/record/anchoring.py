"""Anchors: facts of the chain kept outside the database, at least every minute and at each session's end (invariant 4).

The desk's process calls `anchor` each minute; each cycle calls `anchor_head`, so that it holds where no desk runs; and the gate calls
`anchor_at` before it sends, so that no order is at the broker of which no anchor knows (C14). At an opening a ledger that is older
than its newest anchor, or says otherwise there, was restored or rewritten.
"""

from datetime import UTC, datetime

from trading_pipeline.domain.events import Event
from trading_pipeline.errors import StorageError
from trading_pipeline.ports import Anchor
from trading_pipeline.service.desk import Desk


def anchor(desk: Desk) -> None:
    """Keep the head as it is now; StorageError when it cannot be kept.

    Not that of a ledger which contradicts the newest anchor: it would hide that, and `begin_anew` is a person's.
    """
    if not restored(desk):
        desk.anchors.record(Anchor(*desk.ledger.head(), datetime.now(UTC)))


def anchor_head(desk: Desk) -> str:
    """`anchor`, for whoever goes on without: why it could not be kept, empty when all is well."""
    try:
        anchor(desk)
    except StorageError as error:
        return error.message
    return ""


def anchor_at(desk: Desk, fact: Event) -> str:
    """Keep a fact from which something outside is about to follow; why it could not be kept, empty when all is well."""
    try:
        desk.anchors.record(Anchor(fact.seq, fact.hash, datetime.now(UTC)))
    except StorageError as error:
        return error.message
    return ""


def restored(desk: Desk) -> str:
    """How the ledger contradicts its newest anchor, in words; empty when it does not."""
    newest = desk.anchors.newest()
    if newest is None:
        return ""
    head, _ = desk.ledger.head()
    kept = f"the anchor of {newest.at:%Y-%m-%d %H:%M} UTC"
    if head < newest.seq:
        return f"the ledger ends at {head}, but {kept} has seen {newest.seq} facts: it was restored from before, or cut off"
    event = desk.ledger.event(newest.seq)
    if newest.seq and (event is None or event.hash != newest.hash):
        return f"fact {newest.seq} of the ledger is not the one that {kept} has seen: the ledger was rewritten, or restored and gone on"
    return ""


def begin_anew(desk: Desk) -> None:
    """A person has accepted the ledger as it is: earlier anchors no longer hold."""
    desk.anchors.restart(Anchor(*desk.ledger.head(), datetime.now(UTC)))
